"""Cutout (DeVries & Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017)."""

from typing import Annotated

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor

from slimline.core.draws import Draws
from slimline.data.augment.transform import Transform


def cutout(draws: Draws, *, size: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5) -> Transform:
    """A square of `size` of the image's shorter side (rounded, at least one pixel) turns black.

    Its centre is any pixel, all alike, so that the square may lie partly outside. The paper fills with the mean of the training set;
    images are not normalized here, and black is what `shift` and `rotate` bring in too.
    """

    def transform(images: Float[Tensor, "batch c h w"], samples: Int64[Tensor, " batch"]) -> Float[Tensor, "batch c h w"]:
        height, width = images.shape[2:]
        side = max(1, round(size * min(height, width)))
        down, right = draws.uniform(samples, 2).T[:, :, None]
        rows, columns = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
        top, left = (down * height).floor() - side // 2, (right * width).floor() - side // 2
        high, wide = (rows >= top) & (rows < top + side), (columns >= left) & (columns < left + side)
        return images.masked_fill((high[:, :, None] & wide[:, None, :])[:, None], 0.0)

    return transform
