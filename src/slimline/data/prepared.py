"""The prepared arrays, as later stages read them."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from slimline.errors import SlimlineError


@dataclass(frozen=True)
class Description:
    """`dataset.json`: see `data.prepare.write`."""

    name: str
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    counts: dict[str, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str


@dataclass(frozen=True)
class Images:
    """One split in memory."""

    pixels: UInt8[Tensor, "n channels height width"]
    labels: Int64[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.labels)


def describe(folder: Path) -> Description:
    """Read `dataset.json`.

    Raises:
        SlimlineError: missing, or not ours.
    """
    path = folder / "dataset.json"
    try:
        values = json.loads(path.read_text())
        return Description(
            name=values["name"],
            classes=tuple(values["classes"]),
            input_shape=tuple(values["input_shape"]),
            counts=values["counts"],
            mean=tuple(values["mean"]),
            std=tuple(values["std"]),
            digest=values["digest"],
        )
    except FileNotFoundError as error:
        raise SlimlineError(f"{path}: no prepared data; run the prepare stage (dvc repro prepare)") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SlimlineError(f"{path}: no description of prepared data; run the prepare stage again (dvc repro --force prepare)") from error


def load_split(folder: Path, split: str) -> Images:
    """Read one of `train`, `validation`, `test`.

    Raises:
        SlimlineError: missing, or truncated.
    """
    place = folder / split
    try:
        pixels, labels = np.load(place / "images.npy", allow_pickle=False), np.load(place / "labels.npy", allow_pickle=False)
    except FileNotFoundError as error:
        raise SlimlineError(f"{place}: no prepared data; run the prepare stage (dvc repro prepare)") from error
    except (ValueError, EOFError) as error:
        raise SlimlineError(f"{place}: damaged arrays ({error}); run the prepare stage again (dvc repro --force prepare)") from error
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or labels.dtype != np.int64 or labels.shape != pixels.shape[:1]:
        raise SlimlineError(f"{place}: images and labels do not fit together; run the prepare stage again (dvc repro --force prepare)")
    return Images(torch.from_numpy(pixels), torch.from_numpy(labels))
