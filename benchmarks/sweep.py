"""How many trials a minute: a sweep's search with 1 and with 2 workers, where a trial's seconds go, and what driver and storage add.

    python benchmarks/sweep.py [--trials 60] [--sweep threshold_bits]     # after make repro; two to five minutes on 2 cores

Seconds on the clock grow when others are at work on the machine; so those of processors are told, too, and how many trials a minute they make
on an idle one at best.

Each run is of the same sweep.yaml, in a folder of its own, without promotion, so that nothing is kept from the run before. Trials a minute
are counted from the moment when the first worker is ready to the last trial told; that start is told beside it, those of further workers
lie within. Overhead is the time of workers that no part of a trial accounts for, a trial: drawing, storing, handing over, and waiting.
The trials are compared with as many whole pipelines by the seconds of the stages' last runs, where MLflow has them. The last line is one JSON object.
"""

import argparse
import json
import resource
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
from slimline.params.file import load
from slimline.params.tracking import Tracking
from slimline.paths import STAGES, Paths
from slimline.sweep.driver import run
from slimline.tracking.journal import resolved_uri
from slimline.tracking.mlflow import last_seconds

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
        start, before = time.perf_counter(), time.process_time()
        ended = run(folder)
        wall, driver = time.perf_counter() - start, time.process_time() - before
    finally:
        shutil.rmtree(folder)
    found = [one for one in ended.rungs["search"] if one.scores]
    parts = {name: fmean(one.seconds[name] for one in found) for name in found[0].seconds}
    processor = parts.pop("processor")
    spent, count = ended.search_seconds, len(ended.rungs["search"])
    return {
        "workers": workers,
        "trials": count,
        "infeasible": count - len(found),
        "trials_a_minute": 60 * count / spent,
        "start_seconds": wall - spent,
        "seconds_a_trial": parts,
        "overhead_a_trial": spent * workers / count - sum(parts.values()),
        "processor_seconds": {"a_trial": processor, "driver_a_trial": driver / count},
        "trials_a_minute_idle": 60 * workers / (processor + workers * driver / count),
    }


def pipeline_seconds() -> float | None:
    """What the stages took when they last ran; None where not all of them are recorded."""
    paths = Paths(ROOT)
    tracking = load(paths.params).block("tracking", Tracking)
    found = last_seconds(resolved_uri(tracking.uri, ROOT), tracking.experiment, STAGES)
    return sum(found.values()) if found.keys() == set(STAGES) else None


def _import_seconds() -> float:
    """Seconds of processors by which workers import what they need."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import slimline.sweep.trial"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


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
        spent, idle = row["processor_seconds"], row["trials_a_minute_idle"]
        print(
            f"  seconds of processors: {spent['a_trial']:.2f} a trial and {spent['driver_a_trial']:.3f} of the driver for it, "
            f"so at most {idle:.0f} trials a minute with nothing else at work"
        )
    started = _import_seconds()
    print(f"workers are forked from one process, whose imports take {started:.1f} seconds of a processor, once a sweep")
    whole = pipeline_seconds()
    if whole is not None:
        sweep = 60 * given.trials / rows[-1]["trials_a_minute"] + rows[-1]["start_seconds"]
        times = given.trials * whole / sweep
        print(f"{given.trials} trials: {sweep:.0f} s; {given.trials} whole pipelines: {given.trials * whole:.0f} s, {times:.0f} times as long")
    print(json.dumps({"machine": machine(), "runs": rows, "import_seconds": started, "pipeline_seconds": whole}))


if __name__ == "__main__":
    main()
