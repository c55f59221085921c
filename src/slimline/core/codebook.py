"""Codebooks: a few real numbers that all weights of a layer share.

Source: Han et al., "Deep Compression", 2016, section 3.
"""

import torch
from jaxtyping import Float, Integer
from torch import Tensor


def linear_start(values: Float[Tensor, " n"], entries: int) -> Float[Tensor, " entries"]:
    """Numbers evenly spread from the smallest to the largest value, so that large weights, few in number, keep entries (section 3.2)."""
    low, high = values.min().double(), values.max().double()
    return (low + (high - low) * torch.arange(entries, dtype=torch.float64) / max(1, entries - 1)).to(values.dtype)


def nearest(values: Float[Tensor, "*shape"], entries: Float[Tensor, " entries"]) -> Integer[Tensor, "*shape"]:
    """The number of the entry nearest to each value; of two as near, the lower one. `entries` ascend."""
    middles = (entries[1:] + entries[:-1]) / 2
    return torch.searchsorted(middles, values.contiguous())


def lloyd(values: Float[Tensor, " n"], entries: Float[Tensor, " entries"], rounds: int) -> Float[Tensor, " entries"]:
    """k-means in one dimension (section 3.1, eq. 2): entries become the means of the values nearest to them, until none moves or after `rounds`.

    An entry to which no value is nearest stays where it is.
    """
    ordered = values.sort().values
    sums = torch.cat([torch.zeros(1, dtype=torch.float64), ordered.double().cumsum(0)])
    for _ in range(rounds):
        middles = (entries[1:] + entries[:-1]) / 2
        ends = torch.cat([torch.zeros(1, dtype=torch.long), torch.searchsorted(ordered, middles, right=True), torch.tensor([len(ordered)])])
        counts = ends[1:] - ends[:-1]
        means = (sums[ends[1:]] - sums[ends[:-1]]) / counts.clamp(min=1)
        moved = torch.where(counts > 0, means.to(entries.dtype), entries).sort().values
        if torch.equal(moved, entries):
            break
        entries = moved
    return entries
