"""Impulse noise: a share of the components becomes black or white, each as likely ("salt and pepper")."""

import torch

from slimline.attacks.attack import Images
from slimline.attacks.severity import Corruption
from slimline.core.batch import Batch
from slimline.core.draws import Draws


class ImpulseNoise(Corruption):
    """`amount`: the share."""

    amounts = (0.0, 0.01, 0.02, 0.03, 0.05, 0.07)

    def corrupted(self, batch: Batch, amount: float, seed: int) -> Images:
        # Of one number: whether a component is hit, and by which half of the chance, what it becomes.
        hit = Draws(seed, 0, "impulse_noise").uniform(batch.samples, batch.images[0].numel()).view_as(batch.images)
        return torch.where(hit < amount, (hit < amount / 2).float(), batch.images)
