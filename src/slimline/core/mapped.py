"""Tensors larger than memory should hold."""

import math
import os
import tempfile

import numpy as np
import torch
from torch import Tensor


def mapped(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor of zeros in a temporary file, which goes with it.

    Raises:
        OSError: no space; without asking first, the lack would kill the process where the tensor is written.
    """
    size = math.prod(shape) * dtype.itemsize
    with tempfile.TemporaryFile() as file:
        os.posix_fallocate(file.fileno(), 0, size)
        # As bytes: numpy knows no bfloat16.
        return torch.from_numpy(np.memmap(file, np.uint8, "r+", shape=(size,))).view(dtype).view(shape)
