"""The table of README.md, from results.json."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.lab import by_name, made, pooled
from slimline.report.record import between, markdown

HERE = Path(__file__).resolve().parent
BEGIN, END = "<!-- results: made by `python -m experiments.hinton_mnist.measure record` from results.json -->", "<!-- end of results -->"
CONFIDENCE = 0.95
PAPER = {"teacher": 67, "alone": 146, "distilled": 74}
UNSEEN = {"distilled_without": "distilled, T = 20", "alone_without": "alone"}
LABELS = {"teacher": "teacher 2×1200, dropout, shifts", "alone": "student 2×800 alone", "distilled": "student 2×800 distilled, T = 20"}
RECIPES = {"": "", "long_": ", trained longer"}
"""What stands before a name in the record, and behind it in the table."""


def renewed() -> str:
    """README.md with what results.json says."""
    values = json.loads((HERE / "results.json").read_text())
    records = by_name(values)
    images = values["sessions"][-1]["images"]["test"]
    rows = [row(records[recipe + name], images, PAPER[name], label + behind) for recipe, behind in RECIPES.items() for name, label in LABELS.items()]
    header = ["network", "paper's errors", "our errors, mean ± sd", "each seed", "test error", "validation accuracy", "parameters"]
    compared = [against(records[f"{recipe}distilled"], records[f"{recipe}alone"], images, behind) for recipe, behind in RECIPES.items()]
    parts = [markdown(header, rows), *compared, unseen(records), made(values)]
    return between((HERE / "README.md").read_text(), BEGIN, END, "\n\n".join(parts))


def row(of: Mapping[int, Mapping[str, Any]], images: int, paper: int, label: str) -> list[str]:
    errors = np.array([record["errors"] for record in of.values()])
    deviation = f" ± {errors.std(ddof=1):.1f}" if len(errors) > 1 else ""
    validated = np.mean([record["validation_accuracy"] for record in of.values()])
    parameters = next(iter(of.values()))["parameters"]
    found = [f"{errors.mean():.1f}{deviation}", ", ".join(map(str, errors)), f"{errors.mean() / images:.2%}", f"{validated:.2%}", f"{parameters:,}"]
    return [label, str(paper), *found]


def against(distilled: Mapping[int, Mapping[str, Any]], alone: Mapping[int, Mapping[str, Any]], images: int, behind: str) -> str:
    pairs = [(distilled[seed], alone[seed]) for seed in distilled]
    whole = pooled(pairs, images, CONFIDENCE)
    return (
        f"Distilled against alone{behind}, paired over {len(pairs)} seeds × {images:,} test images: {whole.difference * 100:+.2f} points of accuracy "
        f"({CONFIDENCE:.0%} interval {whole.low * 100:+.2f} to {whole.high * 100:+.2f}); right where the other is wrong: {whole.only_first} "
        f"against {whole.only_second} images; exact McNemar p = {whole.p_value:.2g}. Each seed by itself: "
        + ", ".join(f"p = {pooled([pair], images, CONFIDENCE).p_value:.2g}" for pair in pairs)
        + "."
    )


def unseen(records: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> str:
    """The table of the experiment without any 3."""
    if not records.keys() >= UNSEEN.keys():
        return "The experiment without any 3 is not measured yet."
    rows = [["the paper's, distilled", "206", "133 of 1,010", "3.5", "109", "14 of 1,010"]]
    for name, label in UNSEEN.items():
        of = list(records[name].values())
        row = [label]
        for key in ("errors", "unseen_wrong", "bias", "errors_corrected", "unseen_wrong_corrected"):
            numbers = np.array([record[key] for record in of])
            form = ".1f" if key == "bias" else ".0f"
            told = f"{numbers.mean():{form}} ({', '.join(format(number, form) for number in numbers)})"
            row.append(f"{told} of {of[0]['unseen']:,}" if key.startswith("unseen") else told)
        rows.append(row)
    return markdown(["student that never saw a 3", "errors", "on threes", "bias added to 3", "errors with it", "on threes with it"], rows)
