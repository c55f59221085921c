"""From a trained float network to its binary form: which layers, which of them read ±1, and which activations a sign replaces."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from slimline.core.binary import BINARY, Binarization, binary_layers
from slimline.core.masked import MaskedConv2d, MaskedLinear
from slimline.core.quantized import is_kind, keeps_grid, traced
from slimline.errors import SlimlineError
from slimline.quantization.bits import Bits, Choice

SQUASHING = (nn.ReLU, nn.ReLU6, nn.Hardtanh)
"""Activations in whose place a sign is taken: behind a ReLU it would be +1 throughout, behind a hard tanh it is the same."""

SQUASHING_FUNCTIONS = (torch.relu, nn.functional.relu, nn.functional.relu6, nn.functional.hardtanh)
AVERAGES = (nn.AdaptiveAvgPool2d, nn.AvgPool2d)
JOINS = (torch.cat, torch.mean)
"""What is not negative stays so behind them, as behind what keeps a grid."""

WEIGHTED = (*BINARY, MaskedConv2d, MaskedLinear)


def widths(model: nn.Module, weights: Choice) -> dict[str, Bits]:
    """The width of each convolution and fully connected layer, in the order in which they run.

    Raises:
        SlimlineError: the model has none, or cannot be traced; a pattern that fits no name.
    """
    calls = _calls(traced(model))
    if not calls:
        raise SlimlineError("the model has no convolution or fully connected layer to quantize")
    return weights.bits_of(list(dict.fromkeys(str(call.target) for call in calls)), "layer")


def binarization(model: nn.Module, bits: Mapping[str, Bits], how: Binarization, *, inputs: bool) -> dict[str, Any]:
    """The record of the binary form (`core.binary.binary`): layers of 1 bit.

    A layer with no other before it reads the image in real numbers, as in the papers.

    Args:
        bits: as `widths` gives them.
        inputs: whether layers of 1 bit read ±1.

    Raises:
        SlimlineError: no layer has 1 bit; an activation that would leave +1 alone and cannot be taken out.
    """
    graph = traced(model)
    modules = dict(graph.named_modules())
    binary = [name for name, width in bits.items() if width == 1]
    if not binary:
        raise SlimlineError("quantize.weights: no layer is left with 1 bit, so nothing would be binary; loosen the exceptions")
    calls = _calls(graph)
    later = _behind(graph, calls)
    reads: dict[str, bool] = {}
    replaced: set[fx.Node] = set()
    for call in calls:
        if call.target not in binary:
            continue
        reads[str(call.target)] = reads.get(str(call.target), True) and inputs and call in later
        if reads[str(call.target)]:
            replaced |= {node for node in _before(call, modules) if _squashes(node, modules)}
    return {
        "layers": {name: {"inputs": reads[name], "scaled": how.scaled} for name in binary},
        "signs": sorted(_modules(replaced, graph)),
    }


def _calls(graph: fx.GraphModule) -> list[fx.Node]:
    modules = dict(graph.named_modules())
    return [node for node in graph.graph.nodes if node.op == "call_module" and type(modules[str(node.target)]) in WEIGHTED]


def _behind(graph: fx.GraphModule, nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """All that depends on what one of `nodes` gives."""
    givers, found = set(nodes), set[fx.Node]()
    for node in graph.graph.nodes:
        if any(before in givers or before in found for before in node.all_input_nodes):
            found.add(node)
    return found


def _before(call: fx.Node, modules: Mapping[str, nn.Module]) -> set[fx.Node]:
    """Where what `call` reads comes from, behind all that leaves signs as they are."""
    found, open_ends = set(), list(call.all_input_nodes)
    while open_ends:
        node = open_ends.pop()
        passes = keeps_grid(node, modules) or is_kind(node, modules, AVERAGES, JOINS, ("mean",))
        if passes:
            open_ends += node.all_input_nodes
        else:
            found.add(node)
    return found


def _squashes(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    return is_kind(node, modules, SQUASHING, SQUASHING_FUNCTIONS, ("relu", "relu_"))


def _modules(nodes: Iterable[fx.Node], graph: fx.GraphModule) -> set[str]:
    """The modules that `nodes` call, which are all their calls."""
    calls = Counter(node.target for node in graph.graph.nodes if node.op == "call_module")
    own = Counter(node.target for node in nodes)
    for node in nodes:
        if node.op != "call_module" or calls[node.target] > own[node.target]:
            what = f"module '{node.target}' is called elsewhere too" if node.op == "call_module" else f"'{node.name}' is no module"
            raise SlimlineError(
                f"an activation before a layer that would read signs cannot be taken out, as {what}; give it an nn.ReLU of its own, or make "
                "quantize.activations.bits 32"
            )
    return {str(node.target) for node in nodes}


@torch.no_grad()
def estimate_norms(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give the batch norms of `model` the statistics of what it computes now, the mean over `batches`.

    Those of a network of real numbers, or of drawn signs, are not those of signs.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean
        norm.train()
    for batch in batches:
        model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


@torch.no_grad()
def check_signs(model: nn.Module, images: Tensor) -> None:
    """See to it that layers which read signs are told something.

    Raises:
        SlimlineError: a layer whose inputs have one sign throughout.
    """
    told: dict[str, bool] = {}

    def watch(name: str) -> Any:
        def hear(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            told[name] = bool((inputs[0] < 0).any()) and bool((inputs[0] >= 0).any())

        return hear

    layers = {name: layer for name, layer in binary_layers(model).items() if layer.binarizes}
    handles = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    try:
        model.eval()(images)
    finally:
        for handle in handles:
            handle.remove()
    if mute := [name for name, heard in told.items() if not heard]:
        raise SlimlineError(
            f"layer '{mute[0]}' would read one sign alone, on all of {len(images)} training images; put a batch norm before it, or give it more "
            "bits (quantize.weights.exceptions)"
        )
