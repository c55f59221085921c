"""Seconds and peak memory of `dvc repro` and of each stage, everything run anew.

    python benchmarks/stages.py          # in the repository, environment active; about two minutes

DVC starts each stage through SLIMLINE_LAUNCH, which here is this very file: it runs the stage's script as a child and asks the
operating system for the child's elapsed time and largest resident set. The last line is one JSON object.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from slimline.evaluation.latency import machine

LOG = "SLIMLINE_STAGES_LOG"


def launch(script: str) -> None:
    """Run one stage's script and note what it took."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, script])
    _, status, usage = os.wait4(child.pid, 0)
    row = {"stage": Path(script).stem, "seconds": round(time.perf_counter() - start, 2), "peak_mib": round(usage.ru_maxrss / 1024)}
    with Path(os.environ[LOG]).open("a") as log:
        log.write(json.dumps(row) + "\n")
    sys.exit(os.waitstatus_to_exitcode(status))


def benchmark() -> None:
    """Run the whole pipeline and print what was noted."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "stages"
        environment = {**os.environ, "SLIMLINE_LAUNCH": f"{sys.executable} {Path(__file__).resolve()} --launch", LOG: str(log)}
        start = time.perf_counter()
        subprocess.run(["dvc", "repro", "--force", "--no-run-cache"], env=environment, check=True)
        seconds = round(time.perf_counter() - start, 1)
        stages = [json.loads(line) for line in log.read_text().splitlines()]
    print(json.dumps({"dvc_repro_seconds": seconds, "stages": stages, "machine": machine()}))


if __name__ == "__main__":
    launch(sys.argv[2]) if sys.argv[1:2] == ["--launch"] else benchmark()
