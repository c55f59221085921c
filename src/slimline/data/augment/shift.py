"""Shift: move the image by whole pixels, black coming in from the edges."""

from collections.abc import Callable
from typing import Annotated

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor


def shift(
    count: int, generator: torch.Generator, *, pixels: Annotated[int, Field(ge=1)]
) -> Callable[[Float[Tensor, "batch c h w"], Int64[Tensor, " batch"]], Float[Tensor, "batch c h w"]]:
    """Up to `pixels` in each direction, every distance alike."""
    offsets = torch.randint(0, 2 * pixels + 1, (count, 2), generator=generator)

    def transform(images: Tensor, samples: Tensor) -> Tensor:
        batch, _, height, width = images.shape
        padded = torch.nn.functional.pad(images, (pixels,) * 4)
        rows = offsets[samples, 0, None] + torch.arange(height)
        columns = offsets[samples, 1, None] + torch.arange(width)
        return padded[torch.arange(batch)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()

    return transform
