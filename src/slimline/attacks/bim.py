"""BIM, iterated FGSM: small steps from the image (Kurakin et al., "Adversarial Examples in the Physical World", 2017).

x_0 = x;   x_{t+1} = clip(x + project(x_t + α sign(∇_x loss(x_t)) - x, ε))
"""

from typing import Annotated

from pydantic import Field

from slimline.attacks.ascent import ascent
from slimline.attacks.attack import Images, Victim, Within
from slimline.attacks.balls import BALLS, Norm
from slimline.core.batch import Batch
from slimline.errors import SlimlineError


class BIM(Within):
    """
    Args:
        step: α as a share of ε.

    Raises:
        SlimlineError: steps so few and short that they do not lead to the edge of the ball.
    """

    access = "gradient"

    def __init__(self, *, norm: Norm = "linf", steps: Annotated[int, Field(ge=2)] = 10, step: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2) -> None:
        if steps * step < 1:
            raise SlimlineError(f"steps: found {steps} of {step:g} of the budget; together they must be at least the budget, from middle to edge")
        self.measure, self.steps, self.step = norm, steps, step

    def within(self, victim: Victim, batch: Batch, budget: float, seed: int) -> Images:
        ball = BALLS[self.measure]
        return ascent(victim.network, batch.images, batch.labels, ball=ball, radius=budget, steps=self.steps, step=self.step * budget, start=None)
