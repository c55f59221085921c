"""Tables and picture of README.md, from results.json."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from experiments.lab import Records, by_name, made, pooled, readme
from slimline.quantization.bits import Bits
from slimline.report.drawing import color, marker, png
from slimline.report.record import markdown

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
RUNGS: tuple[Bits, ...] = (64, 32, 16, "bf16", "e4m3", "e5m2", 8, 6, 5, 4, 3, 2)
WAYS = ("calibrated", "trained", "taught")
"""Post-training; then trained on its grids under labels alone; or under labels and the teacher."""
PAIRS = (("trained", "calibrated"), ("taught", "calibrated"), ("taught", "trained"))
BATCHES = ("batch_1", "batch_64")
CONFIDENCE = 0.95


def sources(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """results.json by data set, whose name stands before the colon in its records' names."""
    found: dict[str, dict[str, Any]] = {}
    for record in values["records"]:
        source, name = record["name"].split(": ")
        of = found.setdefault(source, {"sessions": [s for s in values["sessions"] if s["source"] == source], "records": []})
        of["records"].append({**record, "name": name})
    return found


def table(values: Mapping[str, Any]) -> str:
    """A row a rung of one data set: test errors of each way, their differences, bytes, milliseconds."""
    records, images = by_name(values), values["sessions"][-1]["images"]["test"]
    rows = []
    for rung in RUNGS:
        if (first := records.get(f"{rung} calibrated")) is None:
            continue
        errors = [_spread([record["errors"] for record in records.get(f"{rung} {way}", {}).values()]) for way in WAYS]
        gains = [_gain(records, f"{rung} {one}", f"{rung} {other}", images) for one, other in PAIRS]
        times = [_spread([one[batch][str(rung)]["p50_ms"] for one in records.get("latency", {}).values()], digits=3) for batch in BATCHES]
        runtime = next(iter(first.values()))["runtime"]
        rows.append([str(rung), *errors, *gains, f"{np.mean([r['packed_bytes'] for r in first.values()]):,.0f}", *times, runtime])
    header = ["bits", *(f"errors, {way}" for way in WAYS), *(f"{one} − {other}, points" for one, other in PAIRS)]
    return markdown([*header, "bytes of model.slim", "ms, batch 1", "ms, batch 64", "run by"], rows)


def _gain(records: Records, first: str, second: str, images: int) -> str:
    """Points of accuracy that `first` has above `second`, with its interval, on the test images of all seeds that have both."""
    if first not in records or second not in records:
        return "–"
    pair = pooled([(records[first][seed], records[second][seed]) for seed in records[first] if seed in records[second]], images, CONFIDENCE)
    return f"{pair.difference * 100:+.2f} ({pair.low * 100:+.2f} to {pair.high * 100:+.2f})"


def _spread(numbers: list[float], digits: int = 1) -> str:
    if not numbers:
        return "–"
    mean = f"{np.mean(numbers):.{digits}f}"
    return f"{mean} ± {np.std(numbers, ddof=1):.{digits}f}" if len(numbers) > 1 else mean


def eight_bits(values: Mapping[str, Any]) -> str:
    """Integers of 8 bits against floats of 8 bits, in a sentence."""
    records, images = by_name(values), values["sessions"][-1]["images"]["test"]
    told = [f"{other} {way} {_gain(records, f'8 {way}', f'{other} {way}', images)}" for other in ("e4m3", "e5m2") for way in WAYS]
    return f"Integers of 8 bits against floats of 8 bits, points of accuracy that the integers have above: {'; '.join(told)}."


def picture(values: Mapping[str, Any]) -> bytes:
    """PNG: a panel a data set, test errors against bytes, a line a way."""
    of = sources(values)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(of), squeeze=False)[0]
        for axes, (source, part) in zip(panels, of.items(), strict=True):
            records, images = by_name(part), part["sessions"][-1]["images"]["test"]
            for index, way in enumerate(WAYS):
                points = [(str(rung), list(records[f"{rung} {way}"].values())) for rung in RUNGS if f"{rung} {way}" in records]
                sizes = [np.mean([one["packed_bytes"] for one in found]) for _, found in points]
                errors = [100 * np.mean([one["errors"] for one in found]) / images for _, found in points]
                axes.plot(sizes, errors, linestyle="none", marker=marker(index), color=color(index), label=way)
                if way != "calibrated":  # floats of 8 bits lie beside the line of the integers
                    line = [(size, error) for (rung, _), size, error in zip(points, sizes, errors, strict=True) if rung.isdecimal()]
                    axes.plot(*zip(*line, strict=True), linestyle="-", color=color(index))
                for (rung, _), size, error in zip(points, sizes, errors, strict=True):
                    if way == "calibrated":
                        axes.annotate(rung, (size, error), textcoords="offset points", xytext=(4, 4), fontsize=8)
            for axis, scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
                scale("log")
                axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.set_major_formatter(lambda value, _: f"{value:,g}")
                axis.set_minor_formatter(NullFormatter())
            axes.set_title(source)
            axes.set_xlabel("bytes of model.slim")
            axes.set_ylabel("test errors, %")
            axes.grid(visible=True)
        panels[-1].legend(loc="upper right")

    return png(draw, width=4.8 * len(of), height=4.2)


def renewed() -> str:
    """README.md with what results.json says, where there is one."""
    return readme(HERE, said(RESULTS))


def said(results: Path) -> str:
    """The tables of all data sets, and how they came to be."""
    if not results.exists():
        return "Not measured yet."
    parts = ["![Test errors against bytes, by data set](ladder.png)"]
    for source, values in sources(json.loads(results.read_text())).items():
        errors = [record["errors"] for record in by_name(values)["teacher"].values()]
        parts += [f"**{source}.** The teacher makes {_spread(errors)} errors.", table(values), eight_bits(values), made(values)]
    return "\n\n".join(parts)
