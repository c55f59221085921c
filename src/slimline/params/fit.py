"""How a network is trained: the block every training stage holds under `fit`."""

from typing import Literal

from pydantic import Field

from slimline.params.base import Block, plugin

Optimizer = plugin("slimline.runtime.optimizers:OPTIMIZERS")
Schedule = plugin("slimline.runtime.schedules:SCHEDULES")
Augmentation = plugin("slimline.data.augment:AUGMENTATIONS")
Mix = plugin("slimline.data.mix:MIXES")
Synchrony = plugin("slimline.runtime.parallel:SYNCHRONY")


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
    The epoch with the best validation accuracy is kept (among equals, the lowest validation loss); after `patience` epochs without a
    better one training ends (null: never early).
    `views`: in how many ways augmentation and mix show an image, epoch by epoch; a teacher's answers are then computed once where that
    is less work (null: in a new way each epoch).
    `clip_norm`: largest norm of the whole gradient, which is scaled down to it (null: any; Pascanu et al., 2013).
    `norm_sparsity`: λ of a penalty λ Σ|γ| on the scales of batch norms, which makes channels differ for the pruning criterion `batch_norm`.
    `ema`: decay a step of the moving average of the weights, which is what is validated and kept (null: the weights themselves).
    `precision`: bits of the arithmetic; bf16 and 16 are mixed with 32 (autocast), and 16 scales the loss (Micikevicius et al., 2018).
    `channels_last`: lay images out as [batch height width channels] in memory. `compile`: let torch.compile fuse the network.
    `synchrony`: how several processes' gradients become updates (null: every step together, as one process would).
    """

    epochs: int = Field(ge=1, le=100_000)
    batch_size: int = Field(ge=1)
    optimizer: Optimizer  # type: ignore[valid-type]
    schedule: Schedule  # type: ignore[valid-type]
    weight_decay: float = Field(default=0.0, ge=0.0)
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    norm_sparsity: float = Field(default=0.0, ge=0.0)
    clip_norm: float | None = Field(default=None, gt=0.0)
    ema: float | None = Field(default=None, gt=0.0, lt=1.0)
    patience: int | None = Field(default=None, ge=1)
    precision: Literal[64, 32, 16, "bf16"] = 32
    channels_last: bool = False
    compile: bool = False
    augment: tuple[Augmentation, ...] = ()  # type: ignore[valid-type]
    mix: Mix | None = None  # type: ignore[valid-type]
    views: int | None = Field(default=None, ge=1)
    synchrony: Synchrony | None = None  # type: ignore[valid-type]
