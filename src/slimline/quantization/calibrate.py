"""From a trained float network to its quantized form: which tensors are put on a grid, and which grid."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from slimline.core.affine import asymmetric_scale, symmetric_scale
from slimline.core.quantized import LARGEST_BIAS, POINTS, QUANTIZED, ActivationQuantizer, folded, quantized, quantized_layers, set_bias_steps
from slimline.errors import SlimlineError
from slimline.quantization import SCHEMES
from slimline.registry import Spec, build

ACTIVATION_MODULES = (nn.ReLU, nn.ReLU6)
ACTIVATION_FUNCTIONS = (torch.relu, nn.functional.relu, nn.functional.relu6)
"""Fused into the operation before them by integer runtimes, so no grid stands in between."""

SHAPE_MODULES = (nn.Flatten, nn.MaxPool2d)
SHAPE_METHODS = ("view", "reshape", "flatten")
SHAPE_FUNCTIONS = (torch.flatten, nn.functional.dropout)
"""They move or pick values that are on a grid already."""

OBSERVED_A_BATCH = 1 << 16
"""Values of a tensor kept a batch, evenly spread, beside the batch's smallest and largest: bounds the memory of calibration."""


def plan(model: nn.Module, input_shape: tuple[int, int, int], *, weight_bits: int, activation_bits: int) -> dict[str, Any]:
    """The record of the quantized form (see `core.quantized.quantized`) for every convolution and fully connected layer.

    Every tensor that such a layer reads, and every tensor on the way between them, is put on a grid once, where it is made.
    The logits stay real numbers.

    Raises:
        SlimlineError: the model has no layer to quantize, or cannot be traced.
    """
    graph = folded(model)
    ShapeProp(graph).propagate(torch.zeros(2, *input_shape))
    modules = dict(graph.named_modules())
    layers = [n.target for n in graph.graph.nodes if n.op == "call_module" and type(modules[n.target]) in QUANTIZED]
    if not layers:
        raise SlimlineError("the model has no convolution or fully connected layer to quantize")
    points = [node.name for node in graph.graph.nodes if _needs_grid(node, modules)]
    return {
        "weights": dict.fromkeys(layers, weight_bits),
        "activations": dict.fromkeys(points, activation_bits),
        "inputs": dict.fromkeys(layers, activation_bits),
    }


def _needs_grid(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op not in ("call_module", "call_function", "call_method") or not isinstance(node.meta.get("tensor_meta"), tuple):
        return False
    if not node.meta["tensor_meta"].dtype.is_floating_point or _is_kind(node, modules, SHAPE_MODULES, SHAPE_FUNCTIONS, SHAPE_METHODS):
        return False
    users = list(node.users)
    if any(user.op == "output" for user in users) or _only_shape_until_output(node, modules):
        return False
    return not all(_is_kind(user, modules, ACTIVATION_MODULES, ACTIVATION_FUNCTIONS, ("relu",)) for user in users)


def _only_shape_until_output(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    return all(
        user.op == "output" or (_is_kind(user, modules, SHAPE_MODULES, SHAPE_FUNCTIONS, SHAPE_METHODS) and _only_shape_until_output(user, modules))
        for user in node.users
    )


def _is_kind(node: fx.Node, modules: dict[str, nn.Module], kinds: tuple[type, ...], functions: tuple[Any, ...], methods: tuple[str, ...]) -> bool:
    match node.op:
        case "call_module":
            return isinstance(modules[str(node.target)], kinds)
        case "call_function":
            return node.target in functions
        case "call_method":
            return node.target in methods
    return False


def calibrated(model: nn.Module, record: Mapping[str, Any], batches: Iterable[Tensor], *, weights: Spec, activations: Spec) -> fx.GraphModule:
    """`model` in the quantized form of `record`, every scale set: weights from themselves, activations from what `batches` cause.

    Activations are observed in the network of real numbers, so that no grid's error moves another's range.

    Args:
        batches: images in [0, 1]; training images only.
        weights, activations: entries of SCHEMES.

    Raises:
        SlimlineError: no images, or a tensor without range or with infinite values, named.
    """
    seen = _observe(folded(model), list(record["activations"]), batches)
    result = quantized(model, record)
    for name, layer in quantized_layers(result).items():
        values = layer.weight.detach().flatten(1)
        if not bool(values.any()):
            raise SlimlineError(f"layer '{name}' has no range: its weights are all zero")
        low, high = build(SCHEMES, weights, values)
        layer.grid.scale, layer.grid.zero_point = symmetric_scale(low, high, layer.grid.high)
    for name, values in seen.items():
        point = result.get_submodule(f"{POINTS}.{name}")
        assert isinstance(point, ActivationQuantizer)
        if not bool(torch.isfinite(values).all()):
            raise SlimlineError(f"tensor '{name}' has infinite or undefined values on the calibration images")
        low, high = build(SCHEMES, activations, values[None])
        try:
            scale, zero_point = asymmetric_scale(low, high, point.high)
        except SlimlineError as error:
            raise SlimlineError(f"tensor '{name}': {error}") from error
        point.scale, point.zero_point = scale[0], zero_point[0]
    set_bias_steps(result)
    _make_room_for_biases(result)
    return result


def _make_room_for_biases(model: fx.GraphModule) -> None:
    """Widen the weight scale of channels whose bias would not fit 32 bits: nearly dead ones, whose weights are tiny.

    A quarter of the range is used, so that training may still move the bias.
    """
    for layer in quantized_layers(model).values():
        assert layer.bias is not None
        overflow = layer.bias.detach().abs() / layer.grid.bias_step / (LARGEST_BIAS / 4)
        layer.grid.scale = layer.grid.scale * overflow.clamp(min=1.0)
    set_bias_steps(model)


class _Observer(fx.Interpreter):
    """Runs a graph and keeps a sample of what the named nodes give."""

    def __init__(self, graph: fx.GraphModule, names: Iterable[str]) -> None:
        super().__init__(graph)
        self.seen: dict[str, list[Tensor]] = {name: [] for name in names}

    def run_node(self, node: fx.Node) -> Any:
        output = super().run_node(node)
        if node.name in self.seen:
            values = output.flatten()
            spread = values[:: max(1, values.numel() // OBSERVED_A_BATCH)]
            self.seen[node.name].append(torch.cat([spread, values.amin()[None], values.amax()[None]]))
        return output


def _observe(graph: fx.GraphModule, names: Iterable[str], batches: Iterable[Tensor]) -> dict[str, Tensor]:
    observer = _Observer(graph, names)
    with torch.no_grad():
        for batch in batches:
            observer.run(batch)
    if not all(observer.seen.values()):
        raise SlimlineError("the calibration set is empty: quantize.calibration needs training images")
    return {name: torch.cat(parts) for name, parts in observer.seen.items()}
