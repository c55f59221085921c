"""PGD: projected gradient ascent from random points of the ball (Madry et al., "Towards Deep Learning Models Resistant to Adversarial
Attacks", 2018).

    x_0 = clip(x + ε u), u even in the ball;   x_{t+1} = clip(x + project(x_t + α direction(∇_x loss(x_t)) - x, ε))

Of several starts, each image keeps the one that ends with the largest loss.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field

from slimline.attacks.ascent import ascent
from slimline.attacks.attack import Images, Victim, Within
from slimline.attacks.balls import BALLS, Norm
from slimline.core.batch import Batch
from slimline.core.draws import Draws
from slimline.errors import SlimlineError


class PGD(Within):
    """
    Args:
        step: α as a share of ε.
        starts: searches of an image.

    Raises:
        SlimlineError: steps so few and short that they do not lead across the ball, so that a start could decide what is reached.
    """

    access = "gradient"

    def __init__(
        self,
        *,
        norm: Norm = "linf",
        steps: Annotated[int, Field(ge=2)] = 20,
        step: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1,
        starts: Annotated[int, Field(ge=1)] = 1,
    ) -> None:
        if steps * step < 2:
            raise SlimlineError(f"steps: found {steps} of {step:g} of the budget; together they must be at least twice the budget, from edge to edge")
        self.measure, self.steps, self.step, self.starts = norm, steps, step, starts

    def within(self, victim: Victim, batch: Batch, budget: float, seed: int) -> Images:
        images, labels, samples = batch.images, batch.labels, batch.samples
        ball, shape = BALLS[self.measure], tuple(images.shape[1:])
        best, most = images, torch.full(labels.shape, -torch.inf)
        for number in range(self.starts):
            start = budget * ball.start(Draws(seed, number, "pgd"), samples, shape)
            x = ascent(victim.network, images, labels, ball=ball, radius=budget, steps=self.steps, step=self.step * budget, start=start)
            with torch.no_grad():
                loss = F.cross_entropy(victim.network(x), labels, reduction="none").float()
            better = loss > most
            best, most = torch.where(better[:, None, None, None], x, best), torch.where(better, loss, most)
        return best
