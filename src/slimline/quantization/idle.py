"""Idle units: what pruning has left of them is taken out, and the network computes what it did.

A unit (a neuron, or a channel of a convolution) whose own weights are all zero gives the constant a(b), a being the activation behind it;
the biases of the layers that read it take over w · a(b). A unit that no weight reads counts for nothing: its weights and its bias become
zero. Zeros cost the packed file next to nothing, while idle biases are real numbers and idle weights have places.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, fx, nn

from slimline.core.masked import MaskedConv2d, MaskedLinear

CONVOLUTIONS = (nn.Conv2d, MaskedConv2d)
LAYERS = (*CONVOLUTIONS, nn.Linear, MaskedLinear)
ACTIVATIONS = (nn.ReLU, nn.ReLU6)


@dataclass(frozen=True)
class _Reader:
    """A layer that reads another one's units.

    Args:
        layer: its weights, as [outputs units …], are those of `of_units`.
        activation: what happens to a number on the way.
    """

    layer: nn.Conv2d | nn.Linear
    activation: Callable[[Tensor], Tensor]

    def of_units(self, units: int) -> Float[Tensor, "outputs units places"]:
        return self.layer.weight.detach().flatten(1).unflatten(1, (units, -1))  # a view


@torch.no_grad()
def take_out_idle_units(graph: fx.GraphModule) -> fx.GraphModule:
    """`graph` (changed in place) without what is idle in its convolutions and fully connected layers.

    Only where all readers of a layer are layers too, with nothing in between but activations, pooling and flattening.

    Args:
        graph: a folded network (`core.quantized.folded`).
    """
    modules = dict(graph.named_modules())
    calls = Counter(node.target for node in graph.graph.nodes if node.op == "call_module")
    nodes = [node for node in graph.graph.nodes if _is_layer(node, modules, calls)]
    found = [(modules[node.target], readers) for node in nodes if (readers := _readers(node, modules, calls)) is not None]
    for layer, readers in found:  # front to back: a unit that reads constants alone is one
        _hand_on_constants(layer, readers)
    for layer, readers in reversed(found):  # back to front: what only idle units read is idle
        read = _read(readers, len(layer.weight))
        layer.weight[~read] = 0.0
        if layer.bias is not None:
            layer.bias[~read] = 0.0
    return graph


def _is_layer(node: fx.Node, modules: dict[str, nn.Module], calls: Counter[object]) -> bool:
    return node.op == "call_module" and isinstance(modules[str(node.target)], LAYERS) and calls[node.target] == 1


def _readers(node: fx.Node, modules: dict[str, nn.Module], calls: Counter[object]) -> list[_Reader] | None:
    """The layers that read what the layer of `node` gives; None where something else does, or its units cannot be followed."""
    units, found = len(modules[str(node.target)].weight), []  # type: ignore[arg-type]
    planes = isinstance(modules[str(node.target)], CONVOLUTIONS)
    waiting: list[tuple[fx.Node, bool, Callable[[Tensor], Tensor]]] = [(node, planes, lambda x: x)]
    while waiting:
        at, planes, activation = waiting.pop()
        for user in at.users:
            module = modules[str(user.target)] if user.op == "call_module" else None
            if isinstance(module, LAYERS) and _is_layer(user, modules, calls) and _takes(module, units, planes=planes):
                found.append(_Reader(module, activation))
            elif isinstance(module, ACTIVATIONS):
                waiting.append((user, planes, lambda x, before=activation, module=module: module(before(x))))
            elif isinstance(module, nn.MaxPool2d) and planes:
                waiting.append((user, planes, activation))
            elif isinstance(module, nn.Flatten) and module.start_dim == 1 and module.end_dim == -1:
                waiting.append((user, False, activation))
            else:
                return None
    return found or None


def _takes(layer: nn.Conv2d | nn.Linear, units: int, *, planes: bool) -> bool:
    """Whether each input of `layer` belongs to one of `units`, in their order."""
    if isinstance(layer, CONVOLUTIONS):
        return planes and layer.groups == 1 and layer.in_channels == units
    return not planes and layer.in_features % units == 0


def _hand_on_constants(layer: nn.Conv2d | nn.Linear, readers: list[_Reader]) -> None:
    """Let the biases of `readers` take over what the units of `layer` give that read nothing."""
    # Where a convolution pads, a constant is none at the border.
    if any(r.layer.bias is None or (isinstance(r.layer, CONVOLUTIONS) and any(r.layer.padding)) for r in readers):  # type: ignore[arg-type]
        return
    constant = ~layer.weight.flatten(1).any(1)
    values = torch.zeros(len(constant)) if layer.bias is None else layer.bias
    for reader in readers:
        weights = reader.of_units(len(constant))
        reader.layer.bias += (weights.sum(2) * reader.activation(values))[:, constant].sum(1)  # type: ignore[operator]
        weights[:, constant] = 0.0


def _read(readers: list[_Reader], units: int) -> Bool[Tensor, " units"]:
    """Which units some weight of `readers` reads."""
    return torch.stack([reader.of_units(units).ne(0).any(2).any(0) for reader in readers]).any(0)
