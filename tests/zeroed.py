"""The slow reference of cutting channels: which of them go, and the whole network with zeros in their place."""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from slimline.pruning.channels import ChannelGroup


def ranking(groups: Sequence[ChannelGroup], scores: Mapping[str, Tensor]) -> list[list[tuple[float, int]]]:
    """For each group its channels (or heads) from the least to the most valuable, by relative mean score; none where nothing is scored."""
    ranked = []
    for group in groups:
        means = []
        for unit in range(group.units):
            values = [
                scores[f"{share.layer}.weight"].double().select(share.dim, row).reshape(-1)
                for share in group.shares
                for row, owner in zip(share.rows, share.channels, strict=True)
                if owner // group.block == unit and f"{share.layer}.weight" in scores
            ]
            means += [float(torch.cat(values).mean())] if values else []
        average = sum(means) / max(len(means), 1)
        ranked.append(sorted((mean / average, channel) for channel, mean in enumerate(means)))
    return ranked


def units_left(group: ChannelGroup, pruned: nn.Module) -> int:
    return pruned.get_submodule(group.root).weight.shape[0] // group.block


@torch.no_grad()
def zeroed(model: nn.Module, groups: Sequence[ChannelGroup], scores: Mapping[str, Tensor], pruned: nn.Module) -> nn.Module:
    """`model` with the least valuable channels at zero, as many of each group as `pruned` lacks: weights, scales and shifts.

    Raises:
        AssertionError: it lacks none.
    """
    dense, removed = copy.deepcopy(model), 0
    for group, ranked in zip(groups, ranking(groups, scores), strict=True):
        lost = group.units - units_left(group, pruned)
        assert lost <= len(ranked), "channels without a score are gone"
        units = {unit for _, unit in ranked[:lost]}
        removed += lost
        for share in group.shares:
            layer = dense.get_submodule(share.layer)
            for row, owner in zip(share.rows, share.channels, strict=True):
                if owner // group.block not in units:
                    continue
                if layer.weight is not None:
                    layer.weight.select(share.dim, row).zero_()
                if share.dim == 0 and layer.bias is not None:  # a norm's scale and shift go with the channel
                    layer.bias[row] = 0.0
    assert removed > 0
    return dense
