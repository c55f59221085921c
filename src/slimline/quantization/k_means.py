"""Weights shared by clustering (Han et al., "Deep Compression", 2016, section 3)."""

from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from slimline.core.codebook import linear_start, lloyd


def k_means(values: Float[Tensor, " n"], entries: int, *, rounds: Annotated[int, Field(ge=0)] = 300) -> Float[Tensor, " entries"]:
    """The means of the clusters that k-means finds from a linear start (section 3.2), ascending."""
    return lloyd(values, linear_start(values, entries), rounds)
