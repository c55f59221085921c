"""Decoupled knowledge distillation (Zhao et al., "Decoupled Knowledge Distillation", 2022)."""

from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor

from slimline.core.labels import UNKNOWN, Labels, cross_entropy, largest
from slimline.distillation.loss import Loss, Response, Shapes, Temperature


def decoupled(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    targets: Int64[Tensor, " batch"],
    *,
    temperature: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """TCKD and NCKD, batch means, in nats.

    With p = softmax(logits / T) and t the target class,
    TCKD = KL of the teacher's [p_t, 1 - p_t] from the student's, and
    NCKD = KL of the teacher's p_c / (1 - p_t), c ≠ t, from the student's (the paper's equation 5).
    KL of the whole p is TCKD + (1 - teacher's p_t) · NCKD for each image (equation 6).
    """
    # Every class but the target, in order: no number has to stand for "minus infinity".
    place = torch.arange(student_logits.shape[1] - 1, device=targets.device)
    others = place + (place >= targets[:, None])
    own, theirs = (_parted(logits / temperature, targets, others) for logits in (student_logits, teacher_logits))
    target, rest = (F.kl_div(mine, yours, log_target=True, reduction="batchmean") for mine, yours in zip(own, theirs, strict=True))
    return target, rest


def _parted(
    logits: Float[Tensor, "batch classes"], targets: Int64[Tensor, " batch"], others: Int64[Tensor, "batch rest"]
) -> tuple[Float[Tensor, "batch 2"], Float[Tensor, "batch rest"]]:
    """log [p_t, 1 - p_t], and log p_c / (1 - p_t) of the others."""
    left = logits.gather(1, others)
    two = torch.cat([logits.gather(1, targets[:, None]), left.logsumexp(1, keepdim=True)], 1)
    return two.log_softmax(1), left.log_softmax(1)


class DKD(Loss):
    """T² · (alpha · TCKD + beta · NCKD) + hard · cross-entropy(student, labels): the paper's equation 7 in its authors' form.

    The target class is the label, of a mix the one with the largest share, and without a label the teacher's answer. TCKD and NCKD are
    means over all images, the cross-entropy over the labelled ones.

    Args:
        temperature: T, by which logits are divided.
        alpha: weight of what the teacher says of the target class.
        beta: weight of what it says of the others; the paper takes 8 for most pairs on CIFAR-100, less for weaker teachers.
        hard: weight of the cross-entropy.
    """

    def __init__(
        self,
        student: Shapes,
        teacher: Shapes,
        *,
        temperature: Temperature = 4.0,
        alpha: Annotated[float, Field(ge=0.0)] = 1.0,
        beta: Annotated[float, Field(gt=0.0)] = 8.0,
        hard: Annotated[float, Field(ge=0.0)] = 1.0,
    ) -> None:
        super().__init__()
        self.temperature, self.alpha, self.beta, self.hard = temperature, alpha, beta, hard

    def forward(self, student: Response, teacher: Response, labels: Labels) -> Float[Tensor, ""]:
        named = largest(labels)
        targets = torch.where(named == UNKNOWN, teacher.logits.argmax(1), named)
        target, rest = decoupled(student.logits, teacher.logits, targets, temperature=self.temperature)
        return self.temperature**2 * (self.alpha * target + self.beta * rest) + self.hard * cross_entropy(student.logits, labels)
