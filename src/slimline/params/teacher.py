"""Block `teacher`: the large network that the small one learns from."""

from typing import Literal

from pydantic import Field

from slimline.params.base import Block, plugin
from slimline.params.fit import Fit

Model = plugin("slimline.models:MODELS")


class Member(Block):
    """One network of an ensemble; what is not said is the teacher's own.

    `seed`: decides its first weights, the order of its images and their views (null: the pipeline's seed plus the member's place, from 0).
    """

    model: Model | None = None  # type: ignore[valid-type]
    fit: Fit | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**32)


class Ensemble(Block):
    """Networks that are trained by themselves and answer together.

    `average`: what of their answers is averaged, probabilities or logits. `weights`: how much each counts, the same (`equal`) or by
    the largest likelihood of the validation labels (`likelihood`).
    """

    members: tuple[Member, ...] = Field(min_length=2)
    average: Literal["probabilities", "logits"] = "probabilities"
    weights: Literal["equal", "likelihood"] = "equal"


class Teacher(Block):
    """Architecture and training of the teacher; of an `ensemble`, those of each member that says nothing else."""

    model: Model  # type: ignore[valid-type]
    fit: Fit
    ensemble: Ensemble | None = None
