"""Soft and hard targets (Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015)."""

from typing import Annotated

import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from slimline.core.labels import Labels, cross_entropy
from slimline.distillation.loss import Loss, Response, Shapes, Temperature


def soft_hard(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    labels: Labels,
    *,
    temperature: float,
    alpha: float,
) -> Float[Tensor, ""]:
    """alpha · T² · KL(softmax(teacher / T) ‖ softmax(student / T)) + (1 - alpha) · cross-entropy(student, labels), batch means.

    The soft term is a mean over all images, the hard one over the labelled ones.
    T² keeps the soft term's gradient at the hard term's size when the temperature changes (the paper's section 2).
    """
    soft = F.kl_div(
        F.log_softmax(student_logits / temperature, dim=1),
        F.log_softmax(teacher_logits / temperature, dim=1),
        log_target=True,
        reduction="batchmean",
    )
    return alpha * temperature**2 * soft + (1 - alpha) * cross_entropy(student_logits, labels)


class SoftHard(Loss):
    """`soft_hard` of the logits.

    Args:
        temperature: T, by which logits are divided.
        alpha: share of the soft term.
    """

    def __init__(
        self,
        student: Shapes,
        teacher: Shapes,
        *,
        temperature: Temperature,
        alpha: Annotated[float, Field(gt=0.0, le=1.0)],
    ) -> None:
        super().__init__()
        self.temperature, self.alpha = temperature, alpha

    def forward(self, student: Response, teacher: Response, labels: Labels) -> Float[Tensor, ""]:
        return soft_hard(student.logits, teacher.logits, labels, temperature=self.temperature, alpha=self.alpha)
