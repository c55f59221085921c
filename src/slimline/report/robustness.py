"""Robustness on the page: what attacks did, in words, rows and figures. Of a run without attacks there is nothing."""

from collections.abc import Iterator, Mapping

from slimline.report.numbers import label, percent, points
from slimline.report.words import TEACHER, Numbers, reading

MEASURES = {"linf": "L∞", "l2": "L2", "components": "share of components", "deviation": "deviation", "severity": "severity"}
"""What budgets are counted in, in running text."""

SIGNS = {
    "one_step_beats_iterated": "{attack} takes one step and fools more than {against}, which takes many ({found} to {expected} at {budget:g})",
    "black_box_beats_white_box": "{attack} sees no gradient and fools more than {against}, which does ({found} to {expected} at {budget:g})",
    "unbounded_attack_fails": "{attack} fools only {found} of what it may change without bound",
    "loss_does_not_grow": "the loss under {attack} at {budget:g} ({found}) is not above that at {against} ({expected})",
}
"""The tests of `evaluation.masking`, and what a sign of each says."""

NOT_SHOWN, NO_SIGN, UNTESTED = "robustness not shown", "no sign", "not tested"


def attacked(scorecard: Numbers) -> Mapping[str, Numbers]:
    """What attacks did, by model."""
    return {name: card["attacks"] for name, card in scorecard["models"].items() if "attacks" in card}


def verdict(attacks: Numbers) -> str:
    """Whether the attacks that failed may be believed."""
    found = attacks["masking"].values()
    if any(found):
        return NOT_SHOWN
    return UNTESTED if all(signs is None for signs in found) else NO_SIGN


def masked(scorecard: Numbers) -> Iterator[str]:
    """A line a model whose gradients seem to lead nowhere."""
    for name, attacks in attacked(scorecard).items():
        if verdict(attacks) == NOT_SHOWN:
            told = "; ".join(_sign(test, sign, attacks["right"]) for test, signs in attacks["masking"].items() for sign in signs or ())
            yield f"Robustness of the {label(name)} model is not shown, its gradients may be masked: {told}."


def _sign(test: str, sign: Numbers, images: int) -> str:
    shown = {key: f"{sign[key]:.3g}" if test == "loss_does_not_grow" else percent(sign[key], images) for key in ("found", "expected")}
    return SIGNS[test].format(**{**sign, **shown})


def less_robust(scorecard: Numbers) -> Iterator[str]:
    """A line a pair of models of which the first loses more to attacks, at the budget where it loses most."""
    worst: dict[tuple[str, str], Numbers] = {}
    for row in scorecard.get("robustness", ()):
        pair = row["first"], row["second"]
        if reading(row) == "worse" and (pair not in worst or row["difference"] < worst[pair]["difference"]):
            worst[pair] = row
    for (first, second), row in worst.items():
        images = row["images"]
        yield (
            f"Under attack the {label(first)} model is less accurate than the {label(second)} model: {points(row['difference'], images)} points at "
            f"{MEASURES[row['measure']]} {row['budget']:g} (interval {points(row['low'], images)} to {points(row['high'], images)}, "
            f"{images:,} test images)."
        )


def worse_than_teacher(scorecard: Numbers, name: str, measure: str, budget: float) -> bool:
    """Whether the model is shown to lose more than the teacher within this budget."""
    return any(
        reading(row) == "worse"
        for row in scorecard["robustness"]
        if (row["first"], row["second"], row["measure"], row["budget"]) == (name, TEACHER, measure, budget)
    )


def curves(scorecard: Numbers) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Accuracy against budget, from a budget of 0 on, by title and model: all attacks of a measure together, then each alone."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for name, attacks in attacked(scorecard).items():
        start = (0.0, attacks["right"] / attacks["images"])
        rows = {f"all within {MEASURES[measure]}": points_ for measure, points_ in attacks["together"].items()}
        rows |= {f"{method}, {MEASURES[one['measure']]}": one["points"] for method, one in attacks["methods"].items()}
        for title, points_ in rows.items():
            found.setdefault(title, {})[name] = [start, *((row["budget"], row["accuracy"]) for row in points_)]
    return found


def table(scorecard: Numbers) -> list[dict[str, float]]:
    """The rows of `plots/robustness.csv`: accuracy of each model under all attacks of the first measure of distance, a row a budget.

    The first row is for a budget of 0; without attacks it stands alone, with the accuracy on the whole test split.
    """
    of = attacked(scorecard)
    standing: dict[str, list[Numbers]] = {name: next(iter(one["together"].values()), []) for name, one in of.items()}
    rows = [{"budget": 0.0, **{name: one["right"] / one["images"] for name, one in of.items()}}]
    for points_ in zip(*standing.values(), strict=True):
        accuracies = {name: point["accuracy"] for name, point in zip(standing, points_, strict=True)}
        rows.append({"budget": points_[0]["budget"], **accuracies})
    return rows if of else [{"budget": 0.0, **{name: card["accuracy"] for name, card in scorecard["models"].items()}}]
