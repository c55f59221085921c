"""Reading images at moved positions, bit for bit the same in any batch: element by element, no sums in an order of their own."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

Outside = Literal["black", "edge", "reflect"]
"""What is seen beyond an image: black, its outermost pixels drawn out, or the image mirrored at the centres of those."""


def nearest(
    images: Float[Tensor, "batch c h w"], rows: Float[Tensor, "batch rows"], columns: Float[Tensor, "batch columns"], outside: Outside
) -> Float[Tensor, "batch c rows columns"]:
    """The pixels at whole rows and columns, counted from the centre of the first pixel."""
    height, width = images.shape[2:]
    corner = _place(folded(rows, height, outside)[:, :, None], folded(columns, width, outside)[:, None, :], width)
    return _read(_framed(images), corner)


def bilinear(
    images: Float[Tensor, "batch c h w"], rows: Float[Tensor, "batch rows columns"], columns: Float[Tensor, "batch rows columns"], outside: Outside
) -> Float[Tensor, "batch c rows columns"]:
    """The mean of the four pixels around each position, each weighted by its nearness; at a pixel's centre that very pixel."""
    height, width = images.shape[2:]
    y, x = folded(rows, height, outside), folded(columns, width, outside)
    top, left = y.floor().clamp(max=height - 1), x.floor().clamp(max=width - 1)
    corner, framed = _place(top, left, width), _framed(images)
    down, right = (y - top)[:, None], (x - left)[:, None]
    upper = _between(_read(framed, corner), _read(framed, corner + 1), right)
    corner = corner + width + 2
    lower = _between(_read(framed, corner), _read(framed, corner + 1), right)
    return _between(upper, lower, down)


def folded(positions: Tensor, length: int, outside: Outside) -> Tensor:
    """`positions` brought to [0, length - 1], or for black to [-1, length], where the frame of `_framed` lies."""
    match outside:
        case "black":
            return positions.clamp(-1, length)
        case "edge":
            return positions.clamp(0, length - 1)
        case "reflect":
            period = max(2 * (length - 1), 1)
            # A product, since division by a number is another operation on CUDA; a rounding across a period is folded back.
            within = positions - period * (positions * (1 / period)).floor()
            return torch.minimum(within, period - within).clamp(0, length - 1)


def _framed(images: Tensor) -> Tensor:
    """A black frame one pixel wide; rows and columns as one axis."""
    return F.pad(images, (1, 1, 1, 1)).flatten(2)


def _place(rows: Tensor, columns: Tensor, width: int) -> Int64[Tensor, "batch rows columns"]:
    return (rows.long() + 1) * (width + 2) + (columns.long() + 1)


def _read(framed: Tensor, places: Tensor) -> Tensor:
    batch, channels, _ = framed.shape
    return framed.gather(2, places.flatten(1)[:, None].expand(-1, channels, -1)).view(batch, channels, *places.shape[1:])


def _between(one: Tensor, other: Tensor, share: Tensor) -> Tensor:
    # Never beyond either of the two, however it rounds, if both lie in [0, 1]; and `one` itself where the share is 0.
    return one + share * (other - one)
