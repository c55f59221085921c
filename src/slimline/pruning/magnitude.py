"""Magnitude: small weights matter least (Han et al., "Learning both Weights and Connections", 2015; Li et al., 2017, for filters)."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn


def magnitude(model: nn.Module, *, p: Annotated[int, Field(ge=1, le=2)] = 2) -> dict[str, Tensor]:
    """|w|^p of every weight of two or more dimensions."""
    return {name: w.detach().abs() ** p for name, w in model.named_parameters() if w.ndim > 1}
