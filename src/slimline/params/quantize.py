"""Block `quantize`: how many bits, how their ranges are found, and how the network recovers."""

from pydantic import Field, model_validator

from slimline.params.base import Block, plugin
from slimline.params.fit import Fit, no_smoothing_under_a_teacher


class Grid(Block):
    """Integers of `bits` bits whose range is found by `scheme`."""

    bits: int = Field(ge=2, le=8)
    scheme: plugin("slimline.quantization:SCHEMES")  # type: ignore[valid-type]


class Quantize(Block):
    """Integer quantization of weights (a scale per output channel, symmetric) and activations (a scale per tensor, asymmetric).

    Args:
        calibration: training images that set the ranges of activations.
        loss: how the teacher takes part in training; null for labels alone.
        fit: quantization-aware training after calibration; null for none.
        parity: least share of validation images on which trained and exported model must name the same class.
    """

    weights: Grid
    activations: Grid
    calibration: int = Field(ge=1)
    loss: plugin("slimline.distillation:LOSSES") | None = None  # type: ignore[valid-type]
    fit: Fit | None = None
    parity: float = Field(default=0.999, gt=0.0, le=1.0)

    @model_validator(mode="after")
    def one_source_of_softness(self) -> "Quantize":
        no_smoothing_under_a_teacher(self.fit, self.loss)
        return self
