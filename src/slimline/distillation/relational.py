"""Relational knowledge distillation (Park, Kim, Lu & Cho, "Relational Knowledge Distillation", 2019)."""

from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from slimline.distillation.features import length, unit
from slimline.distillation.loss import FeatureLoss, Shapes
from slimline.distillation.points import Named, before_logits, chosen


def differences(rows: Float[Tensor, "batch features"]) -> Float[Tensor, "batch batch features"]:
    """Row j minus row i at [i, j]."""
    return rows[None] - rows[:, None]


def distances(rows: Float[Tensor, "batch features"]) -> Float[Tensor, "batch batch"]:
    """ψ_D = ‖row j - row i‖ / μ, with μ their mean over i ≠ j (the paper's section 3.2.1); zeros where all rows are equal."""
    apart = length(differences(rows))
    mean = apart.sum() / max(len(rows) * (len(rows) - 1), 1)
    return apart / torch.where(mean == 0, 1.0, mean)


def angles(rows: Float[Tensor, "batch features"]) -> Float[Tensor, "batch batch batch"]:
    """ψ_A = cos of the angle at row i between rows j and k (section 3.2.2), at [i, j, k]; 0 where i is equal to one of them."""
    away = unit(differences(rows))
    return away @ away.transpose(1, 2)


def relational(
    student: Float[Tensor, "batch features"], teacher: Float[Tensor, "batch others"], *, distance: float, angle: float
) -> Float[Tensor, ""]:
    """distance · mean over pairs of l(ψ_D) + angle · mean over triplets of l(ψ_A), l the Huber loss with δ = 1 (section 3.2).

    Pairs and triplets are of distinct images, as in the paper: the others are alike in every network and only dilute the mean. 0 where
    the batch is too small for any.
    """
    images = len(student)
    apart = F.huber_loss(distances(student), distances(teacher), reduction="sum") / max(images * (images - 1), 1)
    if angle == 0:
        return distance * apart
    # At j = k both cosines are 1, but for an image that only one of the networks tells apart; that triplet is none.
    own, theirs = (angles(rows) * (1 - torch.eye(images, dtype=rows.dtype, device=rows.device)) for rows in (student, teacher))
    turned = F.huber_loss(own, theirs, reduction="sum") / max(images * (images - 1) * (images - 2), 1)
    return distance * apart + angle * turned


class Relational(FeatureLoss):
    """Σ over pairs of `relational` of the layers' answers, each flattened to a row an image; widths may differ.

    It compares the images of a batch (of several processes: each its own part) and teaches no logits: a term of `sum`. It takes memory for
    batch² · features and batch³ numbers.

    Args:
        distance: weight of the distances.
        angle: weight of the angles. Both defaults are the paper's.
        pairs: layers; null for what goes into the logits.

    Raises:
        SlimlineError: a layer that does not exist.
    """

    def __init__(
        self,
        student: Shapes,
        teacher: Shapes,
        *,
        distance: Annotated[float, Field(gt=0.0)] = 25.0,
        angle: Annotated[float, Field(ge=0.0)] = 50.0,
        pairs: Named = None,
    ) -> None:
        super().__init__()
        self.distance, self.angle = distance, angle
        self.pairs = chosen("relational", pairs, student, teacher, before_logits)

    def compared(self, place: int, student: Float[Tensor, "batch ..."], teacher: Float[Tensor, "batch ..."]) -> Float[Tensor, ""]:
        return relational(student.flatten(1), teacher.flatten(1), distance=self.distance, angle=self.angle)
