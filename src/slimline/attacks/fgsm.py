"""FGSM: one step along the sign of the gradient (Goodfellow et al., "Explaining and Harnessing Adversarial Examples", 2015).

    x' = clip(x + ε sign(∇_x loss))        with norm l2: x + ε ∇ / ‖∇‖₂

The best change there is where the loss is linear in x. ε is in the pixels' range [0, 1].
"""

from slimline.attacks.ascent import ascent
from slimline.attacks.attack import Images, Victim, Within
from slimline.attacks.balls import BALLS, Norm
from slimline.core.batch import Batch


class FGSM(Within):
    """One step from the image to the edge of the ball."""

    access = "gradient"
    one_step = True

    def __init__(self, *, norm: Norm = "linf") -> None:
        self.measure = norm

    def within(self, victim: Victim, batch: Batch, budget: float, seed: int) -> Images:
        ball = BALLS[self.measure]
        return ascent(victim.network, batch.images, batch.labels, ball=ball, radius=budget, steps=1, step=budget, start=None)
