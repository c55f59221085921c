"""What training minimizes without a teacher, and a penalty beside any objective. The one with a teacher is `distillation.taught`."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from slimline.core.batch import Batch
from slimline.core.labels import cross_entropy
from slimline.core.objective import Network, Objective
from slimline.errors import SlimlineError


class LabelsAlone(Objective):
    """Cross-entropy with the labels, a mean over the labelled images."""

    def __init__(self, label_smoothing: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, batch: Batch, network: Network) -> Float[Tensor, ""]:
        return cross_entropy(network(batch.images), batch.labels, self.label_smoothing)


class Slimming(Objective):
    """objective + strength · Σ|γ| over the scales of all batch norms (Liu et al., "Network Slimming", 2017, equation 1).

    Args:
        model: the network that is trained; it is no part of this.
    """

    def __init__(self, objective: Objective, model: nn.Module, strength: float) -> None:
        super().__init__()
        self.objective, self.strength = objective, strength
        self.reads_layers = objective.reads_layers
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) and m.affine]
        if not norms:
            raise SlimlineError("fit.norm_sparsity needs batch norms, and the model has none; make it 0")
        self._outside = (norms,)  # in a tuple, which torch does not look into

    def forward(self, batch: Batch, network: Network) -> Float[Tensor, ""]:
        (norms,) = self._outside
        return self.objective(batch, network) + self.strength * torch.stack([norm.weight.abs().sum() for norm in norms]).sum()

    def look_ahead(self, batches: Iterator[Batch], views: int, images: int) -> None:
        self.objective.look_ahead(batches, views, images)
