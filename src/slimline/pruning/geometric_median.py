"""Filters near their layer's geometric median can be replaced by the others (He et al., "Filter Pruning via Geometric Median", 2019)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from slimline.core.batch import Batch
from slimline.pruning.layers import prunable


def geometric_median(model: nn.Module, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """Σ ‖F - F'‖ over the layer's other filters F' (equation 5), the same for all weights of filter F.

    It ranks filters, which says little of single weights; made for the granularity `channels`, with `readers: false` as in the paper.
    """
    scores = {}
    for name, layer in prunable(model).items():
        filters = layer.weight.detach().double().flatten(1)
        # Not by products of all pairs, whose rounding would make equal filters differ.
        distances = torch.cdist(filters, filters, compute_mode="donot_use_mm_for_euclid_dist").sum(1)
        scores[f"{name}.weight"] = distances.reshape(-1, *[1] * (layer.weight.ndim - 1)).expand_as(layer.weight).clone()
    return scores
