"""What training minimizes, as the engine sees it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

from jaxtyping import Float
from torch import Tensor, nn

from slimline.core.batch import Batch

Network = Callable[[Float[Tensor, "batch channels height width"]], Float[Tensor, "batch classes"]]
"""Images to logits: the network that is trained, compiled or cut as it may be."""


class Objective(nn.Module, ABC):
    """A loss of one batch. Parameters of its own are trained beside the network, and are none of the model that is saved.

    `reads_layers`: whether it needs what layers within the network answer, which one process must then have complete.
    """

    reads_layers: bool = False

    @abstractmethod
    def forward(self, batch: Batch, network: Network) -> Float[Tensor, ""]:
        """The loss of `batch`, a mean over its images."""

    def look_ahead(self, batches: Iterator[Batch], views: int, images: int) -> None:
        """Before the first step: compute once what is the same in every epoch. `batches` hold each of `images` in each of `views`."""
        return
