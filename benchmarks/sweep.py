"""How many trials a minute: a sweep's search with 1 and with 2 workers, where a trial's seconds go, and what driver and storage add.

    python benchmarks/sweep.py [--trials 60] [--sweep threshold_bits]     # after make repro; two to five minutes on 2 cores

Each run is of the same sweep.yaml, in a folder of its own, without promotion, so that nothing is kept from the run before. Trials a minute
are counted from the moment when the first worker is ready to the last trial told; that start is told beside it, those of further workers
lie within. Overhead is the time of workers that no part of a trial accounts for, a trial: their start, drawing, storing and handing over.
The trials are compared with as many whole pipelines by the seconds of the stages' last runs (`slimline plan --json`), where MLflow has
them. The last line is one JSON object.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean
from typing import Any

from ruamel.yaml import YAML

from slimline.evaluation.latency import machine
from slimline.sweep.driver import run

ROOT = Path(__file__).parents[1]
WORKERS = (1, 2)
BAR = 15.0
"""Trials a minute on 2 cores."""


def measured(definition: Path, trials: int, workers: int) -> dict[str, Any]:
    """One search from nothing."""
    yaml = YAML()
    values = yaml.load(definition.read_text())
    values["base"], values["workers"] = str((definition.parent / values["base"]).resolve()), workers
    values["budget"] = {"trials": trials, "short": 0, "full": False}
    folder = Path(tempfile.mkdtemp())
    try:
        with (folder / "sweep.yaml").open("w") as file:
            yaml.dump(values, file)
        start = time.perf_counter()
        ended = run(folder)
        wall = time.perf_counter() - start
    finally:
        shutil.rmtree(folder)
    found = [one for one in ended.rungs["search"] if one.scores]
    parts = {name: fmean(one.seconds[name] for one in found) for name in found[0].seconds}
    spent = ended.search_seconds
    return {
        "workers": workers,
        "trials": len(ended.rungs["search"]),
        "infeasible": len(ended.rungs["search"]) - len(found),
        "trials_a_minute": 60 * len(ended.rungs["search"]) / spent,
        "start_seconds": wall - spent,
        "seconds_a_trial": parts,
        "overhead_a_trial": spent * workers / len(ended.rungs["search"]) - sum(parts.values()),
    }


def pipeline_seconds() -> float | None:
    """What the stages took when they last ran; None where not all of them are recorded."""
    told = subprocess.run([sys.executable, "-c", "from slimline.cli import main; main()", "plan", "--json"], cwd=ROOT, capture_output=True, text=True)
    seconds = [stage["last_seconds"] for stage in json.loads(told.stdout or "[]")]
    return sum(seconds) if seconds and None not in seconds else None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Trials a minute of a sweep.")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--sweep", default="threshold_bits")
    given = parser.parse_args()
    definition = ROOT / "experiments" / given.sweep / "sweep.yaml"
    rows = [measured(definition, given.trials, workers) for workers in WORKERS]
    for row in rows:
        parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in row["seconds_a_trial"].items())
        print(
            f"{row['workers']} workers: {row['trials_a_minute']:.1f} trials a minute (bar on 2 cores: {BAR:g}); a trial in seconds: {parts}, "
            f"driver and storage {row['overhead_a_trial']:.2f}; start {row['start_seconds']:.1f} s"
        )
    whole = pipeline_seconds()
    if whole is not None:
        sweep = 60 * given.trials / rows[-1]["trials_a_minute"] + rows[-1]["start_seconds"]
        times = given.trials * whole / sweep
        print(f"{given.trials} trials: {sweep:.0f} s; {given.trials} whole pipelines: {given.trials * whole:.0f} s, {times:.0f} times as long")
    print(json.dumps({"machine": machine(), "runs": rows, "pipeline_seconds": whole}))


if __name__ == "__main__":
    main()
