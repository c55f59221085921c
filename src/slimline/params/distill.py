"""Block `distill`: the student, and what it learns from the teacher."""

from pydantic import Field, model_validator

from slimline.params.base import Block, plugin
from slimline.params.fit import Fit, no_smoothing_under_a_teacher

Model = plugin("slimline.models:MODELS")
Loss = plugin("slimline.distillation:LOSSES")


class Transfer(Block):
    """The images on which the student meets its teacher.

    `without`: classes whose training images are left out. `unlabelled`: whether the images that the source brings without a class are
    there too; of these the teacher's answers alone are learned.
    """

    without: tuple[str | int, ...] = ()
    unlabelled: bool = False


class Assistant(Block):
    """A network between teacher and student; what is not said is the student's own.

    `seed`: null for the pipeline's seed plus one more than the assistant's place, from 0.
    """

    model: Model | None = None  # type: ignore[valid-type]
    loss: Loss | None = None  # type: ignore[valid-type]
    fit: Fit | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**32)


class Distill(Block):
    """Architecture and training of the student; the same student trained without `loss`, on labels alone, is its control.

    `assistants`: networks that are trained one after the other, each under the one before, the first under the teacher; the student
    learns from the last.
    `repeats`: how many students and controls are trained, the second from the seed after the pipeline's, and so on. The first of each
    is the model that goes on; the others tell how much of a difference is luck.
    `early`: the step of the training before which the student's weights are kept beside it (0: those it starts with), for the pruning
    schedule `rewinding`; null: none are.
    """

    model: Model  # type: ignore[valid-type]
    loss: Loss  # type: ignore[valid-type]
    fit: Fit
    transfer: Transfer = Transfer()
    assistants: tuple[Assistant, ...] = ()
    repeats: int = Field(default=1, ge=1, le=1000)
    early: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def one_source_of_softness(self) -> "Distill":
        for fit in (self.fit, *(one.fit for one in self.assistants)):
            no_smoothing_under_a_teacher(fit, self.loss)
        return self
