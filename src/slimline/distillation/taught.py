"""Learning from a teacher: any loss of the table, with the teacher that it needs."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from slimline.core.labels import Labels
from slimline.distillation import LOSSES
from slimline.registry import Spec, bind


class Taught(nn.Module):
    """A distillation loss against a teacher that sees the very same images.

    The teacher is frozen, and stays in eval mode whatever mode its surroundings are put in. It follows them to another device or type,
    but is none of their parts: checkpoints, optimizers and the exchange between processes know what is trained, and nothing else.
    """

    def __init__(self, teacher: nn.Module, loss: Spec) -> None:
        super().__init__()
        self._outside = (teacher.requires_grad_(False).eval(),)  # in a tuple, which torch does not look into
        self.loss = bind(LOSSES, loss)

    @property
    def teacher(self) -> nn.Module:
        return self._outside[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Taught":
        self.teacher._apply(fn, recurse)
        super()._apply(fn, recurse)
        return self

    def forward(self, images: Float[Tensor, "batch c h w"], labels: Labels, logits: Float[Tensor, "batch classes"]) -> Float[Tensor, ""]:
        with torch.no_grad():
            teacher_logits = self.teacher(images)
        return self.loss(logits, teacher_logits, labels)
