"""The program that `evaluation.cold` runs: for each line asked for, a fork that makes a session, calls it once, and tells what that took.

Standard input: a JSON list of [name, file, images a call]; argument: threads. Standard output: a JSON object a line.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from slimline.export.session import session

STATUS = Path("/proc/self/status")


def memory(entry: str) -> int | None:
    """Bytes by an entry of this process's status: VmRSS for now, VmHWM for the most so far. None where the system keeps none."""
    if not STATUS.exists():
        return None
    return next(1024 * int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(entry))


def started(path: Path, size: int, threads: int) -> dict[str, Any]:
    """Seconds to load `path`, and until its first answer to `size` blank images; bytes that this took at most."""
    before = memory("VmHWM")
    start = time.perf_counter()
    made = session(path, threads)
    loaded = time.perf_counter()
    (given,) = made.get_inputs()
    made.run(None, {given.name: np.zeros((size, *given.shape[1:]), np.float32)})
    answered = time.perf_counter()
    most = memory("VmHWM")
    return {"load": loaded - start, "cold_start": answered - start, "memory": None if before is None or most is None else most - before}


def main() -> None:
    """Answer what standard input asks, each in a fork."""
    threads = int(sys.argv[1])
    for name, path, size in json.load(sys.stdin):
        sys.stdout.flush()
        if (process := os.fork()) == 0:
            try:
                print(json.dumps({"name": name, "size": size, **started(Path(path), size, threads)}), flush=True)
            except BaseException as error:
                print(error, file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)  # no cleaning up: it belongs to the parent
        if os.waitpid(process, 0)[1] != 0:
            sys.exit(f"{path}: a session of {size} images died")


if __name__ == "__main__":
    main()
