"""Cross-layer equalization (Nagel et al., "Data-Free Quantization through Weight Equalization and Bias Correction", 2019, section 4.1).

A channel between two layers is scaled down in the first and up in the second, which ReLU lets pass unchanged:

    W1[i] / s_i, b1[i] / s_i, W2[:, i] · s_i        s_i = sqrt(r1_i / r2_i), r being the largest |weight| of the channel    (eq. 11)

so that both have one range there, and one scale a layer serves all channels better. It moves nothing where weights have a scale a channel
but the activations between, whose scale is one for all.
"""

from collections import Counter

import torch
from torch import Tensor, fx, nn

from slimline.core.quantized import is_kind, keeps_grid
from slimline.errors import SlimlineError

ROUNDS = 20
"""Pairs share layers, so they are gone through until nothing moves, or so often (section 4.1.2)."""

CLOSE = 1e-4
"""Scales nearer to 1 than this move nothing."""

Layer = nn.Conv2d | nn.Linear


def equalize(graph: fx.GraphModule) -> None:
    """Equalize, in place, each pair of layers of a folded network between which only ReLU or a maximum stands.

    Raises:
        SlimlineError: there is no such pair.
    """
    pairs = _pairs(graph)
    if not pairs:
        raise SlimlineError("quantize.equalize: no two layers with nothing but ReLU between them, so there is nothing to equalize; make it false")
    with torch.no_grad():
        for _ in range(ROUNDS):
            moved = [_equalized(first, second) for first, second in pairs]
            if not any(moved):
                break


def _pairs(graph: fx.GraphModule) -> list[tuple[Layer, Layer]]:
    modules = dict(graph.named_modules())
    calls = Counter(node.target for node in graph.graph.nodes if node.op == "call_module")
    found = []
    for node in graph.graph.nodes:
        first = _layer(node, modules)
        if first is None or calls[node.target] > 1:
            continue
        after = node
        while len(after.users) == 1 and _lets_scales_pass(after := next(iter(after.users)), modules):
            pass
        second = _layer(after, modules)
        if after is not node and second is not None and calls[after.target] == 1 and _inputs(second) == first.weight.shape[0]:
            found.append((first, second))
    return found


def _layer(node: fx.Node, modules: dict[str, nn.Module]) -> Layer | None:
    module = modules[str(node.target)] if node.op == "call_module" else None
    return module if isinstance(module, Layer) else None


def _lets_scales_pass(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    return is_kind(node, modules, (nn.ReLU,), (torch.relu, nn.functional.relu), ("relu",)) or keeps_grid(node, modules)


def _inputs(layer: Layer) -> int:
    """Channels that `layer` reads, 0 where they do not stand for themselves."""
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    if groups == 1:
        return layer.weight.shape[1]
    return groups if layer.weight.shape[:2] == (groups, 1) else 0


def _by_input(layer: Layer) -> Tensor:
    """The weight with the channels that it reads first (a view)."""
    return layer.weight if isinstance(layer, nn.Conv2d) and layer.groups > 1 else layer.weight.transpose(0, 1)


def _equalized(first: Layer, second: Layer) -> bool:
    """Equalize one pair; whether that moved anything. Channels without weights on either side stay."""
    ranges = [weight.detach().flatten(1).abs().amax(1) for weight in (first.weight, _by_input(second))]
    scales = torch.where((ranges[0] > 0) & (ranges[1] > 0), (ranges[0] / ranges[1]).sqrt(), torch.ones_like(ranges[0]))
    if not bool(((scales - 1).abs() > CLOSE).any()):
        return False
    first.weight.div_(scales.view(-1, *[1] * (first.weight.ndim - 1)))
    if first.bias is not None:
        first.bias.div_(scales)
    _by_input(second).mul_(scales.view(-1, *[1] * (second.weight.ndim - 1)))
    return True
