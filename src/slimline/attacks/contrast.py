"""Contrast: x' = amount · (x - mean) + mean, with the mean of each channel of the image."""

from slimline.attacks.attack import Images
from slimline.attacks.severity import Corruption
from slimline.core.batch import Batch


class Contrast(Corruption):
    """`amount`: of the contrast that is left."""

    amounts = (1.0, 0.75, 0.5, 0.4, 0.3, 0.15)

    def corrupted(self, batch: Batch, amount: float, seed: int) -> Images:
        mean = batch.images.mean((2, 3), keepdim=True)
        return amount * (batch.images - mean) + mean
