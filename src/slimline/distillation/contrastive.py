"""Contrastive representation distillation (Tian, Krishnan & Isola, "Contrastive Representation Distillation", 2020), kept small.

The paper draws thousands of negatives from a memory of all training images and estimates a density ratio. Here the
negatives are the other images of the batch and the loss is InfoNCE (van den Oord, Li & Vinyals, "Representation Learning with Contrastive
Predictive Coding", 2018, equation 4): a bound on the same mutual information, without a state that grows with the data.
"""

from math import prod
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from slimline.distillation.features import unit
from slimline.distillation.loss import FeatureLoss, Shapes, Temperature
from slimline.distillation.points import Named, before_logits, chosen


def contrastive(student: Float[Tensor, "batch dim"], teacher: Float[Tensor, "batch dim"], *, temperature: float) -> Float[Tensor, ""]:
    """The mean of both directions of -log softmax_j(⟨s_i, t_j⟩ / temperature) at j = i, s and t being rows of length 1; in nats.

    A student that tells nothing about which image it saw has log(batch); a batch of one image has 0.
    """
    alike = unit(student) @ unit(teacher).T / temperature
    same = torch.arange(len(student), device=student.device)
    return (F.cross_entropy(alike, same) + F.cross_entropy(alike.T, same)) / 2


class Contrastive(FeatureLoss):
    """Σ over pairs of `contrastive` of linear projections of the layers' answers, each flattened to a row an image.

    Both projections are the loss's own. It compares the images of a batch (of several processes: each its own part), those of one class
    too, and teaches no logits: a term of `sum`, in the paper with a weight of 0.8.

    Args:
        dim: numbers that each image is projected to.
        temperature: by which cosines are divided. Both defaults are the paper's.
        pairs: layers; null for what goes into the logits.

    Raises:
        SlimlineError: a layer that does not exist.
    """

    def __init__(
        self,
        student: Shapes,
        teacher: Shapes,
        *,
        dim: Annotated[int, Field(ge=1)] = 128,
        temperature: Temperature = 0.07,
        pairs: Named = None,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.pairs = chosen("contrastive", pairs, student, teacher, before_logits)
        self.own = nn.ModuleList(nn.Linear(prod(student[own]), dim) for own, _ in self.pairs)
        self.theirs = nn.ModuleList(nn.Linear(prod(teacher[theirs]), dim) for _, theirs in self.pairs)

    def compared(self, place: int, student: Float[Tensor, "batch ..."], teacher: Float[Tensor, "batch ..."]) -> Float[Tensor, ""]:
        own, theirs = self.own[place](student.flatten(1)), self.theirs[place](teacher.flatten(1))
        return contrastive(own, theirs, temperature=self.temperature)
