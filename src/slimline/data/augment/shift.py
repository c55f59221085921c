"""Shift: move the image by whole pixels (with `outside: reflect` or `black`, the padded random crop of CIFAR training)."""

from typing import Annotated

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor

from slimline.core.draws import Draws
from slimline.data.augment.sampling import Outside, nearest
from slimline.data.augment.transform import Transform


def shift(draws: Draws, *, pixels: Annotated[int, Field(ge=1)], outside: Outside = "black") -> Transform:
    """Down and right by whole pixels from -`pixels` to `pixels`, every distance alike."""

    def transform(images: Float[Tensor, "batch c h w"], samples: Int64[Tensor, " batch"]) -> Float[Tensor, "batch c h w"]:
        down, right = (draws.integers(samples, 2, 2 * pixels + 1) - pixels).T[:, :, None]
        rows, columns = (torch.arange(side, device=images.device) for side in images.shape[2:])
        return nearest(images, (rows - down).float(), (columns - right).float(), outside)

    return transform
