"""What `core.xnor` computes, on ±1 in float and as slowly as it is plain."""

import numpy as np
import torch
from jaxtyping import Float, Int32
from torch import nn

Signs = Float[np.ndarray, "..."]


def signs(x: Float[np.ndarray, "..."]) -> Signs:
    """+1 where x >= 0, else -1."""
    return np.where(x >= 0, 1.0, -1.0)


def matmul(a: Float[np.ndarray, "m k"], b: Float[np.ndarray, "n k"]) -> Int32[np.ndarray, "m n"]:
    """a · bᵀ."""
    return (a.astype(np.float64) @ b.astype(np.float64).T).astype(np.int32)


def convolution(
    x: Float[np.ndarray, "images channels height width"],
    weight: Float[np.ndarray, "filters channels lines taps"],
    *,
    stride: tuple[int, int],
    padding: tuple[int, int],
    border: float,
) -> Int32[np.ndarray, "images filters out_height out_width"]:
    """The convolution of images that have `border` around them, `padding` pixels wide above and below, left and right."""
    (above, left), images = padding, torch.from_numpy(x.astype(np.float64))
    around = nn.functional.pad(images, (left, left, above, above), value=border)
    return nn.functional.conv2d(around, torch.from_numpy(weight.astype(np.float64)), stride=stride).numpy().astype(np.int32)


def maximum(
    x: Float[np.ndarray, "images channels height width"], size: int, stride: int, *, padding: int = 0, beyond: bool = False
) -> Float[np.ndarray, "images channels out_height out_width"]:
    """The greatest number of each window; `beyond` as in `core.xnor.Windows`."""
    return nn.functional.max_pool2d(torch.from_numpy(x), size, stride, padding, ceil_mode=beyond).numpy()
