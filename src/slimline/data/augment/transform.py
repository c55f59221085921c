"""What an augmentation becomes once its numbers are drawn."""

from collections.abc import Callable

from jaxtyping import Float, Int64
from torch import Tensor

Transform = Callable[[Float[Tensor, "batch c h w"], Int64[Tensor, " batch"]], Float[Tensor, "batch c h w"]]
"""Images and their samples' numbers to what the network is shown."""
