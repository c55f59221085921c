"""Transfer: changes found on another network, which the victim is then shown (Papernot et al., "Practical Black-Box Attacks against
Machine Learning", 2017). Nothing is asked of the victim, neither gradients nor answers.
"""

from typing import Annotated

from pydantic import Field

from slimline.attacks.attack import Images, Victim, Within
from slimline.attacks.balls import Norm
from slimline.attacks.pgd import PGD
from slimline.core.batch import Batch
from slimline.errors import SlimlineError


class Transfer(Within):
    """PGD on the victim's surrogate; arguments as of `PGD`."""

    access = "surrogate"

    def __init__(self, *, norm: Norm = "linf", steps: Annotated[int, Field(ge=2)] = 20, step: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1) -> None:
        self.measure = norm
        self._search = PGD(norm=norm, steps=steps, step=step)

    def within(self, victim: Victim, batch: Batch, budget: float, seed: int) -> Images:
        """
        Raises:
            SlimlineError: the victim has no surrogate.
        """
        if victim.surrogate is None:
            raise SlimlineError("transfer: there is no other model of these classes to attack in the victim's place; take this attack out")
        return self._search.within(Victim(victim.surrogate), batch, budget, seed)
