"""Block `quantize`: how many bits, how their ranges are found, and how the network recovers."""

from typing import Literal

from pydantic import Field, model_validator

from slimline.params.base import Block, plugin
from slimline.params.fit import Fit, no_smoothing_under_a_teacher

Width = Literal[64, 32, 16, "bf16", "e4m3", "e5m2", 8, 7, 6, 5, 4, 3, 2]
"""8 to 2 are integers, the others floating-point numbers; e4m3 and e5m2 have 8 bits. 64 is of the whole network."""


class Grid(Block):
    """Numbers of `bits` bits, whose range is found by `scheme`.

    Args:
        exceptions: other bits for layers (of activations: for tensors) whose name fits a pattern, `*` standing for any text; of several
            that fit, the last one counts.
        symmetric: integers without zero point, so that 0 is in the middle of the range.
        learn: how training moves the scales (null: not at all).
    """

    bits: Width
    scheme: plugin("slimline.quantization:SCHEMES")  # type: ignore[valid-type]
    exceptions: dict[str, Width] = Field(default_factory=dict)
    symmetric: bool = False
    learn: plugin("slimline.quantization:LEARNING") | None = None  # type: ignore[valid-type]


class Weights(Grid):
    """
    Args:
        per_channel: a scale an output channel; else one a layer.
        codebook: how the values are found of which integers are then the numbers, in the place of `scheme`; null: integers are steps.
    """

    symmetric: bool = True
    per_channel: bool = True
    codebook: plugin("slimline.quantization:CODEBOOKS") | None = None  # type: ignore[valid-type]

    @model_validator(mode="after")
    def one_kind_of_integers(self) -> "Weights":
        if self.codebook is not None and self.learn is not None:
            raise ValueError("a codebook is trained itself and has no scale; make learn null")
        return self


class Quantize(Block):
    """Quantization of weights and activations (a scale a tensor).

    Args:
        equalize: bring channels to one range across layers before anything else. correct_biases: let biases take back the mean error.
        calibration: training images that set the ranges of activations.
        loss: how the teacher takes part in training; null for labels alone.
        fit: quantization-aware training after calibration; null for none.
        parity: least share of validation images on which trained and exported model must name the same class.
    """

    weights: Weights
    activations: Grid
    equalize: bool = False
    correct_biases: bool = False
    calibration: int = Field(ge=1)
    loss: plugin("slimline.distillation:LOSSES") | None = None  # type: ignore[valid-type]
    fit: Fit | None = None
    parity: float = Field(default=0.999, gt=0.0, le=1.0)

    @model_validator(mode="after")
    def one_source_of_softness(self) -> "Quantize":
        no_smoothing_under_a_teacher(self.fit, self.loss)
        widths = [width for grid in (self.weights, self.activations) for width in (grid.bits, *grid.exceptions.values())]
        if 64 in widths and set(widths) != {64}:
            raise ValueError("64 bits are of the whole network: make weights.bits and activations.bits both 64, without exceptions, or neither")
        if self.fit is None and (self.weights.learn is not None or self.activations.learn is not None):
            raise ValueError("scales are learned in training, but fit is null; make learn null, or give a fit")
        return self
