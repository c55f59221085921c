"""What training minimizes without a teacher. The other objective is `distillation.taught`."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from slimline.core.batch import Batch
from slimline.core.objective import Network, Objective


class LabelsAlone(Objective):
    """Cross-entropy with the labels."""

    def __init__(self, label_smoothing: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, batch: Batch, network: Network) -> Float[Tensor, ""]:
        return F.cross_entropy(network(batch.images), batch.labels, label_smoothing=self.label_smoothing)
