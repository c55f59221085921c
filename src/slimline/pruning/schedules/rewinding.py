"""Back to early weights (Frankle & Carbin, "The Lottery Ticket Hypothesis", 2019; at a step other than 0: Frankle et al., 2019)."""

from typing import Annotated

from pydantic import Field
from torch import nn

from slimline.pruning.schedule import Course, Schedule


class Rewinding(Schedule):
    """`rounds` times: score and cut the trained network, give what is left the weights of an early step, and train it again.

    The shares that go are those of `iterative`. The student's early weights are kept if `distill.early` names a step. They start as they
    were then, but `prune.fit` trains them: for the paper's experiment let it be what `distill.fit` is.

    Args:
        epochs: of each round but the last, which trains as long as `prune.fit` says.
    """

    def __init__(self, *, rounds: Annotated[int, Field(ge=1)] = 1, epochs: Annotated[int, Field(ge=1)] = 1) -> None:
        self.rounds, self.epochs = rounds, epochs

    def run(self, course: Course, model: nn.Module) -> nn.Module:
        for number in range(1, self.rounds):
            part = number / self.rounds
            ticket = course.rewound(course.cut(model, lambda share, part=part: 1 - (1 - share) ** part))
            model = course.retrained(ticket, epochs=self.epochs)
        return course.retrained(course.rewound(course.cut(model, None)))
