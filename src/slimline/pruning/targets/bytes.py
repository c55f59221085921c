"""A number of bytes of the packed file."""

from typing import Annotated

from pydantic import Field
from torch import nn

from slimline.errors import SlimlineError
from slimline.pruning.plan import Plan
from slimline.pruning.target import Scales, Target, something

ROOM = 0.01
"""Share of the bytes left free, since retraining changes weights, and so how well they can be packed."""


class Bytes(Target):
    """The fewest units without which the packed file (`model.slim`) has at most `most` bytes, 1% of them kept free for retraining's sake."""

    def __init__(self, scales: Scales, *, most: Annotated[int, Field(ge=1)]) -> None:
        super().__init__(scales)
        self.asked = most

    def count(self, plan: Plan, model: nn.Module) -> int:
        def size(count: int) -> int:
            return self.scales.packed_bytes(plan.cut(count)(model))

        goal = self.asked * (1 - ROOM)
        count = plan.fewest(lambda count: size(count) <= goal)
        if count is None:
            raise SlimlineError(
                f"prune.target bytes {self.asked} cannot be reached: {plan.bounds} the packed file has {size(plan.most)} bytes at least, and "
                f"{ROOM:.0%} are kept free"
            )
        return something(count, plan, f"the packed file of the whole network has at most {self.asked} bytes already")

    def obtained(self, plan: Plan, count: int, pruned: nn.Module) -> float:
        return float(self.scales.packed_bytes(pruned))

    def check(self, retrained: nn.Module) -> None:
        if (size := self.scales.packed_bytes(retrained)) > self.asked:
            raise SlimlineError(f"prune.target bytes {self.asked}: retrained, the packed file has {size} bytes; ask for {size - self.asked} less")
