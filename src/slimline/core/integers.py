"""The quantized form in integers, as a slow reference: what a runtime of integers has to compute.

    sum   = Σ (code of input - its zero point) · (code of weight - its zero point) + code of bias        integers of 32 bits
    code' = clamp(round(sum · input scale · weight scale / scale') + zero point', low', high')           round: half to even

(Jacob et al. 2018, eq. 7 and 8). Integers are held in 64-bit numbers, exact up to 2^53; scales are multiplied in 64 bits too, so that a
runtime, which multiplies them in 32, may differ where a value lies between two codes. What is on no grid is computed in 64 bits.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map

from slimline.core.grids import IntegerGrid
from slimline.core.quantized import QuantizedConv2d, QuantizedLinear, keeps_grid, point_of, quantized_layers, weight_codes
from slimline.errors import SlimlineError

LARGEST_SUM = 2**31 - 1
"""Sums are integers of 32 bits."""

Reference = Callable[[Float[Tensor, "batch channels height width"]], Float[Tensor, "batch classes"]]


@dataclass(frozen=True)
class _Codes:
    """An activation as integers: its codes without their zero point, and their scale."""

    codes: Tensor
    scale: Tensor

    @property
    def real(self) -> Tensor:
        return self.codes * self.scale


def _real(value: Any) -> Any:
    return value.real if isinstance(value, _Codes) else value


class _Integers(fx.Interpreter):
    def run_node(self, node: fx.Node) -> Any:
        args, kwargs = self.fetch_args_kwargs_from_env(node)
        module = self.fetch_attr(str(node.target)) if node.op == "call_module" else None
        first = args[0] if args else None
        match module:
            case IntegerGrid():
                return _Codes(module.encode(_real(first)).double() - module.zero_point.double(), module.scale)
            case QuantizedConv2d() | QuantizedLinear() if module.bias_step is not None and isinstance(first, _Codes):
                return _layer(module, first.codes)
        if isinstance(first, _Codes) and keeps_grid(node, dict(self.module.named_modules())):
            return _Codes(getattr(self, node.op)(node.target, (first.codes, *args[1:]), kwargs), first.scale)
        return getattr(self, node.op)(node.target, tree_map(_real, args), tree_map(_real, kwargs))


def _layer(layer: QuantizedConv2d | QuantizedLinear, codes: Tensor) -> Tensor:
    assert layer.bias is not None
    assert layer.bias_step is not None
    weight, bias = _weights(layer), torch.round(layer.bias / layer.bias_step)
    sums = layer._conv_forward(codes, weight, bias) if isinstance(layer, QuantizedConv2d) else nn.functional.linear(codes, weight, bias)
    return sums * (layer.bias_step.view(-1, 1, 1) if isinstance(layer, QuantizedConv2d) else layer.bias_step)


def _weights(layer: QuantizedConv2d | QuantizedLinear) -> Tensor:
    """The codes of its weights without their zero points."""
    grid = layer.grid
    assert isinstance(grid, IntegerGrid)
    zero = grid.zero_point.double().view(-1, *[1] * (layer.weight.ndim - 1)) if grid.zero_point.ndim else grid.zero_point.double()
    return weight_codes(layer).double() - zero


def integer_reference(graph: fx.GraphModule) -> Reference:
    """`graph`, a network in its quantized form, as a function that computes in integers what is on integer grids."""
    exact = copy.deepcopy(graph).eval().double()

    def run(images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        with torch.no_grad():
            return _real(_Integers(exact).run(images.double())).float()

    return run


def check_sums(graph: nn.Module) -> None:
    """See to it that no input can make a sum overflow.

    Raises:
        SlimlineError: a layer whose sums could leave 32 bits, by the bound max|input code| · Σ|weight code| + |bias code|.
    """
    for name, layer in quantized_layers(graph).items():
        point = point_of(graph, layer)
        if layer.bias_step is None or not isinstance(point, IntegerGrid):
            continue
        assert layer.bias is not None
        zero = int(point.zero_point)
        largest = max(point.high - zero, zero - point.low)
        bias = torch.round(layer.bias.detach().double() / layer.bias_step.double()).abs()
        bound = float((largest * _weights(layer).abs().flatten(1).sum(1) + bias).max())
        if bound > LARGEST_SUM:
            raise SlimlineError(
                f"layer '{name}': sums could reach {bound:.3g}, where 32 bits end at {LARGEST_SUM:.3g}; use fewer bits there (quantize."
                "weights.exceptions), or prune it"
            )
