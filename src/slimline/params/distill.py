"""Block `distill`: the student, and what it learns from the teacher."""

from pydantic import model_validator

from slimline.params.base import Block, plugin
from slimline.params.fit import Fit, no_smoothing_under_a_teacher


class Distill(Block):
    """Architecture and training of the student; the same student trained without `loss`, on labels alone, is its control."""

    model: plugin("slimline.models:MODELS")  # type: ignore[valid-type]
    loss: plugin("slimline.distillation:LOSSES")  # type: ignore[valid-type]
    fit: Fit

    @model_validator(mode="after")
    def one_source_of_softness(self) -> "Distill":
        no_smoothing_under_a_teacher(self.fit, self.loss)
        return self
