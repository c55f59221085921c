"""How much goes."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from slimline.core.cost import Cost, measure
from slimline.errors import SlimlineError
from slimline.pruning.plan import Plan


@dataclass(frozen=True)
class Scales:
    """What targets weigh networks with.

    Args:
        original: the network before anything was pruned.
        input_shape: channels, height, width.
        packed_bytes: the size of the packed file of a network.
        accuracy: share of the validation images that a network classifies rightly.
    """

    original: nn.Module
    input_shape: tuple[int, int, int]
    packed_bytes: Callable[[nn.Module], int]
    accuracy: Callable[[nn.Module], float]

    def cost(self, model: nn.Module) -> Cost:
        return measure(model, self.input_shape)


class Target(ABC):
    """How many units of a plan go: the fewest that meet what was asked for, or the most that it allows.

    A class of the table TARGETS is built with `(scales, *, parameters…)`.
    """

    asked: float

    def __init__(self, scales: Scales) -> None:
        self.scales = scales

    @abstractmethod
    def count(self, plan: Plan, model: nn.Module) -> int:
        """How many units are to be gone.

        Args:
            model: the network that the plan is of.

        Raises:
            SlimlineError: a target out of reach, with how close one can get; or nothing would go.
        """

    @abstractmethod
    def obtained(self, plan: Plan, count: int, pruned: nn.Module) -> float:
        """What `asked` became, in its own unit.

        Args:
            pruned: what the cut has left, not retrained yet.
        """

    def check(self, retrained: nn.Module) -> None:  # noqa: B027  # most targets have nothing to look at again
        """Does the retrained network still meet what was asked for? What depends on its shapes and masks alone always does.

        Raises:
            SlimlineError: it does not.
        """


def something(count: int, plan: Plan, why: str) -> int:
    """`count`, if it removes anything of the original network.

    Raises:
        SlimlineError: it does not.
    """
    if not plan.fraction(count) > 0:
        raise SlimlineError(f"pruning would remove nothing: {why}")
    return count
