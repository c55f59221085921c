"""Block `teacher`: the large network that the small one learns from."""

from slimline.params.base import Block, plugin
from slimline.params.fit import Fit


class Teacher(Block):
    """Architecture and training of the teacher."""

    model: plugin("slimline.models:MODELS")  # type: ignore[valid-type]
    fit: Fit
