"""What is measured, and README.md's tables and picture from results.json."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from experiments.lab import Record, Records, by_name, made, pooled, unpacked
from slimline.evaluation.statistics import Comparison
from slimline.report.drawing import LINES, color, marker, png
from slimline.report.record import between, markdown

HERE = Path(__file__).resolve().parent
BEGIN, END = "<!-- results: made by `python -m experiments.channel_pruning.measure record` from results.json -->", "<!-- end of results -->"
DENSE, SLIMMED = "dense", "dense, slimmed"
TIMES = (2, 4)
"""How many times fewer multiply-accumulates are asked for."""
CONTROL = "random"
METHODS = (
    CONTROL,
    "magnitude L1",
    "magnitude L2",
    "gradient",
    "taylor",
    "second_order",
    "geometric_median",
    "batch_norm",
    "network slimming",
    "magnitude L2, multiples of 8",
)
LONG = "magnitude L2, long"
FAMILY = 0.95
"""How sure all claims of a table are together."""
ROUNDS = 60
BATCHES = (1, 64)


@dataclass(frozen=True)
class Cell:
    """One way to prune to 1/`times` of the multiply-accumulates."""

    method: str
    times: int
    schedule: str = "one_shot"
    taught: bool = False

    @property
    def name(self) -> str:
        way = "" if self.method != LONG else f" {self.schedule} {'teacher' if self.taught else 'labels'}"
        return f"1/{self.times} {self.method}{way}"


CELLS = [Cell(method, times) for times in TIMES for method in METHODS]
ONCE, ROUNDWISE, TAUGHT = (Cell(LONG, TIMES[-1], *way) for way in (("one_shot", False), ("iterative", False), ("one_shot", True)))


def against(first: Mapping[int, Record], second: Mapping[int, Record], images: int, confidence: float, when: str = "wrong") -> Comparison:
    """The first against the second on all seeds and test images; `when`: retrained (`wrong`) or right after the cut (`wrong_cut`)."""
    return pooled([({"wrong": first[s][when]}, {"wrong": second[s][when]}) for s in first], images, confidence)


def renewed() -> str:
    """README.md with what results.json says."""
    return between((HERE / "README.md").read_text(), BEGIN, END, said(HERE / "results.json"))


def finished(results: Path) -> dict[str, Any]:
    """What `results` holds of the seeds that were measured in full, so that all rows of a table are of the same ones."""
    values: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {"records": []}
    seeds = {record["seed"] for record in values["records"] if record["name"] == TAUGHT.name}
    return {**values, "records": [record for record in values["records"] if record["seed"] in seeds]}


def said(results: Path) -> str:
    """The tables, and how they came to be."""
    if not finished(results)["records"]:
        return "Not run in full yet."
    values = finished(results)
    records = by_name(values)
    images = values["sessions"][-1]["images"]["test"]
    facts = next(iter(records[DENSE].values()))
    whole = f"Dense network ({facts['parameters']:,} parameters, {facts['macs']:,} multiply-accumulates): {_spread(records[DENSE], images)} of the "
    whole += f"test images; trained with the penalty on its scales: {_spread(records[SLIMMED], images)}. {_strengths(records)}"
    parts = [whole, *(part for times in TIMES for part in _against_random(times, records, images)), _long(records, images)]
    return "\n\n".join([*parts, made(values)])


def _strengths(records: Records) -> str:
    tried = {name.rpartition(" ")[2]: of[0]["validation_accuracy"] for name, of in records.items() if name.startswith("penalty ")}
    each = ", ".join(f"{strength}: {accuracy:.2%}" for strength, accuracy in tried.items())
    best = max(tried, key=lambda strength: tried[strength])
    return f"Strength of the penalty, by the validation accuracy of seed 0 after 2× fewer and retraining ({each}): {best}."


def _against_random(times: int, records: Records, images: int) -> list[str]:
    cells = [cell for cell in CELLS if cell.times == times]
    control = records[Cell(CONTROL, times).name]
    confidence = 1 - (1 - FAMILY) / (len(cells) - 1)
    rows = []
    better: dict[str, list[str]] = {"wrong_cut": [], "wrong": []}
    worse: dict[str, list[str]] = {"wrong_cut": [], "wrong": []}
    for cell in cells:
        of = records[cell.name]
        row = [cell.method, *(_over(of, lambda r, key=key: r[key], form) for key, form in (("macs_removed", ".2%"), ("params_removed", ".1%")))]
        for when in ("wrong_cut", "wrong"):
            row.append(_spread(of, images, when))
            if cell.method == CONTROL:
                row.append("")
                continue
            found = against(of, control, images, confidence, when)
            better[when] += [cell.method] if found.low > 0 else []
            worse[when] += [cell.method] if found.high < 0 else []
            row.append(f"{found.difference * 100:+.2f} ({found.low * 100:+.2f} to {found.high * 100:+.2f})")
        row.append(_over(of, lambda r: 1 / (1 - r["macs_removed"]), ".2f") + "×")
        rows.append([*row, *(_speed(of, size) for size in BATCHES)])
    header = ["criterion", "MACs gone", "parameters gone", "accuracy after the cut", f"against random ({confidence:.2%} interval)"]
    header += ["accuracy retrained", f"against random ({confidence:.2%} interval)", "MAC ratio", *(f"faster, batch {size}" for size in BATCHES)]
    verdicts = [
        f"{label}: better than random: {', '.join(better[when]) or 'none'}; worse: {', '.join(worse[when]) or 'none'}."
        for when, label in (("wrong_cut", "After the cut"), ("wrong", "Retrained"))
    ]
    verdicts.append(f"The intervals of a column hold together with {FAMILY:.0%} (Bonferroni).")
    title = f"**{times}× fewer multiply-accumulates** ({1 - 1 / times:.0%} asked for; seeds {', '.join(map(str, control))})"
    return [f"{title}\n\n{markdown(header, rows)}", " ".join(verdicts)]


def _long(records: Records, images: int) -> str:
    once = records[ONCE.name]
    lines = [f"**Longer retraining at {ONCE.times}× fewer, by magnitude L2.** One-shot on labels: {_spread(once, images)}."]
    confidence = 1 - (1 - FAMILY) / 2
    for cell, label in ((ROUNDWISE, "In three rounds, as many epochs in all"), (TAUGHT, "One-shot, with the dense network as teacher")):
        found = against(records[cell.name], once, images, confidence)
        shown = f"{found.difference * 100:+.2f} points ({confidence:.1%} interval {found.low * 100:+.2f} to {found.high * 100:+.2f})"
        verdict = "better" if found.low > 0 else "worse" if found.high < 0 else "no difference shown"
        lines.append(f"{label}: {_spread(records[cell.name], images)}, {shown}: {verdict}.")
    return " ".join(lines)


def _spread(of: Mapping[int, Record], images: int, when: str = "wrong") -> str:
    """Mean and standard deviation over seeds of the accuracy on the test images."""
    accuracies = np.array([1 - len(unpacked(record[when])) / images for record in of.values()])
    deviation = f" ± {accuracies.std(ddof=1) * 100:.2f}" if len(accuracies) > 1 else ""
    return f"{accuracies.mean() * 100:.2f}{deviation} %"


def _over(of: Mapping[int, Record], value: Callable[[Record], float], form: str) -> str:
    return format(float(np.mean([value(record) for record in of.values()])), form)


def _speed(of: Mapping[int, Record], size: int) -> str:
    """The middle one of the seeds' speed-ups, and the outermost ends of their intervals."""
    found = [record["speed_up"][f"batch_{size}"] for record in of.values()]
    return f"{np.median([f['speed_up'] for f in found]):.2f}× ({min(f['low'] for f in found):.2f}–{max(f['high'] for f in found):.2f})"


def picture(results: Path) -> bytes:
    """Test accuracy against multiply-accumulates, right after the cut and retrained; means over the seeds."""
    values = finished(results)
    records = by_name(values)
    images = values["sessions"][-1]["images"]["test"]

    def accuracy(of: Mapping[int, Record], when: str) -> float:
        return float(np.mean([1 - len(unpacked(record[when])) / images for record in of.values()]))

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, when, title in zip(panels, ("wrong_cut", "wrong"), ("right after the cut", "retrained"), strict=True):
            for place, method in enumerate(METHODS):
                found = [records[Cell(method, times).name] for times in TIMES]
                start = records[SLIMMED if method == "network slimming" else DENSE]
                xs = [1.0, *(1 - float(np.mean([record["macs_removed"] for record in of.values()])) for of in found)]
                ys = [accuracy(start, "wrong"), *(accuracy(of, when) for of in found)]
                line = "black" if method == CONTROL else color(place - 1)
                style = LINES[(place - 1) // 5 % len(LINES)]
                axes.plot(xs, ys, color=line, marker=marker(place), markersize=4, linestyle=style, linewidth=1.2, label=method)
            axes.set_xscale("log", base=2)
            axes.set_xlim(1.06, 0.235)
            axes.set_xticks([1, 0.5, 0.25], ["1", "1/2", "1/4"])
            axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
            axes.set_xlabel("multiply-accumulates left")
            axes.set_title(title, fontsize=9)
            axes.grid(visible=True)
        panels[0].set_ylabel("test accuracy")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize=7)

    return png(draw, width=9.0, height=4.0)
