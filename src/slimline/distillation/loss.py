"""What every distillation loss is given, and must answer."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from slimline.core.labels import Labels

Shapes = Mapping[str, tuple[int, ...]]
"""For each layer of a network, by its name, the shape of what it answers to one image, without the batch."""

Temperature = Annotated[float, Field(ge=1e-3, le=1e3)]
"""Beyond these, numbers of 32 bits say nothing of the teacher any more: all classes are equal to them, or one is all there is."""

Pairs = tuple[tuple[str, str], ...]
"""Names of layers: one of the student, one of the teacher."""


@dataclass(frozen=True)
class Response:
    """What a network answers to a batch.

    Args:
        logits: of the batch.
        layers: what layers within it answered, by name.
    """

    logits: Float[Tensor, "batch classes"]
    layers: Mapping[str, Tensor] = field(default_factory=dict)

    def widened(self) -> "Response":
        """The same in 32 bits at least."""
        return Response(_widened(self.logits), {name: _widened(values) for name, values in self.layers.items()})


def _widened(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


class Loss(nn.Module, ABC):
    """A measure of how far a student is from a teacher, a mean over the batch.

    What it needs to compare them, a projection from one width to another say, is its own: trained beside the student, saved with no model.

    `pairs`: the layers that it compares, the student's and the teacher's.
    `teaches_logits`: whether the student's answers hang on it, so that it can stand alone; a comparison of layers within is a term of `sum`.
    """

    pairs: Pairs = ()
    teaches_logits: bool = True

    @abstractmethod
    def forward(self, student: Response, teacher: Response, labels: Labels) -> Float[Tensor, ""]:
        """The loss of one batch. `teacher` needs no gradient."""


class FeatureLoss(Loss, ABC):
    """Σ over pairs of a comparison of the student's layer with the teacher's."""

    teaches_logits = False

    def forward(self, student: Response, teacher: Response, labels: Labels) -> Float[Tensor, ""]:
        compared = [self.compared(place, student.layers[own], teacher.layers[theirs]) for place, (own, theirs) in enumerate(self.pairs)]
        return torch.stack(compared).sum()

    @abstractmethod
    def compared(self, place: int, student: Float[Tensor, "batch ..."], teacher: Float[Tensor, "batch ..."]) -> Float[Tensor, ""]:
        """What pair number `place` costs."""
