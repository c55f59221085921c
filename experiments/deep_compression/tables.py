"""What is measured, the tables of README.md and its picture, from results.json."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.deep_compression_pruning.tables import CELLS as PRUNED
from experiments.deep_compression_pruning.tables import NETWORKS, PAPER
from experiments.deep_compression_pruning.tables import Cell as Pruning
from experiments.lab import Records, by_name, mean_error, readme, said
from slimline.report.drawing import color, marker, png
from slimline.report.record import markdown

HERE = Path(__file__).resolve().parent
TIMES = {"lenet300": (40, 150), "lenet5": (39, 400)}
"""How many times smaller the paper's files are, and what is reached for here."""
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Cell:
    """A pruned network whose weights share values.

    Args:
        bits: of a weight's code; of a convolution's one more.
        epochs: of the training of the shared values under the teacher.
    """

    pruning: Pruning
    bits: int
    epochs: int

    @property
    def name(self) -> str:
        return f"{self.pruning.network} 1/{self.pruning.times} {self.bits} bits"


EPOCHS = {"lenet300": 4, "lenet5": 3}
BITS = (4, 3)


def cells(network: str) -> list[Cell]:
    """Each ratio of the other experiment's curve, at each width."""
    curve = [one for one in PRUNED[network] if (one.schedule, one.taught) == ("gradual", True)]
    return [Cell(one, bits, EPOCHS[network]) for one in curve for bits in BITS]


CELLS = {network: cells(network) for network in NETWORKS}


def renewed() -> str:
    """README.md with what results.json says."""
    return readme(HERE, said(HERE / "results.json", parts))


def parts(records: Records, images: int) -> list[str]:
    return [part for network, label in NETWORKS.items() if network in records for part in _of(network, label, records, images)]


def smaller(dense: dict[str, Any], record: dict[str, Any]) -> float:
    """How many times smaller a file is than the dense network's parameters of 32 bits, as the paper counts."""
    return float(dense["parameters"] * FLOAT_BYTES / record["packed_bytes"])


def _of(network: str, label: str, records: Records, images: int) -> list[str]:
    dense = records[network]
    first = next(iter(dense.values()))
    packed = np.mean([record["packed_bytes"] for record in dense.values()])
    each = ", ".join(str(record["errors"]) for record in dense.values())
    float_bytes = first["parameters"] * FLOAT_BYTES
    validated = f"{1 - np.mean([record['validation_accuracy'] for record in dense.values()]):.2%}"
    rows = [[f"{label}, dense", validated, mean_error(dense, images), each, f"{float_bytes:,} as 32-bit numbers", "1", f"{float_bytes / packed:.2f}"]]
    met = []
    for cell in CELLS[network]:
        if (of := records.get(cell.name)) is None:
            continue
        bytes_ = np.mean([record["packed_bytes"] for record in of.values()])
        ratio = np.mean([smaller(dense[seed], record) for seed, record in of.items()])
        loss = 1 - np.mean([record["validation_accuracy"] for record in of.values()])
        name = f"1/{cell.pruning.times} of the weights, {cell.bits} bits"
        if loss <= PAPER[network]:
            met.append((float(ratio), name, of))
        each = ", ".join(str(record["errors"]) for record in of.values())
        rows.append([name, f"{loss:.2%}", mean_error(of, images), each, f"{bytes_:,.0f}", f"{ratio:.1f}", f"{packed / bytes_:.1f}"])
    header = ["network", "validation error", "test error, mean ± sd", "errors of each seed"]
    header += ["bytes of `model.slim`", "times smaller", "than dense `model.slim`"]
    paper, reach = TIMES[network]
    lines = [f"The paper's {label}: {paper}× smaller at {PAPER[network]:.2%}; reached for here: {reach}×."]
    if met:
        ratio, name, of = max(met, key=lambda one: one[0])
        seeds = [smaller(dense[seed], record) for seed, record in of.items()]
        lines.append(
            f"The smallest files whose validation error is not above the paper's error ({name}): {ratio:.0f}× smaller "
            f"({min(seeds):.0f} to {max(seeds):.0f} over {len(seeds)} seeds), at {mean_error(of, images)} on the test images."
        )
    return [markdown(header, rows), " ".join(lines)]


def curve() -> bytes:
    """Test error against size: each network's files of shared values, a point a seed and a line through the means."""
    values = json.loads((HERE / "results.json").read_text())
    records, images = by_name(values), values["sessions"][-1]["images"]["test"]

    def draw(figure: Figure) -> None:
        for place, (axes, (network, label)) in enumerate(zip(figure.subplots(1, 2), NETWORKS.items(), strict=True)):
            dense, (paper, reach) = records.get(network, {}), TIMES[network]
            for index, bits in enumerate(BITS):
                found = [records[cell.name] for cell in CELLS[network] if cell.bits == bits and cell.name in records]
                if not found:
                    continue
                points = [[(smaller(dense[seed], one), one["errors"] / images * 100) for seed, one in of.items()] for of in found]
                for x, y in (point for of in points for point in of):
                    axes.plot(x, y, marker(index), color=color(index), fillstyle="none")
                means = np.array([np.mean(of, axis=0) for of in points]).reshape(-1, 2)
                axes.plot(means[:, 0], means[:, 1], color=color(index), linewidth=1, label=f"{bits} bits")
            if dense:
                mean = np.mean([one["errors"] for one in dense.values()]) / images * 100
                axes.axhline(mean, color="0.5", linewidth=0.8, linestyle=":", label="dense")
            axes.plot(paper, PAPER[network] * 100, "*", color="black", label="Deep Compression")
            axes.axhline(PAPER[network] * 100, color="0.5", linewidth=0.8)
            axes.axvline(reach, color="0.8", linewidth=0.8)
            axes.set(title=label, xlabel="times smaller than the dense 32-bit parameters", xscale="log")
            axes.set_xticks([paper, 100, reach], [f"{times}×" for times in (paper, 100, reach)])
            axes.minorticks_off()
            if not place:
                axes.set_ylabel("test error, %")
            axes.legend()

    return png(draw, width=9.0, height=3.5)
