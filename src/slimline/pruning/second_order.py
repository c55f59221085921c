"""Second-order saliency (LeCun, Denker & Solla, "Optimal Brain Damage", 1990), with the empirical Fisher information in the Hessian's place."""

from collections.abc import Iterable

from torch import Tensor, nn

from slimline.core.batch import Batch
from slimline.pruning.gradients import mean_squared_gradient
from slimline.pruning.layers import prunable


def second_order(model: nn.Module, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """h · w² / 2 (the paper's equation 5): by how much the loss grows when w becomes zero, at a minimum, the Hessian being diagonal.

    The paper computes the Hessian's diagonal h. Here h is the mean over images of the squared gradient: the empirical Fisher information,
    which is close to the Hessian where the network fits its labels, and never negative.
    """
    layers = prunable(model)
    fisher = mean_squared_gradient(model, batches)
    return {name: h * layers[name.removesuffix(".weight")].weight.detach().double().square() / 2 for name, h in fisher.items()}
