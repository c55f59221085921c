"""Mean squared error: clip where clipping and rounding together cost least (Sung et al., "Resiliency of deep neural networks under
quantization", 2015, section 3; per tensor range as in Nagel et al., "A White Paper on Neural Network Quantization", 2021, eq. 10)."""

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from slimline.quantization.scheme import Error, Range


def mse(values: Float[Tensor, "channels n"], error: Error, *, steps: Annotated[int, Field(ge=2, le=1000)] = 64) -> Range:
    """The range with the smallest mean squared error among 1, (steps-1)/steps, …, 1/steps of the whole one, then with each end alone so shrunk.

    Of ranges with equal errors it is the widest.
    """
    shares = [1 - step / steps for step in range(steps)]
    low, high = values.amin(1), values.amax(1)
    low, high = _best(error, [(low * share, high * share) for share in shares])
    low, high = _best(error, [(low * share, high) for share in shares])
    return _best(error, [(low, high * share) for share in shares])


def _best(error: Error, ranges: list[Range]) -> Range:
    """For each channel the one of `ranges` with the smallest error, the first of equals."""
    errors = torch.stack([error(low, high) for low, high in ranges])
    chosen = errors.argmin(0, keepdim=True)
    low, high = (torch.stack(ends).gather(0, chosen)[0] for ends in zip(*ranges, strict=True))
    return low, high
