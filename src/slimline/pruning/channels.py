"""Whole channels, removed physically through every layer that shares them (dependency graph: Fang et al., "DepGraph", 2023).

Layers tied by additions, concatenations or depthwise convolutions lose the same channels together; such a set of layers is a
group. A channel's score is the mean of its weights' scores in all of them, relative to its group's mean, so that groups of
different scale compete fairly.
"""

import copy
import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch_pruning as tp
from torch import Tensor, nn

from slimline.errors import SlimlineError


@dataclass(frozen=True, order=True)
class Channel:
    """One channel of a group; ordered by score, ties going to the earlier group, then the earlier channel."""

    score: float
    group: int
    index: int


@dataclass(frozen=True)
class Share:
    """What one layer of a group has to do with its channels: row `rows[i]` along `dim` of its weight belongs to channel `channels[i]`."""

    layer: str
    dim: int
    rows: tuple[int, ...]
    channels: tuple[int, ...]


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that can only go together: the layer that makes them (`root`), how many there are, and every layer that has a share.

    How many are left must be a multiple of `norm_groups`, the least common multiple of the groups of its group norms.
    """

    root: str
    width: int
    shares: tuple[Share, ...]
    norm_groups: int


def cut_channels(
    model: nn.Module,
    scores: Mapping[str, Tensor],
    input_shape: tuple[int, int, int],
    *,
    amount: float,
    layer_limit: float,
    multiple_of: int = 1,
) -> nn.Module:
    """A copy of `model` without its least valuable channels: the fewest whose removal takes at least `amount` of the parameters.

    Args:
        scores: by parameter name, of the parameters' shapes.
        input_shape: channels, height, width.
        amount: share of `model`'s parameters, in (0, 1).
        layer_limit: largest share of a group's channels that may go; at least one always stays.
        multiple_of: what the number of channels left in a group is a multiple of, unless the group stays whole; likewise of the
            groups of its group norms.

    Raises:
        SlimlineError: nothing to prune, or the amount cannot be reached under `layer_limit` (with the most that can).
    """
    groups = channel_groups(model, input_shape)
    if not groups:
        raise SlimlineError("the model has no channels that can be pruned; choose another architecture")
    order = sorted(_candidates(groups, scores, layer_limit))

    def without(count: int) -> nn.Module:
        return _without(model, groups, _rounded(groups, order[:count], multiple_of), input_shape)

    goal = _size(model) * (1 - amount)
    if (least := _size(without(len(order)))) > goal:
        raise SlimlineError(
            f"prune.amount {amount:g} cannot be reached: with prune.layer_limit {layer_limit:g} and "
            f"prune.multiple_of {multiple_of} at most {1 - least / _size(model):.3f} of the parameters can go"
        )
    fewest = bisect_left(range(len(order)), True, key=lambda count: _size(without(count)) <= goal)
    return without(fewest)


def _size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _graph(model: nn.Module, input_shape: tuple[int, int, int]) -> tp.DependencyGraph:
    return tp.DependencyGraph().build_dependency(model.eval(), example_inputs=torch.zeros(1, *input_shape))


def channel_groups(model: nn.Module, input_shape: tuple[int, int, int]) -> list[ChannelGroup]:
    """Every group but the one that makes the logits, in the order of the layers that make them."""
    names = {module: name for name, module in model.named_modules()}
    graph = _graph(model, input_shape)
    groups = []
    for group in graph.get_all_groups(root_module_types=[nn.Conv2d, nn.Linear]):
        shares = []
        read, norm_groups = False, 1
        for item in group:
            layer = item.dep.target.module
            if isinstance(layer, nn.GroupNorm):
                norm_groups = math.lcm(norm_groups, layer.num_groups)
            if not isinstance(layer, nn.Conv2d | nn.Linear):
                continue
            makes = graph.is_out_channel_pruning_fn(item.dep.handler)
            read |= not makes
            # A flattened map gives one channel several columns: `root_idxs` says to which channel each belongs.
            shares.append(Share(names[layer], 0 if makes else 1, tuple(item.idxs), tuple(item.root_idxs)))
        if read:
            groups.append(ChannelGroup(names[group[0].dep.target.module], len(group[0].idxs), tuple(shares), norm_groups))
    order = list(names.values())
    return sorted(groups, key=lambda g: order.index(g.root))


def _candidates(groups: Sequence[ChannelGroup], scores: Mapping[str, Tensor], layer_limit: float) -> Iterator[Channel]:
    for number, group in enumerate(groups):
        total, count = torch.zeros(group.width, dtype=torch.float64), torch.zeros(group.width, dtype=torch.float64)
        for share in group.shares:
            rows = scores[f"{share.layer}.weight"].double().transpose(0, share.dim).flatten(1)[list(share.rows)]
            channels = torch.tensor(share.channels)
            total.index_add_(0, channels, rows.sum(1))
            count.index_add_(0, channels, torch.full((len(channels),), float(rows.shape[1]), dtype=torch.float64))
        mean = total / count
        relative = mean / mean.mean() if float(mean.mean()) > 0 else mean
        ranked = sorted(Channel(float(score), number, index) for index, score in enumerate(relative))
        yield from ranked[: min(math.floor(group.width * layer_limit + 1e-9), group.width - 1)]


def _rounded(groups: Sequence[ChannelGroup], gone: Sequence[Channel], multiple_of: int) -> dict[int, list[int]]:
    """Of the channels `gone`, by group, as many of the least valuable as leave a multiple."""
    chosen: dict[int, list[int]] = {}
    for channel in gone:
        chosen.setdefault(channel.group, []).append(channel.index)
    for number, indices in chosen.items():
        width, multiple = groups[number].width, math.lcm(multiple_of, groups[number].norm_groups)
        left = -(-(width - len(indices)) // multiple) * multiple
        del indices[max(width - left, 0) :]
    return chosen


def _without(model: nn.Module, groups: Sequence[ChannelGroup], gone: Mapping[int, list[int]], input_shape: tuple[int, int, int]) -> nn.Module:
    pruned = copy.deepcopy(model)
    graph = _graph(pruned, input_shape)
    for number, indices in gone.items():
        if indices:
            root = pruned.get_submodule(groups[number].root)
            graph.get_pruning_group(root, graph.get_pruner_of_module(root).prune_out_channels, sorted(indices)).prune()
    return pruned
