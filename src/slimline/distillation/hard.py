"""The teacher's answer as a label (Touvron et al., "Training data-efficient image transformers & distillation through attention", 2021)."""

from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from slimline.core.labels import Labels, cross_entropy
from slimline.distillation.loss import Loss, Response, Shapes


def hard(
    student_logits: Float[Tensor, "batch classes"], teacher_logits: Float[Tensor, "batch classes"], labels: Labels, *, alpha: float
) -> Float[Tensor, ""]:
    """alpha · cross-entropy(student, argmax teacher) + (1 - alpha) · cross-entropy(student, labels).

    The paper's equation 3 with alpha = 1/2. The first term is a mean over all images, the second over the labelled ones.
    """
    return alpha * cross_entropy(student_logits, teacher_logits.argmax(1)) + (1 - alpha) * cross_entropy(student_logits, labels)


class Hard(Loss):
    """`hard` of the logits.

    Args:
        alpha: share of the teacher's labels; with 1 the others are not looked at.
    """

    def __init__(self, student: Shapes, teacher: Shapes, *, alpha: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, student: Response, teacher: Response, labels: Labels) -> Float[Tensor, ""]:
        return hard(student.logits, teacher.logits, labels, alpha=self.alpha)
