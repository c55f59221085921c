"""Balls around an image: where a search within one starts, which way it steps, and how it is brought back.

A norm is one class here and one line in BALLS; searches name it by `norm` and have no copy for each.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal

from jaxtyping import Float, Int64
from torch import Tensor

from slimline.core.draws import Draws

Norm = Literal["linf", "l2"]
Change = Float[Tensor, "batch channels height width"]

SMALLEST = 1e-12
"""Norms below are taken for it: a gradient of zero has no direction, and none is made up."""


class Ball(ABC):
    """All changes of a size up to 1; sizes beyond are factors."""

    @abstractmethod
    def start(self, draws: Draws, samples: Int64[Tensor, " batch"], shape: tuple[int, ...]) -> Change:
        """A change drawn evenly from the ball for each sample; `shape` is that of an image."""

    @abstractmethod
    def direction(self, gradient: Change) -> Change:
        """The change of size 1 along which a function with this gradient grows fastest."""

    @abstractmethod
    def project(self, change: Change, radius: float) -> Change:
        """The nearest change of a size up to `radius`."""


class Linf(Ball):
    """max |δ| <= 1: every component moves by itself."""

    def start(self, draws: Draws, samples: Int64[Tensor, " batch"], shape: tuple[int, ...]) -> Change:
        return (2 * draws.uniform(samples, _components(shape)) - 1).view(-1, *shape)

    def direction(self, gradient: Change) -> Change:
        return gradient.sign()

    def project(self, change: Change, radius: float) -> Change:
        return change.clamp(-radius, radius)


class L2(Ball):
    """‖δ‖₂ <= 1."""

    def start(self, draws: Draws, samples: Int64[Tensor, " batch"], shape: tuple[int, ...]) -> Change:
        # The first n of n + 2 coordinates of a point on a sphere are spread evenly over the ball (Voelker et al., 2017).
        count = _components(shape)
        normal = draws.normal(samples, count + 2)
        return (normal / normal.norm(dim=1, keepdim=True))[:, :count].view(-1, *shape)

    def direction(self, gradient: Change) -> Change:
        return gradient / _norm(gradient)

    def project(self, change: Change, radius: float) -> Change:
        return change * (radius / _norm(change)).clamp(max=1.0)


BALLS: Mapping[str, Ball] = {"linf": Linf(), "l2": L2()}


def _components(shape: tuple[int, ...]) -> int:
    channels, height, width = shape
    return channels * height * width


def _norm(change: Change) -> Float[Tensor, "batch 1 1 1"]:
    return change.flatten(1).norm(dim=1)[:, None, None, None].clamp(min=SMALLEST)
