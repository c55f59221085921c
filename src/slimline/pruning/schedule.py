"""When it goes: how cuts and training take turns."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import nn

Share = Callable[[float], float]
"""From the share of units that is gone in the end to the share that is gone now."""


class Course(ABC):
    """What a schedule can have done; the stage does it."""

    @abstractmethod
    def cut(self, model: nn.Module, share: Share | None) -> nn.Module:
        """`model` scored and cut: until the target is met (None), or to a share on the way to it."""

    @abstractmethod
    def retrained(self, model: nn.Module, *, epochs: int | None = None) -> nn.Module:
        """`model` after a training of `epochs`, or of as many as `prune.fit` says; as it is where that is null and None is given."""

    @abstractmethod
    def rewound(self, model: nn.Module) -> nn.Module:
        """The same cut of the network's early weights."""

    @abstractmethod
    def retrained_while_cut(self, model: nn.Module, share: Callable[[float, float], float], *, every: int, end: float) -> nn.Module:
        """`model` after the training of `prune.fit`, within which it is cut every so many steps.

        Args:
            share: (share gone in the end, part of the training that is done) to the share gone from then on.
            end: part of the training after which the target is met.
        """


class Schedule(ABC):
    """A class of the table SCHEDULES is built with `(*, parameters…)`.

    `needs_fit`: whether there has to be a training.
    """

    needs_fit: bool = True

    @abstractmethod
    def run(self, course: Course, model: nn.Module) -> nn.Module:
        """`model` pruned and retrained."""
