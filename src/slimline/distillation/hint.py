"""Hints (Romero et al., "FitNets: Hints for Thin Deep Nets", 2015)."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from slimline.distillation.features import pooled
from slimline.distillation.loss import FeatureLoss, Shapes
from slimline.distillation.points import Named, before_logits, chosen, incomparable, last_map


def hint(student: Float[Tensor, "batch channels *places"], teacher: Float[Tensor, "batch channels *places"]) -> Float[Tensor, ""]:
    """Mean over images and numbers of (student - teacher)².

    The paper's equation 3, whose ½ · sum over numbers makes the weight hang on the layer's size, as a mean.
    """
    return F.mse_loss(student, teacher)


class Hint(FeatureLoss):
    """Σ over pairs of `hint` of the student's layer, projected to the teacher's width where they differ, and the teacher's.

    The projection, a 1×1 convolution of maps or a linear layer of rows, is the loss's own. Of two maps of different size the larger one
    is pooled to the smaller one's. It teaches no logits: a term of `sum`. The paper trains a first stage by it alone; here it acts throughout.

    Args:
        pairs: layers that both answer maps, or rows, or as many tokens; null for the last feature map of both, or, where one of them has
            none, for what goes into the logits.

    Raises:
        SlimlineError: a layer that does not exist, or layers that cannot be compared.
    """

    def __init__(self, student: Shapes, teacher: Shapes, *, pairs: Named = None) -> None:
        super().__init__()
        self.pairs = chosen("hint", pairs, student, teacher, last_map if last_map(student) and last_map(teacher) else before_logits)
        self.projections = nn.ModuleList()
        self.sizes: list[tuple[int, int] | None] = []
        for pair in self.pairs:
            own, theirs = student[pair[0]], teacher[pair[1]]
            if len(own) != len(theirs) or len(own) > 3 or (len(own) == 2 and own[0] != theirs[0]):
                raise incomparable("hint", pair, student, teacher, "hint needs two maps, two rows, or two sets of as many tokens")
            if len(own) == 3:
                self.sizes.append((min(own[1], theirs[1]), min(own[2], theirs[2])))
                self.projections.append(nn.Identity() if own[0] == theirs[0] else nn.Conv2d(own[0], theirs[0], 1))
            else:
                self.sizes.append(None)
                self.projections.append(nn.Identity() if own[-1] == theirs[-1] else nn.Linear(own[-1], theirs[-1]))

    def compared(self, place: int, student: Float[Tensor, "batch ..."], teacher: Float[Tensor, "batch ..."]) -> Float[Tensor, ""]:
        size = self.sizes[place]
        own, theirs = (values if size is None else pooled(values, size) for values in (student, teacher))
        return hint(self.projections[place](own), theirs)
