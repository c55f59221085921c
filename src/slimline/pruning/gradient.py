"""Gradient magnitude: what the loss does not depend on, to first order, matters least."""

from collections.abc import Iterable

from torch import Tensor, nn

from slimline.core.batch import Batch
from slimline.pruning.gradients import mean_gradient


def gradient(model: nn.Module, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """|g|, g being the gradient of the mean loss over all images.

    A control for `taylor` more than a method: a weight at its optimum has a small gradient, however much it matters.
    """
    return {name: g.abs() for name, g in mean_gradient(model, batches).items()}
