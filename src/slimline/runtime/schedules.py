"""Learning-rate schedules: `(progress, *, parameters…) -> factor` on the optimizer's rate, progress running from 0 to 1."""

import math
from typing import Annotated

from pydantic import Field

from slimline.registry import Table

SCHEDULES: Table = {
    "constant": "slimline.runtime.schedules:constant",
    "cosine": "slimline.runtime.schedules:cosine",
    "one_cycle": "slimline.runtime.schedules:one_cycle",
}


def constant(progress: float) -> float:
    """1 throughout."""
    return 1.0


def cosine(progress: float) -> float:
    """(1 + cos(π · progress)) / 2 (Loshchilov & Hutter, "SGDR", 2017, without restarts)."""
    return (1 + math.cos(math.pi * progress)) / 2


def one_cycle(progress: float, *, warm_up: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2) -> float:
    """Up linearly from 1/25 to 1 over the share `warm_up` of the steps, then down linearly to 0 (Smith & Topin, 2018)."""
    if progress < warm_up:
        return 1 / 25 + (1 - 1 / 25) * progress / warm_up
    return (1 - progress) / (1 - warm_up)
