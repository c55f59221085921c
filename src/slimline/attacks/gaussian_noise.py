"""Gaussian noise: x' = clip(x + σ n), n standard normal, σ in the pixels' range. The control of every attack that searches."""

from slimline.attacks.attack import Images, Victim, Within
from slimline.core.batch import Batch
from slimline.core.draws import Draws


class GaussianNoise(Within):
    """Noise of the deviation σ."""

    access = "nothing"
    measure = "deviation"

    def within(self, victim: Victim, batch: Batch, budget: float, seed: int) -> Images:
        noise = Draws(seed, 0, "gaussian_noise").normal(batch.samples, batch.images[0].numel()).view_as(batch.images)
        return (batch.images + budget * noise).clamp(0, 1)
