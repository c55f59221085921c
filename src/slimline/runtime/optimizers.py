"""Optimizers: `(parameter groups, *, parameters…) -> torch.optim.Optimizer`, one line in the table each."""

from collections.abc import Iterable
from typing import Annotated, Any

import torch
from pydantic import Field

from slimline.registry import Table

OPTIMIZERS: Table = {
    "sgd": "slimline.runtime.optimizers:sgd",
    "adamw": "slimline.runtime.optimizers:adamw",
}

Rate = Annotated[float, Field(gt=0.0)]


def sgd(groups: Iterable[dict[str, Any]], *, lr: Rate, momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9) -> torch.optim.Optimizer:
    """Stochastic gradient descent with Nesterov's momentum (Sutskever et al., 2013); no momentum, no Nesterov."""
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)


def adamw(groups: Iterable[dict[str, Any]], *, lr: Rate) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019)."""
    return torch.optim.AdamW(groups, lr=lr)
