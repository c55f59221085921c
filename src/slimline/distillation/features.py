"""What losses do to features before they compare them."""

import torch
from jaxtyping import Float
from torch import Tensor


def unit(values: Float[Tensor, "*others features"]) -> Float[Tensor, "*others features"]:
    """Each row divided by its Euclidean length; a row of zeros stays one, with a finite gradient."""
    return values / length(values, of_zero=1.0)[..., None]


def length(values: Float[Tensor, "*others features"], *, of_zero: float = 0.0) -> Float[Tensor, "*others"]:
    """Each row's Euclidean length, whose gradient is 0, not infinite, where the row is zero.

    Rows are scaled by their largest number first, since squares of large or small numbers leave the range of floats.

    Args:
        of_zero: what stands in the place of 0.
    """
    largest = values.detach().abs().amax(-1, keepdim=True)
    empty = largest == 0
    squares = (values / torch.where(empty, 1.0, largest)).square().sum(-1)
    empty, largest = empty[..., 0], largest[..., 0]
    return torch.where(empty, of_zero, torch.where(empty, 1.0, squares).sqrt() * largest)


def pooled(maps: Float[Tensor, "batch channels height width"], size: tuple[int, int]) -> Float[Tensor, "batch channels h w"]:
    """Means over `size` (rows, columns) windows of as even a size as can be, as `adaptive_avg_pool2d` cuts them.

    As two products with constant matrices: the backward pass of torch's has no repeatable form on CUDA.
    """
    rows, columns = (_windows(before, after, maps) for before, after in zip(maps.shape[2:], size, strict=True))
    return rows @ maps @ columns.T


def _windows(before: int, after: int, like: Tensor) -> Float[Tensor, "after before"]:
    """Row i averages the places from ⌊i · before / after⌋ to ⌈(i + 1) · before / after⌉."""
    number, place = torch.arange(after, device=like.device)[:, None], torch.arange(before, device=like.device)
    inside = (place >= number * before // after) & (place < -(-(number + 1) * before // after))
    return (inside / inside.sum(1, keepdim=True)).to(like)
