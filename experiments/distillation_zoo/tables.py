"""The tables of README.md, from results.json."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from experiments.lab import Records, by_name, made, unpacked
from slimline.report.record import between, markdown

HERE = Path(__file__).resolve().parent
BEGIN, END = "<!-- results: made by `python -m experiments.distillation_zoo.measure record` from results.json -->", "<!-- end of results -->"
PAIRS = {"resnet": "ResNet-14 → ResNet-8", "mobilenet": "ResNet-14 → MobileNet"}
ENSEMBLE = "soft_hard, ensemble"
"""The loss soft_hard under the teachers of all seeds at once."""
FAMILY, POWER = 0.95, 0.8
"""How sure all claims of a table are together, and how likely the smallest detectable difference would have been seen."""


def named(pair: str, loss: str) -> str:
    """What the student of `pair` under `loss` is called in the record."""
    return f"{pair} {loss}"


def renewed() -> str:
    """README.md with what results.json says."""
    return between((HERE / "README.md").read_text(), BEGIN, END, said(HERE / "results.json"))


def said(results: Path) -> str:
    """The tables, and how they came to be."""
    if not results.exists():
        return "Not run in full yet."
    values = json.loads(results.read_text())
    records = by_name(values)
    images = values["sessions"][-1]["images"]["test"]
    errors = np.array([record["errors"] for record in records["teacher"].values()])
    facts = next(iter(records["teacher"].values()))
    teacher = f"Teachers, one a seed ({facts['parameters']:,} parameters): {shown(1 - errors / images)} on the test images."
    together = records["ensemble"][0]["errors"]
    teacher += f" All of them as one, their probabilities averaged: {(1 - together / images) * 100:.2f} %."
    return "\n\n".join([teacher, *(table(pair, records, images) for pair in PAIRS), made(values)])


@dataclass(frozen=True)
class Difference:
    """Accuracies of some students minus those of others, seed by seed on the same images.

    Args:
        low, high: interval for other images, of these very networks: an image counts once, by its mean over the seeds.
        sees: the difference that would have been seen with a chance of POWER.
    """

    mean: float
    low: float
    high: float
    sees: float

    def told(self) -> str:
        return f"{self.low * 100:+.2f} to {self.high * 100:+.2f}"


def difference(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]], images: int, confidence: float) -> Difference:
    """The first of each pair of records against the second (each has `wrong`)."""
    errors = np.zeros((2, len(pairs), images))
    for seed, pair in enumerate(pairs):
        for side, record in enumerate(pair):
            errors[side, seed, unpacked(record["wrong"])] = 1
    by_image = (errors[1] - errors[0]).mean(0)
    mean, deviation = float(by_image.mean()), float(by_image.std(ddof=1) / np.sqrt(images))
    margin = float(norm.ppf((1 + confidence) / 2)) * deviation
    return Difference(mean, mean - margin, mean + margin, margin + float(norm.ppf(POWER)) * deviation)


def table(pair: str, records: Records, images: int) -> str:
    """One pair of networks: a row a loss, against the student alone; of the seeds of which every loss is measured."""
    every = {name.split(" ", 1)[1]: of for name, of in records.items() if name.startswith(f"{pair} ")}
    seeds = sorted(set.intersection(*(set(of) for of in every.values()))) if "alone" in every else []
    if not seeds:
        return f"**{PAIRS[pair]}**: not measured yet."
    found = {loss: [of[seed] for seed in seeds] for loss, of in every.items()}
    alone = found["alone"]
    confidence = 1 - (1 - FAMILY) / max(len(found) - 1, 1)
    rows, better, worse, smallest = [], [], [], 0.0
    for loss, of in found.items():
        row = [loss, shown(np.array([record["validation_accuracy"] for record in of]))]
        row.append(shown(1 - np.array([record["errors"] for record in of]) / images))
        if loss == "alone":
            rows.append([*row, "", "", ""])
            continue
        against = difference(list(zip(of, alone, strict=True)), images, confidence)
        smallest = max(smallest, against.sees)
        better += [loss] if against.low > 0 else []
        worse += [loss] if against.high < 0 else []
        each = ", ".join(f"{(other['errors'] - one['errors']) / images * 100:+.2f}" for one, other in zip(of, alone, strict=True))
        rows.append([*row, f"{against.mean * 100:+.2f}", against.told(), each])
    header = ["loss", "validation accuracy", "test accuracy", "points against alone", f"{confidence:.1%} interval", "each seed"]
    verdict = (
        f"Better than alone: {', '.join(better) or 'none'}. Worse: {', '.join(worse) or 'none'}. All intervals of the table hold together "
        f"with {FAMILY:.0%} (Bonferroni); a difference of {smallest * 100:.2f} points would have been seen with a chance of {POWER:.0%}."
    )
    if {"soft_hard", ENSEMBLE} <= found.keys():
        several = difference(list(zip(found[ENSEMBLE], found["soft_hard"], strict=True)), images, FAMILY)
        verdict += f" The ensemble against one teacher, both by soft_hard: {several.mean * 100:+.2f} points ({FAMILY:.0%} interval {several.told()})."
    return f"**{PAIRS[pair]}** ({alone[0]['parameters']:,} parameters; {counted(len(seeds))})\n\n{markdown(header, rows)}\n\n{verdict}"


def counted(seeds: int) -> str:
    return "one seed" if seeds == 1 else f"{seeds} seeds, mean ± sd"


def shown(accuracies: np.ndarray) -> str:
    deviation = f" ± {accuracies.std(ddof=1) * 100:.2f}" if len(accuracies) > 1 else ""
    return f"{accuracies.mean() * 100:.2f}{deviation} %"
