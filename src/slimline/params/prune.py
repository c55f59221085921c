"""Block `prune`: what goes, how much of it and when, and how the rest recovers."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from slimline.params.base import Block, fact, plugin
from slimline.params.fit import Fit, no_smoothing_under_a_teacher


class Sensitivity(Block):
    """What single layers may lose, found before anything is cut: each is pruned alone, without retraining, on the validation images.

    Args:
        fractions: of a layer, that are tried.
        points: of accuracy that one layer may cost; the largest fraction that keeps to it is the layer's limit.
    """

    fractions: tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...] = Field(default=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), min_length=1)
    points: float = Field(gt=0.0, lt=100.0)


class Prune(Block):
    """Pruning of the student; docs/pruning.md has all methods.

    Args:
        criterion: what a weight is worth.
        granularity: whether weights or whole channels go.
        target: how much goes.
        schedule: how cuts and training take turns.
        sensitivity: limits of single layers by what they cost; null: only those of the granularity.
        calibration: training images that criteria with gradients look at.
        loss: how the teacher takes part in retraining; null for labels alone.
        fit: retraining after a cut; null for none.
    """

    criterion: plugin("slimline.pruning:CRITERIA")  # type: ignore[valid-type]
    granularity: plugin("slimline.pruning:GRANULARITIES")  # type: ignore[valid-type]
    target: plugin("slimline.pruning:TARGETS")  # type: ignore[valid-type]
    schedule: plugin("slimline.pruning:SCHEDULES") = Field(default_factory=lambda: {"name": "one_shot"})  # type: ignore[valid-type]
    sensitivity: Sensitivity | None = None
    calibration: int = Field(default=512, ge=1)
    loss: plugin("slimline.distillation:LOSSES") | None = None  # type: ignore[valid-type]
    fit: Fit | None = None

    @model_validator(mode="after")
    def one_source_of_softness(self) -> "Prune":
        no_smoothing_under_a_teacher(self.fit, self.loss)
        return self

    @model_validator(mode="after")
    def limits_where_they_can_be(self) -> "Prune":
        granularity: dict[str, Any] = self.granularity  # type: ignore[assignment]
        if self.sensitivity is not None and "limits" not in granularity:
            raise ValueError(f"sensitivity gives layers limits, which the granularity {granularity['name']} has not; make it null")
        return self

    @model_validator(mode="after")
    def training_where_it_is_needed(self) -> "Prune":
        schedule: dict[str, Any] = self.schedule  # type: ignore[assignment]
        if self.fit is None and fact("slimline.pruning:SCHEDULES", schedule, "needs_fit"):
            raise ValueError(f"schedule {schedule['name']} trains between its cuts, but fit is null; give it one, or take one_shot")
        return self
