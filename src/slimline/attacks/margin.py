"""How surely a classifier is right."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def margin(logits: Float[Tensor, "batch classes"], labels: Int64[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """Z_y - max_{i≠y} Z_i: by how much the right class leads."""
    right = logits.gather(1, labels[:, None]).squeeze(1)
    return right - logits.scatter(1, labels[:, None], -torch.inf).amax(1)
