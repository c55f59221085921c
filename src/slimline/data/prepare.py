"""Any source to arrays: decode, bring to one size, split, write.

Which split an image joins is decided by a digest of its pixels and the seed alone. So neither order nor file names matter,
an image never moves when others are added, and equal images never stand on two sides.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image, ImageOps

from slimline.data.sources.picture import Picture
from slimline.errors import SlimlineError
from slimline.files import write_json

SPLITS = ("train", "validation", "test")
MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class Split:
    """Images and labels of one split, in the order of their digests."""

    images: UInt8[np.ndarray, "n channels height width"]
    labels: Int64[np.ndarray, " n"]


@dataclass(frozen=True)
class Prepared:
    """All splits, the class names in order, and how many images were dropped because the test split holds the same."""

    splits: dict[str, Split]
    classes: tuple[str, ...]
    dropped_duplicates: int


def pixels_of(image: Image.Image, size: int, channels: int) -> UInt8[np.ndarray, "channels size size"]:
    """`image` as uint8 of `size`×`size`; resized, where it has another size, by Lanczos' filter and without keeping its aspect.

    It is turned upright as its EXIF tag says; 16 bits become 8 by scaling.
    """
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):  # Pillow's own conversion would cut all above 255 off
        upright = Image.fromarray(np.rint(np.asarray(upright, np.float64) / 257).astype(np.uint8))
    converted = upright.convert(MODES[channels])
    if converted.size != (size, size):
        converted = converted.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(converted).reshape(size, size, channels).transpose(2, 0, 1)


def arrange(pictures: Iterable[Picture], *, size: int, channels: int, validation: float, test: float, seed: int) -> Prepared:
    """Bring `pictures` to one size and divide them.

    Raises:
        SlimlineError: fewer than two classes, or a split in which a class is missing.
    """
    if channels not in MODES:
        raise SlimlineError(f"data.channels: found {channels}; images have 1 (grey) or 3 (colour) channels")
    rows: list[tuple[bytes, str, str, np.ndarray]] = []
    for picture in pictures:
        pixels = pixels_of(picture.image, size, channels)
        digest = hashlib.sha256(seed.to_bytes(4, "big") + pixels.tobytes()).digest()
        rows.append((digest, picture.label, picture.split or "", pixels))
    classes = tuple(sorted({label for _, label, _, _ in rows}))
    if len(classes) < 2:
        raise SlimlineError(f"data: found {len(classes)} class ({', '.join(classes)}); a classifier needs at least 2")
    rows.sort(key=lambda row: row[:3])
    given_test = {digest for digest, _, split, _ in rows if split == "test"}
    members: dict[str, list[tuple[int, np.ndarray]]] = {split: [] for split in SPLITS}
    number = {label: index for index, label in enumerate(classes)}
    dropped = 0
    for digest, label, split, pixels in rows:
        if given_test and split != "test" and digest in given_test:
            dropped += 1
            continue
        share = int.from_bytes(digest[:8], "big") / 2**64
        target = split if split == "test" else _target(share, validation, 0.0 if given_test else test)
        members[target].append((number[label], pixels))
    splits = {name: _stack(name, chosen, classes, (channels, size, size)) for name, chosen in members.items()}
    return Prepared(splits, classes, dropped)


def _target(share: float, validation: float, test: float) -> str:
    if share < test:
        return "test"
    return "validation" if share < test + validation else "train"


def _stack(name: str, members: list[tuple[int, np.ndarray]], classes: tuple[str, ...], shape: tuple[int, int, int]) -> Split:
    labels = np.array([label for label, _ in members], dtype=np.int64)
    missing = [label for index, label in enumerate(classes) if index not in labels]
    if missing:
        raise SlimlineError(f"data: the {name} split has no image of class {', '.join(missing)}; add images or enlarge the split")
    images = np.stack([pixels for _, pixels in members]) if members else np.zeros((0, *shape), np.uint8)
    return Split(images, labels)


def write(prepared: Prepared, folder: Path, *, name: str) -> dict[str, Any]:
    """Write arrays and `dataset.json` into `folder`; return what `dataset.json` holds.

    `mean` and `std` are a number a channel over the training split, of pixels in [0, 1]. `digest` is over all arrays and names.
    """
    digest = hashlib.sha256(json.dumps(prepared.classes).encode())
    for split in SPLITS:
        part = prepared.splits[split]
        (folder / split).mkdir()
        np.save(folder / split / "images.npy", part.images)
        np.save(folder / split / "labels.npy", part.labels)
        digest.update(part.images.tobytes())
        digest.update(part.labels.tobytes())
    train = prepared.splits["train"].images
    histograms = [np.bincount(train[:, channel].reshape(-1), minlength=256) for channel in range(train.shape[1])]
    levels = np.arange(256) / 255
    means = [float(h @ levels / h.sum()) for h in histograms]
    stds = [float(np.sqrt(max(h @ (levels - m) ** 2 / h.sum(), 1e-12))) for h, m in zip(histograms, means, strict=True)]
    description = {
        "name": name,
        "classes": list(prepared.classes),
        "input_shape": list(train.shape[1:]),
        "counts": {split: len(prepared.splits[split].labels) for split in SPLITS},
        "mean": means,
        "std": stds,
        "digest": digest.hexdigest(),
    }
    write_json(folder / "dataset.json", description)
    return description
