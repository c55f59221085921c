"""The files of MNIST and of data sets in its format: IDX, big-endian, plain or gzip (Y. LeCun, C. Cortes, C. Burges, yann.lecun.com/exdb/mnist)."""

import gzip
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from slimline.data.sources.item import Item, Membership
from slimline.data.sources.labels import class_names
from slimline.data.sources.rows import Stream, rows
from slimline.errors import SlimlineError

PREFIXES = {"train": "train", "t10k": "test"}
SPELLINGS = ("{}-{}-idx{}-ubyte", "{}-{}.idx{}-ubyte")
SUFFIXES: dict[str, Callable[..., Any]] = {"": Path.open, ".gz": gzip.open}
"""How a file is opened; the plain one comes first where both lie there, as torchvision leaves them."""

UBYTE = 0x08
"""The third byte of the magic number: unsigned bytes. The fourth is the number of dimensions."""


class _Part(NamedTuple):
    """The files of one split, the class of each image, and the split."""

    images: Path
    classes: list[str]
    split: str


def idx(root: Path, *, path: str, classes: list[str] | None = None) -> Iterator[Item]:
    """Every image of `train-images-idx3-ubyte` and `t10k-images-idx3-ubyte`, or of the one of them that lies in the folder `path`.

    A class is called by its number, or by the name that `classes` gives that number.

    Raises:
        SlimlineError: no such folder or files, or a file that is damaged, cut off, of another kind or of another length; it is named.
    """
    folder = root / path
    if not folder.is_dir():
        raise SlimlineError(f"data.source.path: '{path}' is no folder; name the one that holds train-images-idx3-ubyte or its .gz")
    parts = []
    for prefix, split in PREFIXES.items():
        images, labels = _find(folder, prefix, "images", 3), _find(folder, prefix, "labels", 1)
        if (images is None) != (labels is None):
            raise SlimlineError(f"{folder}: '{(images or labels).name}' lies alone; put the {prefix} {'images' if labels else 'labels'} beside it")  # type: ignore[union-attr]
        if images and labels:
            parts.append(_Part(images, class_names(_labels(labels), classes, where=str(labels)), split))
    if not parts:
        raise SlimlineError(f"{folder}: no MNIST file found; put train-images-idx3-ubyte and train-labels-idx1-ubyte there, plain or .gz")
    total, done = sum(len(part.classes) for part in parts), 0
    for part in parts:
        for index, pixels in enumerate(_images(part)):
            done += 1
            yield Item(pixels, Membership(part.classes[index], part.split), f"{part.images.name}[{index}]", done / total)


def _find(folder: Path, prefix: str, kind: str, dimensions: int) -> Path | None:
    names = [spelling.format(prefix, kind, dimensions) + suffix for suffix in SUFFIXES for spelling in SPELLINGS]
    return next((folder / name for name in names if (folder / name).is_file()), None)


@contextmanager
def _opened(file: Path, dimensions: int) -> Iterator[tuple[Stream, tuple[int, ...]]]:
    """The stream behind the header, and the shape that the header tells."""
    try:
        with SUFFIXES[".gz" if file.suffix == ".gz" else ""](file, "rb") as stream:
            header = stream.read(4 + 4 * dimensions)
            if header[:4] != bytes((0, 0, UBYTE, dimensions)):
                expected = f"0x{UBYTE:06x}{dimensions:02x}"
                raise SlimlineError(f"{file}: it begins with 0x{header[:4].hex()}, not {expected}; it is no such MNIST file, get it anew")
            if len(header) < 4 + 4 * dimensions:
                raise SlimlineError(f"{file}: it ends within its header; it was cut off, get it anew")
            yield stream, struct.unpack(f">{dimensions}I", header[4:])
    except (OSError, EOFError, zlib.error) as error:
        raise SlimlineError(f"{file}: it cannot be read ({error}); it is damaged or cut off, get it anew") from error


def _labels(file: Path) -> np.ndarray:
    with _opened(file, 1) as (stream, (count,)):
        return np.concatenate([np.zeros(0, np.uint8), *rows(stream, count, (), np.dtype(np.uint8), where=str(file))])


def _images(part: _Part) -> Iterator[np.ndarray]:
    """Pixels uint8 of every image: `height width`."""
    with _opened(part.images, 3) as (stream, (count, *shape)):
        if count != len(part.classes):
            raise SlimlineError(f"{part.images}: it holds {count} images, and its labels' file {len(part.classes)}; get both anew")
        for chunk in rows(stream, count, tuple(shape), np.dtype(np.uint8), where=str(part.images)):
            yield from chunk
