"""The labels alone, as one term beside others."""

from jaxtyping import Float
from torch import Tensor

from slimline.core.labels import Labels, cross_entropy
from slimline.distillation.loss import Loss, Response, Shapes


class LabelsTerm(Loss):
    """Cross-entropy of the student with the labels, a mean over the labelled images; the teacher has no part in it.

    For `sum`, beside losses that compare features and teach no logits.
    """

    def __init__(self, student: Shapes, teacher: Shapes) -> None:
        super().__init__()

    def forward(self, student: Response, teacher: Response, labels: Labels) -> Float[Tensor, ""]:
        return cross_entropy(student.logits, labels)
