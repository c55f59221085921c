"""Block `distill`: the student, and what it learns from the teacher."""

from pydantic import Field, model_validator

from slimline.params.base import Block, plugin
from slimline.params.fit import Fit, no_smoothing_under_a_teacher


class Transfer(Block):
    """The images on which the student meets its teacher.

    `without`: classes whose training images are left out. `unlabelled`: whether the images that the source brings without a class are
    there too; of these the teacher's answers alone are learned.
    """

    without: tuple[str | int, ...] = ()
    unlabelled: bool = False


class Distill(Block):
    """Architecture and training of the student; the same student trained without `loss`, on labels alone, is its control.

    `repeats`: how many students and controls are trained, the second from the seed after the pipeline's, and so on. The first of each
    is the model that goes on; the others tell how much of a difference is luck.
    """

    model: plugin("slimline.models:MODELS")  # type: ignore[valid-type]
    loss: plugin("slimline.distillation:LOSSES")  # type: ignore[valid-type]
    fit: Fit
    transfer: Transfer = Transfer()
    repeats: int = Field(default=1, ge=1, le=1000)

    @model_validator(mode="after")
    def one_source_of_softness(self) -> "Distill":
        no_smoothing_under_a_teacher(self.fit, self.loss)
        return self
