"""What every distillation loss is given, and must answer."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor, nn

from slimline.core.labels import Labels

Shapes = Mapping[str, tuple[int, ...]]
"""For each layer of a network, by its name, the shape of what it answers to one image, without the batch."""

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


class Loss(nn.Module, ABC):
    """A measure of how far a student is from a teacher, a mean over the batch.

    What it needs to compare them, a projection from one width to another say, is its own: trained beside the student, saved with no model.

    `pairs`: the layers that it compares, the student's and the teacher's.
    """

    pairs: Pairs = ()

    @abstractmethod
    def forward(self, student: Response, teacher: Response, labels: Labels) -> Float[Tensor, ""]:
        """The loss of one batch. `teacher` needs no gradient."""
