"""Images in a folder or a tar archive, one sub-folder a class, with or without `train/` and `test/` above."""

import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO

from PIL import Image, UnidentifiedImageError

from slimline.data.sources.picture import Picture
from slimline.errors import SlimlineError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"})
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}


def images(root: Path, *, path: str) -> Iterator[Picture]:
    """Every image below `path`, an archive being read in one pass without being unpacked.

    Raises:
        SlimlineError: no such path, no image in it, or a file that is none, named.
    """
    place = root / path
    if not place.exists():
        raise SlimlineError(f"data.source.path: '{path}' does not exist; put the images there or name another path")
    found = False
    for name, file in _members(place):
        parts = PurePosixPath(name).parts
        if parts[-1].startswith(".") or PurePosixPath(name).suffix.lower() not in SUFFIXES:
            continue
        if len(parts) < 2:
            raise SlimlineError(f"{place}: '{name}' lies in no class folder; arrange images as CLASS/{parts[-1]}")
        found = True
        split = SPLITS.get(parts[-3].lower()) if len(parts) > 2 else None
        yield Picture(_decode(file, f"{place}: '{name}'"), parts[-2], split, name)
    if not found:
        raise SlimlineError(f"{place}: no image found; expected CLASS/IMAGE files ending in {', '.join(sorted(SUFFIXES))}")


def _members(place: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if place.is_dir():
        for file in sorted(p for p in place.rglob("*") if p.is_file()):
            with file.open("rb") as content:
                yield file.relative_to(place).as_posix(), content
        return
    try:
        with tarfile.open(place, "r|*") as archive:
            for member in archive:
                extracted = archive.extractfile(member) if member.isreg() else None
                if extracted is not None:
                    yield member.name, extracted
    except (tarfile.TarError, EOFError, OSError) as error:
        raise SlimlineError(f"{place}: no readable tar archive ({error}); give a folder or a .tar, .tar.gz, .tar.xz or .tar.bz2") from error


def _decode(file: IO[bytes], origin: str) -> Image.Image:
    try:
        image = Image.open(BytesIO(file.read()))
        image.load()
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise SlimlineError(f"{origin} is no readable image ({' '.join(str(error).split())}); mend or remove it") from error
    return image
