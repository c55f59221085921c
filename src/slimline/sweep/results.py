"""What a sweep found: its front, and the one model that it recommends."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slimline.errors import SlimlineError
from slimline.sweep.definition import Definition
from slimline.sweep.objectives import ACCURACY, OBJECTIVES
from slimline.sweep.study import Finished

Scores = Mapping[str, float]


def dominates(first: Scores, second: Scores, objectives: Sequence[str]) -> bool:
    """Whether `first` is worse in no objective and better in one."""
    differences = [OBJECTIVES[name].worse(first[name], second[name]) for name in objectives]
    return max(differences) <= 0 and min(differences) < 0


def front(trials: Sequence[Finished], objectives: Sequence[str]) -> list[Finished]:
    """Those that no other dominates, in their order; of equal ones the first."""
    measured = [one for one in trials if one.scores]
    kept: list[Finished] = []
    for one in measured:
        equal = any(all(other.scores[name] == one.scores[name] for name in objectives) for other in kept)
        if not equal and not any(dominates(other.scores, one.scores, objectives) for other in measured):
            kept.append(one)
    return kept


def limits(definition: Definition, reference: Scores) -> dict[str, float]:
    """The constraints as limits, by objective; what may be lost of the student's accuracy counted from that."""
    found = {}
    for name, limit in definition.constraints.items():
        if limit.drop is not None:
            found[name] = reference[ACCURACY] - limit.drop
        else:
            found[name] = limit.at_least if limit.at_least is not None else limit.at_most
    return found


def excess(scores: Scores, bounds: Mapping[str, float]) -> dict[str, float]:
    """By how much of each limit `scores` miss it, relative to it; 0 or less where they keep to it."""
    return {name: round(OBJECTIVES[name].worse(scores[name], bound) / (abs(bound) or 1.0), 12) for name, bound in bounds.items()}


def promoted(trials: Sequence[Finished], definition: Definition, bounds: Mapping[str, float]) -> list[Finished]:
    """The trials that are worth retraining: the front, or of one objective the best; first those that keep to what training cannot change.

    At most `budget.most`, spread evenly over the front in the order of the first objective.
    """
    measured = [one for one in trials if one.scores]
    fixed = {name: bound for name, bound in bounds.items() if not OBJECTIVES[name].learned}
    able = [one for one in measured if all(value <= 0 for value in excess(one.scores, fixed).values())] or measured
    first = definition.objectives[0]
    best_first = sorted(able, key=lambda one: (OBJECTIVES[first].worse(one.scores[first], 0.0), one.slot))
    if len(definition.objectives) == 1:
        return sorted(best_first[: min(-(-len(able) // definition.budget.keep), definition.budget.most)], key=lambda one: one.slot)
    members = {one.slot for one in front(able, definition.objectives)}
    line = [one for one in best_first if one.slot in members]
    count = min(len(line), definition.budget.most)
    picked = {round(place * (len(line) - 1) / max(count - 1, 1)) for place in range(count)}
    return sorted((line[place] for place in picked), key=lambda one: one.slot)


@dataclass(frozen=True)
class Choice:
    """The recommended trial, by the objective that was to decide among those that keep to the limits."""

    trial: Finished
    bounds: Mapping[str, float]


def recommended(trials: Sequence[Finished], definition: Definition, bounds: Mapping[str, float]) -> Choice:
    """The best by `choose` of the trials that keep to the limits; among equals the more accurate one, then the earlier one.

    Raises:
        SlimlineError: none does; it says which limit excludes how many, and which trial comes nearest.
    """
    measured = [one for one in trials if one.scores]
    if not measured:
        reasons = Counter(one.reason or "" for one in trials).most_common(1)
        raise SlimlineError(f"none of {len(trials)} trials could be; most often: {reasons[0][0] if reasons else 'there were none'}")
    able = [one for one in measured if all(value <= 0 for value in excess(one.scores, bounds).values())]
    if not able:
        missed = Counter(name for one in measured for name, value in excess(one.scores, bounds).items() if value > 0)
        name, count = missed.most_common(1)[0]
        nearest = min(measured, key=lambda one: (max(excess(one.scores, bounds).values()), one.slot))
        told = ", ".join(f"{key} {nearest.scores[key]:.6g} (limit {bound:.6g})" for key, bound in bounds.items())
        raise SlimlineError(
            f"no trial keeps to all constraints: {name} excludes {count} of {len(measured)}; nearest is trial {nearest.slot} with {told}. "
            "Relax a constraint (the trials stay), widen the space, or raise budget.trials"
        )
    choose = OBJECTIVES[definition.choose]
    best = min(able, key=lambda one: (choose.worse(one.scores[definition.choose], 0.0), -one.scores[ACCURACY], one.slot))
    return Choice(best, bounds)
