"""Prune and retrain in turns (Han et al., "Learning both Weights and Connections", 2015)."""

from typing import Annotated

from pydantic import Field
from torch import nn

from slimline.pruning.schedule import Course, Schedule


class Iterative(Schedule):
    """`rounds` times: score, cut, retrain.

    Every round takes the same share of what is left: after round r of R, 1 - (1 - s)^(r/R) is gone, s being the share that the target
    takes of the original network. The last round meets the target itself, with the scores that the retrained network then has.

    Args:
        epochs: of each round but the last, which trains as long as `prune.fit` says.
    """

    def __init__(self, *, rounds: Annotated[int, Field(ge=2)] = 3, epochs: Annotated[int, Field(ge=1)]) -> None:
        self.rounds, self.epochs = rounds, epochs

    def run(self, course: Course, model: nn.Module) -> nn.Module:
        for number in range(1, self.rounds):
            part = number / self.rounds
            model = course.retrained(course.cut(model, lambda share, part=part: 1 - (1 - share) ** part), epochs=self.epochs)
        return course.retrained(course.cut(model, None))
