"""The weights of two mixed images."""

from collections.abc import Callable
from functools import lru_cache
from typing import Annotated

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from scipy.special import betaincinv
from torch import Tensor

from slimline.core.draws import midpoints

Mix = Callable[
    [Float[Tensor, "batch c h w"], Float[Tensor, "batch c h w"], Int64[Tensor, " batch"]],
    tuple[Float[Tensor, "batch c h w"], Float[Tensor, " batch"]],
]

Alpha = Annotated[float, Field(gt=0.0, le=100.0)]
"""Of Beta(α, α): 1 makes every weight alike, less favours images that are nearly unmixed, more the even mix."""


@lru_cache
def beta_quantiles(alpha: float, device: torch.device) -> Float[Tensor, " levels"]:
    """The inverse of the distribution function of Beta(α, α)."""
    return torch.from_numpy(betaincinv(alpha, alpha, midpoints())).float().to(device)
