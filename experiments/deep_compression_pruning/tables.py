"""What is measured, and the tables of README.md from results.json."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.lab import by_name, made, pooled
from slimline.report.record import between, markdown

HERE = Path(__file__).resolve().parent
BEGIN = "<!-- results: made by `python -m experiments.deep_compression_pruning.measure record` from results.json -->"
END = "<!-- end of results -->"
CONFIDENCE = 0.95
NETWORKS = {"lenet300": "LeNet-300-100", "lenet5": "LeNet-5"}
PAPER = {"lenet300": 0.0158, "lenet5": 0.0074}
"""The errors of Deep Compression, at 12× fewer weights."""
CURVE = {"lenet300": (12, 25, 50, 75, 100), "lenet5": (12, 25, 50, 100, 150)}

Records = dict[str, dict[int, dict[str, Any]]]


@dataclass(frozen=True)
class Cell:
    """One way to prune a network to 1/`times` of its weights."""

    network: str
    times: int
    schedule: str
    taught: bool

    @property
    def name(self) -> str:
        return f"{self.network} 1/{self.times} {self.schedule} {'teacher' if self.taught else 'labels'}"


def cells(network: str) -> list[Cell]:
    """Schedules and teachers side by side at the first ratio, then how far the gradual one goes with a teacher."""
    first, *further = CURVE[network]
    ways = [(schedule, taught) for schedule in ("one_shot", "iterative", "gradual") for taught in (False, True)]
    return [Cell(network, first, *way) for way in ways] + [Cell(network, times, "gradual", True) for times in further]


COMPARED = (
    ("iterative labels", "one_shot labels", "iterative against one-shot, both on labels"),
    ("iterative teacher", "one_shot teacher", "iterative against one-shot, both under the teacher"),
    ("gradual teacher", "gradual labels", "gradual: under the teacher against labels alone"),
    ("one_shot teacher", "one_shot labels", "one-shot: under the teacher against labels alone"),
)


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
    parts = [part for network, label in NETWORKS.items() if network in records for part in _of(network, label, records, images)]
    return "\n\n".join([*parts, made(values)])


def _of(network: str, label: str, records: Records, images: int) -> list[str]:
    dense = records[network]
    rows = [[f"{label}, dense", *_errors(dense, images), "", f"{next(iter(dense.values()))['parameters']:,}", ""]]
    for cell in cells(network):
        if (of := records.get(cell.name)) is None:
            continue
        against = pooled([(of[seed], dense[seed]) for seed in of], images, CONFIDENCE)
        difference = f"{against.difference * 100:+.2f} ({against.low * 100:+.2f} to {against.high * 100:+.2f})"
        bytes_ = np.mean([record["packed_bytes"] for record in of.values()])
        kept = f"{next(iter(of.values()))['nonzero_parameters']:,}"
        way = f"1/{cell.times}, {cell.schedule.replace('_', '-')}, {'teacher' if cell.taught else 'labels'}"
        rows.append([way, *_errors(of, images), difference, kept, f"{bytes_:,.0f}"])
    header = [
        "network",
        "test error, mean ± sd",
        "errors of each seed",
        "accuracy against dense, points (95% interval)",
        "parameters not zero",
        "bytes",
    ]
    lines = [f"Deep Compression reports {PAPER[network]:.2%} for {label} at 12× fewer weights."]
    for first, second, text in COMPARED:
        one, other = (records.get(f"{network} 1/{CURVE[network][0]} {way}") for way in (first, second))
        if one and other:
            pair = pooled([(one[seed], other[seed]) for seed in one if seed in other], images, CONFIDENCE)
            lines.append(f"{text}: {pair.difference * 100:+.2f} points ({pair.low * 100:+.2f} to {pair.high * 100:+.2f}), p = {pair.p_value:.2g}.")
    return [markdown(header, rows), " ".join(lines)]


def _errors(of: dict[int, dict[str, Any]], images: int) -> tuple[str, str]:
    errors = np.array([record["errors"] for record in of.values()])
    spread = f" ± {errors.std(ddof=1) / images:.2%}" if len(errors) > 1 else ""
    return f"{errors.mean() / images:.2%}{spread}", ", ".join(map(str, errors))
