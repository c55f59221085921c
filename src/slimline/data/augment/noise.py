"""Noise: every value of the image moved by itself."""

from typing import Annotated

from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor

from slimline.core.draws import Draws
from slimline.data.augment.transform import Transform


def noise(draws: Draws, *, std: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05) -> Transform:
    """clamp(image + `std` · z, 0, 1), z standard normal, anew for each channel of each pixel; `std` in units of the full range."""

    def transform(images: Float[Tensor, "batch c h w"], samples: Int64[Tensor, " batch"]) -> Float[Tensor, "batch c h w"]:
        z = draws.normal(samples, images[0].numel()).view(images.shape)
        return (images + std * z).clamp_(0, 1)

    return transform
