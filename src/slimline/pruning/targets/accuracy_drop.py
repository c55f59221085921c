"""As much as a loss of accuracy allows."""

from typing import Annotated

from pydantic import Field
from torch import nn

from slimline.errors import SlimlineError
from slimline.pruning.plan import Plan
from slimline.pruning.target import Scales, Target


class AccuracyDrop(Target):
    """The most units that cost at most `points` percentage points of validation accuracy, before any retraining.

    Found by bisection, as if accuracy fell with every unit: what it ends at was measured and meets the limit, though by chance a larger
    cut might do so too. The validation images choose here, so their accuracy flatters the result a little; the test images do not know.
    """

    def __init__(self, scales: Scales, *, points: Annotated[float, Field(gt=0.0, lt=100.0)]) -> None:
        super().__init__(scales)
        self.asked = points
        self._before = scales.accuracy(scales.original)

    def count(self, plan: Plan, model: nn.Module) -> int:
        if (lost := self._drop(model)) > self.asked:
            raise SlimlineError(
                f"prune.target accuracy_drop {self.asked:g} cannot be met: what earlier rounds have left is {lost:.2f} points below the whole "
                "network; train longer between them, or take one_shot"
            )
        good, bad = plan.gone, plan.most + 1
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if self._drop(plan.cut(middle)(model)) <= self.asked else (good, middle)
        if not plan.fraction(good) > 0:
            raise SlimlineError(
                f"prune.target accuracy_drop {self.asked:g} cannot be met: one unit less costs {self._drop(plan.cut(good + 1)(model)):.2f} points "
                "already; allow more, or take another criterion"
            )
        return good

    def obtained(self, plan: Plan, count: int, pruned: nn.Module) -> float:
        return self._drop(pruned)

    def _drop(self, model: nn.Module) -> float:
        return round((self._before - self.scales.accuracy(model)) * 100, 9)  # shares of images have no exact difference
