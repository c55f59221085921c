"""All weights as one vector, whatever the order of their numbers in memory; torch's own loses that order."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor


def vector(tensors: Iterable[Tensor]) -> Float[Tensor, " numbers"]:
    """A new vector of the numbers of `tensors`, one after the other."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


@torch.no_grad()
def spread(numbers: Float[Tensor, " numbers"], tensors: Iterable[Tensor]) -> None:
    """Write what `vector` gave into `tensors`, in place."""
    tensors = list(tensors)
    for tensor, part in zip(tensors, numbers.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view(tensor.shape))
