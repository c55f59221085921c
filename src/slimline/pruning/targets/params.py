"""A share of the network's parameters."""

from typing import Annotated

from pydantic import Field
from torch import nn

from slimline.errors import SlimlineError
from slimline.pruning.plan import Plan
from slimline.pruning.target import Scales, Target, something


class Params(Target):
    """The fewest units whose removal takes at least `amount` of all parameters of the original network, masked ones counting as removed."""

    def __init__(self, scales: Scales, *, amount: Annotated[float, Field(gt=0.0, lt=1.0)]) -> None:
        super().__init__(scales)
        self.asked = amount
        self._all = sum(p.numel() for p in scales.original.parameters())

    def count(self, plan: Plan, model: nn.Module) -> int:
        count = plan.fewest(lambda count: self._share(plan, count) >= self.asked)
        if count is None:
            raise SlimlineError(
                f"prune.target params {self.asked:g} cannot be reached: {plan.bounds} at most {self._share(plan, plan.most):.4f} "
                "of the parameters can go"
            )
        return something(count, plan, f"{self.asked:g} of the parameters is less than one of {plan.noun}")

    def obtained(self, plan: Plan, count: int, pruned: nn.Module) -> float:
        return self._share(plan, count)

    def _share(self, plan: Plan, count: int) -> float:
        return (self._all - plan.params(count)) / self._all
