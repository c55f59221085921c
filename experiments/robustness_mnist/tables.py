"""The tables of README.md, from results.json."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.lab import by_name, made
from slimline.evaluation.statistics import compare, crossed_interval
from slimline.report.record import between, markdown
from slimline.report.robustness import NO_SIGN, NOT_SHOWN, verdict

HERE = Path(__file__).resolve().parent
BEGIN = "<!-- results: made by `python -m experiments.robustness_mnist.measure record` from results.json -->"
END = "<!-- end of results -->"
CONFIDENCE = 0.95
BITS = (8, 4, 2)
BUDGETS: Mapping[str, tuple[float, ...]] = {"linf": (0.1, 0.25), "l2": (1.0, 2.0, 4.0)}
MODELS = ("softmax", "teacher", "student alone", "student", "pruned", *(f"{bits} bits" for bits in BITS), "defensive")
COLUMNS = (("fgsm", 0.1), ("fgsm", 0.25), ("pgd", 0.1), ("pgd", 0.25), ("transfer", 0.1), ("transfer", 0.25), ("square", 0.1), ("square", 0.25))
JUDGED = ("pgd", "transfer")
"""Attacks whose success on two networks is compared, at 0.1: with gradients and without."""

Records = dict[str, dict[int, dict[str, Any]]]


def renewed() -> str:
    """README.md with what results.json says."""
    return between((HERE / "README.md").read_text(), BEGIN, END, said(HERE / "results.json"))


def said(results: Path) -> str:
    if not results.exists():
        return "Not measured yet."
    values = json.loads(results.read_text())
    records = by_name(values)
    return "\n\n".join([successes(records), differences(records), defences(records), made(values)])


def successes(records: Records) -> str:
    """Success of each attack on each network, in percent of the images that it had right: mean over seeds."""
    rows = []
    for model in (name for name in MODELS if name in records):
        of = list(records[model].values())
        clean = f"{np.mean([1 - one['right'] / one['images'] for one in of]):.1%}"
        words = {verdict(one) for one in of}
        rows.append([model, clean, *(_success(of, *column) for column in COLUMNS), NOT_SHOWN if NOT_SHOWN in words else NO_SIGN])
    return markdown(["network", "error without attack", *(f"{method} {budget:g}" for method, budget in COLUMNS), "masked gradients"], rows)


def differences(records: Records) -> str:
    """Accuracy under attack, each network against the student, paired on the same images."""
    rows = []
    for model in (name for name in MODELS if name in records and name not in ("softmax", "student") and "student" in records):
        rows.append([model, *(_difference(records[model], records["student"], method) for method in JUDGED)])
    header = ["network against the student", *(f"accuracy under {method} 0.1, points ({CONFIDENCE:.0%} interval)" for method in JUDGED)]
    return markdown(header, rows)


def defences(records: Records) -> str:
    """What defences do to the attacks that are made for them."""
    rows = []
    shown = (("student nearest", "carlini_wagner"), ("defensive nearest", "carlini_wagner"), ("label only", "hop_skip_jump"))
    for name, method in shown:
        if name in records:
            of = list(records[name].values())
            images = of[0]["images"]
            rows.append([name.removesuffix(" nearest"), method, f"{images}", *(_success(of, method, budget) for budget in BUDGETS["l2"])])
    return markdown(["network", "attack", "images", *(f"success within L2 {budget:g}" for budget in BUDGETS["l2"])], rows)


def _success(of: Sequence[Mapping[str, Any]], method: str, budget: float) -> str:
    """Mean over the seeds in which there was an image to fool, and the interval of the first of them, since all seeds share their images."""
    points = [next(point for point in one["methods"][method]["points"] if point["budget"] == budget) for one in of]
    counted = [point for point in points if point["success"] is not None]
    if not counted:
        return "–"
    mean = np.mean([point["success"] for point in counted])
    return f"{mean:.1%} ({counted[0]['success_low']:.0%} to {counted[0]['success_high']:.0%})"


def _difference(first: Mapping[int, Mapping[str, Any]], second: Mapping[int, Mapping[str, Any]], method: str) -> str:
    seeds = [seed for seed in first if seed in second]
    numbers = sorted(set().union(*(_numbers(one) for side in (first, second) for one in side.values())))
    stands = [[_standing(side[seed], method, numbers) for seed in seeds] for side in (first, second)]
    images = first[seeds[0]]["images"]
    # Images that no network loses are left out of the lists; they count as standing in both.
    padded = [np.stack([np.concatenate([row, np.ones(images - len(numbers), dtype=bool)]) for row in side]) for side in stands]
    if len(seeds) == 1:
        pair = compare(padded[0][0], padded[1][0], CONFIDENCE)
        difference, low, high = pair.difference, pair.low, pair.high
    else:
        values = padded[0].astype(float) - padded[1].astype(float)
        difference, (low, high) = float(values.mean()), crossed_interval(values, CONFIDENCE)
    return f"{difference * 100:+.1f} ({low * 100:+.1f} to {high * 100:+.1f})"


def _numbers(record: Mapping[str, Any]) -> set[int]:
    """Images that the network had wrong, or lost to an attack."""
    return {*record["missed"], *(number for lost in record["lost"].values() for row in lost.values() for number in row)}


def _standing(record: Mapping[str, Any], method: str, numbers: Sequence[int]) -> np.ndarray:
    fallen = {*record["missed"], *record["lost"][method]["0.1"]}
    return np.array([number not in fallen for number in numbers], dtype=bool)
