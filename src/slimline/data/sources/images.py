"""Images in a folder or a tar archive, one sub-folder a class, with or without `train/` and `test/` above."""

import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path, PurePosixPath

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
    for name, content in _members(place):
        parts = PurePosixPath(name).parts
        if len(parts) < 2:
            raise SlimlineError(f"{place}: '{name}' lies in no class folder; arrange images as CLASS/{parts[-1]}")
        found = True
        split = SPLITS.get(parts[-3].lower()) if len(parts) > 2 else None
        yield Picture(_decode(content, f"{place}: '{name}'"), parts[-2], split, name)
    if not found:
        raise SlimlineError(f"{place}: no image found; expected CLASS/IMAGE files ending in {', '.join(sorted(SUFFIXES))}")


class _WholeArchive(tarfile.TarInfo):
    """Members of an archive that must end with its end mark: tarfile itself takes the place where a file was cut off for its end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> tarfile.TarInfo:  # type: ignore[override]
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"it ends too early or is damaged: {error}") from error


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _members(place: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file below `place` that is called an image."""
    if place.is_dir():
        for file in sorted(p for p in place.rglob("*") if p.is_file()):
            if _is_image(file.name):
                yield file.relative_to(place).as_posix(), file.read_bytes()
        return
    try:
        with tarfile.open(place, "r|*", tarinfo=_WholeArchive) as archive:
            for member in archive:
                extracted = archive.extractfile(member) if member.isreg() and _is_image(member.name) else None
                if extracted is not None:
                    yield member.name, extracted.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise SlimlineError(f"{place}: no readable tar archive ({error}); give a folder or a .tar, .tar.gz, .tar.xz or .tar.bz2") from error


def _decode(content: bytes, origin: str) -> Image.Image:
    try:
        image = Image.open(BytesIO(content))
        image.load()
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise SlimlineError(f"{origin} is no readable image ({type(error).__name__}); mend or remove it") from error
    return image
