"""N of every M weights stay (Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021), as sparse tensor cores take them: 2 of 4.

ONNX Runtime on a processor computes them like any others; on GPUs with sparse tensor cores a runtime that knows the pattern can be
twice as fast.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from jaxtyping import Bool, Float64, Int64
from pydantic import Field
from torch import Tensor, nn

from slimline.core.masked import Mask, copy_masked
from slimline.errors import SlimlineError
from slimline.pruning.layers import chosen
from slimline.pruning.plan import Cut, Granularity, Plan
from slimline.pruning.weights import gone, scored


def along_inputs(weight: Tensor, m: int) -> Tensor:
    """[filters inputs …] as [groups m]: groups of `m` consecutive inputs of one filter at one place of its kernel."""
    return weight.movedim(1, -1).reshape(-1, m)


def back(groups: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of `along_inputs`."""
    filters, inputs, *kernel = shape
    return groups.reshape(filters, *kernel, inputs).movedim(-1, 1)


class GroupPlan(Plan):
    """Groups of `m` weights, of which some lose all but `n`.

    Args:
        layers: names and shapes.
        order: numbers of groups, the cheapest first.
        values: sums of the scores that a group would lose, in that order.
        lost: which weights of each group would go.
        params: of the original network.
    """

    noun = "weights"

    def __init__(
        self,
        layers: Mapping[str, torch.Size],
        order: Int64[Tensor, " groups"],
        values: Float64[Tensor, " groups"],
        lost: Bool[Tensor, "groups m"],
        gone: int,
        params: int,
    ) -> None:
        super().__init__(len(order), gone, len(order), "all groups of all layers losing theirs")
        self._layers, self._order, self._values, self._lost, self._params = layers, order, values, lost, params
        self._each = int(lost[0].sum())

    def cut(self, count: int) -> Cut:
        kept = torch.ones_like(self._lost)
        kept[self._order[:count]] = ~self._lost[self._order[:count]]
        m = self._lost.shape[1]
        parts = kept.split([shape.numel() // m for shape in self._layers.values()])
        masks = {name: Mask(back(part, shape)) for (name, shape), part in zip(self._layers.items(), parts, strict=True)}
        return lambda model: copy_masked(model, masks)

    def fraction(self, count: int) -> float:
        return count * self._each / self._lost.numel()

    def params(self, count: int) -> int:
        return self._params - count * self._each

    def below(self, value: float) -> int | None:
        return int(torch.searchsorted(self._values, value))


class NofM(Granularity):
    """Of every `m` consecutive inputs of a filter at one place of its kernel, the `n` best stay; ties go to the earlier one.

    Layers whose inputs `m` does not divide stay whole, and count in no fraction: with all groups cut, a share of 1 - n/m is gone.

    Args:
        layers: names of layers, `*` and `?` as in file names.
        skip: names of layers that stay whole.
    """

    form = "masked"

    def __init__(
        self,
        model: nn.Module,
        input_shape: tuple[int, int, int],
        *,
        n: Annotated[int, Field(ge=1)] = 2,
        m: Annotated[int, Field(ge=2)] = 4,
        layers: tuple[str, ...] = ("*",),
        skip: tuple[str, ...] = (),
    ) -> None:
        if n >= m:
            raise SlimlineError(f"n_m: {n} of {m} weights would stay, which removes none; n is smaller than m")
        named = chosen(model, layers, skip)
        self._layers = {name: layer for name, layer in named.items() if layer.weight.shape[1] % m == 0}
        if not self._layers:
            widths = ", ".join(f"{name} {layer.weight.shape[1]}" for name, layer in named.items())
            raise SlimlineError(f"n_m: {m} divides the inputs of no layer ({widths}); choose another m")
        self._n, self._m = n, m
        self._params = sum(p.numel() for p in model.parameters())

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self._layers)

    def plan(self, model: nn.Module, scores: Mapping[str, Tensor]) -> Plan:
        shapes = {name: layer.weight.shape for name, layer in self._layers.items()}
        found = scored(self._layers, scores)
        values = torch.cat([along_inputs(found[name].reshape(shape), self._m) for name, shape in shapes.items()])
        taken = torch.cat([along_inputs(gone(model.get_submodule(name)), self._m) for name in shapes])
        values[taken] = -torch.inf
        places = torch.sort(values, dim=1, stable=True).indices[:, : self._m - self._n]
        lost = torch.zeros_like(values, dtype=torch.bool).scatter_(1, places, True)
        sums = values.gather(1, places).sum(1)
        order = torch.sort(sums, stable=True)
        return GroupPlan(shapes, order.indices, order.values, lost, int(taken.any(1).sum()), self._params)

    def record(self, original: nn.Module, pruned: nn.Module) -> dict[str, Any]:
        return {"layers": list(self._layers)}
