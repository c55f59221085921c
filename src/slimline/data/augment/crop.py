"""Crop: a part of the image, enlarged to its size (Szegedy et al., "Going Deeper with Convolutions", 2014, section 6)."""

from typing import Annotated

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor

from slimline.core.draws import Draws
from slimline.data.augment.sampling import bilinear
from slimline.data.augment.transform import Transform


def crop(draws: Draws, *, area: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5, ratio: Annotated[float, Field(ge=1.0, le=4.0)] = 4 / 3) -> Transform:
    """A rectangle of a share a ∈ [`area`, 1] of the image's area and r ∈ [1, `ratio`] times as wide (or, as often, as high) as the image is.

        width share = min(1, √(a·r))        height share = a / width share        or the other way round

    a, r and the place uniform, the rectangle always within the image: where a·r > 1 it takes the whole width, and is 1 / a times as
    wide, so that its area is a whatever r is. Read bilinearly at the pixels' centres.
    """

    def transform(images: Float[Tensor, "batch c h w"], samples: Int64[Tensor, " batch"]) -> Float[Tensor, "batch c h w"]:
        share, stretch, upright, down, right = draws.uniform(samples, 5).T
        share, stretch = area + (1 - area) * share, 1 + (ratio - 1) * stretch
        long = (share * stretch).sqrt().clamp(max=1)
        short = share / long
        high = torch.where(upright < 0.5, long, short)
        wide = torch.where(upright < 0.5, short, long)
        rows, columns = (
            # the centre of pixel i of n lies at (i + ½) / n of the side
            (start * (1 - part))[:, None] * side + (torch.arange(side, device=images.device) + 0.5) * part[:, None] - 0.5
            for side, part, start in ((images.shape[2], high, down), (images.shape[3], wide, right))
        )
        grid = (len(samples), *images.shape[2:])
        return bilinear(images, rows[:, :, None].expand(grid), columns[:, None, :].expand(grid), "edge")

    return transform
