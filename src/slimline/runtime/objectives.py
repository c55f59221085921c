"""What training minimizes without a teacher. The other objective is `distillation.taught`."""

from jaxtyping import Float
from torch import Tensor

from slimline.core.batch import Batch
from slimline.core.labels import cross_entropy
from slimline.core.objective import Network, Objective


class LabelsAlone(Objective):
    """Cross-entropy with the labels, a mean over the labelled images."""

    def __init__(self, label_smoothing: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, batch: Batch, network: Network) -> Float[Tensor, ""]:
        return cross_entropy(network(batch.images), batch.labels, self.label_smoothing)
