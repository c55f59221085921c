"""The prepared arrays, as later stages read them."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from pydantic import TypeAdapter
from torch import Tensor

from slimline.core.labels import UNKNOWN
from slimline.errors import SlimlineError

UNLABELLED = "unlabelled"
"""The split of images whose class nobody told (`data.sources.item`, on which no training depends)."""

Gathered = tuple[Int64[Tensor, " batch"], UInt8[Tensor, "batch channels height width"], Int64[Tensor, " batch"]]
"""Numbers of samples, their pixels, their labels."""


Resize = Literal["fit", "pad", "crop"]


@dataclass(frozen=True)
class Description:
    """`dataset.json`: see `data.prepare.arrays`.

    Args:
        resize, background: how the images were made of files, which a network trained on them has to be given too (`data.prepare.decode.Form`).
    """

    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    counts: dict[str, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    resize: Resize = "fit"
    background: int = 255


DESCRIPTION = TypeAdapter(Description)


@dataclass(frozen=True)
class Split(ABC):
    """The images of one split, wherever they are."""

    pixels: UInt8[Tensor, "n channels height width"]
    labels: Int64[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def home(self) -> torch.device:
        """Where the numbers that `gathered` takes must be."""
        return self.pixels.device

    @abstractmethod
    def gathered(self, parts: Iterable[Int64[Tensor, " _"]]) -> Iterator[Gathered]:
        """For each of `parts`, numbers of samples: these, their pixels and their labels."""

    def _picked(self, numbers: Int64[Tensor, " _"]) -> Gathered:
        # Not `pixels[numbers]`, which copies byte by byte where this one copies image by image: a third of the time.
        return numbers, self.pixels.index_select(0, numbers), self.labels.index_select(0, numbers)


class Images(Split):
    """One split in the memory of a device, or mapped from its file; each batch is gathered when it is asked for."""

    def gathered(self, parts: Iterable[Int64[Tensor, " _"]]) -> Iterator[Gathered]:
        return map(self._picked, parts)


def describe(folder: Path) -> Description:
    """Read `dataset.json`.

    Raises:
        SlimlineError: missing, or not ours.
    """
    path = folder / "dataset.json"
    try:
        return DESCRIPTION.validate_json(path.read_bytes(), strict=True)
    except FileNotFoundError as error:
        raise SlimlineError(f"{path}: no prepared data; run the prepare stage (dvc repro prepare)") from error
    except ValueError as error:
        raise SlimlineError(f"{path}: no description of prepared data; run the prepare stage again (dvc repro --force prepare)") from error


def name_of(origin: Path) -> str:
    """What the images are called, by `data/origin.json`.

    Raises:
        SlimlineError: missing, or not ours.
    """
    try:
        return str(json.loads(origin.read_text())["name"])
    except FileNotFoundError as error:
        raise SlimlineError(f"{origin}: no such file; run the prepare stage (dvc repro prepare)") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SlimlineError(f"{origin}: not what prepare writes; run the prepare stage again (dvc repro --force prepare)") from error


def load_split(folder: Path, split: str) -> Images:
    """One of `train`, `validation`, `test` or `unlabelled`: the labels read, the pixels mapped, so that they cost no memory until used.

    Raises:
        SlimlineError: missing or truncated, or labels that are no classes of `dataset.json`.
    """
    place = folder / split
    again = "run the prepare stage again (dvc repro --force prepare)"
    try:
        # Copy-on-write: writable as torch wants it, yet nothing is copied, since nothing is written.
        pixels = np.load(place / "images.npy", mmap_mode="c", allow_pickle=False)
        labels = np.load(place / "labels.npy", allow_pickle=False)
    except FileNotFoundError as error:
        raise SlimlineError(f"{place}: no prepared data; run the prepare stage (dvc repro prepare)") from error
    except (ValueError, EOFError) as error:
        raise SlimlineError(f"{place}: damaged arrays ({error}); {again}") from error
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or labels.dtype != np.int64 or labels.shape != pixels.shape[:1]:
        raise SlimlineError(f"{place}: images and labels do not fit together; {again}")
    description = describe(folder)
    if pixels.shape[1:] != description.input_shape:
        raise SlimlineError(f"{place}: images of {pixels.shape[1:]}, where dataset.json tells of {description.input_shape}; {again}")
    classes = len(description.classes)
    if split == UNLABELLED and not (labels == UNKNOWN).all():
        raise SlimlineError(f"{place}: images of known classes; {again}")
    if split != UNLABELLED and len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise SlimlineError(f"{place}: labels from {labels.min()} to {labels.max()} of {classes} classes, which are 0 to {classes - 1}; {again}")
    return Images(torch.from_numpy(pixels), torch.from_numpy(labels))
