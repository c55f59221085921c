"""A fraction of the weights or channels that can be pruned."""

from typing import Annotated

from pydantic import Field
from torch import nn

from slimline.errors import SlimlineError
from slimline.pruning.plan import Plan
from slimline.pruning.target import Scales, Target, something


class Fraction(Target):
    """The fewest units that make at least `amount` of the original network's prunable weights, or channels.

    Exact: of 100 weights 0.2 are 20, and 0.201 are 21.
    """

    def __init__(self, scales: Scales, *, amount: Annotated[float, Field(gt=0.0, lt=1.0)]) -> None:
        super().__init__(scales)
        self.asked = amount

    def count(self, plan: Plan, model: nn.Module) -> int:
        count = plan.fewest(lambda count: plan.fraction(count) >= self.asked)
        if count is None:
            raise SlimlineError(
                f"prune.target fraction {self.asked:g} cannot be reached: {plan.bounds} at most {plan.fraction(plan.most):.4f} "
                f"of the {plan.noun} can go"
            )
        return something(count, plan, f"{self.asked:g} of the {plan.noun} is less than one")

    def obtained(self, plan: Plan, count: int, pruned: nn.Module) -> float:
        return plan.fraction(count)
