"""Image files in a folder or an archive, one sub-folder a class, with or without `train/`, `val/` and `test/` above."""

from collections.abc import Iterator
from pathlib import Path

from slimline.data.sources.files import READ, image_files, printable
from slimline.data.sources.item import Folder, Item, Unreadable
from slimline.errors import SlimlineError

READ_ELSEWHERE = {".npz": "arrays", ".parquet": "parquet", ".csv": "manifest"}


def images(root: Path, *, path: str) -> Iterator[Item]:
    """Every image of `path`: a folder, `.zip` or `.tar[.gz|.xz|.bz2]`. What its folders mean is told by `sources.layout`.

    Raises:
        SlimlineError: no such path, no readable archive, or no image in it.
    """
    place = root / path
    if other := READ_ELSEWHERE.get(place.suffix.lower()):
        raise SlimlineError(f"data.source: '{path}' is read by the source {other}; write name: {other}")
    if not place.exists():
        raise SlimlineError(f"data.source.path: '{path}' does not exist; put the images there or name another path")
    known: dict[tuple[str, ...], Folder] = {}
    for file in image_files(place):
        parts = file.parts[:-1]
        content = file.content if isinstance(file.content, Unreadable) else _misplaced(parts) or file.content
        yield Item(content, known.setdefault(parts, Folder(parts)), printable("/".join(file.parts)), file.share)
    if not known:
        raise SlimlineError(f"{place}: no image found; expected CLASS/IMAGE files ending in {', '.join(sorted(READ))}")


def _misplaced(folders: tuple[str, ...]) -> Unreadable | None:
    """Why these folders can name no class, if so."""
    if not folders:
        return Unreadable("lies in no class folder; arrange images as CLASS/IMAGE, or name them in a table (source manifest)")
    try:
        "/".join(folders).encode()
    except UnicodeEncodeError:
        return Unreadable("lies in a folder whose name is not UTF-8; rename the folder")
    return None
