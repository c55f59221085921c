"""Whole channels, removed physically through every layer that shares them (dependency graph: Fang et al., "DepGraph", 2023).

Layers tied by additions, concatenations or depthwise convolutions lose the same channels together; such a set of layers is a
group. Heads of attention go whole, with their part of query, key, value and projection. Layers between layer norms over a stream of
tokens keep the stream's width: every token's norm would change.
"""

import copy
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any

import torch
import torch_pruning as tp
from pydantic import Field
from torch import Tensor, nn

from slimline.core.heads import Heads
from slimline.core.masked import masked_layers
from slimline.core.resized import differing, take_rows
from slimline.errors import SlimlineError
from slimline.pruning.layers import check_limits, chosen, prunable, told
from slimline.pruning.plan import NONE_SPARED, Cut, Granularity, Plan

Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.InstanceNorm2d | nn.GroupNorm


@dataclass(frozen=True, order=True)
class Channel:
    """One channel of a group (or head, of a group of heads); ordered by score, ties going to the earlier group, then the earlier channel."""

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

    The number of those that go is a multiple of `norm_groups`, the least common multiple of the groups of its group norms.
    Channels go in blocks of `block`: the numbers of a head, else 1.
    """

    root: str
    width: int
    shares: tuple[Share, ...]
    norm_groups: int = 1
    block: int = 1

    @property
    def units(self) -> int:
        return self.width // self.block

    @property
    def makers(self) -> list[str]:
        return [share.layer for share in self.shares if share.dim == 0]


def channel_groups(model: nn.Module, input_shape: tuple[int, int, int]) -> list[ChannelGroup]:
    """Every group but the one that makes the logits, in the order of the layers that make them.

    Groups with a layer that cannot lose channels (grouped convolutions, layer norms, parameters of other modules) are left out.
    """
    prunable(model)
    names = {module: name for name, module in model.named_modules()}
    heads = {f"{name}.{part}": m.size for name, m in model.named_modules() if isinstance(m, Heads) for part in m.split}
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells how it takes parameters of other modules; such groups are left out below
        graph = tp.DependencyGraph().build_dependency(model.eval(), example_inputs=torch.zeros(1, *input_shape))
    order = {name: place for place, name in enumerate(names.values())}
    found = []
    for group in graph.get_all_groups(root_module_types=[nn.Conv2d, nn.Linear]):
        if (made := _group(graph, group, names, heads)) is not None:
            found.append(made)
    return sorted(found, key=lambda g: order[g.root])


def _group(graph: tp.DependencyGraph, group: Any, names: Mapping[nn.Module, str], heads: Mapping[str, int]) -> ChannelGroup | None:
    shares = []
    read, norm_groups, block = False, 1, 1
    for item in group:
        layer = item.dep.target.module
        if isinstance(layer, nn.Parameter):
            return None
        if not any(True for _ in layer.parameters(recurse=False)) and not isinstance(layer, Norm):
            continue  # an operation
        whole = isinstance(layer, nn.Conv2d) and not (layer.groups == 1 or layer.groups == layer.in_channels == layer.out_channels)
        if whole or not isinstance(layer, nn.Conv2d | nn.Linear | Norm):
            return None
        if isinstance(layer, nn.GroupNorm):
            norm_groups = math.lcm(norm_groups, layer.num_groups)
        makes = isinstance(layer, Norm) or graph.is_out_channel_pruning_fn(item.dep.handler)
        read |= not makes
        block = max(block, heads.get(names[layer], 1) if makes else 1)
        # A flattened map gives one channel several columns: `root_idxs` says to which channel each belongs.
        shares.append(Share(names[layer], 0 if makes else 1, tuple(item.idxs), tuple(item.root_idxs)))
    if not read:
        return None
    return ChannelGroup(names[group[0].dep.target.module], len(group[0].idxs), tuple(shares), norm_groups, block)


class ChannelPlan(Plan):
    """Channels in their order.

    Args:
        groups: of the network as it is.
        order: those that may go.
    """

    noun = "channels"

    def __init__(
        self,
        model: nn.Module,
        groups: Sequence[ChannelGroup],
        order: Sequence[Channel],
        units: int,
        multiple_of: int,
        bounds: str,
        spared: tuple[float, str],
    ) -> None:
        gone = units - sum(group.units for group in groups)
        super().__init__(units, gone, gone + len(order), bounds, spared)
        self._groups, self._order, self._multiple_of = groups, order, multiple_of
        self._params = sum(p.numel() for p in model.parameters())
        self._sizes = _sizes(model, groups)

    def cut(self, count: int) -> Cut:
        lost = [(self._groups[number], indices) for number, indices in self._lost(count).items()]
        return lambda model: without(model, lost)

    def fraction(self, count: int) -> float:
        return (self.gone + sum(map(len, self._lost(count).values()))) / self.units

    def params(self, count: int) -> int:
        lost = {number: len(indices) * self._groups[number].block for number, indices in self._lost(count).items()}
        return self._params - sum(size.lost(lost) for size in self._sizes)

    def below(self, value: float) -> int | None:
        return self.gone + sum(channel.score < value for channel in self._order)

    def _lost(self, count: int) -> dict[int, list[int]]:
        """Of the first `count` units, by group, as many of the least valuable as leave a number that may be left."""
        chosen: dict[int, list[int]] = {}
        for channel in self._order[: count - self.gone]:
            chosen.setdefault(channel.group, []).append(channel.index)
        for number, indices in chosen.items():
            group = self._groups[number]
            lost = len(indices)
            while lost and ((group.units - lost) * group.block % self._multiple_of or lost * group.block % group.norm_groups):
                lost -= 1
            del indices[lost:]
        return {number: indices for number, indices in chosen.items() if indices}


@dataclass(frozen=True)
class _Size:
    """A layer's parameters, `each` at every crossing of `rows` and `columns`, and `once` a row."""

    rows: int
    columns: int
    each: int
    once: int
    row_losses: Mapping[int, int]
    column_losses: Mapping[int, int]

    def lost(self, channels: Mapping[int, int]) -> int:
        """How many go when each group loses as many of its `channels`."""
        rows = sum(channels.get(group, 0) * each for group, each in self.row_losses.items())
        columns = sum(channels.get(group, 0) * each for group, each in self.column_losses.items())
        return (self.rows * self.columns - (self.rows - rows) * (self.columns - columns)) * self.each + rows * self.once


def _sizes(model: nn.Module, groups: Sequence[ChannelGroup]) -> list[_Size]:
    losses: dict[str, tuple[dict[int, int], dict[int, int]]] = {}
    for number, group in enumerate(groups):
        for share in group.shares:
            losses.setdefault(share.layer, ({}, {}))[share.dim][number] = len(share.rows) // group.width
    sizes = []
    for name, (rows, columns) in losses.items():
        layer = model.get_submodule(name)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            shape = layer.weight.shape
            sizes.append(_Size(shape[0], shape[1], math.prod(shape[2:]), int(layer.bias is not None), rows, columns))
        else:
            sizes.append(_Size(0, 0, 0, sum(1 for _ in layer.parameters()), rows, columns))
    return sizes


class Channels(Granularity):
    """Channels.

    A channel's score is the mean of its weights' scores in all layers that share it.

    Args:
        layers: names of layers, `*` and `?` as in file names; a group of layers takes part if one that makes its channels does.
        skip: names of layers whose channels stay.
        layer_limit: largest share of a group's channels that may go; one always stays.
        limits: the same for single groups, by the name of a layer that makes their channels; see docs/pruning.md on sensitivity.
        multiple_of: what the number of channels left in a group is a multiple of, unless the group stays whole. Processors compute in
            blocks: ONNX Runtime's fast kernels take 16 (AVX-512) or 8 channels at a time, and a layer of 15 can be slower than one of 32.
        relative: divide scores by their group's mean, so that groups of different scale compete fairly.
        readers: let the weights that read a channel count towards its score, beside those that make it.
    """

    form = "resized"

    def __init__(
        self,
        model: nn.Module,
        input_shape: tuple[int, int, int],
        *,
        layers: tuple[str, ...] = ("*",),
        skip: tuple[str, ...] = (),
        layer_limit: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.9,
        limits: dict[str, Annotated[float, Field(ge=0.0, lt=1.0)]] = {},  # noqa: B006  # never changed
        multiple_of: Annotated[int, Field(ge=1)] = 1,
        relative: bool = True,
        readers: bool = True,
    ) -> None:
        if masked_layers(model):
            raise SlimlineError("the model has masks, which channels cannot be taken from; prune channels first, then weights")
        named = chosen(model, layers, skip)
        groups = [g for g in channel_groups(model, input_shape) if any(name in named for name in g.makers)]
        groups = [g for g in groups if not any(fnmatchcase(name, pattern) for name in g.makers for pattern in skip)]
        if not groups:
            raise SlimlineError("the model has no channels that can be pruned; choose other layers or another architecture")
        makers = {name: group.root for group in groups for name in group.makers}
        check_limits(limits, makers)
        own = {makers[name]: limit for name, limit in limits.items()}
        self._shape, self._groups = input_shape, groups
        self._most = {g.root: min(math.floor(g.units * own.get(g.root, layer_limit) + 1e-9), g.units - 1) for g in groups}
        self._multiple_of, self._relative, self._readers = multiple_of, relative, readers
        self._bounds = f"with layer_limit {layer_limit:g}{told(limits)} and multiple_of {multiple_of}"
        self._original = model

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(group.root for group in self._groups)

    def plan(self, model: nn.Module, scores: Mapping[str, Tensor]) -> Plan:
        roots = {g.root: g.units for g in self._groups}
        groups = self._groups if model is self._original else [g for g in channel_groups(model, self._shape) if g.root in roots]
        order: list[Channel] = []
        spared = NONE_SPARED
        for number, group in enumerate(groups):
            ranked = sorted(self._scored(number, group, scores))
            free = max(self._most[group.root] - (roots[group.root] - group.units), 0)
            order += ranked[:free]
            spared = min([spared, *((channel.score, group.root) for channel in ranked[free : free + 1])])
        if not order:
            raise SlimlineError(f"no channel can go: {self._bounds} each layer is at its limit, or the criterion scores none of them")
        return ChannelPlan(model, groups, sorted(order), sum(roots.values()), self._multiple_of, self._bounds, spared)

    def _scored(self, number: int, group: ChannelGroup, scores: Mapping[str, Tensor]) -> Iterator[Channel]:
        total, count = torch.zeros(group.width, dtype=torch.float64), torch.zeros(group.width, dtype=torch.float64)
        for share in group.shares:
            score = scores.get(f"{share.layer}.weight")
            if score is None or not (self._readers or share.dim == 0):
                continue
            rows = score.double().transpose(0, share.dim).reshape(score.shape[share.dim], -1)[list(share.rows)]
            channels = torch.tensor(share.channels)
            total.index_add_(0, channels, rows.sum(1))
            count.index_add_(0, channels, torch.full((len(channels),), float(rows.shape[1]), dtype=torch.float64))
        if not bool(count.all()):
            return
        mean = (total.reshape(group.units, -1).sum(1)) / count.reshape(group.units, -1).sum(1)
        if bool(torch.isnan(mean).any()):
            raise SlimlineError(f"the criterion's scores of the channels that '{group.root}' makes are no numbers; look at its weights")
        relative = mean / mean.mean() if self._relative and float(mean.mean()) > 0 else mean
        yield from (Channel(score, number, index) for index, score in enumerate(relative.tolist()))

    def record(self, original: nn.Module, pruned: nn.Module) -> dict[str, Any]:
        return differing(original, pruned)


def without(model: nn.Module, lost: Sequence[tuple[ChannelGroup, Sequence[int]]]) -> nn.Module:
    """A copy of `model` without the units `lost` of its groups."""
    gone: dict[str, tuple[set[int], set[int]]] = {}
    for group, units in lost:
        channels = {unit * group.block + place for unit in units for place in range(group.block)}
        for share in group.shares:
            rows = gone.setdefault(share.layer, (set(), set()))[share.dim]
            rows.update(row for row, channel in zip(share.rows, share.channels, strict=True) if channel in channels)
    pruned = copy.deepcopy(model)
    for name, (rows, columns) in gone.items():
        take_rows(pruned.get_submodule(name), rows, columns)
    return pruned
