"""The quantized form: batch norms folded away, weights, biases and activations on grids.

A network in this form still trains (its weights are real numbers that pass through their grids, `core.grids`), yet everything it
computes is a function of codes and scales, and those alone go to disk. `stored_state` and `load_stored_state` are
the two ways across: on the way out a weight becomes its code, on the way back the code becomes the real number it stands for,
whose code is the same again.
"""

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from slimline.core.affine import round_to_step
from slimline.core.binary import BinaryConv2d, BinaryLinear, binary_layers, packed_signs, settle_binary, unpacked_signs
from slimline.core.grids import CodebookGrid, Grid, IntegerGrid, Record, of_kind
from slimline.core.masked import MaskedConv2d, MaskedLinear, held
from slimline.core.normalize import Normalize
from slimline.core.ties import apart
from slimline.errors import SlimlineError

LARGEST_BIAS = 2**31
"""Biases are 32-bit integers, added to 32-bit sums."""

POINTS = "quantizers"
"""The submodule that holds the grids of activations."""

FLOAT_BITS = 32
"""Of a number on no grid."""


class QuantizedConv2d(nn.Conv2d):
    """A convolution whose weight and bias pass through their grids."""

    grid: Grid
    mask: Tensor | None
    source: str | None
    bias_step: Tensor | None

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch filters h w"]:
        return self._conv_forward(x, self.grid(held(self.weight, self.mask)), stepped(self))


class QuantizedLinear(nn.Linear):
    """A fully connected layer whose weight and bias pass through their grids."""

    grid: Grid
    mask: Tensor | None
    source: str | None
    bias_step: Tensor | None

    def forward(self, x: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch units"]:
        return nn.functional.linear(x, self.grid(held(self.weight, self.mask)), stepped(self))


def weight_codes(layer: QuantizedConv2d | QuantizedLinear) -> Tensor:
    """What is stored of the weight of `layer`, in its shape."""
    return layer.grid.encode(held(layer.weight.detach(), layer.mask))


def stepped(layer: QuantizedConv2d | QuantizedLinear) -> Tensor:
    """The bias of `layer`: a multiple of its step where inputs and weights are integers, else a real number."""
    assert layer.bias is not None  # given by `_quantized_layer`
    return layer.bias if layer.bias_step is None else round_to_step(layer.bias, layer.bias_step)


QUANTIZED: Mapping[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: QuantizedConv2d,
    nn.Linear: QuantizedLinear,
    MaskedConv2d: QuantizedConv2d,
    MaskedLinear: QuantizedLinear,
}
"""Layers that have weights to quantize, and what they become. A mask goes with its layer: a pruned weight keeps the code of zero."""


INERT = (nn.Identity, nn.Dropout, nn.Dropout2d)
"""Modules that give in eval mode what they are given."""


CLIPPING = (nn.ReLU, nn.ReLU6, nn.Hardtanh)
"""Modules that leave a number as it is or put a bound in its place."""


SHAPE_MODULES = (nn.Flatten, nn.MaxPool2d)
SHAPE_METHODS = ("view", "reshape", "flatten")
SHAPE_FUNCTIONS = (torch.flatten, nn.functional.dropout)
"""They move or pick values that are on a grid already."""


FOLDS: Mapping[type[nn.Module], tuple[type[nn.Module], Callable[[Any, Any], nn.Module]]] = {
    nn.BatchNorm2d: (nn.Conv2d, fuse_conv_bn_eval),
    nn.BatchNorm1d: (nn.Linear, fuse_linear_bn_eval),
}
"""Norms, the layers that they are folded into, and how."""


class _Tracer(fx.Tracer):
    """Normalization is one operation, and so is a masked or binary layer: nothing inside it is put on a grid of its own."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, Normalize | MaskedConv2d | MaskedLinear | BinaryConv2d | BinaryLinear) or super().is_leaf_module(module, name)


def traced(model: nn.Module) -> fx.GraphModule:
    """A copy of `model`, traced, in eval mode, without dropout and identities.

    Raises:
        SlimlineError: the forward pass depends on data, so that it has no fixed graph.
    """
    try:
        root = copy.deepcopy(model).eval()
        graph = fx.GraphModule(root, _Tracer().trace(root))
    except Exception as error:  # torch.fx raises whatever the user's forward raises on a proxy
        raise SlimlineError(f"{type(model).__name__} cannot be traced, so it cannot be quantized: {' '.join(str(error).split())}") from error
    modules = dict(graph.named_modules())
    for node in list(graph.graph.nodes):
        if node.op == "call_module" and isinstance(modules[node.target], INERT):
            node.replace_all_uses_with(node.all_input_nodes[0])
            graph.graph.erase_node(node)
    return graph


def folded(model: nn.Module) -> fx.GraphModule:
    """`traced`, with every batch norm that directly follows a convolution or a fully connected layer folded into it.

    Other norms depend on the image, so they stay and compute real numbers; so do those behind a binary layer, whose weights could not take
    a scale. Folding (Jacob et al. 2018, eq. 14) leaves the function as it is; the batch statistics are frozen from here on.

    Raises:
        SlimlineError: the forward pass depends on data, so that it has no fixed graph.
    """
    graph = traced(model)
    modules = dict(graph.named_modules())
    calls = Counter(node.target for node in graph.graph.nodes if node.op == "call_module")
    for node in list(graph.graph.nodes):
        if node.op != "call_module" or type(modules[node.target]) not in FOLDS:
            continue
        kind, fuse = FOLDS[type(modules[node.target])]
        before = node.args[0]
        if before.op != "call_module" or not isinstance(modules[before.target], kind):
            continue
        if isinstance(modules[before.target], BinaryConv2d | BinaryLinear):
            continue
        if len(before.users) > 1 or calls[before.target] > 1:  # someone else reads the convolution, or shares its weights
            continue
        graph.set_submodule(before.target, fuse(modules[before.target], modules[node.target]))
        node.replace_all_uses_with(before)
        graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


def quantized(model: nn.Module, record: Mapping[str, Any]) -> fx.GraphModule:
    """A copy of `model` in its quantized form, as `record` says.

    Args:
        record: `weights`, layer name to grid (see `core.grids`); `activations`, graph node name to the grid of its output;
            `inputs`, layer name to the node on whose grid lies what it reads, null where that is on none.

    Scales are 1 until they are calibrated or loaded.

    Raises:
        SlimlineError: the record names a layer or node that the model lacks.
    """
    graph = folded(model)
    for name, grid in record["weights"].items():
        try:
            layer = graph.get_submodule(name)
        except AttributeError as error:
            raise SlimlineError(f"the model has no layer '{name}' to quantize") from error
        graph.set_submodule(name, _quantized_layer(name, layer, grid, record["inputs"][name]))
    nodes = {node.name: node for node in graph.graph.nodes}
    for name, grid in record["activations"].items():
        if name not in nodes:
            raise SlimlineError(f"the model has no tensor '{name}' to quantize")
        graph.add_submodule(f"{POINTS}.{name}", of_kind(grid))
        with graph.graph.inserting_after(nodes[name]):
            point = graph.graph.call_module(f"{POINTS}.{name}", (nodes[name],))
        nodes[name].replace_all_uses_with(point, delete_user_cb=lambda user, point=point: user is not point)
    graph.recompile()
    set_bias_steps(graph)
    return graph


def _quantized_layer(name: str, layer: nn.Module, grid: Record, source: str | None) -> nn.Module:
    if type(layer) not in QUANTIZED:
        raise SlimlineError(f"layer '{name}' is a {type(layer).__name__}, which has no weights to quantize")
    # The same object in its new class: shapes, strides and parameters stay, the forward pass changes.
    mask = layer.mask if isinstance(layer, MaskedConv2d | MaskedLinear) else None
    layer.__class__ = QUANTIZED[type(layer)]
    assert isinstance(layer, QuantizedConv2d | QuantizedLinear)
    if layer.bias is None:
        layer.bias = nn.Parameter(torch.zeros(layer.weight.shape[0]))
    layer.grid, layer.source = of_kind(grid, layer.weight.shape), source
    layer.register_buffer("bias_step", None, persistent=False)  # it follows from scales
    layer.weight.requires_grad_(not isinstance(layer.grid, CodebookGrid))  # there the codebook is trained
    layer.register_buffer("mask", mask)
    return layer


def quantized_layers(model: nn.Module) -> dict[str, QuantizedConv2d | QuantizedLinear]:
    """The layers of `model` whose weights are on a grid, by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, QuantizedConv2d | QuantizedLinear)}


def is_kind(node: fx.Node, modules: Mapping[str, nn.Module], kinds: tuple[type, ...], functions: tuple[Any, ...], methods: tuple[str, ...]) -> bool:
    """Whether `node` calls one of these."""
    match node.op:
        case "call_module":
            return isinstance(modules[str(node.target)], kinds)
        case "call_function":
            return node.target in functions
        case "call_method":
            return node.target in methods
    return False


def keeps_grid(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Whether `node` moves or picks values that are on a grid already."""
    return is_kind(node, modules, SHAPE_MODULES, SHAPE_FUNCTIONS, SHAPE_METHODS)


def point_of(graph: nn.Module, layer: QuantizedConv2d | QuantizedLinear) -> Grid | None:
    """The grid of what `layer` reads; None where that is on none."""
    if layer.source is None:
        return None
    point = graph.get_submodule(f"{POINTS}.{layer.source}")
    assert isinstance(point, Grid)
    return point


def input_bits(graph: nn.Module) -> dict[str, int]:
    """Bits of what each quantized or binary layer reads, by the layer's name."""
    points = {name: point_of(graph, layer) for name, layer in quantized_layers(graph).items()}
    bits = {name: FLOAT_BITS if point is None else point.bits for name, point in points.items()}
    return bits | {name: 1 if layer.binarizes else FLOAT_BITS for name, layer in binary_layers(graph).items()}


def weight_bits(graph: nn.Module) -> dict[str, int]:
    """Bits of a weight of each quantized or binary layer, by the layer's name."""
    return {name: layer.grid.bits for name, layer in quantized_layers(graph).items()} | dict.fromkeys(binary_layers(graph), 1)


def settled(graph: nn.Module) -> nn.Module:
    """`graph` (changed in place) with what its grids and binary layers learned as what is stored."""
    settle_binary(graph)
    for module in graph.modules():
        if isinstance(module, Grid):
            module.settle()
    set_bias_steps(graph)
    if isinstance(graph, fx.GraphModule):
        _keep_sums_apart(graph)
    return graph


@torch.no_grad()
def _keep_sums_apart(graph: fx.GraphModule) -> None:
    """Move scales of weights by a hair where sums fall between two codes of the grid behind the layer (`core.ties`); codes stay."""
    modules = dict(graph.named_modules())
    for node in graph.graph.nodes:
        layer = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(layer, QuantizedConv2d | QuantizedLinear) or layer.bias_step is None:
            continue
        point = _next_grid(node, modules)
        if not isinstance(point, IntegerGrid):
            continue
        assert isinstance(layer.grid, IntegerGrid)
        codes, ratio = weight_codes(layer), layer.bias_step.double() / point.scale.double()
        factor = apart(ratio if layer.grid.scale.ndim else ratio[:1], int(point.zero_point), point.low, point.high)
        layer.grid.scale = (layer.grid.scale.double() * factor.view_as(layer.grid.scale)).to(layer.grid.scale)
        layer.weight.copy_(layer.grid.decode(codes))
    set_bias_steps(graph)


def _next_grid(node: fx.Node, modules: Mapping[str, nn.Module]) -> nn.Module | None:
    """What rounds the numbers of `node`, with nothing but a clipping in between."""
    while len(node.users) == 1:
        node = next(iter(node.users))
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(module, CLIPPING):
            return module
    return None


def set_bias_steps(graph: nn.Module) -> None:
    """Give every layer of integers the step of its bias: the product of its input's scale and its weights' scales.

    A bias is added to sums of products of codes, so it must lie on their grid (Jacob et al. 2018, section 2.4). Where a scale is being
    learned, the step stays as it was until `settled`.
    """
    for layer in quantized_layers(graph).values():
        point = point_of(graph, layer)
        if isinstance(layer.grid, IntegerGrid) and isinstance(point, IntegerGrid):
            layer.bias_step = (point.scale * layer.grid.scale).expand(layer.weight.shape[0]).contiguous()


def stored_state(model: nn.Module) -> dict[str, Tensor]:
    """The state of `model` as it is written: weights on a grid as their codes, biases on one as int32 multiples of their step, binary
    weights as bits, eight a byte.

    Raises:
        SlimlineError: a bias that 32 bits cannot hold.
    """
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    for name, layer in quantized_layers(model).items():
        state[f"{name}.weight"] = weight_codes(layer).clone()
        if layer.bias_step is None:
            continue
        assert layer.bias is not None
        codes = torch.round(layer.bias.detach() / layer.bias_step)
        if not float(codes.abs().max()) < LARGEST_BIAS:  # NaN neither
            raise SlimlineError(
                f"layer '{name}': a bias needs more than 32 bits at its weights' scale; prune the channel, or train with a lower rate"
            )
        state[f"{name}.bias"] = codes.to(torch.int32)
    return state | {f"{name}.weight": packed_signs(layer.weight) for name, layer in binary_layers(model).items()}


def load_stored_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Fill `model` from what `stored_state` made.

    Raises:
        RuntimeError, KeyError, ValueError: names or shapes differ.
    """
    bits = {f"{name}.weight": layer.weight.shape for name, layer in binary_layers(model).items()}
    state = {**state, **{name: unpacked_signs(state[name], shape) for name, shape in bits.items()}}
    # Scales first, for what the codes stand for follows from them; the codes themselves are replaced below.
    model.load_state_dict(state)
    set_bias_steps(model)
    with torch.no_grad():
        for name, layer in quantized_layers(model).items():
            layer.weight.copy_(layer.grid.decode(state[f"{name}.weight"]))
            if layer.bias_step is not None:
                layer.bias.copy_(state[f"{name}.bias"] * layer.bias_step)  # type: ignore[union-attr]
