"""Min-max: the whole range, nothing clipped (Krishnamoorthi, "Quantizing deep convolutional networks", 2018, section 3.1)."""

from jaxtyping import Float
from torch import Tensor

from slimline.quantization.scheme import Error, Range


def min_max(values: Float[Tensor, "channels n"], error: Error) -> Range:
    """Smallest and largest value of each channel."""
    return values.amin(1), values.amax(1)
