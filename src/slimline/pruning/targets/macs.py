"""A share of the network's multiply-accumulates."""

from typing import Annotated

from pydantic import Field
from torch import nn

from slimline.errors import SlimlineError
from slimline.pruning.plan import Plan
from slimline.pruning.target import Scales, Target


class Macs(Target):
    """The fewest units whose removal takes at least `amount` of the original network's multiply-accumulates.

    Masked weights are multiplied like others, so only channels can meet it.
    """

    def __init__(self, scales: Scales, *, amount: Annotated[float, Field(gt=0.0, lt=1.0)]) -> None:
        super().__init__(scales)
        self.asked = amount
        self._all = scales.cost(scales.original).macs

    def count(self, plan: Plan, model: nn.Module) -> int:
        count = plan.fewest(lambda count: self._share(plan.cut(count)(model)) >= self.asked)
        if count is None:
            raise SlimlineError(
                f"prune.target macs {self.asked:g} cannot be reached: {plan.bounds} at most {self._share(plan.cut(plan.most)(model)):.4f} "
                f"of the multiply-accumulates can go{'' if plan.noun == 'channels' else '; masked weights are multiplied too, so take channels'}"
            )
        return count

    def obtained(self, plan: Plan, count: int, pruned: nn.Module) -> float:
        return self._share(pruned)

    def _share(self, model: nn.Module) -> float:
        return (self._all - self.scales.cost(model).macs) / self._all
