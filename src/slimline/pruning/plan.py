"""What could go, in the order in which it goes; targets say how much of it does.

A *unit* is what goes as one: a weight, a channel, a head, a group of weights. Units are ordered by their scores, ties going to the
earlier layer, then to the earlier unit; the order of a plan starts with what is gone already.
"""

import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

Cut = Callable[[nn.Module], nn.Module]
"""A copy of a network without what was decided on: of the network that was scored, or of one of the same shapes (earlier weights, say)."""


NONE_SPARED = (math.inf, "")


class Plan(ABC):
    """The units of one network in their order.

    Args:
        units: of the original network.
        gone: how many of them the network has lost already.
        most: how many can be gone at all.
        bounds: what keeps the others, in the words of params.yaml.
        spared: the smallest score of those that cannot go, and the layer that has it.
    """

    noun: str
    """What fractions are counted in."""

    def __init__(self, units: int, gone: int, most: int, bounds: str, spared: tuple[float, str] = NONE_SPARED) -> None:
        self.units, self.gone, self.most, self.bounds, self.spared = units, gone, most, bounds, spared

    @abstractmethod
    def cut(self, count: int) -> Cut:
        """Take the first `count` units of the order, those that are gone among them."""

    @abstractmethod
    def fraction(self, count: int) -> float:
        """The share of the original network's `noun` that is gone after `cut(count)`."""

    @abstractmethod
    def params(self, count: int) -> int:
        """Parameters left after `cut(count)`; masked ones do not count."""

    @abstractmethod
    def below(self, value: float) -> int | None:
        """How many units are gone if those with a score below `value` go; None where the order is not that of the scores."""

    def fewest(self, enough: Callable[[int], bool]) -> int | None:
        """The smallest count with which `enough` holds, of those for which it does from there on; None where even the most is too little."""
        if not enough(self.most):
            return None
        return self.gone + bisect_left(range(self.gone, self.most), True, key=enough)


class Granularity(ABC):
    """What a unit is. Made once for the original network, of which fractions are counted.

    A class of the table GRANULARITIES is built with `(model, input_shape, *, parameters…)`.
    """

    form: str
    """The form (`core.forms`) that a pruned network takes on."""

    @property
    @abstractmethod
    def parts(self) -> tuple[str, ...]:
        """What can be pruned by itself, by names that the parameter `layers` takes."""

    @abstractmethod
    def plan(self, model: nn.Module, scores: Mapping[str, Tensor]) -> Plan:
        """The units of `model`, which is the original network or what earlier cuts have left of it.

        Raises:
            SlimlineError: scores that say nothing about these units.
        """

    @abstractmethod
    def record(self, original: nn.Module, pruned: nn.Module) -> dict[str, Any]:
        """The record of the form that brings `original` to the form of `pruned`."""
