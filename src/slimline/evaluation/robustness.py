"""What attacks do to models: every attack on every model, on the same images, judged by the model as it is deployed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from slimline.attacks import ATTACKS
from slimline.attacks.attack import Access, Attack, Victim
from slimline.attacks.measures import DISTANCES, Measure, unbounded
from slimline.core.batch import Batch
from slimline.data.batches import scaled
from slimline.data.prepared import Images
from slimline.evaluation.statistics import compare, wilson
from slimline.params.evaluate import Attacks
from slimline.registry import build

WITHOUT_BOUND = ("linf", "l2")
"""Measures in which an iterated attack by gradients is also run with a budget that reaches every image."""


@dataclass(frozen=True)
class Attacked:
    """What one attack did to one model.

    Args:
        measure, access, one_step: of the attack.
        budgets: in ascending order.
        fooled: images that the model had right, and has wrong within each budget.
        losses: cross-entropy of the right class on the changed images; None of attacks without gradients.
        freely: images that are fooled without a bound; None where that was not tried.
    """

    measure: Measure
    access: Access
    one_step: bool
    budgets: tuple[float, ...]
    fooled: Bool[np.ndarray, "budgets images"]
    losses: Float[np.ndarray, "budgets images"] | None = None
    freely: Bool[np.ndarray, " images"] | None = None

    @property
    def iterated(self) -> bool:
        """Whether it follows gradients, more than one of an image."""
        return self.access == "gradient" and not self.one_step


@dataclass(frozen=True)
class Robustness:
    """One model under all attacks.

    Args:
        right: images that it has right as they are.
        losses: cross-entropy of the right class on them.
        attacks: by the names that they have in params.yaml.
    """

    right: Bool[np.ndarray, " images"]
    losses: Float[np.ndarray, " images"]
    attacks: Mapping[str, Attacked]

    def together(self) -> dict[Measure, tuple[tuple[float, ...], Bool[np.ndarray, "budgets images"]]]:
        """By measure of distance: its budgets, and the images that any attack fools within each."""
        found: dict[Measure, tuple[tuple[float, ...], Bool[np.ndarray, "budgets images"]]] = {}
        for attacked in self.attacks.values():
            if attacked.measure in DISTANCES:
                _, fooled = found.get(attacked.measure, (attacked.budgets, np.zeros_like(attacked.fooled)))
                found[attacked.measure] = attacked.budgets, fooled | attacked.fooled
        return found

    def standing(self) -> dict[tuple[Measure, float], Bool[np.ndarray, " images"]]:
        """By measure of distance and budget: the images that are right, whichever attack is made."""
        return {
            (measure, budget): self.right & ~fallen
            for measure, (budgets, fooled) in self.together().items()
            for budget, fallen in zip(budgets, fooled, strict=True)
        }


@dataclass
class Arena:
    """Attacks on victims that stand beside each other.

    Args:
        victims: by name.
        surrogates: the victim that stands in for each where an attacker does not see it.
        attacks, budgets: by name, and by measure.
        batch_size: images attacked together.
    """

    victims: Mapping[str, Victim]
    surrogates: Mapping[str, str]
    batch: Batch
    attacks: Mapping[str, Attack]
    budgets: Mapping[str, Sequence[float]]
    seed: int
    batch_size: int
    _kept: dict[tuple[str, str], list[Tensor]] = field(default_factory=dict)

    def robustness(self, name: str) -> Robustness:
        """The victim `name` under all attacks."""
        victim, labels = self.victims[name], self.batch.labels
        right = victim.labels(self.batch.images) == labels
        attacked = {label: self._attacked(label, name, right) for label in self.attacks}
        return Robustness(right.numpy(), self._losses(victim, self.batch.images), attacked)

    def _attacked(self, label: str, name: str, right: Bool[Tensor, " images"]) -> Attacked:
        attack, victim = self.attacks[label], self.victims[name]
        budgets = tuple(self.budgets[attack.measure])
        free = attack.access == "gradient" and not attack.one_step and attack.measure in WITHOUT_BOUND
        tried = (*budgets, unbounded(attack.measure, self.batch.images[0].numel())) if free else budgets
        changed = self._changed(label, name, tried)
        fooled = [(right & (victim.labels(images) != self.batch.labels)).numpy() for images in changed]
        losses = [self._losses(victim, images) for images in changed] if attack.access == "gradient" else None
        kept = len(budgets)
        return Attacked(
            attack.measure,
            attack.access,
            attack.one_step,
            budgets,
            np.stack(fooled[:kept]),
            None if losses is None else np.stack(losses[:kept]),
            fooled[kept] if free else None,
        )

    def _changed(self, label: str, name: str, budgets: Sequence[float]) -> list[Tensor]:
        """The images that the attack makes, a batch a budget; those that do not depend on the victim are made once."""
        attack = self.attacks[label]
        seen = {"nothing": "", "surrogate": self.surrogates[name]}.get(attack.access, name)
        if (label, seen) not in self._kept:
            victim = Victim(self.victims[name].network, self.victims[name].deployed, self.victims[self.surrogates[name]].network)
            parts = [attack(victim, part, budgets, self.seed) for part in self._parts()]
            made = [torch.cat(images) for images in zip(*parts, strict=True)]
            if seen == name:
                return made
            self._kept[label, seen] = made
        return self._kept[label, seen]

    def _parts(self) -> Iterator[Batch]:
        for places in torch.arange(len(self.batch.samples)).split(self.batch_size):
            yield Batch(self.batch.images[places], self.batch.labels[places], self.batch.samples[places], self.batch.view)

    def _losses(self, victim: Victim, images: Tensor) -> Float[np.ndarray, " images"]:
        with torch.no_grad():
            logits = torch.cat([victim.network(part) for part in images.split(self.batch_size)])
        return F.cross_entropy(logits.double(), self.batch.labels, reduction="none").numpy()


def subset(images: int, of: int, seed: int) -> list[int]:
    """Numbers of `images` of the `of` images of a split, ascending, drawn without replacement; all where there are no more."""
    return sorted(np.random.default_rng(seed).permutation(of)[:images].tolist())


def under_all(
    asked: Attacks | None, victims: Mapping[str, Victim], surrogates: Mapping[str, str], split: Images, seed: int, batch_size: int
) -> dict[str, Robustness]:
    """Every victim under every attack that params.yaml asks for, on the same images of `split`; nothing where it asks for none."""
    if asked is None or not victims:
        return {}
    ((samples, pixels, labels),) = split.gathered([torch.tensor(subset(asked.images, len(split), seed))])
    attacks = {name: build(ATTACKS, spec) for name, spec in asked.methods.items()}
    arena = Arena(victims, surrogates, Batch(scaled(pixels), labels, samples), attacks, asked.budgets, seed, batch_size)
    return {name: arena.robustness(name) for name in victims}


def card(robustness: Robustness, confidence: float) -> dict[str, Any]:
    """The scorecard's entry of one model, but for what `evaluation.masking` finds."""
    return {
        "images": len(robustness.right),
        "right": int(robustness.right.sum()),
        "methods": {
            name: {
                "measure": one.measure,
                "access": one.access,
                "points": points(robustness.right, one.budgets, one.fooled, confidence),
                "fooled_without_bound": None if one.freely is None else int(one.freely.sum()),
            }
            for name, one in robustness.attacks.items()
        },
        "together": {measure: points(robustness.right, budgets, fooled, confidence) for measure, (budgets, fooled) in robustness.together().items()},
    }


def under_attack(of: Mapping[str, Robustness], pairs: Sequence[tuple[str, str]], confidence: float) -> list[dict[str, Any]]:
    """Paired comparisons of what stands under all attacks of one measure: a row a pair of models, measure and budget."""
    standing = {name: one.standing() for name, one in of.items()}
    return [
        {"first": first, "second": second, "measure": measure, "budget": budget}
        | asdict(compare(here, standing[second][measure, budget], confidence))
        for first, second in pairs
        if of
        for (measure, budget), here in standing[first].items()
    ]


def points(
    right: Bool[np.ndarray, " images"], budgets: Sequence[float], fooled: Bool[np.ndarray, "budgets images"], confidence: float
) -> list[dict[str, Any]]:
    """For each budget: images fooled, accuracy on all images, and success, which counts those alone that were right before; with intervals."""
    counted = int(right.sum())
    rows = []
    for budget, which in zip(budgets, fooled, strict=True):
        fallen = int(which.sum())
        low, high = wilson(counted - fallen, len(right), confidence)
        row = {"budget": budget, "fooled": fallen, "accuracy": (counted - fallen) / len(right), "accuracy_low": low, "accuracy_high": high}
        success = dict.fromkeys(("success", "success_low", "success_high"))
        if counted:
            success = dict(zip(success, (fallen / counted, *wilson(fallen, counted, confidence)), strict=True))
        rows.append(row | success)
    return rows
