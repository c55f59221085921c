"""What every scheme is given beside the values."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

Range = tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]
"""Smallest and largest value that a grid shall cover, a number a channel."""

Error = Callable[[Float[Tensor, " channels"], Float[Tensor, " channels"]], Float[Tensor, " channels"]]
"""From a range to the mean squared error of the values on the grid over it, a number a channel."""
