"""Several losses at once."""

from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from slimline.core.labels import Labels
from slimline.distillation import LOSSES
from slimline.distillation.loss import Loss, Response, Shapes
from slimline.params.base import plugin
from slimline.registry import build

Weighted = tuple[Annotated[float, Field(gt=0.0)], plugin("slimline.distillation:LOSSES")]  # type: ignore[misc]


class Sum(Loss):
    """Σ weight · loss.

    Args:
        terms: for each loss its weight and its spec.
    """

    def __init__(self, student: Shapes, teacher: Shapes, *, terms: Annotated[tuple[Weighted, ...], Field(min_length=1)]) -> None:
        super().__init__()
        self.weights: list[float] = [weight for weight, _ in terms]  # type: ignore[attr-defined]
        losses: list[Loss] = [build(LOSSES, spec, student, teacher) for _, spec in terms]  # type: ignore[attr-defined]
        self.losses = nn.ModuleList(losses)
        self.pairs = tuple(pair for loss in losses for pair in loss.pairs)
        self.teaches_logits = any(loss.teaches_logits for loss in losses)

    def forward(self, student: Response, teacher: Response, labels: Labels) -> Float[Tensor, ""]:
        losses = [weight * loss(student, teacher, labels) for weight, loss in zip(self.weights, self.losses, strict=True)]
        return sum(losses[1:], losses[0])
