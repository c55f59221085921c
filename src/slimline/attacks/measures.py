"""What budgets are counted in.

linf        the largest change of a component (a pixel's channel), in the pixels' range [0, 1]
l2          the root of the sum of the squared changes of all components, in the same unit
components  the share of components that are changed at all
deviation   the standard deviation of noise, in the pixels' range
severity    0 (nothing) to 5, as in CIFAR-10-C (Hendrycks & Dietterich, 2019)
"""

import math
from collections.abc import Callable, Mapping
from typing import Literal

from jaxtyping import Float
from torch import Tensor

Measure = Literal["linf", "l2", "components", "deviation", "severity"]

DISTANCES: Mapping[str, Callable[[Float[Tensor, "batch components"]], Float[Tensor, " batch"]]] = {
    "linf": lambda change: change.abs().amax(1),
    "l2": lambda change: change.norm(dim=1),
    "components": lambda change: (change != 0).float().mean(1),
}
"""Measures that are a distance between images; the others say how strongly a change is made."""

LARGEST: Mapping[str, float] = {"linf": 1.0, "l2": math.inf, "components": 1.0, "deviation": math.inf, "severity": 5.0}
"""Budgets beyond these mean nothing."""


def distance(measure: Measure, change: Float[Tensor, "batch channels height width"]) -> Float[Tensor, " batch"]:
    """How far each image was moved, in `measure`, one of DISTANCES."""
    return DISTANCES[measure](change.flatten(1))


def unbounded(measure: Measure, components: int) -> float:
    """The budget with which any image can be reached from any other, in `measure`, one of DISTANCES."""
    return math.sqrt(components) if measure == "l2" else LARGEST[measure]
