"""Sums that fall between two codes, where rounding is a matter of luck.

A layer of integers gives integers z, and the grid behind it rounds z · ratio + zero point, ratio being the step of its sums over that
grid's. Where this lies on a half, to within the rounding of 32-bit floats, every way of computing the network may choose another code; and
where a layer has few sums (few bits, few inputs) one such sum is that of many pixels of many images. Scales are free to move by a few
millionths, so that no sum lies there.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

MARGIN = 2.0**-12
"""Of a code, from a half: some rounding errors of the largest codes in 32 bits, 2^8 · 2^-24, which sums of real products add up."""

NUDGE = 2.0**-14
NUDGES = 8
"""Scales are multiplied by 1 + j · NUDGE, j from -NUDGES to NUDGES."""


def ties(ratio: Float[Tensor, "*channels"], zero_point: int, low: int, high: int) -> Int64[Tensor, "*channels"]:
    """How many of the codes from `low` to `high` have an integer z with z · ratio + zero_point within MARGIN of the half above them."""
    halves = torch.arange(low, high, dtype=torch.float64) + 0.5 - zero_point
    exact = halves / ratio.double()[..., None]
    return (((exact.round() - exact).abs() * ratio.double()[..., None]) < MARGIN).sum(-1)


def apart(ratio: Float[Tensor, " channels"], zero_point: int, low: int, high: int) -> Float[Tensor, " channels"]:
    """By what to multiply each ratio for the fewest `ties`: 1 where there are none, else the least change among the best."""
    order = torch.arange(-NUDGES, NUDGES + 1, dtype=torch.float64)
    factors = 1 + NUDGE * order[order.abs().argsort(stable=True)]
    found = ties(ratio.double() * factors[:, None], zero_point, low, high)
    first = torch.arange(len(factors))[:, None]  # among equals, the first
    return factors[(found * len(factors) + first).argmin(0)]
