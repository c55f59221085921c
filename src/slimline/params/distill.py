"""Block `distill`: the student, and what it learns from the teacher."""

from slimline.params.base import Block, plugin
from slimline.params.fit import Fit


class Distill(Block):
    """Architecture and training of the student; the same student trained without `loss`, on labels alone, is its control."""

    model: plugin("slimline.models:MODELS")  # type: ignore[valid-type]
    loss: plugin("slimline.distillation:LOSSES")  # type: ignore[valid-type]
    fit: Fit
