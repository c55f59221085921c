"""Optimizers: `(parameter groups, *, parameters…) -> torch.optim.Optimizer`, one line in the table each."""

from collections.abc import Iterable
from typing import Annotated, Any

import torch
from pydantic import Field

from slimline.registry import Table

OPTIMIZERS: Table = {
    "sgd": "slimline.runtime.optimizers:sgd",
    "adam": "slimline.runtime.optimizers:adam",
    "adamw": "slimline.runtime.optimizers:adamw",
}

Rate = Annotated[float, Field(gt=0.0)]
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


def sgd(groups: Iterable[dict[str, Any]], *, lr: Rate, momentum: Beta = 0.9) -> torch.optim.Optimizer:
    """Stochastic gradient descent with Nesterov's momentum (Sutskever et al., 2013); no momentum, no Nesterov."""
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)


def adam(groups: Iterable[dict[str, Any]], *, lr: Rate, beta1: Beta = 0.9, beta2: Beta = 0.999) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba, 2015); weight decay is added to the gradient, as an L2 penalty."""
    return torch.optim.Adam(groups, lr=lr, betas=(beta1, beta2))


def adamw(groups: Iterable[dict[str, Any]], *, lr: Rate, beta1: Beta = 0.9, beta2: Beta = 0.999) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019)."""
    return torch.optim.AdamW(groups, lr=lr, betas=(beta1, beta2))
