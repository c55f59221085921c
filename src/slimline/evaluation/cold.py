"""What it costs to start a model: cold start and peak memory of a session, each in a process of its own.

A program (`child.py`) imports ONNX Runtime and nothing heavier, and then forks for every measurement: a fork starts with the library
loaded, no session made and no thread running, within milliseconds where a new interpreter would take half a second.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slimline.errors import SlimlineError
from slimline.evaluation.statistics import quantile_interval

STARTS = 9
"""Of each model. Six is the least that gives an interval of the median at 95 %."""

CHILD = Path(__file__).with_name("child.py")

PATIENCE = 120.0
"""Seconds after which a measurement is given up."""


def cold(files: Mapping[str, Path], *, batch_sizes: Sequence[int], threads: int, confidence: float) -> dict[str, Any]:
    """Of each ONNX file how long a session takes to load, and to load and answer its first images, the fewest of `batch_sizes`; and its memory.

    The file is in the system's cache: what a disk takes is not in it. Memory is what the process takes at most beyond what it took with
    ONNX Runtime loaded, by the system's count of pages; on a system without /proc it is None.

    Args:
        files: by name.
        batch_sizes: images of one call, to tell the memory of.

    Raises:
        SlimlineError: a session died, or took longer than two minutes.
    """
    asked = [
        [name, str(path), size] for name, path in files.items() for size in batch_sizes for _ in range(STARTS if size == min(batch_sizes) else 1)
    ]
    order = np.random.default_rng(0).permutation(len(asked))  # a busy moment of the machine hits all alike
    command = [sys.executable, str(CHILD), str(threads)]
    try:
        done = subprocess.run(
            command,
            input=json.dumps([asked[place] for place in order]),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
            env=_environment(),
        )
        rows = [json.loads(line) for line in done.stdout.splitlines()]
    except (subprocess.SubprocessError, ValueError) as error:
        told = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise SlimlineError(f"memory and cold start could not be measured ({told[-1] if told else error}); free memory, and run again") from error
    return {name: _summary([row for row in rows if row["name"] == name], batch_sizes, confidence) for name in files}


def _environment() -> dict[str, str]:
    """That of this process, in which the child finds slimline wherever it was imported from."""
    source = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))}


def _summary(rows: Sequence[Mapping[str, Any]], batch_sizes: Sequence[int], confidence: float) -> dict[str, Any]:
    first = [row for row in rows if row["size"] == min(batch_sizes)]
    found: dict[str, Any] = {"starts": len(first)}
    for key in ("load", "cold_start"):
        value, low, high = quantile_interval(np.array([row[key] for row in first]) * 1000, 0.5, confidence)
        found |= {f"{key}_ms": value, f"{key}_low_ms": low, f"{key}_high_ms": high}
    found["peak_memory_bytes"] = {
        f"batch_{size}": max((row["memory"] for row in rows if row["size"] == size and row["memory"] is not None), default=None)
        for size in batch_sizes
    }
    return found
