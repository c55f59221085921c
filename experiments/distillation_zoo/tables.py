"""The tables of README.md, from results.json."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from experiments.lab import by_name, made, pooled
from slimline.report.record import between, markdown

HERE = Path(__file__).resolve().parent
BEGIN, END = "<!-- results: made by `python -m experiments.distillation_zoo.measure record` from results.json -->", "<!-- end of results -->"
PAIRS = {"resnet": "ResNet-14 → ResNet-8", "mobilenet": "ResNet-14 → MobileNet"}
ENSEMBLE = "soft_hard, ensemble"
"""The loss soft_hard under the teachers of all seeds at once."""
FAMILY, POWER = 0.95, 0.8
"""How sure all claims of a table are together, and how likely the smallest detectable difference would have been seen."""

Records = dict[str, dict[int, dict[str, Any]]]


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


def table(pair: str, records: Records, images: int) -> str:
    """One pair of networks: a row a loss, against the student alone."""
    alone = records[named(pair, "alone")]
    losses = [name.split(" ", 1)[1] for name in records if name.startswith(f"{pair} ")]
    confidence = 1 - (1 - FAMILY) / max(len(losses) - 1, 1)
    rows, better, worse, smallest = [], [], [], 0.0
    for loss in losses:
        of = records[named(pair, loss)]
        row = [loss, shown(np.array([record["validation_accuracy"] for record in of.values()]))]
        row.append(shown(1 - np.array([record["errors"] for record in of.values()]) / images))
        if loss == "alone":
            rows.append([*row, "", "", ""])
            continue
        pairs = [(record, alone[seed]) for seed, record in of.items()]
        whole = pooled(pairs, images, confidence)
        sees = float(norm.ppf((1 + confidence) / 2) + norm.ppf(POWER)) * np.sqrt((whole.only_first + whole.only_second) / whole.images / whole.images)
        smallest = max(smallest, sees)
        better += [loss] if whole.low > 0 else []
        worse += [loss] if whole.high < 0 else []
        each = ", ".join(f"{(other['errors'] - one['errors']) / images * 100:+.2f}" for one, other in pairs)
        rows.append([*row, f"{whole.difference * 100:+.2f}", f"{whole.low * 100:+.2f} to {whole.high * 100:+.2f}", each])
    header = ["loss", "validation accuracy", "test accuracy, mean ± sd", "points against alone", f"{confidence:.1%} interval", "each seed"]
    verdict = (
        f"Better than alone: {', '.join(better) or 'none'}. Worse: {', '.join(worse) or 'none'}. All intervals of the table hold together "
        f"with {FAMILY:.0%} (Bonferroni); a difference of {smallest * 100:.2f} points would have been seen with a chance of {POWER:.0%}."
    )
    single, several = records[named(pair, "soft_hard")], records[named(pair, ENSEMBLE)]
    found = pooled([(several[seed], single[seed]) for seed in several], images, FAMILY)
    verdict += (
        f" The ensemble against one teacher, both by soft_hard: {found.difference * 100:+.2f} points "
        f"({FAMILY:.0%} interval {found.low * 100:+.2f} to {found.high * 100:+.2f})."
    )
    parameters = next(iter(alone.values()))["parameters"]
    return f"**{PAIRS[pair]}** ({parameters:,} parameters, {len(alone)} seeds)\n\n{markdown(header, rows)}\n\n{verdict}"


def shown(accuracies: np.ndarray) -> str:
    deviation = f" ± {accuracies.std(ddof=1) * 100:.2f}" if len(accuracies) > 1 else ""
    return f"{accuracies.mean() * 100:.2f}{deviation} %"
