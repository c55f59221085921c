"""Percentile: clip the tails (Wu et al., "Integer Quantization for Deep Learning Inference", 2020, section 3.3)."""

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from slimline.quantization.scheme import Error, Range


def percentile(values: Float[Tensor, "channels n"], error: Error, *, share: Annotated[float, Field(gt=0.5, le=1.0)] = 0.9999) -> Range:
    """The quantiles 1 - `share` and `share` of each channel, taken as existing values (nearest rank, outwards)."""
    ordered = values.sort(dim=1).values
    last = values.shape[1] - 1
    low = int(torch.floor(torch.tensor((1 - share) * last, dtype=torch.float64)))
    return ordered[:, low], ordered[:, last - low]
