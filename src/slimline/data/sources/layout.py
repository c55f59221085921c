"""What folders mean: which of them names the class of an image, and which its split, if any does.

This can be told only when all folders are known: `train/` is a split where nothing but splits stand beside it and classes lie below,
and a class where `car/` and `plane/` stand beside it.
"""

from collections.abc import Iterable

from slimline.data.sources.item import Folder, Membership
from slimline.errors import SlimlineError

CALLED = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Names of splits, in small letters."""


def read(folders: Iterable[Folder]) -> dict[Folder, Membership]:
    """The class and the split of the images in each of `folders`.

    Folders that all images share are passed over, so that a folder packed with its own name reads as it did unpacked. Then:
    `SPLIT/CLASS/…` where every outermost folder is called a split, `CLASS/SPLIT/…` where every second one is,
    and `CLASS/…` otherwise. Folders below the class mean nothing.

    Raises:
        SlimlineError: splits and classes beside each other, or images of a split in no class.
    """
    known = list(folders)
    shared = _shared([folder.parts for folder in known])
    below = [folder.parts[shared:] for folder in known]
    outer = {parts[0] for parts in below}
    called = sorted(name for name in outer if name.lower() in CALLED)
    deep = {parts[0] for parts in below if len(parts) > 1}
    if len(called) == len(outer):
        bare = sorted(outer - deep) or sorted(parts[0] for parts in below if len(parts) == 1)
        if bare:
            raise SlimlineError(f"data: images lie in {bare[0]}/ itself; arrange them as {bare[0]}/CLASS/IMAGE")
        members = [Membership(parts[1], CALLED[parts[0].lower()]) for parts in below]
    elif all(len(parts) > 1 and parts[1].lower() in CALLED for parts in below):
        members = [Membership(parts[0], CALLED[parts[1].lower()]) for parts in below]
    elif set(called) & deep and (len(called) > 1 or outer - deep):
        other = min(outer - set(called))
        raise SlimlineError(f"data: {other}/ stands beside {', '.join(called)}/, which holds folders; name all outermost folders as splits, or none")
    else:
        members = [Membership(parts[0]) for parts in below]
    return dict(zip(known, members, strict=True))


def _shared(folders: list[tuple[str, ...]]) -> int:
    """How many outermost folders all images share; the one that could be a class, or is called a split, is not counted."""
    count = 0
    while all(len(parts) > count + 1 for parts in folders) and len({parts[count] for parts in folders}) == 1:
        if folders[0][count].lower() in CALLED:
            break
        count += 1
    return count
