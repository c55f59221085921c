"""What all common corruptions share: a severity from 0 to 5, at whole numbers the amounts of CIFAR-10-C, between them in proportion.

Source: Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", 2019; the amounts are those
of their `make_cifar_c.py`, for images of 32×32.
"""

from abc import abstractmethod

import numpy as np

from slimline.attacks.attack import Images, Victim, Within
from slimline.core.batch import Batch

SEVERITIES = range(6)


class Corruption(Within):
    """A change that knows no victim. `amounts`: at severities 0 (which changes nothing) to 5."""

    access = "nothing"
    measure = "severity"
    amounts: tuple[float, float, float, float, float, float]

    def within(self, victim: Victim, batch: Batch, budget: float, seed: int) -> Images:
        return self.corrupted(batch, float(np.interp(budget, SEVERITIES, self.amounts)), seed).clamp(0, 1)

    @abstractmethod
    def corrupted(self, batch: Batch, amount: float, seed: int) -> Images:
        """The images, changed by `amount`; they may leave [0, 1]."""
