"""What every source yields."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

SPLITS = ("train", "validation", "test")
"""In the order of precedence of duplicates: the later split keeps the image."""
UNLABELLED = "unlabelled"
"""The split below them all, of images whose class nobody told: a student can still learn what its teacher says of them."""
NO_CLASS = -1
"""In the place of such an image's class (`core.labels.UNKNOWN`, which imports torch)."""


@dataclass(frozen=True)
class Membership:
    """What an image is an example of, and which split its source put it in.

    Args:
        label: class name; empty in the split `UNLABELLED`.
        split: one of `SPLITS` or `UNLABELLED` where the source says so, else None.
    """

    label: str
    split: str | None = None


@dataclass(frozen=True)
class Folder:
    """The folders that an image lies in, outermost first. What they mean can be told when all of them are known: `sources.layout`."""

    parts: tuple[str, ...]


@dataclass(frozen=True)
class Unreadable:
    """In the place of an image: why there is none, as the middle of a sentence ("is a symbolic link …")."""

    reason: str


class Item(NamedTuple):
    """One labelled image, not yet decoded. (A tuple: it is made in a quarter of the time of a frozen dataclass, a million times.)

    Args:
        content: an encoded file (its bytes, or where to read them), or pixels: uint8 `height width` (grey) or
            `height width 3|4` (RGB, RGBA).
        belongs: its class and split, or the folders that tell them.
        origin: where it lies, for messages and for `data/files.csv`.
        share: how much of its source has been read with it, 0 to 1, for the progress bar.
        group: images of one group (a patient, a scene, a burst) are drawn into one split together; None: this one by itself.
    """

    content: bytes | Path | np.ndarray | Unreadable
    belongs: Membership | Folder
    origin: str
    share: float
    group: str | None = None
