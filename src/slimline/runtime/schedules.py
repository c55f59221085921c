"""Learning-rate schedules: `(progress, *, parameters…) -> factor` on the optimizer's rate, progress running from 0 to 1.

Each takes `warm_up`, the share of the steps over which the rate first rises linearly from 1/25 of itself (Goyal et al., 2017).
"""

import math
from itertools import pairwise
from typing import Annotated

from pydantic import Field

from slimline.errors import SlimlineError
from slimline.registry import Table

SCHEDULES: Table = {
    "constant": "slimline.runtime.schedules:constant",
    "cosine": "slimline.runtime.schedules:cosine",
    "one_cycle": "slimline.runtime.schedules:one_cycle",
    "step": "slimline.runtime.schedules:step",
}

FIRST = 1 / 25
"""Share of the rate that a warm-up begins with."""

WarmUp = Annotated[float, Field(ge=0.0, lt=1.0)]


def rising(progress: float, warm_up: float) -> float:
    """The factor of the warm-up: 1 once it is over."""
    return FIRST + (1 - FIRST) * progress / warm_up if progress < warm_up else 1.0


def constant(progress: float, *, warm_up: WarmUp = 0.0) -> float:
    """1 after the warm-up."""
    return rising(progress, warm_up)


def cosine(progress: float, *, warm_up: WarmUp = 0.0) -> float:
    """(1 + cos(π · p)) / 2, p running from 0 to 1 after the warm-up (Loshchilov & Hutter, "SGDR", 2017, without restarts)."""
    after = max(progress - warm_up, 0.0) / (1 - warm_up)
    return rising(progress, warm_up) * (1 + math.cos(math.pi * after)) / 2


def one_cycle(progress: float, *, warm_up: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2) -> float:
    """Up linearly over the warm-up, then down linearly to 0 (Smith & Topin, 2018)."""
    return rising(progress, warm_up) if progress < warm_up else (1 - progress) / (1 - warm_up)


def step(
    progress: float,
    *,
    at: Annotated[tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...], Field(min_length=1)] = (0.5, 0.75),
    factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1,
    warm_up: WarmUp = 0.0,
) -> float:
    """Times `factor` at each of the shares `at` of the steps (He et al., 2016: at a half and three quarters).

    Raises:
        SlimlineError: shares that do not grow.
    """
    if any(second <= first for first, second in pairwise(at)):
        raise SlimlineError(f"schedule step: at is {list(at)}; its shares of the steps must grow")
    return rising(progress, warm_up) * factor ** sum(progress >= place for place in at)
