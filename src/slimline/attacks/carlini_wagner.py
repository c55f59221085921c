"""Carlini & Wagner's attack in L2 ("Towards Evaluating the Robustness of Neural Networks", 2017, section VI).

    minimize  ‖x' - x‖₂² + c · max(Z_y - max_{i≠y} Z_i + κ, 0),     x' = (tanh w + 1) / 2

over w by Adam, Z being the logits and y the right class. A search finds each image's smallest c that makes the victim err: times ten
until it does, then by halves. Since it looks at logits, and minimizes a distance where others keep within one, it finds its way where
the gradient of the cross-entropy has vanished: what a defence has to stand.
"""

from typing import Annotated

import torch
from pydantic import Field

from slimline.attacks.attack import Images, Nearest, Victim
from slimline.attacks.margin import margin
from slimline.core.batch import Batch

INSIDE = 0.999999
"""Pixels of exactly 0 and 1 have no w; this close they have."""


class CarliniWagner(Nearest):
    """
    Args:
        steps: of Adam for each c.
        searches: values of c that are tried.
        lr: of Adam.
        constant: the first c.
        kappa: κ, by how much the wrong logit shall exceed the right one.
    """

    access = "gradient"
    measure = "l2"

    def __init__(
        self,
        *,
        steps: Annotated[int, Field(ge=1)] = 1000,
        searches: Annotated[int, Field(ge=1)] = 9,
        lr: Annotated[float, Field(gt=0.0)] = 0.01,
        constant: Annotated[float, Field(gt=0.0)] = 0.001,
        kappa: Annotated[float, Field(ge=0.0)] = 0.0,
    ) -> None:
        self.steps, self.searches, self.lr, self.constant, self.kappa = steps, searches, lr, constant, kappa

    def nearest(self, victim: Victim, batch: Batch, most: float, seed: int) -> Images:
        images, labels = batch.images, batch.labels
        w = torch.atanh((2 * images - 1) * INSIDE)
        origin = _pixels(w)
        best, nearest = images.clone(), torch.full(labels.shape, torch.inf)
        constant, low, high = torch.full(labels.shape, self.constant), torch.zeros(labels.shape), torch.full(labels.shape, torch.inf)
        for _ in range(self.searches):
            change = torch.zeros_like(w, requires_grad=True)
            adam = torch.optim.Adam([change], lr=self.lr)
            errs = torch.zeros(labels.shape, dtype=torch.bool)
            for _ in range(self.steps):
                with torch.enable_grad():
                    x = _pixels(w + change)
                    lead = margin(victim.network(x), labels) + self.kappa
                    loss = (x - origin).square().sum() + (constant * lead.clamp(min=0)).sum()
                    (change.grad,) = torch.autograd.grad(loss, change)
                adam.step()
                with torch.no_grad():
                    # With κ = 0 a tie of two logits is no error yet.
                    wrong = (lead < 0) if self.kappa == 0 else (lead <= 0)
                    far = (x - images).flatten(1).norm(dim=1)
                    closer = wrong & (far < nearest)
                    best, nearest = torch.where(closer[:, None, None, None], x, best), torch.where(closer, far, nearest)
                    errs |= wrong
            high, low = torch.where(errs, constant, high), torch.where(errs, low, constant)
            constant = torch.where(high.isinf(), 10 * constant, (low + high) / 2)
        return best.detach()


def _pixels(w: Images) -> Images:
    return (torch.tanh(w) + 1) / 2
