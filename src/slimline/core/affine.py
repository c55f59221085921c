"""Affine quantization: real = scale · (code - zero_point), codes being integers in [low, high].

    code(x) = clamp(round(x / scale) + zero_point, low, high)        round: half to even

as in ONNX's QuantizeLinear (division, not multiplication by the inverse, so that ties fall alike).
Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018, eq. 1.
"""

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from slimline.errors import SlimlineError

PER_TENSOR = -1
"""The axis of a scale that is one number for the whole tensor."""

SMALLEST_SCALE = 2.0**-63
"""Steps below it are none: the step of a bias, a product of two, would be no normal number of 32 bits."""


def integer_range(bits: int, *, signed: bool) -> tuple[int, int]:
    """Smallest and largest code of `bits` bits: [-(2^(b-1) - 1), 2^(b-1) - 1] if signed, else [0, 2^b - 1].

    The signed range is symmetric: -x has a code whenever x has one, and an all-negative product cannot overflow by one.

    Raises:
        SlimlineError: a width that no integer has here.
    """
    if not 2 <= bits <= 8:
        raise SlimlineError(f"bits: found {bits}; integers have 2 to 8 bits here")
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    return (-high if signed else 0), high


def symmetric_scale(
    low: Float[Tensor, " channels"], high: Float[Tensor, " channels"], code_high: int
) -> tuple[Float[Tensor, " channels"], Integer[Tensor, " channels"]]:
    """Scale and zero point (all 0, int8) that map the larger of |low| and |high| to `code_high`.

    A channel of zeros (or of numbers so small that a step would be below SMALLEST_SCALE) has no range; its scale is 1, and its codes are 0.
    """
    scale = scale_or_one(torch.maximum(low.abs(), high.abs()) / code_high)
    return scale, torch.zeros_like(scale, dtype=torch.int8)


def scale_or_one(steps: Float[Tensor, " channels"]) -> Float[Tensor, " channels"]:
    """`steps`, 1 in the place of those that are none."""
    return torch.where(steps >= SMALLEST_SCALE, steps, torch.ones_like(steps))


def asymmetric_scale(
    low: Float[Tensor, " channels"], high: Float[Tensor, " channels"], code_high: int
) -> tuple[Float[Tensor, " channels"], Integer[Tensor, " channels"]]:
    """Scale and zero point (uint8) that map [min(low, 0), max(high, 0)] to [0, `code_high`]; zero has a code of its own.

    A channel without range has a scale of 1 and codes of 0, as in `symmetric_scale`.

    Raises:
        SlimlineError: no channel has a range.
    """
    low, high = torch.clamp(low, max=0.0), torch.clamp(high, min=0.0)
    steps = (high - low) / code_high
    if not bool((steps >= SMALLEST_SCALE).any()):
        raise SlimlineError("a tensor without range: it is zero throughout, so it has no scale; remove the layer or calibrate on other images")
    scale = scale_or_one(steps)
    return scale, torch.clamp(torch.round(-low / scale), 0, code_high).to(torch.uint8)


def quantize(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, low: int, high: int) -> Tensor:
    """Codes of `x`, in the dtype of `x`. `scale` and `zero_point` are scalars (`axis` = PER_TENSOR) or vectors along `axis`."""
    scale, zero_point = _broadcast(scale, x.ndim, axis), _broadcast(zero_point, x.ndim, axis)
    return torch.clamp(torch.round(x / scale) + zero_point.to(x.dtype), low, high)


def dequantize(codes: Tensor, scale: Tensor, zero_point: Tensor, axis: int) -> Tensor:
    """Real values of `codes`, in the dtype of `scale`."""
    scale, zero_point = _broadcast(scale, codes.ndim, axis), _broadcast(zero_point, codes.ndim, axis)
    return (codes.to(scale.dtype) - zero_point.to(scale.dtype)) * scale


def _broadcast(values: Tensor, dimensions: int, axis: int) -> Tensor:
    if axis == PER_TENSOR:
        return values
    return values.reshape([-1 if d == axis else 1 for d in range(dimensions)])


@torch.library.custom_op("slimline::fake_quantize", mutates_args=())
def fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, low: int, high: int) -> Tensor:
    """dequantize(quantize(x)), with a straight-through gradient: 1 where the code lies within [low, high], else 0.

    An operator of its own, so that the exporter meets one node and writes QuantizeLinear and DequantizeLinear for it.
    Source of the gradient: Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013.
    """
    return dequantize(quantize(x, scale, zero_point, axis, low, high), scale, zero_point, axis)


@fake_quantize.register_fake
def _(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, low: int, high: int) -> Tensor:
    return torch.empty_like(x)


def _save_for_backward(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, scale, zero_point, axis, low, high = inputs
    unclamped = torch.round(x / _broadcast(scale, x.ndim, axis)) + _broadcast(zero_point, x.ndim, axis).to(x.dtype)
    ctx.save_for_backward((unclamped >= low) & (unclamped <= high))


def _straight_through(ctx, gradient):  # type: ignore[no-untyped-def]
    (inside,) = ctx.saved_tensors
    return gradient * inside, None, None, None, None, None


fake_quantize.register_autograd(_straight_through, setup_context=_save_for_backward)


class _Learned(torch.autograd.Function):
    """`fake_quantize` whose scale has a gradient; see `learned_quantize`."""

    @staticmethod
    def forward(ctx, x, scale, zero_point, axis, low, high, inside, factor, decay):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, scale, zero_point)
        ctx.settings = axis, low, high, inside, factor, decay
        return dequantize(quantize(x, scale, zero_point, axis, low, high), scale, zero_point, axis)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        x, scale, zero_point = ctx.saved_tensors
        axis, low, high, inside, factor, decay = ctx.settings
        steps = x / _broadcast(scale, x.ndim, axis)
        offset = _broadcast(zero_point, x.ndim, axis).to(x.dtype)
        unclamped = torch.round(steps) + offset
        within = (unclamped >= low) & (unclamped <= high)
        slope = torch.where(within, inside * (torch.round(steps) - steps), torch.clamp(unclamped, low, high) - offset)
        others = [d for d in range(x.ndim) if d != axis]
        per_scale = gradient * slope
        of_scale = per_scale.sum(others) if axis != PER_TENSOR else per_scale.sum()
        if decay:
            of_scale = of_scale + decay * scale * (high - zero_point.to(scale.dtype)) ** 2
        return gradient * within, factor * of_scale, None, None, None, None, None, None, None


def learned_quantize(
    x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, low: int, high: int, *, inside: float = 1.0, factor: float = 1.0, decay: float = 0.0
) -> Tensor:
    """`fake_quantize` with a gradient for the scale s too: factor · Σ dL/dy · dy/ds, with k = round(x/s) and zero point z,

        dy/ds = inside · (k - x/s)  where low <= k + z <= high;   low - z  below;   high - z  above

    With `inside` 1 that is the learned step (Esser et al., "Learned Step Size Quantization", 2020, eq. 3); with `inside` 0 only
    clipped values move the range, the learned clipping (Choi et al., "PACT", 2018, eq. 3). `decay` adds the gradient of
    decay/2 · α², α = s · (high - z) being the largest value (section 3: it keeps the range from growing).
    """
    return _Learned.apply(x, scale, zero_point, axis, low, high, inside, factor, decay)


@torch.library.custom_op("slimline::round_to_step", mutates_args=())
def round_to_step(x: Tensor, step: Tensor) -> Tensor:
    """Nearest multiple of `step` (of the same shape), gradient straight through: how a 32-bit integer bias is trained."""
    return torch.round(x / step) * step


@round_to_step.register_fake
def _(x: Tensor, step: Tensor) -> Tensor:
    return torch.empty_like(x)


round_to_step.register_autograd(lambda ctx, gradient: (gradient, None))
