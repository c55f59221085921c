"""Floating-point formats as grids: a number is rounded to the nearest one that the format holds, half to even.

    e4m3   4 bits of exponent, 3 of mantissa, up to 448       e5m2   5 and 2, up to 57344
    float16   5 and 10, up to 65504                           bfloat16   8 and 7

Source of the 8-bit formats: Micikevicius et al., "FP8 Formats for Deep Learning", 2022, table 1.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

FORMATS: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "e4m3": torch.float8_e4m3fn,
    "e5m2": torch.float8_e5m2,
}
SCALED = ("e4m3", "e5m2")
"""Formats whose range is so short that numbers are brought into it by a scale first."""


def width(name: str) -> int:
    """Bits of a number in the format `name`."""
    return torch.finfo(FORMATS[name]).bits


def largest(name: str) -> float:
    """The largest finite number of the format `name`."""
    return torch.finfo(FORMATS[name]).max


@torch.library.custom_op("slimline::fake_cast", mutates_args=())
def fake_cast(x: Tensor, name: str) -> Tensor:
    """`x` rounded to the format `name`, in the dtype of `x`; beyond its largest number, that number. Gradient straight through: 1, beyond it 0."""
    return x.clamp(-largest(name), largest(name)).to(FORMATS[name]).to(x.dtype)


@fake_cast.register_fake
def _(x: Tensor, name: str) -> Tensor:
    return torch.empty_like(x)


def _save_for_backward(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, name = inputs
    ctx.save_for_backward(x.abs() <= largest(name))


def _straight_through(ctx, gradient):  # type: ignore[no-untyped-def]
    (inside,) = ctx.saved_tensors
    return gradient * inside, None


fake_cast.register_autograd(_straight_through, setup_context=_save_for_backward)
