"""First-order Taylor expansion of the loss (Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference", 2017)."""

from collections.abc import Iterable

from torch import Tensor, nn

from slimline.core.batch import Batch
from slimline.pruning.gradients import mean_gradient
from slimline.pruning.layers import prunable


def taylor(model: nn.Module, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """|g · w|: by how much the mean loss over all images changes, to first order, when w becomes zero.

    The paper's criterion (equation 8) for activations, here for weights as in Molchanov et al., "Importance Estimation for Neural
    Network Pruning", 2019, equation 8, without its square.
    """
    layers = prunable(model)
    return {name: (g * layers[name.removesuffix(".weight")].weight.detach()).abs() for name, g in mean_gradient(model, batches).items()}
