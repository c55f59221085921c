"""An absolute threshold: "prune the weights below 0.1" (Han et al., "Learning both Weights and Connections", 2015, section 3.1)."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from slimline.core.batch import Batch
from slimline.pruning.layers import prunable


def threshold(model: nn.Module, batches: Iterable[Batch], *, value: Annotated[float, Field(gt=0.0)] = 0.1) -> dict[str, Tensor]:
    """|w| / value: below 1 where a weight is below the threshold, which is where the target `threshold` cuts."""
    return {f"{name}.weight": layer.weight.detach().abs() / value for name, layer in prunable(model).items()}
