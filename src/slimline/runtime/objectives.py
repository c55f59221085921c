"""What training minimizes: objectives `(images, labels, logits) -> scalar loss`. The other one is `distillation.taught`."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from slimline.core.labels import Labels


class LabelsAlone(nn.Module):
    """Cross-entropy with the labels."""

    def __init__(self, label_smoothing: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, images: Float[Tensor, "batch c h w"], labels: Labels, logits: Float[Tensor, "batch classes"]) -> Float[Tensor, ""]:
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
