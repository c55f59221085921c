"""The table of README.md and its picture, from results.json."""

import json
from pathlib import Path

from matplotlib.figure import Figure

from experiments.deep_compression_pruning.tables import PAPER
from experiments.lab import Record, Records, by_name, said
from slimline.evaluation.statistics import wilson
from slimline.report.drawing import color, marker, png
from slimline.report.record import between, markdown

HERE = Path(__file__).resolve().parent
BEGIN = "<!-- results: made by `python -m experiments.lenet300_front.measure record` from results.json -->"
END = "<!-- end of results -->"
PAPER_BYTES = 27_000
CONFIDENCE = 0.95


def renewed() -> str:
    """README.md with what results.json says."""
    return between((HERE / "README.md").read_text(), BEGIN, END, said(HERE / "results.json", parts))


def trials(records: Records) -> list[tuple[str, Record]]:
    """Those that were retrained, the smallest file first."""
    return sorted(((name, of[0]) for name, of in records.items() if name.startswith("trial ")), key=lambda one: one[1]["packed_bytes"])


def parts(records: Records, images: int) -> list[str]:
    def row(name: str, record: Record, values: list[str]) -> list[str]:
        low, high = (1 - share for share in reversed(wilson(images - record["errors"], images, CONFIDENCE)))
        tested = f"{record['errors'] / images:.2%} ({low:.2%} to {high:.2%})"
        return [name, *values, f"{record['packed_bytes']:,}", f"{1 - record['validation_accuracy']:.2%}", tested]

    rows = [row("dense", records["lenet300"][0], ["", ""])]
    below = []
    for name, record in trials(records):
        values = record["values"]
        rows.append(row(name, record, [f"{1 - values['prune.target.amount']:.2%}", str(values["quantize.weights.bits"])]))
        if record["packed_bytes"] < PAPER_BYTES and record["errors"] / images < PAPER["lenet300"]:
            below.append(name)
    header = ["network", "weights left", "bits", "bytes of `model.slim`", "validation error", "test error (95 % interval)"]
    told = f"Smaller than the paper's 27 KB and with fewer test errors than its {PAPER['lenet300']:.2%}: {', '.join(below) or 'none'}."
    return [markdown(header, rows), told]


def picture() -> bytes:
    """Test error against bytes of the retrained trials, beside the paper's point."""
    values = json.loads((HERE / "results.json").read_text())
    records, images = by_name(values), values["sessions"][-1]["images"]["test"]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        found = [one for _, one in trials(records)]
        points = [(one["packed_bytes"] / 1000, one["errors"] / images * 100) for one in found]
        axes.plot(*zip(*points, strict=True), marker(0), color=color(0), fillstyle="none", label="trials, retrained")
        axes.plot(PAPER_BYTES / 1000, PAPER["lenet300"] * 100, "*", color="black", label="Deep Compression")
        axes.axhline(records["lenet300"][0]["errors"] / images * 100, color="0.5", linewidth=0.8, linestyle=":", label="dense")
        axes.set(xlabel="kB of model.slim", ylabel="test error, %", xlim=(0, None))
        axes.legend()

    return png(draw, width=6.0, height=3.5)
