"""A batch of images on its way through training, validation or test."""

from typing import NamedTuple

from jaxtyping import Float, Int64
from torch import Tensor

from slimline.core.labels import Labels


class Batch(NamedTuple):
    """Some images of a split.

    Args:
        images: in [0, 1].
        samples: their numbers in the split.
        view: which of the split's augmented views they are seen in.
    """

    images: Float[Tensor, "batch channels height width"]
    labels: Labels
    samples: Int64[Tensor, " batch"]
    view: int = 0
