"""From a trained float network to its quantized form: which tensors are put on a grid, and which grid."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata

from slimline.core.affine import SMALLEST_SCALE
from slimline.core.grids import CodebookGrid, IntegerGrid, RangedGrid
from slimline.core.quantized import (
    FLOAT_BITS,
    LARGEST_BIAS,
    POINTS,
    QUANTIZED,
    folded,
    is_kind,
    keeps_grid,
    quantized,
    quantized_layers,
    set_bias_steps,
)
from slimline.errors import SlimlineError
from slimline.quantization import CODEBOOKS, SCHEMES
from slimline.quantization.bias_correction import correct_biases
from slimline.quantization.bits import Bits, Choice
from slimline.quantization.equalization import equalize
from slimline.quantization.idle import take_out_idle_units
from slimline.registry import Spec, build

ACTIVATION_MODULES = (nn.ReLU, nn.ReLU6)
ACTIVATION_FUNCTIONS = (torch.relu, nn.functional.relu, nn.functional.relu6)
"""Fused into the operation before them by integer runtimes, so no grid stands in between."""

OBSERVED_A_BATCH = 1 << 16
"""Values of a tensor kept a batch, evenly spread, beside the batch's smallest and largest: bounds the memory of calibration."""


WEIGHTS = Choice(8, per_channel=True)
ACTIVATIONS = Choice(8, symmetric=False)


def plan(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    *,
    weight_bits: Bits | None = None,
    activation_bits: Bits | None = None,
    weights: Choice = WEIGHTS,
    activations: Choice = ACTIVATIONS,
) -> dict[str, Any]:
    """The record of the quantized form (see `core.quantized.quantized`) for every convolution and fully connected layer.

    Every tensor that such a layer reads, and every tensor on the way between them, is put on a grid once, where it is made.
    The logits stay real numbers.

    Args:
        weights, activations: which grids they get; `weight_bits` and `activation_bits` take the place of their `bits`.

    Raises:
        SlimlineError: the model has no layer to quantize, or cannot be traced; a pattern that fits no name.
    """
    weights = weights if weight_bits is None else replace(weights, bits=weight_bits)
    activations = activations if activation_bits is None else replace(activations, bits=activation_bits)
    graph = folded(model)
    ShapeProp(graph).propagate(torch.zeros(2, *input_shape))
    modules = dict(graph.named_modules())
    calls = [n for n in graph.graph.nodes if n.op == "call_module" and type(modules[n.target]) in QUANTIZED]
    if not calls:
        raise SlimlineError("the model has no convolution or fully connected layer to quantize")
    points = [node.name for node in graph.graph.nodes if _needs_grid(node, modules)]
    widths = activations.bits_of(points, "tensor")
    on_grid = {name: activations.record(bits) for name, bits in widths.items() if bits != FLOAT_BITS}
    sources: dict[str, set[str | None]] = {}
    for call in calls:
        sources.setdefault(call.target, set()).add(_source(call, on_grid, modules))
    bits_of = weights.bits_of(list(sources), "layer")
    return {
        "weights": {name: weights.record(bits, zero=not bool(modules[name].weight.all())) for name, bits in bits_of.items()},
        "activations": on_grid,
        # A layer that reads two grids has no step for its bias.
        "inputs": {name: next(iter(names)) if len(names) == 1 else None for name, names in sources.items()},
    }


def _source(call: fx.Node, on_grid: Mapping[str, Any], modules: dict[str, nn.Module]) -> str | None:
    """The node on whose grid the values lie that `call` reads; only operations that keep a grid lie between."""
    node = call.args[0]
    while isinstance(node, fx.Node):
        if node.name in on_grid:
            return node.name
        if not keeps_grid(node, modules):
            return None
        node = node.args[0]
    return None


def _needs_grid(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op not in ("call_module", "call_function", "call_method") or not isinstance(node.meta.get("tensor_meta"), TensorMetadata):
        return False
    if not node.meta["tensor_meta"].dtype.is_floating_point or keeps_grid(node, modules):
        return False
    users = list(node.users)
    if any(user.op == "output" for user in users) or _only_shape_until_output(node, modules):
        return False
    return not all(is_kind(user, modules, ACTIVATION_MODULES, ACTIVATION_FUNCTIONS, ("relu",)) for user in users)


def _only_shape_until_output(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    return all(user.op == "output" or (keeps_grid(user, modules) and _only_shape_until_output(user, modules)) for user in node.users)


def calibrated(
    model: nn.Module,
    record: Mapping[str, Any],
    batches: Iterable[Tensor],
    *,
    weights: Spec,
    activations: Spec,
    codebook: Spec | None = None,
    equalized: bool = False,
    corrected: bool = False,
) -> fx.GraphModule:
    """`model` in the quantized form of `record`, every grid set: weights from themselves, activations from what `batches` cause.

    What pruning has left of idle units is taken out first (`quantization.idle`).

    Activations are observed in the network of real numbers, so that no grid's error moves another's range.

    Args:
        batches: images in [0, 1]; training images only.
        weights, activations: entries of SCHEMES.
        codebook: an entry of CODEBOOKS; needed where the record has codebooks.
        equalized: whether channels are equalized across layers first (`quantization.equalization`).
        corrected: whether biases take back the mean error (`quantization.bias_correction`).

    Raises:
        SlimlineError: no images, or a tensor without range or with infinite values, named.
    """
    real, batches = folded(model), list(batches)
    for name in record["weights"]:  # before an idle neighbour is blamed
        _check_numbers(name, real.get_submodule(name))
    take_out_idle_units(real)
    if equalized:
        equalize(real)
    seen = _observe(real, list(record["activations"]), batches)
    result = quantized(model, record)
    _take_weights(result, real)
    for name, layer in quantized_layers(result).items():
        _check_numbers(name, layer)
        values = layer.weight.detach()
        if isinstance(layer.grid, CodebookGrid):
            assert codebook is not None
            kept = values[values != 0] if layer.grid.zero else values.flatten()
            layer.grid.fill(build(CODEBOOKS, codebook, kept, len(layer.grid.entries)), values)
        elif isinstance(layer.grid, RangedGrid):
            _set(layer.grid, values.flatten(1) if record["weights"][name]["per_channel"] else values.reshape(1, -1), weights, f"layer '{name}'")
    for name, values in seen.items():
        point = result.get_submodule(f"{POINTS}.{name}")
        assert isinstance(point, RangedGrid)
        if not bool(torch.isfinite(values).all()):
            raise SlimlineError(f"tensor '{name}' has infinite or undefined values on the calibration images; train with a lower rate, or with norms")
        if not bool(values.any()):
            raise SlimlineError(f"tensor '{name}': a tensor without range: it is zero on all calibration images; prune it or calibrate on others")
        _set(point, values[None], activations, f"tensor '{name}'")
    set_bias_steps(result)
    _make_room_for_biases(result)
    if corrected:
        correct_biases(result, real, batches)
    return result


def _check_numbers(name: str, layer: nn.Module) -> None:
    """
    Raises:
        SlimlineError: a weight or a bias that is no finite number, or weights that are zero throughout.
    """
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    if not all(bool(torch.isfinite(numbers).all()) for numbers in (layer.weight, layer.bias) if numbers is not None):
        raise SlimlineError(f"layer '{name}' has infinite or undefined weights; train it again, with a lower rate")
    if not bool((layer.weight.abs() >= SMALLEST_SCALE).any()):
        raise SlimlineError(f"layer '{name}' has no range: its weights are all zero; prune less, or train it again")


@torch.no_grad()
def _take_weights(graph: fx.GraphModule, real: fx.GraphModule) -> None:
    """Give the layers of `graph` the weights of the folded network that was observed."""
    for name, layer in quantized_layers(graph).items():
        source = real.get_submodule(name)
        assert isinstance(source, nn.Conv2d | nn.Linear)
        layer.weight.copy_(source.weight)
        if source.bias is not None:
            assert layer.bias is not None
            layer.bias.copy_(source.bias)


def _set(grid: RangedGrid, values: Float[Tensor, "channels n"], scheme: Spec, what: str) -> None:
    """Spread `grid` over the range that `scheme` finds."""

    def error(low: Float[Tensor, " channels"], high: Float[Tensor, " channels"]) -> Float[Tensor, " channels"]:
        grid.set_range(low, high)
        with torch.no_grad():
            return (grid(values) - values).square().mean(1)

    try:
        grid.set_range(*build(SCHEMES, scheme, values, error))
    except SlimlineError as refused:
        raise SlimlineError(f"{what}: {refused}") from refused


def _make_room_for_biases(model: fx.GraphModule) -> None:
    """Widen the weight scale of channels whose bias would not fit 32 bits: nearly dead ones, whose weights are tiny.

    A quarter of the range is used, so that training may still move the bias.
    """
    for layer in quantized_layers(model).values():
        if layer.bias_step is None:
            continue
        assert layer.bias is not None
        assert isinstance(layer.grid, IntegerGrid)
        overflow = layer.bias.detach().abs() / layer.bias_step / (LARGEST_BIAS / 4)
        layer.grid.scale = layer.grid.scale * (overflow if layer.grid.scale.ndim else overflow.max()).clamp(min=1.0)
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
            if len(batch):
                observer.run(batch)
    if not all(observer.seen.values()):
        raise SlimlineError("the calibration set is empty; give training images (quantize.calibration)")
    return {name: torch.cat(parts) for name, parts in observer.seen.items()}
