"""One process at a time: file locks, which go with the process, and which containers that share a folder share too."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slimline.errors import SlimlineError

POLL = 0.1


@contextmanager
def held(path: Path, work: str, *, patience: float = 0.0) -> Iterator[None]:
    """The block runs while no other process holds the lock `path`.

    Args:
        work: what the lock is for, as a message names it.
        patience: seconds to wait for another process to let go.

    Raises:
        SlimlineError: another one holds it, and does not let go.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666)) as lock:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    holder = lock.readline().strip() or "another process"
                    raise SlimlineError(f"{work}: {holder} is at it; wait for it, or end it") from error
                time.sleep(POLL)
        # In one write and never empty in between: whoever finds it held reads it at any moment. A longer line from before ends after ours.
        os.pwrite(lock.fileno(), f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
