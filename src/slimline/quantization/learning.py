"""Scales that training moves."""

import torch
from torch import Tensor, fx

from slimline.core.grids import IntegerGrid
from slimline.core.quantized import POINTS, quantized_layers
from slimline.errors import SlimlineError
from slimline.quantization import LEARNING
from slimline.registry import Spec, build


def learnable(graph: fx.GraphModule, input_shape: tuple[int, int, int], *, weights: Spec | None = None, activations: Spec | None = None) -> None:
    """Let the scales of integer grids be trained from now on, until `core.quantized.settled`.

    Args:
        weights, activations: entries of LEARNING; None leaves scales as they were calibrated.

    Raises:
        SlimlineError: there is no integer grid to learn.
    """
    if weights is not None:
        grids = [(layer.grid, layer.weight) for layer in quantized_layers(graph).values()]
        integers = [(grid, weight) for grid, weight in grids if isinstance(grid, IntegerGrid)]
        if not integers:
            raise SlimlineError("quantize.weights.learn: no layer's weights are integers, so there is no scale to learn; make it null")
        for grid, weight in integers:
            grid.learn(build(LEARNING, weights, weight.numel() // grid.scale.numel(), grid.high))
    if activations is not None:
        sizes = _sizes(graph, input_shape)
        if not sizes:
            raise SlimlineError("quantize.activations.learn: no activations are integers, so there is no scale to learn; make it null")
        for grid, size in sizes.items():
            grid.learn(build(LEARNING, activations, size, grid.high))


def _sizes(graph: fx.GraphModule, input_shape: tuple[int, int, int]) -> dict[IntegerGrid, int]:
    """How many numbers of one image each grid of activations takes."""
    sizes: dict[IntegerGrid, int] = {}

    def hear(grid: IntegerGrid, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        sizes[grid] = inputs[0].numel()

    points = [m for name, m in graph.named_modules() if name.startswith(f"{POINTS}.") and isinstance(m, IntegerGrid)]
    handles = [point.register_forward_hook(hear) for point in points]  # type: ignore[arg-type]
    with torch.no_grad():
        graph(torch.zeros(1, *input_shape))
    for handle in handles:
        handle.remove()
    return sizes
