"""Flip: mirror the image."""

from typing import Annotated

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor

from slimline.core.draws import Draws
from slimline.data.augment.transform import Transform

Probability = Annotated[float, Field(ge=0.0, le=1.0)]


def flip(draws: Draws, *, horizontal: Probability = 0.5, vertical: Probability = 0.0) -> Transform:
    """Left and right change places with probability `horizontal`, top and bottom with probability `vertical`, each for itself."""

    def transform(images: Float[Tensor, "batch c h w"], samples: Int64[Tensor, " batch"]) -> Float[Tensor, "batch c h w"]:
        chances = draws.uniform(samples, 2).T[:, :, None, None, None]
        for chance, probability, axis in zip(chances, (horizontal, vertical), (3, 2), strict=True):
            if probability > 0:
                images = torch.where(chance < probability, images.flip(axis), images)
        return images

    return transform
