"""What recording costs a whole run: `dvc repro` from nothing with MLflow, against the same with the tracker in memory.

    python benchmarks/tracking.py --rounds 3          # in the repository, environment active; several minutes a round

Both run in clones of the repository with the working tree's changes, with nothing made and an empty cache; each round runs both, in turn
first. `--epochs 1` leaves little but what does not depend on the trainings. Imports, making the store (sqlite) and waiting for what the
sender has not sent count. As a launcher of a stage (`SLIMLINE_LAUNCH`) this file runs it without a record. The last line is one JSON object.
"""

import argparse
import json
import os
import runpy
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

LIMIT = 10.0
"""Seconds that issue 11 allows."""


def unrecorded(script: str) -> None:
    """Run the stage `script` with a tracker in memory."""
    from slimline.runtime import script as around
    from slimline.tracking.memory import MemoryTracker

    around._journal = lambda *_: MemoryTracker()  # type: ignore[assignment]
    sys.argv = [script]
    runpy.run_path(script, run_name="__main__")


def seconds(folder: Path, environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(["dvc", "repro", "--quiet"], cwd=folder, env=environment, check=True)
    return time.perf_counter() - start


def stored(folder: Path) -> int:
    """How many runs MLflow has of the pipeline in `folder`."""
    if not (database := folder / "mlflow.db").exists():
        return 0
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute("SELECT count(*) FROM runs").fetchone()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="of every training, instead of those in params.yaml")
    given = parser.parse_args()
    from pipeline import environment, tree

    from slimline.evaluation.latency import machine

    rounds: list[dict[str, Any]] = []
    for number in range(given.rounds):
        with tempfile.TemporaryDirectory() as scratch:
            row = {}
            for side in ("recorded", "in_memory") if number % 2 == 0 else ("in_memory", "recorded"):
                folder = tree(Path(scratch) / side, given.epochs)
                launcher = {} if side == "recorded" else {"SLIMLINE_LAUNCH": f"{sys.executable} {Path(__file__).resolve()}"}
                row[side] = round(seconds(folder, environment(folder) | launcher), 1)
                row[f"runs_{side}"] = stored(folder)
            row["difference"] = round(row["recorded"] - row["in_memory"], 1)
            print(row, flush=True)
            rounds.append(row)
    added = statistics.median(row["difference"] for row in rounds)
    result = {"added_seconds": added, "limit": LIMIT, "epochs": given.epochs or "params.yaml", "rounds": rounds, "n": given.rounds}
    print(json.dumps(result | {"machine": machine(), "load": os.getloadavg()}))


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1].endswith(".py"):
        unrecorded(sys.argv[1])
    else:
        main()
