"""Several networks that answer as one (Hansen & Salamon, "Neural Network Ensembles", 1990).

No entry of the zoo: its members are trained one by one, and it is put together of what they have learned.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from slimline.errors import SlimlineError
from slimline.models import MODELS
from slimline.params.base import plugin
from slimline.registry import build

NAME = "slimline.models.ensemble:Ensemble"
"""What a model on disk calls it."""

Average = Literal["probabilities", "logits"]
Logits = Float[Tensor, "members batch classes"]
Weights = Float[Tensor, " members"]


def mean_probabilities(logits: Logits, weights: Weights) -> Float[Tensor, "batch classes"]:
    """log Σ weight · softmax(logits): logits whose softmax is the mean of the members' probabilities."""
    return (logits.log_softmax(2) + weights.log()[:, None, None]).logsumexp(0)


def mean_logits(logits: Logits, weights: Weights) -> Float[Tensor, "batch classes"]:
    """Σ weight · logits: the softmax of it is the members' geometric mean, made to sum to 1."""
    return (weights[:, None, None] * logits).sum(0)


AVERAGES: Mapping[Average, Callable[[Logits, Weights], Float[Tensor, "batch classes"]]] = {
    "probabilities": mean_probabilities,
    "logits": mean_logits,
}


class Ensemble(nn.Module):
    """The weighted average of what its members answer.

    Args:
        input_shape: channels, height, width.
        classes: number of logits.
        members: entries of the zoo.
        average: of what.
        weights: of each member; they are divided by their sum.

    Raises:
        SlimlineError: not one weight a member.
    """

    weights: Tensor

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        *,
        members: Annotated[tuple[plugin("slimline.models:MODELS"), ...], Field(min_length=1)],  # type: ignore[valid-type]
        average: Average,
        weights: tuple[Annotated[float, Field(gt=0.0)], ...],
    ) -> None:
        super().__init__()
        if len(weights) != len(members):
            raise SlimlineError(f"an ensemble of {len(members)} members has {len(weights)} weights; give one each")
        self.members = nn.ModuleList(build(MODELS, spec, input_shape, classes) for spec in members)
        self.average = AVERAGES[average]
        self.register_buffer("weights", torch.tensor(weights) / sum(weights), persistent=False)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        return self.average(torch.stack([member(x) for member in self.members]), self.weights)
