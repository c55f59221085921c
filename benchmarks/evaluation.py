"""Seconds of the stage evaluate by part, of the wall clock and of the processor, on the models of the last run.

    python benchmarks/evaluation.py          # in the repository after `make repro`, environment active; half a minute on an idle machine

The stage's inputs are copied aside, and its `run` is called there in a process of its own, whose functions are timed as they are called.
Wall seconds are what a user waits; processor seconds are those of all threads and of the processes that it starts. On a busy machine take
`--threads 1`: threads that wait for each other do so turning, so two of them tell more processor seconds the busier the machine is, while
those of one are about what it would take on a core of its own. `imports` is the interpreter and the stage's modules; what DVC and MLflow
add to a stage is in benchmarks/pipeline.py. The last line is one JSON object.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BAR = 30.0
"""Most seconds that the stage may take on the digits, on two cores that are idle otherwise."""

INPUTS = ("params.yaml", "data/prepared", "data/origin.json", "models", "metrics/quantize.json", "plots/curves")

PARTS = {
    "_read": "read models",
    "Evaluate.test_step": "answers",
    "_scorecard": "scorecard",
    "_distillation": "scorecard",
    "_quantization": "scorecard",
    "under_all": "attacks",
    "masking.signs": "attacks",
    "under_attack": "attacks",
    "latency": "latency",
    "cold": "cold start and memory",
    "_one_bit": "packed bits",
    "write_plots": "report",
    "page": "report",
    "fingerprints": "lineage",
}
"""Functions of the stage's module, and of what it imports, by what they are told as."""


def spent() -> float:
    """Processor seconds of this process and of those that it has waited for."""
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def measured(workspace: Path, started: float, threads: int | None) -> dict[str, dict[str, float]]:
    """Wall and processor seconds by part, of this process, which began at `started` (time.time); `threads` None: as params.yaml says."""
    import torch

    from slimline.params.file import load
    from slimline.params.hardware import Hardware
    from slimline.paths import Paths
    from slimline.runtime.settings import Settings
    from slimline.stages import evaluate
    from slimline.tracking.memory import MemoryTracker

    parts: dict[str, list[float]] = {"imports": [time.time() - started, spent()]}

    def timed(call: Callable[..., Any], part: str) -> Callable[..., Any]:
        def timing(*arguments: Any, **options: Any) -> Any:
            wall, processor = time.perf_counter(), spent()
            try:
                return call(*arguments, **options)
            finally:
                own = parts.setdefault(part, [0.0, 0.0])
                own[0] += time.perf_counter() - wall
                own[1] += spent() - processor

        return timing

    for name, part in PARTS.items():
        owner: Any = evaluate
        *path, last = name.split(".")
        for step in path:
            owner = getattr(owner, step)
        setattr(owner, last, timed(getattr(owner, last), part))

    params = load(workspace / "params.yaml")
    hardware = params.block("hardware", Hardware)
    if threads is not None:
        hardware = hardware.model_copy(update={"threads": threads})
    torch.set_num_threads(hardware.threads)
    torch.manual_seed(params.seed)
    begun = sum(wall for wall, _ in parts.values())
    wall = time.perf_counter()
    evaluate.run(params.blocks["evaluate"], Settings(params.seed, hardware), Paths(workspace), MemoryTracker())  # type: ignore[arg-type]
    total = [begun + time.perf_counter() - wall, spent()]
    parts["else"] = [total[place] - sum(own[place] for own in parts.values()) for place in (0, 1)]
    parts["total"] = total
    return {name: {"wall": round(own[0], 2), "processor": round(own[1], 2)} for name, own in parts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, help="instead of hardware.threads")
    parser.add_argument("--side", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        print(json.dumps(measured(given.side, float(os.environ["STARTED"]), given.threads)))
        return
    from slimline.runtime.surroundings import machine

    here = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder:
        for name in INPUTS:
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (here / name).is_dir() else shutil.copyfile)(here / name, Path(folder) / name)
        command = [sys.executable, __file__, "--side", folder, *(["--threads", str(given.threads)] if given.threads else [])]
        done = subprocess.run(command, env={**os.environ, "STARTED": str(time.time())}, check=True, stdout=subprocess.PIPE, text=True)
    parts = json.loads(done.stdout.splitlines()[-1])
    for name, own in parts.items():
        print(f"{name:24}{own['wall']:8.2f} s  {own['processor']:8.2f} s of processors")
    load, threads = round(os.getloadavg()[0], 1), given.threads or "params.yaml"
    ok = parts["total"]["wall"] <= BAR
    print(json.dumps({"seconds": parts, "bar": BAR, "ok": ok, "threads": threads, "load": load, "machine": machine()}))


if __name__ == "__main__":
    main()
