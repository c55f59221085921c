"""JSMA: a few components are changed altogether, picked by a saliency map (Papernot et al., "The Limitations of Deep Learning in
Adversarial Settings", 2016, algorithm 3).

Each step moves the two components p, q by θ for which, Z being the logits and t the class the attack aims at,

    α = Σ_{i ∈ {p,q}} ∂Z_t/∂x_i > 0,   β = Σ_{i ∈ {p,q}} Σ_{j ≠ t} ∂Z_j/∂x_i < 0,   and  -α β  is largest

(the signs turned where components are made darker)

until the network errs, no such pair is left, or the budget is used up. Aimed at: the wrong class that is likeliest at the start.
Logits, since the probabilities' gradients vanish where the network is sure (Carlini & Wagner, 2017, section VIII, call it JSMA-Z).
"""

from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float, Int64
from pydantic import Field
from torch import Tensor

from slimline.attacks.attack import Images, Nearest, Victim
from slimline.core.batch import Batch
from slimline.core.objective import Network

PAIRS = 2**24
"""Pairs that are compared together."""


class JSMA(Nearest):
    """
    Args:
        theta: change of a component at a time, in the pixels' range.
        direction: which way components are changed.
    """

    access = "gradient"
    measure = "components"

    def __init__(self, *, theta: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0, direction: Literal["brighter", "darker"] = "brighter") -> None:
        self.theta, self.last = (theta, 1.0) if direction == "brighter" else (-theta, 0.0)

    def nearest(self, victim: Victim, batch: Batch, most: float, seed: int) -> Images:
        images, labels = batch.images, batch.labels
        components = images[0].numel()
        with torch.no_grad():
            logits = victim.network(images)
        aim = logits.scatter(1, labels[:, None], -torch.inf).argmax(1)
        x, going = images.clone(), logits.argmax(1) == labels
        for _ in range(int(most * components + 1e-6) // 2):
            rows = going.nonzero().squeeze(1)
            if len(rows) == 0:
                break
            alpha, beta = _slopes(victim.network, x[rows], aim[rows])
            flat = x[rows].flatten(1)
            sign = 1 if self.theta > 0 else -1
            pair, found = _best_pairs(sign * alpha, sign * beta, flat != self.last)
            moved = flat.scatter(1, pair, (flat.gather(1, pair) + self.theta).clamp(0, 1)).view_as(x[rows])
            x[rows] = torch.where(found[:, None, None, None], moved, x[rows])
            with torch.no_grad():
                going[rows] = found & (victim.network(x[rows]).argmax(1) == labels[rows])
        return x


Slopes = Float[Tensor, "batch components"]


def _slopes(network: Network, images: Images, aim: Int64[Tensor, " batch"]) -> tuple[Slopes, Slopes]:
    """∂Z_t/∂x and Σ_{j≠t} ∂Z_j/∂x."""
    x = images.detach().requires_grad_()
    with torch.enable_grad():
        logits = network(x)
        (alpha,) = torch.autograd.grad(logits.gather(1, aim[:, None]).sum(), x, retain_graph=True)
        (whole,) = torch.autograd.grad(logits.sum(), x)
    return alpha.flatten(1), (whole - alpha).flatten(1)


def _best_pairs(alpha: Slopes, beta: Slopes, free: Bool[Tensor, "batch components"]) -> tuple[Int64[Tensor, "batch 2"], Bool[Tensor, " batch"]]:
    """The pair with the largest -α β of each image, and whether it has one."""
    components = alpha.shape[1]
    pairs, found = [], []
    together = max(1, PAIRS // components**2)
    same = torch.eye(components, dtype=torch.bool)
    for a, b, f in zip(alpha.split(together), beta.split(together), free.split(together), strict=True):
        up, down = a[:, :, None] + a[:, None, :], b[:, :, None] + b[:, None, :]
        allowed = (up > 0) & (down < 0) & f[:, :, None] & f[:, None, :] & ~same
        best, place = torch.where(allowed, -up * down, 0.0).flatten(1).max(1)
        pairs.append(torch.stack([place // components, place % components], 1))
        found.append(best > 0)
    return torch.cat(pairs), torch.cat(found)
