"""What is measured, and the tables of README.md from results.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.lab import Records, mean_error, pooled, said
from slimline.report.record import between, markdown

HERE = Path(__file__).resolve().parent
BEGIN = "<!-- results: made by `python -m experiments.deep_compression_pruning.measure record` from results.json -->"
END = "<!-- end of results -->"
CONFIDENCE = 0.95
NETWORKS = {"lenet300": "LeNet-300-100", "lenet5": "LeNet-5"}
PAPER = {"lenet300": 0.0158, "lenet5": 0.0074}
"""The errors of Deep Compression, at 12× fewer weights."""
FIRST = 12


@dataclass(frozen=True)
class Cell:
    """One way to prune a network to 1/`times` of its weights.

    Args:
        epochs: of the last training.
        after: whose network it starts from; None: the dense one.
    """

    network: str
    times: int
    schedule: str
    taught: bool
    epochs: int
    after: "Cell | None" = None

    @property
    def name(self) -> str:
        return f"{self.network} 1/{self.times} {self.schedule} {'teacher' if self.taught else 'labels'}"


def chain(first: Cell, further: Mapping[int, int]) -> list[Cell]:
    """`first`, then ever more, each from the network before it: gradually, under the teacher; ratio to epochs."""
    cells = [first]
    for times, epochs in further.items():
        cells.append(Cell(first.network, times, "gradual", True, epochs, cells[-1]))
    return cells


CELLS: dict[str, list[Cell]] = {
    "lenet300": [
        *chain(Cell("lenet300", FIRST, "gradual", True, 10), {50: 20, 75: 15}),
        # All of them train for as many epochs, the rounds of iterative together.
        Cell("lenet300", FIRST, "iterative", False, 4),
        Cell("lenet300", FIRST, "one_shot", False, 10),
        Cell("lenet300", FIRST, "iterative", True, 4),
        Cell("lenet300", FIRST, "one_shot", True, 10),
        Cell("lenet300", FIRST, "gradual", False, 10),
    ],
    "lenet5": chain(Cell("lenet5", FIRST, "gradual", True, 5), {50: 5, 100: 8, 200: 10}),
}
"""The most telling ones first."""


COMPARED = (
    ("iterative labels", "one_shot labels", "iterative against one-shot, both on labels"),
    ("iterative teacher", "one_shot teacher", "iterative against one-shot, both under the teacher"),
    ("gradual teacher", "gradual labels", "gradual: under the teacher against labels alone"),
    ("iterative teacher", "iterative labels", "iterative: under the teacher against labels alone"),
    ("one_shot teacher", "one_shot labels", "one-shot: under the teacher against labels alone"),
)


def renewed() -> str:
    """README.md with what results.json says."""
    return between((HERE / "README.md").read_text(), BEGIN, END, said(HERE / "results.json", parts))


def parts(records: Records, images: int) -> list[str]:
    return [part for network, label in NETWORKS.items() if network in records for part in _of(network, label, records, images)]


def _of(network: str, label: str, records: Records, images: int) -> list[str]:
    dense = records[network]
    facts = next(iter(dense.values()))
    rows = [[f"{label}, dense", *_errors(dense, images), "", f"{facts['parameters']:,}", f"{facts['packed_bytes']:,}"]]
    for cell in CELLS[network]:
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
        one, other = (records.get(f"{network} 1/{FIRST} {way}") for way in (first, second))
        if one and other:
            pair = pooled([(one[seed], other[seed]) for seed in one if seed in other], images, CONFIDENCE)
            lines.append(f"{text}: {pair.difference * 100:+.2f} points ({pair.low * 100:+.2f} to {pair.high * 100:+.2f}), p = {pair.p_value:.2g}.")
    return [markdown(header, rows), " ".join(lines)]


def _errors(of: Mapping[int, Mapping[str, Any]], images: int) -> tuple[str, str]:
    return mean_error(of, images), ", ".join(str(record["errors"]) for record in of.values())
