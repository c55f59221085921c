"""Single weights, masked wherever they are (Han et al., "Learning both Weights and Connections", 2015).

They make the packed file smaller, not the arithmetic: ONNX Runtime multiplies zeros as it does other numbers.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Bool, Float64, Int64
from pydantic import Field
from torch import Tensor, nn

from slimline.core.masked import Mask, MaskedConv2d, MaskedLinear, copy_masked
from slimline.errors import SlimlineError
from slimline.pruning.layers import Layer, check_limits, chosen, told
from slimline.pruning.plan import Cut, Granularity, Plan

Share = Annotated[float, Field(gt=0.0, le=1.0)]


class WeightPlan(Plan):
    """Single weights of several layers, one after another.

    Args:
        layers: names and shapes.
        order: numbers of weights, the least valuable first.
        values: scores in that order; None where they do not rise in it.
        params: of the original network.
    """

    noun = "weights"

    def __init__(
        self,
        layers: Mapping[str, torch.Size],
        order: Int64[Tensor, " most"],
        values: Float64[Tensor, " most"] | None,
        gone: int,
        params: int,
        bounds: str,
        spared: tuple[float, str],
    ) -> None:
        super().__init__(sum(shape.numel() for shape in layers.values()), gone, len(order), bounds, spared)
        self._layers, self._order, self._values, self._params = layers, order, values, params

    def cut(self, count: int) -> Cut:
        kept = torch.ones(self.units, dtype=torch.bool)
        kept[self._order[:count]] = False
        parts = kept.split([shape.numel() for shape in self._layers.values()])
        masks = {name: Mask(part.reshape(shape)) for (name, shape), part in zip(self._layers.items(), parts, strict=True)}
        return lambda model: copy_masked(model, masks)

    def fraction(self, count: int) -> float:
        return count / self.units

    def params(self, count: int) -> int:
        return self._params - count

    def below(self, value: float) -> int | None:
        return None if self._values is None else int(torch.searchsorted(self._values, value))


class Weights(Granularity):
    """Single weights.

    Args:
        layers: names of layers, `*` and `?` as in file names.
        skip: names of layers that stay whole.
        scope: whether weights compete with those of all layers (`global`), or each layer loses the same share (`layer`).
        layer_limit: largest share of a layer's weights that may go; one weight always stays.
        limits: the same for single layers, by name; see docs/pruning.md on sensitivity.
    """

    form = "masked"

    def __init__(
        self,
        model: nn.Module,
        input_shape: tuple[int, int, int],
        *,
        layers: tuple[str, ...] = ("*",),
        skip: tuple[str, ...] = (),
        scope: Literal["global", "layer"] = "global",
        layer_limit: Share = 1.0,
        limits: dict[str, Annotated[float, Field(ge=0.0, le=1.0)]] = {},  # noqa: B006  # never changed
    ) -> None:
        self._layers = chosen(model, layers, skip)
        check_limits(limits, self._layers)
        self._limits = {name: limits.get(name, layer_limit) for name in self._layers}
        self._scope = scope
        self._params = sum(p.numel() for p in model.parameters())
        self._bounds = f"with layer_limit {layer_limit:g}{told(limits)}, one weight of each layer staying"

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self._layers)

    def plan(self, model: nn.Module, scores: Mapping[str, Tensor]) -> Plan:
        found = scored(self._layers, scores)
        taken = torch.cat([gone(model.get_submodule(name)).flatten() for name in self._layers])
        sizes = [len(values) for values in found.values()]
        values = torch.cat(list(found.values()))
        values[taken] = -torch.inf  # what is gone goes first
        ranks, allowed = torch.empty(len(values), dtype=torch.float64), torch.empty(len(values), dtype=torch.bool)
        for part, rank, free, name in zip(values.split(sizes), ranks.split(sizes), allowed.split(sizes), found, strict=True):
            place = torch.empty_like(part, dtype=torch.int64)
            place[torch.sort(part, stable=True).indices] = torch.arange(len(part))
            rank.copy_((place + 1) / len(part))
            free.copy_(place < min(int(len(part) * self._limits[name] + 1e-9), len(part) - 1))
        allowed |= taken
        key = values if self._scope == "global" else torch.where(taken, -torch.inf, ranks)
        order = torch.sort(torch.where(allowed, key, torch.inf), stable=True).indices[: int(allowed.sum())]
        shapes = {name: layer.weight.shape for name, layer in self._layers.items()}
        kept = [part[~free] for part, free in zip(values.split(sizes), allowed.split(sizes), strict=True)]
        spared = min((float(part.min()), name) for part, name in zip(kept, shapes, strict=True) if len(part))
        return WeightPlan(shapes, order, values[order] if self._scope == "global" else None, int(taken.sum()), self._params, self._bounds, spared)

    def record(self, original: nn.Module, pruned: nn.Module) -> dict[str, Any]:
        return {"layers": list(self._layers)}


def scored(layers: Mapping[str, Layer], scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The scores of every weight of `layers`, flat, float64 (copies).

    Raises:
        SlimlineError: a layer without scores, or scores that are no numbers.
    """
    found = {}
    for name, layer in layers.items():
        score = scores.get(f"{name}.weight")
        if score is None or score.shape != layer.weight.shape:
            raise SlimlineError(f"the criterion gives no score to each weight of layer '{name}'; take another one, or the granularity channels")
        if bool(torch.isnan(score).any()):
            raise SlimlineError(f"the criterion's scores of layer '{name}' are no numbers; look at its weights")
        found[name] = score.detach().double().flatten().clone()
    return found


def gone(layer: nn.Module) -> Bool[Tensor, "..."]:
    """Which weights of `layer` its mask has taken."""
    if isinstance(layer, MaskedConv2d | MaskedLinear):
        return ~layer.mask
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    return torch.zeros_like(layer.weight, dtype=torch.bool)
