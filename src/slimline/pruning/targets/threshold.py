"""Everything with a score below a threshold (Han et al., "Learning both Weights and Connections", 2015)."""

from typing import Annotated

from pydantic import Field
from torch import nn

from slimline.errors import SlimlineError
from slimline.pruning.plan import Plan
from slimline.pruning.target import Scales, Target, something


class Threshold(Target):
    """What scores below `below`, and nothing else; with the criterion `threshold` of value 0.1 that are the weights |w| < 0.1.

    What was obtained is told as the fraction of weights or channels that went.
    """

    def __init__(self, scales: Scales, *, below: Annotated[float, Field(gt=0.0)] = 1.0) -> None:
        super().__init__(scales)
        self.asked = below

    def count(self, plan: Plan, model: nn.Module) -> int:
        count = plan.below(self.asked)
        if count is None:
            raise SlimlineError("prune.target threshold goes by scores alone: make prune.granularity.scope global, or the target fraction")
        score, layer = plan.spared
        if score < self.asked:
            raise SlimlineError(
                f"prune.target threshold {self.asked:g} cannot be met: {plan.bounds}, and all that is left of layer '{layer}' would be what "
                f"scores {score:.3g} or less; lower prune.target.below, or skip the layer"
            )
        return something(count, plan, f"no score is below {self.asked:g}; raise prune.target.below")

    def obtained(self, plan: Plan, count: int, pruned: nn.Module) -> float:
        return plan.fraction(count)
