"""Ever more within one training (Zhu & Gupta, "To prune, or not to prune", 2017)."""

from typing import Annotated

from pydantic import Field
from torch import nn

from slimline.errors import SlimlineError
from slimline.pruning.schedule import Course, Schedule


class Gradual(Schedule):
    """After a part t of the training, s · (1 - (1 - (t - begin) / (end - begin))³) of the units are gone (equation 1, from nothing to s).

    Quick where there is much that is worth nothing, slow in the end. Masks only: the shapes of channels cannot change within a training.
    Unlike the paper's, what is gone stays gone. The best epoch is looked for from the one in which the last
    cut falls.

    Args:
        every: steps between two cuts.
        begin, end: parts of the training between which weights go.
    """

    def __init__(
        self,
        *,
        every: Annotated[int, Field(ge=1)] = 10,
        begin: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0,
        end: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.7,
    ) -> None:
        if begin >= end:
            raise SlimlineError(f"prune.schedule gradual: begin {begin:g} is not before end {end:g}")
        self.every, self.begin, self.end = every, begin, end

    def share(self, final: float, done: float) -> float:
        part = min(max((done - self.begin) / (self.end - self.begin), 0.0), 1.0)
        return final * (1 - (1 - part) ** 3)

    def run(self, course: Course, model: nn.Module) -> nn.Module:
        return course.retrained_while_cut(model, self.share, every=self.every, end=self.end)
