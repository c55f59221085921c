"""Gaussian blur: each pixel becomes a mean of its neighbours, weighted by exp(-r² / 2σ²); edges are drawn out."""

import math

import torch
import torch.nn.functional as F

from slimline.attacks.attack import Images
from slimline.attacks.severity import Corruption
from slimline.core.batch import Batch

REACH = 4
"""Deviations up to which neighbours count."""


class GaussianBlur(Corruption):
    """`amount`: σ in pixels."""

    amounts = (0.0, 0.4, 0.6, 0.7, 0.8, 1.0)

    def corrupted(self, batch: Batch, amount: float, seed: int) -> Images:
        images, reach = batch.images, math.ceil(REACH * amount)
        channels = images.shape[1]
        # Divided before it is squared, and in 64 bits: the square of a small σ is zero.
        weights = torch.exp(-((torch.arange(-reach, reach + 1).double() / amount) ** 2) / 2)
        kernel = (weights / weights.sum()).float().repeat(channels, 1, 1, 1)
        padded = F.pad(images, (reach,) * 4, mode="replicate")
        return F.conv2d(F.conv2d(padded, kernel, groups=channels), kernel.mT, groups=channels)
