"""Random scores: the control that every other criterion must beat."""

from collections.abc import Iterable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from slimline.core.batch import Batch
from slimline.pruning.layers import prunable


def random(model: nn.Module, batches: Iterable[Batch], *, seed: Annotated[int, Field(ge=0, lt=2**63)] = 0) -> dict[str, Tensor]:
    """Uniform in [0, 1), from a generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    return {f"{name}.weight": torch.rand(layer.weight.shape, generator=generator) for name, layer in prunable(model).items()}
