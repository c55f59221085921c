"""Random scores: the control that every other criterion must beat."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn


def random(model: nn.Module, *, seed: Annotated[int, Field(ge=0)] = 0) -> dict[str, Tensor]:
    """Uniform in [0, 1), from a generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(w.shape, generator=generator) for name, w in model.named_parameters() if w.ndim > 1}
