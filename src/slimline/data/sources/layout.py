"""What folders mean: which of them names the class of an image, and which its split, if any does.

This can be told only when all folders are known: `train/` is a split where nothing but splits stand beside it and classes lie below,
and a class where `car/` and `plane/` stand beside it.
"""

from collections.abc import Iterable
from itertools import compress

from slimline.data.sources.item import UNLABELLED, Folder, Membership
from slimline.errors import SlimlineError

CALLED = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Names of splits, in small letters."""
CALLED_UNLABELLED = frozenset({"unlabelled", "unlabeled"})


def read(folders: Iterable[Folder]) -> dict[Folder, Membership]:
    """The class and the split of the images in each of `folders`.

    Folders that all images share are passed over, so that a folder packed with its own name reads as it did unpacked. Then:
    `SPLIT/CLASS/…` where every outermost folder is called a split, `CLASS/SPLIT/…` where every second one is,
    and `CLASS/…` otherwise. Folders below the class mean nothing. What lies in an outermost folder that is called unlabelled is of no
    known class, and the other folders mean what they would mean without it.

    Raises:
        SlimlineError: splits and classes beside each other, or images of a split in no class.
    """
    every = list(folders)
    shared = _shared([folder.parts for folder in every])
    below = [folder.parts[shared:] for folder in every]
    known = [parts[0].lower() not in CALLED_UNLABELLED for parts in below]
    told = iter(_told(list(compress(below, known))))
    return {folder: next(told) if one else Membership("", UNLABELLED) for folder, one in zip(every, known, strict=True)}


def _told(below: list[tuple[str, ...]]) -> list[Membership]:
    """The class and the split of each folder, without what all share.

    Raises:
        SlimlineError: as `read`.
    """
    outer = {parts[0] for parts in below}
    called = sorted(name for name in outer if name.lower() in CALLED)
    deep = {parts[0] for parts in below if len(parts) > 1}
    if len(called) == len(outer):
        bare = sorted(outer - deep) or sorted(parts[0] for parts in below if len(parts) == 1)
        if bare:
            raise SlimlineError(f"data: images lie in {bare[0]}/ itself; arrange them as {bare[0]}/CLASS/IMAGE")
        return [Membership(parts[1], CALLED[parts[0].lower()]) for parts in below]
    if all(len(parts) > 1 and parts[1].lower() in CALLED for parts in below):
        return [Membership(parts[0], CALLED[parts[1].lower()]) for parts in below]
    if set(called) & deep and (len(called) > 1 or outer - deep):
        other = min(outer - set(called))
        raise SlimlineError(f"data: {other}/ stands beside {', '.join(called)}/, which holds folders; name all outermost folders as splits, or none")
    return [Membership(parts[0]) for parts in below]


def _shared(folders: list[tuple[str, ...]]) -> int:
    """How many outermost folders all images share; the one that could be a class, or is called a split, is not counted."""
    count = 0
    while all(len(parts) > count + 1 for parts in folders) and len({parts[count] for parts in folders}) == 1:
        if folders[0][count].lower() in CALLED or folders[0][count].lower() in CALLED_UNLABELLED:
            break
        count += 1
    return count
