"""The data of `dvc plots`: the numbers of the page's figures as CSV files."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from slimline.evaluation.layers import Layer
from slimline.files import write_csv
from slimline.paths import Paths
from slimline.report import calibration, layers, robustness
from slimline.report.words import SHIPPED, TEACHER, Numbers, batch


def write_plots(paths: Paths, scorecard: Numbers, latency: Numbers | None, weights: Sequence[Layer]) -> list[Path]:
    """Write those of what was measured; returns where.

    Args:
        latency: None where nothing was timed.
        weights: layers of the model to ship; none where it was not evaluated.
    """
    cards, classes = scorecard["models"], scorecard["data"]["class_names"]
    tradeoff = [{"model": name, "packed_bytes": card["packed_bytes"], "accuracy": card["accuracy"]} for name, card in cards.items()]
    tables: dict[Path, tuple[list[dict[str, Any]], list[str]]] = {
        paths.tradeoff: (tradeoff, ["model", "packed_bytes", "accuracy"]),
        paths.robustness: (robustness.table(scorecard), ["budget", *cards]),
    }
    if latency is not None:
        calls = [
            {"model": name, "call": f"{name}, {batch(key)}", "p50_ms": timing["p50_ms"], "p95_ms": timing["p95_ms"], "accuracy": card["accuracy"]}
            for name, card in cards.items()
            for key, timing in latency["models"][name].items()
        ]
        tables[paths.calls] = calls, ["model", "call", "p50_ms", "p95_ms", "accuracy"]
    if SHIPPED in cards:
        pairs = [[{"actual": classes[a], "predicted": classes[p]}] * count for a, p, count in cards[SHIPPED]["confusion"]]
        tables[paths.confusion] = list(chain.from_iterable(pairs)), ["actual", "predicted"]
    if weights:
        tables[paths.layers] = layers.table(weights), ["layer", "student_weights", "weights", "nonzero", "weight_bits", "input_bits", "kept"]
    for name in (TEACHER, SHIPPED):
        if name in cards:
            tables[paths.calibration(name)] = calibration.table(cards[name]), ["confidence", "accuracy", "images"]
    for path, (rows, columns) in tables.items():
        write_csv(path, rows, columns)
    return list(tables)
