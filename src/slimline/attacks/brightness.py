"""Brightness: x' = clip(x + amount). (CIFAR-10-C adds to the value of HSV, which for grey images is the same.)"""

from slimline.attacks.attack import Images
from slimline.attacks.severity import Corruption
from slimline.core.batch import Batch


class Brightness(Corruption):
    """`amount`: added, in the pixels' range."""

    amounts = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)

    def corrupted(self, batch: Batch, amount: float, seed: int) -> Images:
        return batch.images + amount
