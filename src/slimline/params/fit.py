"""How a network is trained: the block every training stage holds under `fit`."""

from pydantic import Field

from slimline.params.base import Block, plugin

Optimizer = plugin("slimline.runtime.optimizers:OPTIMIZERS")
Schedule = plugin("slimline.runtime.schedules:SCHEDULES")
Augmentation = plugin("slimline.data.augment:AUGMENTATIONS")
Mix = plugin("slimline.data.mix:MIXES")


def no_smoothing_under_a_teacher(fit: "Fit | None", loss: object) -> None:
    """
    Raises:
        ValueError: smoothed labels and a teacher: the teacher's outputs take the place of smoothing, which would be ignored.
    """
    if fit is not None and loss is not None and fit.label_smoothing > 0:
        raise ValueError(
            f"fit.label_smoothing is {fit.label_smoothing:g}, but with a loss the teacher's outputs take its place; make one of them 0 or null"
        )


class Fit(Block):
    """Training settings of one network.

    Weight decay spares biases, norms and whatever else has fewer than two dimensions.
    A mix blends each augmented image, and its label, with those of another sample.
    `batch_size` counts the images of a step over all processes.
    The epoch with the best validation accuracy is kept (among equals, the lowest validation loss).
    """

    epochs: int = Field(ge=1, le=100_000)
    batch_size: int = Field(ge=1)
    optimizer: Optimizer
    schedule: Schedule
    weight_decay: float = Field(default=0.0, ge=0.0)
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    augment: tuple[Augmentation, ...] = ()
    mix: Mix | None = None
