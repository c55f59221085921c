"""Images as NumPy arrays in one `.npz` file, in its usual layouts; no pickle in it is ever opened.

The file is read as a stream: `np.load` would hold a whole split in memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

import numpy as np
from numpy.lib import format as npy

from slimline.data.sources.damage import damage_told
from slimline.data.sources.item import Item, Membership
from slimline.data.sources.labels import class_names
from slimline.data.sources.rows import Stream, rows
from slimline.errors import SlimlineError

WORDS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}

LAYOUTS = (
    ("images", "labels", None),
    *((f"x_{word}", f"y_{word}", split) for word, split in WORDS.items()),  # Keras' mnist.npz
    *((f"{word}_images", f"{word}_labels", split) for word, split in WORDS.items()),  # MedMNIST
)
"""Names of images and labels, and the split that these names tell."""

HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class _Header(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype


class _Part(NamedTuple):
    """One pair of arrays in the file: the name of its images, the class of each, and their split."""

    images: str
    classes: list[str]
    split: str | None


def arrays(root: Path, *, path: str) -> Iterator[Item]:
    """Every image of the `.npz` file at `path`; arrays under other names are left alone.

    Images are integers 0 to 255, `n height width`, `n height width channels` or `n channels height width` (1, 3 or 4 channels).
    Fractions are refused, since a stream does not tell whether they end at 1 or at 255. Labels are integers or text, `n` or `n 1`; an
    array `classes` of text may name the integers.

    Raises:
        SlimlineError: no such file; one that is damaged, holds no such arrays, or arrays of another type or shape; the array is named.
    """
    place = root / path
    if not place.is_file():
        raise SlimlineError(f"data.source.path: '{path}' is no file; name an .npz file of images and labels")
    with damage_told(place, ".npz file"), ZipFile(place) as archive:
        keys = {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}
        found = [layout for layout in LAYOUTS if layout[0] in keys]
        if not found:
            raise SlimlineError(
                f"{place}: found the arrays {', '.join(sorted(keys))[:200] or 'none'}; call them images and labels,"
                " x_train, y_train, x_test and y_test, or train_images, train_labels and so on"
            )
        for _, labels, _ in found:
            if labels not in keys:
                raise SlimlineError(f"{place}: it holds no array {labels}; save the labels under this name")
        classes = _class_list(archive, place) if "classes" in keys else None
        parts = [_Part(images, _labels(archive, labels, classes, place), split) for images, labels, split in found]
        total, done = sum(len(part.classes) for part in parts), 0
        for part in parts:
            for index, pixels in enumerate(_images(archive, part, place)):
                done += 1
                yield Item(pixels, Membership(part.classes[index], part.split), f"{part.images}[{index}]", done / total)


@contextmanager
def _member(archive: ZipFile, key: str, place: Path) -> Iterator[tuple[Stream, _Header]]:
    """The array `key` as a stream that stands behind its header, and the header."""
    with archive.open(f"{key}.npy") as stream:
        try:
            shape, fortran, dtype = HEADERS[npy.read_magic(stream)](stream)
            if not all(type(side) is int and side >= 0 for side in shape):
                raise ValueError(f"its shape is {shape}")
        except Exception as error:  # numpy reads a header as Python source
            raise SlimlineError(f"{place}: {key} is no array that can be read ({error}); save it by np.savez") from error
        if dtype.hasobject:
            raise SlimlineError(f"{place}: {key} holds Python objects, a pickle, which could run any code; save integers or text instead")
        if fortran and len(shape) > 1:
            raise SlimlineError(f"{place}: {key} is stored column by column; save np.ascontiguousarray({key}) instead")
        yield stream, _Header(shape, dtype)


def _whole(archive: ZipFile, key: str, place: Path) -> np.ndarray:
    """The array `key` of one number or text a row: `n` or `n 1`, given as `n`."""
    with _member(archive, key, place) as (stream, header):
        if len(header.shape) not in (1, 2) or header.shape[1:] not in ((), (1,)):
            raise SlimlineError(f"{place}: {key} has the shape {header.shape}; one label an image is needed, n or n×1")
        chunks = list(rows(stream, header.shape[0], (), header.dtype, where=f"{place}: {key}"))
    return np.concatenate(chunks) if chunks else np.zeros(0, header.dtype)


def _class_list(archive: ZipFile, place: Path) -> list[str]:
    names = _whole(archive, "classes", place)
    if names.dtype.kind != "U":
        raise SlimlineError(f"{place}: classes is of type {names.dtype}; save the names of classes as text")
    return [str(name) for name in names]


def _labels(archive: ZipFile, key: str, classes: list[str] | None, place: Path) -> list[str]:
    return class_names(_whole(archive, key, place), classes, where=f"{place}: {key}")


def _images(archive: ZipFile, part: _Part, place: Path) -> Iterator[np.ndarray]:
    """Pixels uint8 of every image: `height width` or `height width 3|4`."""
    where = f"{place}: {part.images}"
    with _member(archive, part.images, place) as (stream, (shape, dtype)):
        if dtype.kind not in "iu":
            raise SlimlineError(f"{where} is of type {dtype}; save integers from 0 to 255, as by np.rint(255 * x).astype(np.uint8) for x in [0, 1]")
        axes = _axes(shape, where)
        if shape[0] != len(part.classes):
            raise SlimlineError(f"{where} holds {shape[0]} images and its labels {len(part.classes)}; one label an image is needed")
        for chunk in rows(stream, shape[0], shape[1:], dtype, where=where):
            if dtype != np.uint8 and not 0 <= chunk.min() <= chunk.max() <= 255:
                raise SlimlineError(f"{where} has values from {chunk.min()} to {chunk.max()}; bring them to 0 to 255 and save them as uint8")
            pixels = chunk.astype(np.uint8, copy=False).transpose(axes)
            yield from pixels[..., 0] if pixels.ndim == 4 and pixels.shape[-1] == 1 else pixels


def _axes(shape: tuple[int, ...], where: str) -> tuple[int, ...]:
    """The order of axes that puts channels last."""
    last, first = len(shape) == 4 and shape[3] in (1, 3, 4), len(shape) == 4 and shape[1] in (1, 3, 4)
    if len(shape) != 3 and last == first:
        state = "could be channels first or last" if first else "is none of images"
        raise SlimlineError(f"{where}: the shape {shape} {state}; save n×height×width, with 1, 3 or 4 channels behind or after n")
    return (0, 2, 3, 1) if first else tuple(range(len(shape)))
