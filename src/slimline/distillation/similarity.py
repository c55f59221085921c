"""Similarity-preserving distillation (Tung & Mori, "Similarity-Preserving Knowledge Distillation", 2019)."""

from jaxtyping import Float
from torch import Tensor

from slimline.distillation.features import unit
from slimline.distillation.loss import FeatureLoss, Shapes
from slimline.distillation.points import Named, before_logits, chosen, last_map


def similarities(rows: Float[Tensor, "batch features"]) -> Float[Tensor, "batch batch"]:
    """G = rows · rowsᵀ, each row of it divided by its length (the paper's section 3.1)."""
    # A common factor goes out again in the division; without it squares of large numbers leave the range of floats.
    largest = rows.detach().abs().amax()
    rows = rows / largest.where(largest > 0, 1.0)
    return unit(rows @ rows.T)


def similarity(student: Float[Tensor, "batch features"], teacher: Float[Tensor, "batch others"]) -> Float[Tensor, ""]:
    """‖G_T - G_S‖² / batch² (the paper's section 3.1, for one pair of layers)."""
    return (similarities(teacher) - similarities(student)).square().mean()


class Similarity(FeatureLoss):
    """Σ over pairs of `similarity` of the layers' answers, each flattened to a row an image; widths and sizes may differ.

    It compares the images of a batch (of several processes: each its own part) and teaches no logits: a term of `sum`, in the paper
    with a weight of 3000.

    Args:
        pairs: layers; null for the last feature map of both, or, where one of them has none, for what goes into the logits.

    Raises:
        SlimlineError: a layer that does not exist.
    """

    def __init__(self, student: Shapes, teacher: Shapes, *, pairs: Named = None) -> None:
        super().__init__()
        self.pairs = chosen("similarity", pairs, student, teacher, last_map if last_map(student) and last_map(teacher) else before_logits)

    def compared(self, place: int, student: Float[Tensor, "batch ..."], teacher: Float[Tensor, "batch ..."]) -> Float[Tensor, ""]:
        return similarity(student.flatten(1), teacher.flatten(1))
