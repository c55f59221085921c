"""HopSkipJump: along the boundary, by answers alone (Chen et al., "HopSkipJumpAttack: A Query-Efficient Decision-Based Attack", 2020,
algorithm 2, for L2). A defence that shows only the final label does not stop it.

From an image on which the victim errs, in turn: by halves to the boundary; the boundary's normal from B answers to points around,

    v = mean over b of (φ_b - mean φ) u_b,   φ_b = ±1: whether the victim errs at x_t + δ u_b,   u_b even on the sphere

and a step along v, ‖x_t - x‖ / √t long and halved until the victim errs. δ = ‖x_t - x‖ / d, B = B_0 √t, d: number of components.
"""

import math
from collections.abc import Callable
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from slimline.attacks.attack import Images, Nearest, Victim
from slimline.core.batch import Batch
from slimline.core.draws import Draws

HALVINGS = 12
"""Of a step that leads out of where the victim errs, before it is given up."""


class HopSkipJump(Nearest):
    """
    Args:
        iterations: T, hops towards the image.
        questions: B_0, answers from which the first normal is estimated.
        tries: random images among which a start is sought; an image without one counts as not fooled.
    """

    access = "label"
    measure = "l2"

    def __init__(
        self,
        *,
        iterations: Annotated[int, Field(ge=1)] = 20,
        questions: Annotated[int, Field(ge=2)] = 100,
        tries: Annotated[int, Field(ge=1)] = 50,
    ) -> None:
        self.iterations, self.questions, self.tries = iterations, questions, tries

    def nearest(self, victim: Victim, batch: Batch, most: float, seed: int) -> Images:
        found, errs = self._started(victim, batch, seed)
        kept = found.clone()
        rows = errs.nonzero().squeeze(1)
        if len(rows):
            part = Batch(batch.images[rows], batch.labels[rows], batch.samples[rows])
            kept[rows] = self._hops(victim, part, found[rows], seed)
        return kept

    def _started(self, victim: Victim, batch: Batch, seed: int) -> tuple[Images, Bool[Tensor, " batch"]]:
        """An image on which the victim errs, in the place of each, and whether one was found: its negative, else noise, else itself."""
        images, labels = batch.images, batch.labels
        found = 1 - images
        errs = victim.labels(found) != labels
        for number in range(self.tries):
            rows = (~errs).nonzero().squeeze(1)
            if len(rows) == 0:
                break
            noise = Draws(seed, number, "hop_skip_jump start").uniform(batch.samples[rows], images[0].numel()).view_as(images[rows])
            found[rows] = noise
            errs[rows] = victim.labels(noise) != labels[rows]
        return torch.where(errs[:, None, None, None], found, images), errs

    def _hops(self, victim: Victim, batch: Batch, start: Images, seed: int) -> Images:
        images, labels = batch.images, batch.labels
        components = images[0].numel()

        def errs(x: Images) -> Bool[Tensor, " batch"]:
            return victim.labels(x) != labels

        x = _to_boundary(errs, images, start)
        best, nearest = x, _norms(x - images)
        for hop in range(1, self.iterations + 1):
            far = _norms(x - images)
            reach = torch.full_like(far, 0.1) if hop == 1 else far / components
            normal = self._normal(victim, batch._replace(images=x), reach, hop, seed)
            step = far / math.sqrt(hop)
            tried, inside = x, torch.zeros_like(labels, dtype=torch.bool)
            for _ in range(HALVINGS):
                moved = (x + _wide(step) * normal).clamp(0, 1)
                tried = torch.where(_wide(inside), tried, moved)
                inside = errs(tried)
                if bool(inside.all()):
                    break
                step = step / 2
            x = _to_boundary(errs, images, torch.where(_wide(inside), tried, x))
            closer = _norms(x - images) < nearest
            best, nearest = torch.where(_wide(closer), x, best), torch.minimum(nearest, _norms(x - images))
        return best

    def _normal(self, victim: Victim, batch: Batch, reach: Float[Tensor, " batch"], hop: int, seed: int) -> Images:
        """The direction in which the victim errs the more, of length 1."""
        x, labels = batch.images, batch.labels
        count, components = int(self.questions * math.sqrt(hop)), x[0].numel()
        drawn = Draws(seed, hop, "hop_skip_jump").normal(batch.samples, count * components).view(len(x), count, *x.shape[1:])
        around = (x[:, None] + reach[:, None, None, None, None] * _unit(drawn)).clamp(0, 1)
        errs = (victim.labels(around.flatten(0, 1)).view(len(x), count) != labels[:, None]).float() * 2 - 1
        mean = errs.mean(1, keepdim=True)
        weights = torch.where(mean.abs() == 1, errs, errs - mean)
        return _unit((weights[:, :, None, None, None] * (around - x[:, None])).mean(1, keepdim=True))[:, 0]


def _to_boundary(errs: Callable[[Images], Bool[Tensor, " batch"]], images: Images, outside: Images) -> Images:
    """By halves from where the victim errs towards the image, as near as it still errs: to d^-1.5 of the way."""
    low, high = torch.zeros(len(images)), torch.ones(len(images))
    for _ in range(math.ceil(1.5 * math.log2(max(2, images[0].numel())))):
        middle = (low + high) / 2
        wrong = errs(torch.lerp(images, outside, _wide(middle)))
        low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
    reached = torch.lerp(images, outside, _wide(high))
    # At weight 1 the mix may differ from `outside` in its last bits, on the far side of the boundary.
    return torch.where(_wide(errs(reached)), reached, outside)


def _wide(values: Tensor) -> Tensor:
    """A number an image, beside its pixels."""
    return values[:, None, None, None]


def _norms(change: Images) -> Float[Tensor, " batch"]:
    return change.flatten(1).norm(dim=1)


def _unit(changes: Float[Tensor, "batch count channels height width"]) -> Float[Tensor, "batch count channels height width"]:
    return changes / changes.flatten(2).norm(dim=2)[:, :, None, None, None].clamp(min=1e-12)
