"""Magnitude: small weights matter least (Han et al., "Learning both Weights and Connections", 2015; Li et al., 2017, for filters)."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from slimline.core.batch import Batch
from slimline.pruning.layers import prunable


def magnitude(model: nn.Module, batches: Iterable[Batch], *, p: Annotated[int, Field(ge=1, le=2)] = 2) -> dict[str, Tensor]:
    """|w|^p."""
    return {f"{name}.weight": layer.weight.detach().abs() ** p for name, layer in prunable(model).items()}
