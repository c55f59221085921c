"""The transfer set: the images on which a student meets its teacher."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from slimline.core.mapped import mapped
from slimline.data.prepared import UNLABELLED, Images, describe, load_split
from slimline.errors import SlimlineError

COPIED = 1024
"""Images in memory at a time."""


def transfer_set(prepared: Path, without: Sequence[str | int], *, unlabelled: bool) -> Images:
    """The training images but those of the classes `without` (Hinton et al., 2015, section 3), and behind them the unlabelled ones.

    Where all training images and no others are meant, these; else a copy of the chosen ones, mapped from a temporary file that goes
    with it.

    Raises:
        SlimlineError: a class that the data lack, no image left, or no unlabelled images prepared.
        OSError: no space among the temporary files.
    """
    train = load_split(prepared, "train")
    if not without and not unlabelled:
        return train
    kept = _rows(train, without, describe(prepared).classes)
    parts = [(train, kept)]
    if unlabelled:
        further = _unlabelled(prepared)
        parts.append((further, torch.arange(len(further))))
    shape = (sum(len(rows) for _, rows in parts), *train.pixels.shape[1:])
    pixels = mapped(shape, torch.uint8)
    start = 0
    for images, rows in parts:
        for some in rows.split(COPIED):
            pixels[start : start + len(some)] = images.pixels.index_select(0, some)
            start += len(some)
    return Images(pixels, torch.cat([images.labels[rows] for images, rows in parts]))


def _rows(train: Images, without: Sequence[str | int], classes: Sequence[str]) -> Int64[Tensor, " kept"]:
    left_out = {str(one) for one in without}
    if unknown := sorted(left_out - set(classes)):
        raise SlimlineError(f"distill.transfer.without: the data have no class '{unknown[0]}'; there are {', '.join(classes)[:200]}")
    numbers = torch.tensor([number for number, name in enumerate(classes) if name in left_out], dtype=torch.int64)
    kept = (~torch.isin(train.labels, numbers)).nonzero()[:, 0]
    if not len(kept):
        raise SlimlineError("distill.transfer.without names every class, so no image is left to learn from; leave some classes in")
    return kept


def _unlabelled(prepared: Path) -> Images:
    if not (prepared / UNLABELLED).exists():
        raise SlimlineError(
            "distill.transfer.unlabelled is true, but the source brought no unlabelled images; put them into a folder 'unlabelled' beside "
            "the classes or splits of the source"
        )
    return load_split(prepared, UNLABELLED)
