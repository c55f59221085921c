"""The table of README.md, from results.json."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.lab import made
from slimline.report.record import between, markdown

HERE = Path(__file__).resolve().parent
BEGIN, END = "<!-- results: made by `python -m experiments.bit_ladder.measure record` from results.json -->", "<!-- end of results -->"
WAYS = ("calibrated", "trained", "taught")


def table(values: Mapping[str, Any]) -> str:
    """A row a rung: test errors of each way, bytes, milliseconds."""
    of: dict[str, list[dict[str, Any]]] = {}
    for record in values["records"]:
        of.setdefault(record["name"], []).append(record)
    rungs = list(dict.fromkeys(name.split()[0] for name in of if name != "latency"))
    rows = []
    for rung in rungs:
        errors = [_spread([record["errors"] for record in of.get(f"{rung} {way}", [])]) for way in WAYS]
        first = of[f"{rung} calibrated"]
        times = [_spread([one[batch][rung]["p50_ms"] for one in of.get("latency", [])], digits=3) for batch in ("batch_1", "batch_64")]
        rows.append([rung, *errors, f"{np.mean([record['packed_bytes'] for record in first]):,.0f}", *times, first[0]["runtime"]])
    header = ["bits", *(f"errors, {way}" for way in WAYS), "bytes of model.slim", "ms, batch 1", "ms, batch 64", "run by"]
    return markdown(header, rows)


def _spread(numbers: list[float], digits: int = 1) -> str:
    if not numbers:
        return "–"
    mean = f"{np.mean(numbers):.{digits}f}"
    return f"{mean} ± {np.std(numbers, ddof=1):.{digits}f}" if len(numbers) > 1 else mean


def renewed() -> str:
    """README.md with what results.json says, where there is one."""
    text, results = (HERE / "README.md").read_text(), HERE / "results.json"
    if not results.exists():
        return text
    values = json.loads(results.read_text())
    return between(text, BEGIN, END, f"{table(values)}\n\n{made(values)}")
