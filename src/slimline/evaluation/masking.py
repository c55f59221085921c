"""Gradient masking: signs that attacks failed because gradients led nowhere, not because the model is robust.

Sources: Athalye, Carlini & Wagner, "Obfuscated Gradients Give a False Sense of Security", 2018, section 3.1; Carlini et al., "On Evaluating
Adversarial Robustness", 2019. Each test is a function of what attacks did to one model, and finds nothing where images may explain it:
pairs are compared at a confidence that is corrected for their number (Bonferroni).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from slimline.evaluation.robustness import WITHOUT_BOUND, Attacked, Robustness
from slimline.evaluation.statistics import compare, mean_interval


@dataclass(frozen=True)
class Sign:
    """A sign of masked gradients.

    Args:
        attack: which attack showed it.
        against: the attack, or the budget, that it was held against; None: where there is none.
        budget: None: without bound.
        found, expected: shares of fooled images, or mean losses: of `attack`, and what it was held against.
    """

    attack: str
    against: str | None
    budget: float | None
    found: float
    expected: float


def one_step_beats_iterated(of: Robustness, confidence: float) -> list[Sign] | None:
    """An attack that takes one step fools more images than one that takes many: these end where gradients point nowhere."""
    return _beats(of, lambda one: one.access == "gradient" and one.one_step, confidence)


def black_box_beats_white_box(of: Robustness, confidence: float) -> list[Sign] | None:
    """An attack that sees no gradient of the model fools more images than one that follows them."""
    return _beats(of, lambda one: one.access in ("surrogate", "scores", "label"), confidence)


def unbounded_attack_fails(of: Robustness, confidence: float) -> list[Sign] | None:
    """An attack that may change an image into any other does not fool the model on all."""
    tried = {name: one.freely for name, one in of.attacks.items() if one.freely is not None}
    if not tried or not of.right.any():
        return None
    return [Sign(name, None, None, float(freely[of.right].mean()), 1.0) for name, freely in tried.items() if not freely[of.right].all()]


def loss_does_not_grow(of: Robustness, confidence: float) -> list[Sign] | None:
    """With a larger budget an iterated attack ends at a smaller loss, or with the largest not above the loss of the images as they are."""
    tried = {name: one for name, one in of.attacks.items() if one.iterated and one.measure in WITHOUT_BOUND}
    if not tried or of.right.sum() < 2:
        return None
    level = 1 - (1 - confidence) / sum(len(one.budgets) for one in tried.values())
    found = []
    for name, one in tried.items():
        assert one.losses is not None  # an attack by gradients
        losses = one.losses[:, of.right]
        for place in range(1, len(losses)):
            _, _, high = mean_interval(losses[place] - losses[place - 1], level)
            if high < 0:
                at = f"{one.measure} {one.budgets[place - 1]:g}"
                found.append(Sign(name, at, one.budgets[place], float(losses[place].mean()), float(losses[place - 1].mean())))
        start = of.losses[of.right]
        _, low, _ = mean_interval(losses[-1] - start, level)
        if low <= 0:
            found.append(Sign(name, f"{one.measure} 0", one.budgets[-1], float(losses[-1].mean()), float(start.mean())))
    return found


TESTS: Mapping[str, Callable[[Robustness, float], list[Sign] | None]] = {
    "one_step_beats_iterated": one_step_beats_iterated,
    "black_box_beats_white_box": black_box_beats_white_box,
    "unbounded_attack_fails": unbounded_attack_fails,
    "loss_does_not_grow": loss_does_not_grow,
}
"""Each gives the signs that it found, or None where the attacks that it needs were not made."""


def signs(of: Robustness, confidence: float) -> dict[str, list[Sign] | None]:
    """What every test found on one model."""
    return {name: test(of, confidence) for name, test in TESTS.items()}


def _beats(of: Robustness, weaker: Callable[[Attacked], bool], confidence: float) -> list[Sign] | None:
    """Where an attack that should be weaker fools more images than an iterated one within the same budget."""
    pairs = list(_pairs(of, weaker))
    if not pairs or not of.right.any():
        return None
    level = 1 - (1 - confidence) / len(pairs)
    found = []
    for first, second, place in pairs:
        one, other = (of.attacks[name].fooled[place][of.right] for name in (first, second))
        if compare(one, other, level).low > 0:
            found.append(Sign(first, second, of.attacks[first].budgets[place], float(np.mean(one)), float(np.mean(other))))
    return found


def _pairs(of: Robustness, weaker: Callable[[Attacked], bool]) -> Iterator[tuple[str, str, int]]:
    for first, one in of.attacks.items():
        for second, other in of.attacks.items():
            if weaker(one) and other.iterated and one.measure == other.measure:
                yield from ((first, second, place) for place in range(len(one.budgets)))
