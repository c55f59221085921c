"""Grids: what values a weight or an activation may take. Each is a module that puts real numbers on it, with straight-through gradients.

A kind of grid is one class here and one line in KINDS. Its record, a dictionary in the model's manifest, says all that its shape
depends on; scales, zero points and codebooks are tensors of the model. So codes and these tensors alone rebuild the values.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from slimline.core.affine import (
    PER_TENSOR,
    asymmetric_scale,
    dequantize,
    fake_quantize,
    integer_range,
    learned_quantize,
    quantize,
    scale_or_one,
    symmetric_scale,
)
from slimline.core.codebook import nearest
from slimline.core.floats import FORMATS, SCALED, fake_cast, largest, width
from slimline.errors import SlimlineError

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Learning:
    """How a scale is trained, see `core.affine.learned_quantize`.

    Args:
        inside: weight of the rounding error of values that are not clipped.
        factor: of the whole gradient.
        decay: of the square of the largest value.
    """

    inside: float
    factor: float = 1.0
    decay: float = 0.0


class Grid(nn.Module, ABC):
    """Values that a tensor may take.

    Args of the constructors:
        record: what `of_kind` was given.
        shape: of the weight; None for activations, whose shape is not known.
    """

    bits: int
    """Of one value's code."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """`x` on the grid, gradient straight through."""

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """What is stored of `x`."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """The values that `codes` stand for; a grid whose codes are its own keeps them."""

    def settle(self) -> None:
        """What was learned becomes what is stored."""


class RangedGrid(Grid):
    """A grid that is spread over a range of values."""

    @abstractmethod
    def set_range(self, low: Float[Tensor, " channels"], high: Float[Tensor, " channels"]) -> None:
        """Spread the grid from `low` to `high`: a number a channel, or one alone.

        Raises:
            SlimlineError: a range that the grid cannot have.
        """


class IntegerGrid(RangedGrid):
    """real = scale · (code - zero_point): codes of 2 to 8 bits.

    Symmetric weights have signed codes and no zero point; asymmetric ones and activations have unsigned codes. Symmetric activations use
    the whole signed range, so that 8 bits need no clipping before they are rounded.
    """

    scale: Tensor
    zero_point: Tensor
    gain: nn.Parameter | None

    def __init__(self, record: Record, shape: torch.Size | None) -> None:
        super().__init__()
        self.bits, self.symmetric = int(record["bits"]), bool(record["symmetric"])
        self.low, self.high = integer_range(self.bits, signed=self.symmetric)
        if shape is None and self.symmetric:
            self.low -= 1
        self.axis = 0 if record["per_channel"] else PER_TENSOR
        size: tuple[int, ...] = (shape[0],) if shape is not None and record["per_channel"] else ()
        self.register_buffer("scale", torch.ones(size))
        # Where it is constant it is not stored.
        self.register_buffer("zero_point", torch.zeros(size, dtype=torch.int8 if self.symmetric else torch.uint8), persistent=not self.symmetric)
        self.register_parameter("gain", None)
        self.learning: Learning | None = None

    def set_range(self, low: Float[Tensor, " channels"], high: Float[Tensor, " channels"]) -> None:
        scale, zero_point = (symmetric_scale if self.symmetric else asymmetric_scale)(low, high, self.high)
        self.scale, self.zero_point = scale.view_as(self.scale), zero_point.view_as(self.zero_point)

    def learn(self, learning: Learning) -> None:
        """From now on the scale is scale · gain, and the gain is trained.

        So a step of an optimizer changes scales of any size by the same share. The gradient is divided by scale², with which plain
        gradient descent moves scale · gain just as it would have moved the scale itself.
        """
        self.learning = learning
        self.gain = nn.Parameter(torch.ones_like(self.scale))

    @property
    def step(self) -> Tensor:
        """The scale as it is now."""
        return self.scale if self.gain is None else self.scale * self.gain.detach().clamp(min=SMALLEST_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        if self.learning is None:
            return fake_quantize(x, self.scale, self.zero_point, self.axis, self.low, self.high)
        assert self.gain is not None
        # Through this product the gain's gradient is `scale` times the step's; it is made 1 / scale times.
        step = self.scale * _scaled_gradient(self.gain.clamp(min=SMALLEST_GAIN), self.scale.square().reciprocal())
        how = self.learning
        return learned_quantize(x, step, self.zero_point, self.axis, self.low, self.high, inside=how.inside, factor=how.factor, decay=how.decay)

    def settle(self) -> None:
        self.scale = self.step
        self.gain, self.learning = None, None

    def encode(self, x: Tensor) -> Tensor:
        return quantize(x, self.step, self.zero_point, self.axis, self.low, self.high).to(self.zero_point.dtype)

    def decode(self, codes: Tensor) -> Tensor:
        return dequantize(codes, self.scale, self.zero_point, self.axis)


SMALLEST_GAIN = 1e-3
"""A scale may shrink to this share of its start: zero and negative ones are none."""


def _scaled_gradient(x: Tensor, factor: Tensor) -> Tensor:
    """`x`, whose gradient is multiplied by `factor`."""
    if x.requires_grad:
        x.register_hook(lambda gradient: gradient * factor)
    return x


class FloatGrid(RangedGrid):
    """Numbers of a floating-point format (`core.floats`); those of 8 bits behind a scale."""

    scale: Tensor | None

    def __init__(self, record: Record, shape: torch.Size | None) -> None:
        super().__init__()
        self.format = str(record["type"])
        if self.format not in FORMATS:
            raise SlimlineError(f"'{self.format}' is no floating-point format; known are {', '.join(FORMATS)}")
        self.bits, self.high = width(self.format), largest(self.format)
        size: tuple[int, ...] = (shape[0],) if shape is not None and record["per_channel"] else ()
        self.register_buffer("scale", torch.ones(size) if self.format in SCALED else None)

    def set_range(self, low: Float[Tensor, " channels"], high: Float[Tensor, " channels"]) -> None:
        reach = torch.maximum(low.abs(), high.abs())
        if self.scale is not None:
            self.scale = scale_or_one(reach / self.high).view_as(self.scale)
        elif float(reach.max()) > self.high:
            raise SlimlineError(
                f"values up to {float(reach.max()):.3g}, where {self.format} ends at {self.high:.3g}; take bf16 or a scheme that clips"
            )

    def _scale_of(self, x: Tensor) -> Tensor:
        assert self.scale is not None
        return self.scale.view(-1, *[1] * (x.ndim - 1)) if self.scale.ndim else self.scale

    def forward(self, x: Tensor) -> Tensor:
        if self.format == "float32":
            return x
        if self.scale is None:
            return fake_cast(x, self.format)
        return fake_cast(x / self._scale_of(x), self.format) * self._scale_of(x)

    def encode(self, x: Tensor) -> Tensor:
        scaled = x if self.scale is None else x / self._scale_of(x)
        return scaled.clamp(-self.high, self.high).to(FORMATS[self.format])

    def decode(self, codes: Tensor) -> Tensor:
        values = codes.to(torch.float32)
        return values if self.scale is None else values * self._scale_of(values)


class CodebookGrid(Grid):
    """Each value is one of a few entries, which are trained; which one is decided once.

    The gradient of an entry is the sum of those of the weights that share it (Han et al. 2016, eq. 3). With `zero`, code 0 stands for
    exactly 0, which is not trained: pruned weights.
    """

    entries: Tensor
    codes: Tensor

    def __init__(self, record: Record, shape: torch.Size | None) -> None:
        super().__init__()
        if shape is None:
            raise SlimlineError("a codebook is for weights: activations are not known beforehand")
        self.bits, self.zero = int(record["bits"]), bool(record["zero"])
        if not 2 <= self.bits <= 8:
            raise SlimlineError(f"bits: found {self.bits}; codebooks have codes of 2 to 8 bits here")
        self.entries = nn.Parameter(torch.zeros(2**self.bits - self.zero))
        self.register_buffer("codes", torch.zeros(shape, dtype=torch.uint8), persistent=False)

    def fill(self, entries: Float[Tensor, " entries"], weight: Tensor) -> None:
        """Take on `entries` (ascending), and for each number of `weight` the nearest one."""
        with torch.no_grad():
            self.entries.copy_(entries)
        codes = nearest(weight, entries)
        if self.zero:
            codes = torch.where(weight == 0, torch.zeros_like(codes), codes + 1)
        self.codes.copy_(codes)

    @property
    def table(self) -> Tensor:
        """The value of each code."""
        return torch.cat([self.entries.new_zeros(1), self.entries]) if self.zero else self.entries

    def forward(self, x: Tensor) -> Tensor:
        return self.table.index_select(0, self.codes.flatten().int()).view(self.codes.shape)

    def encode(self, x: Tensor) -> Tensor:
        return self.codes

    def decode(self, codes: Tensor) -> Tensor:
        self.codes.copy_(codes)
        return self.table.detach()[codes.long()]


KINDS: Mapping[str, type[Grid]] = {"integer": IntegerGrid, "float": FloatGrid, "codebook": CodebookGrid}


def of_kind(record: Record, shape: torch.Size | None = None) -> Grid:
    """The grid of `record`.

    Raises:
        SlimlineError: a kind or width that is not known here.
    """
    if record["kind"] not in KINDS:
        raise SlimlineError(f"a grid of kind '{record['kind']}', which this version does not know (known: {', '.join(KINDS)})")
    return KINDS[record["kind"]](record, shape)
