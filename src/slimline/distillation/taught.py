"""Learning from a teacher: any loss of the table, with the teacher that it needs."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from slimline.core.labels import Labels
from slimline.distillation import LOSSES
from slimline.registry import Spec, bind


class Taught(nn.Module):
    """A distillation loss against a teacher that sees the very same images.

    The teacher is frozen and stays in eval mode whatever mode its surroundings are put in.
    """

    def __init__(self, teacher: nn.Module, loss: Spec) -> None:
        super().__init__()
        self.teacher = teacher.requires_grad_(False).eval()
        self.loss = bind(LOSSES, loss)

    def train(self, mode: bool = True) -> "Taught":
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, images: Float[Tensor, "batch c h w"], labels: Labels, logits: Float[Tensor, "batch classes"]) -> Float[Tensor, ""]:
        with torch.no_grad():
            teacher_logits = self.teacher(images)
        return self.loss(logits, teacher_logits, labels)
