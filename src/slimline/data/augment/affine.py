"""Affine: turn, move, scale and shear the image at once, and read it once."""

from functools import lru_cache
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float, Int64
from pydantic import AfterValidator, Field
from torch import Tensor

from slimline.core.draws import Draws, looked_up, midpoints
from slimline.data.augment.sampling import Outside, bilinear
from slimline.data.augment.transform import Transform


def _rising(scale: tuple[float, float]) -> tuple[float, float]:
    if scale[0] > scale[1]:
        raise ValueError(f"found {list(scale)}; the smaller scale comes first")
    return scale


Factor = Annotated[float, Field(gt=0.0, le=10.0)]
Scale = Annotated[tuple[Factor, Factor], AfterValidator(_rising)]


def affine(
    draws: Draws,
    *,
    degrees: Annotated[float, Field(ge=0.0, le=180.0)] = 15.0,
    translate: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1,
    scale: Scale = (0.9, 1.1),
    shear: Annotated[float, Field(ge=0.0, le=80.0)] = 0.0,
    outside: Outside = "black",
) -> Transform:
    """The point p, counted from the image's centre, goes to s · R(θ) · (x + y·tan φ, y) + t.

    θ in ±`degrees` (clockwise), t in ±`translate` of each side, s in `scale`, φ in ±`shear` degrees, all uniform, θ and φ in 65536
    steps; read bilinearly at the inverse.
    """

    def transform(images: Float[Tensor, "batch c h w"], samples: Int64[Tensor, " batch"]) -> Float[Tensor, "batch c h w"]:
        height, width = images.shape[2:]
        turn, slant, size, down, right = draws.uniform(samples, 5).T
        cos, sin = looked_up(turns(degrees, images.device), turn)[:, :, None, None]
        upright, aside = looked_up(turns(shear, images.device), slant)[:, :, None, None]
        s = (scale[0] + (scale[1] - scale[0]) * size)[:, None, None]
        y = _from_centre(height, images.device)[:, None] - ((2 * down - 1) * (translate * height))[:, None, None]
        x = _from_centre(width, images.device) - ((2 * right - 1) * (translate * width))[:, None, None]
        rows = (cos * y - sin * x) / s
        columns = (cos * x + sin * y) / s - aside / upright * rows
        return bilinear(images, rows + (height - 1) / 2, columns + (width - 1) / 2, outside)

    return transform


@lru_cache
def turns(degrees: float, device: torch.device) -> Float[Tensor, "2 levels"]:
    """Cosine and sine of the quantiles of an angle uniform in ±`degrees`: a look-up is exact where a cosine on the device is not."""
    angles = np.deg2rad(degrees * (2 * midpoints() - 1))
    return torch.from_numpy(np.stack([np.cos(angles), np.sin(angles)])).float().to(device)


def _from_centre(side: int, device: torch.device) -> Float[Tensor, " side"]:
    return torch.arange(side, device=device) - (side - 1) / 2
