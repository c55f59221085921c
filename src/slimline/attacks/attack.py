"""What an attack is: who is attacked, what the attacker sees, how much may be changed, and the two shapes that attacks have."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from slimline.attacks.measures import DISTANCES, LARGEST, Measure, distance
from slimline.core.batch import Batch
from slimline.core.objective import Network

Images = Float[Tensor, "batch channels height width"]

Access = Literal["gradient", "surrogate", "scores", "label", "nothing"]
"""What an attacker sees of the victim: its gradients, another network in its place, its logits, its answer alone, nothing at all."""

AT_ONCE = 1024
"""Images asked about together, so that many questions need no more memory than few."""


@dataclass(frozen=True)
class Victim:
    """A classifier under attack.

    Args:
        network: images to logits, through which gradients flow; those of a quantized network are straight-through.
        deployed: the same as it runs where it is shipped to, without gradients; None: `network`.
        surrogate: another network for the same classes, which the attacker has.
    """

    network: Network
    deployed: Network | None = None
    surrogate: Network | None = None

    def scores(self, images: Images) -> Float[Tensor, "batch classes"]:
        """The logits that it answers with when it is deployed."""
        with torch.no_grad():
            return torch.cat([(self.deployed or self.network)(part) for part in images.split(AT_ONCE)])

    def labels(self, images: Images) -> Int64[Tensor, " batch"]:
        """Its answers; of equal logits the first."""
        return self.scores(images).argmax(1)


class Attack(ABC):
    """Changes images so that a classifier errs on them; it knows their labels.

    access: what it sees.
    measure: what budgets are counted in.
    one_step: whether it looks at one gradient alone.
    """

    access: Access
    measure: Measure
    one_step: bool = False

    @property
    def largest(self) -> float:
        """The largest budget that means anything."""
        return LARGEST[self.measure]

    @property
    def bounded(self) -> bool:
        """Whether budgets are distances between images, so that attacks of one measure can be taken together."""
        return self.measure in DISTANCES

    @abstractmethod
    def __call__(self, victim: Victim, batch: Batch, budgets: Sequence[float], seed: int) -> list[Images]:
        """The images of `batch`, changed by at most each of `budgets`, in [0, 1]; a budget of 0 changes nothing.

        What is drawn belongs to (seed, sample), so that the division into batches changes nothing but rounding.
        """


class Within(Attack):
    """An attack that uses up a budget: one search for each."""

    def __call__(self, victim: Victim, batch: Batch, budgets: Sequence[float], seed: int) -> list[Images]:
        return [self.within(victim, batch, budget, seed) if budget else batch.images for budget in budgets]

    @abstractmethod
    def within(self, victim: Victim, batch: Batch, budget: float, seed: int) -> Images:
        """The images, changed by at most `budget` > 0."""


class Nearest(Attack):
    """An attack that looks for the nearest image on which the victim errs: one search for all budgets, which counts where it is near enough."""

    def __call__(self, victim: Victim, batch: Batch, budgets: Sequence[float], seed: int) -> list[Images]:
        found = self.nearest(victim, batch, max(budgets, default=0.0), seed)
        far = distance(self.measure, found - batch.images)
        return [torch.where((far <= budget)[:, None, None, None], found, batch.images) for budget in budgets]

    @abstractmethod
    def nearest(self, victim: Victim, batch: Batch, most: float, seed: int) -> Images:
        """The nearest images found, or, where none was found, what there is; beyond `most` nothing is needed."""
