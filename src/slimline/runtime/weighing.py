"""How much each member of an ensemble counts."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float64, Int64
from scipy.optimize import minimize
from torch import Tensor

from slimline.models.ensemble import AVERAGES, Average

LEAST = 1e-3
"""A share below which a member does not count at all: it would cost as much as another, and change nothing."""

Given = Float64[Tensor, "members n classes"]
Labels = Int64[Tensor, " n"]


def equal(logits: Given, _labels: Labels, _average: Average) -> list[float]:
    """One part each."""
    return [1 / len(logits)] * len(logits)


def likelihood(logits: Given, labels: Labels, average: Average) -> list[float]:
    """The shares, none below 0 and together 1, under which `average` gives the labels their largest likelihood.

    minimize over w:    -mean log softmax(average(logits, w))[label]

    The mean of probabilities is linear in w and its logarithm concave, and so is log-softmax of a linear function: either has one
    valley, which sequential quadratic programming (Kraft, 1988) descends from equal shares.
    """
    target = AVERAGES[average]

    def loss(shares: np.ndarray) -> tuple[float, np.ndarray]:
        w = torch.tensor(shares).clamp_min(1e-12).requires_grad_()
        value = torch.nn.functional.cross_entropy(target(logits, w), labels)
        (gradient,) = torch.autograd.grad(value, w)
        return value.item(), gradient.numpy()

    members = len(logits)
    found = minimize(
        loss,
        np.full(members, 1 / members),
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * members,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones_like(w)},
        options={"maxiter": 500, "ftol": 1e-12},
    )
    shares = np.where(found.x < LEAST, 0.0, found.x)
    return [float(share) for share in shares / shares.sum()]


WEIGHINGS: Mapping[str, Callable[[Given, Labels, Average], list[float]]] = {"equal": equal, "likelihood": likelihood}
