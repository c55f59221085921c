"""Block `quantize`: how many bits, how their ranges are found, and how the network recovers."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from slimline.params.base import Block, fact, plugin
from slimline.params.fit import Fit, no_smoothing_under_a_teacher

Width = Literal[64, 32, 16, "bf16", "e4m3", "e5m2", 8, 7, 6, 5, 4, 3, 2, 1]
"""8 to 2 are integers, 1 is a sign, the others are floating-point numbers; e4m3 and e5m2 have 8 bits. 64 is of the whole network."""


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

    @property
    def widths(self) -> tuple[Width, ...]:
        """All that occur."""
        return (self.bits, *self.exceptions.values())

    @property
    def integers(self) -> bool:
        """Whether any are integers."""
        return any(width in range(2, 9) for width in self.widths)

    @model_validator(mode="after")
    def scales_where_there_are_any(self) -> "Grid":
        if self.learn is not None and not self.integers:
            raise ValueError("learn moves the scales of integers, of 2 to 8 bits, and none are asked for; make it null")
        return self


class Weights(Grid):
    """
    Args:
        per_channel: a scale an output channel; else one a layer.
        codebook: how the values are found of which integers are then the numbers, in the place of `scheme`; null: integers are steps.
        binary: how weights of 1 bit are made and trained; null where there are none.
    """

    symmetric: bool = True
    per_channel: bool = True
    codebook: plugin("slimline.quantization:CODEBOOKS") | None = None  # type: ignore[valid-type]
    binary: plugin("slimline.quantization:BINARY") | None = None  # type: ignore[valid-type]

    @model_validator(mode="after")
    def one_kind_of_integers(self) -> "Weights":
        if self.codebook is not None and self.learn is not None:
            raise ValueError("a codebook is trained itself and has no scale; make learn null")
        if self.codebook is not None and not self.integers:
            raise ValueError("a codebook is for codes of 2 to 8 bits, and none are asked for; make it null")
        if (1 in self.widths) is (self.binary is None):
            raise ValueError("weights of 1 bit and binary go together: name one of quantization's BINARY for them, or make it null without them")
        return self


class Quantize(Block):
    """Quantization of weights and activations (a scale a tensor).

    Args:
        equalize: bring channels to one range across layers before anything else. correct_biases: let biases take back the mean error.
        calibration: training images that set the ranges of activations.
        loss: how the teacher takes part in training; null for labels alone.
        fit: quantization-aware training after calibration; null for none.
        from_scratch: forget what the network has learned, and train it on its grids from untrained weights.
        parity: least share of validation images on which trained and exported model must name the same class.
    """

    weights: Weights
    activations: Grid
    equalize: bool = False
    correct_biases: bool = False
    calibration: int = Field(ge=1)
    loss: plugin("slimline.distillation:LOSSES") | None = None  # type: ignore[valid-type]
    fit: Fit | None = None
    from_scratch: bool = False
    parity: float = Field(default=0.999, gt=0.0, le=1.0)

    @model_validator(mode="after")
    def one_source_of_softness(self) -> "Quantize":
        no_smoothing_under_a_teacher(self.fit, self.loss)
        widths = [*self.weights.widths, *self.activations.widths]
        if 64 in widths and set(widths) != {64}:
            raise ValueError("64 bits are of the whole network: make weights.bits and activations.bits both 64, without exceptions, or neither")
        if self.fit is None and (self.weights.learn is not None or self.activations.learn is not None):
            raise ValueError("scales are learned in training, but fit is null; make learn null, or give a fit")
        if self.from_scratch and self.fit is None:
            raise ValueError("from_scratch is true, but fit is null; untrained weights need a fit")
        return self

    @model_validator(mode="after")
    def nothing_asked_for_in_vain(self) -> "Quantize":
        found: dict[str, object] = {"equalize": self.equalize, "correct_biases": self.correct_biases}
        if 64 in self.weights.widths:
            found |= {"weights.learn": self.weights.learn, "activations.learn": self.activations.learn}
        elif self.weights.binary is None or set(self.weights.widths) - {1, 32}:
            return self
        for key, asked in found.items():
            if asked:
                raise ValueError(f"{key} is of weights and activations on grids, and here are none; make it {'null' if '.' in key else 'false'}")
        return self

    @model_validator(mode="after")
    def one_bit_or_real_activations(self) -> "Quantize":
        spec: Mapping[str, object] | None = self.weights.binary
        bits = self.activations.bits
        if 1 in self.activations.exceptions.values():
            raise ValueError("activations.exceptions: activations of 1 bit are what layers with weights of 1 bit read; set activations.bits to 1")
        if spec is None:
            if bits == 1:
                raise ValueError("activations.bits is 1, which needs weights of 1 bit; make weights.bits 1, or take 2 bits or more")
            return self
        if bits not in (1, 32) or self.activations.exceptions:
            raise ValueError("with weights of 1 bit activations have 1 bit (where such layers read them) or 32, without exceptions")
        inputs = fact("slimline.quantization:BINARY", spec, "inputs", built=True)
        if inputs is not None and inputs is not (bits == 1):
            raise ValueError(f"weights.binary is {spec['name']}, which needs activations.bits {1 if inputs else 32}, and found {bits}")
        return self
