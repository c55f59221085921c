"""Bias correction (Nagel et al., "Data-Free Quantization through Weight Equalization and Bias Correction", 2019, section 4.2).

Rounded weights shift what a layer gives on average; its bias takes that back, layer by layer, on calibration images:

    b += E[y of the network of real numbers] - E[y of the quantized network whose earlier layers are corrected]      (appendix D)
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from slimline.core.quantized import quantized_layers


def correct_biases(graph: fx.GraphModule, real: nn.Module, batches: Sequence[Tensor]) -> None:
    """Correct, in place, the biases of `graph`, layer by layer in the order in which they run.

    Args:
        real: the network of real numbers, folded: its layers have the same names.
    """
    layers = quantized_layers(graph)
    order = [node.target for node in graph.graph.nodes if node.op == "call_module" and node.target in layers]
    wanted = {name: _mean(real, name, batches) for name in dict.fromkeys(order)}
    for name, mean in wanted.items():
        bias = layers[name].bias
        assert bias is not None
        with torch.no_grad():
            bias.add_(mean - _mean(graph, name, batches))


def _mean(model: nn.Module, name: str, batches: Sequence[Tensor]) -> Float[Tensor, " channels"]:
    """The mean of what the layer `name` gives, a number a channel."""
    layer = model.get_submodule(name)
    sums, count = torch.zeros(()), 0

    def hear(_layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal sums, count
        channels = output.movedim(1, -1) if isinstance(layer, nn.Conv2d) else output
        flat = channels.reshape(-1, channels.shape[-1]).double()
        sums, count = sums + flat.sum(0), count + len(flat)

    handle = layer.register_forward_hook(hear)
    try:
        with torch.no_grad():
            for batch in batches:
                model.eval()(batch)
    finally:
        handle.remove()
    return (sums / count).float()
