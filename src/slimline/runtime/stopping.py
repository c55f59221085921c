"""How a stage is stopped from outside: a signal, or the end of the process that had started it.

Outside of training a signal raises `Stopped` at once. Training defers it to the end of the step, writes a checkpoint, and raises it
then. Whatever happens, the process is gone `GRACE` seconds after the first signal.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil

GRACE = 8.0
"""Seconds from a signal to the end, whatever the process is at; containers kill after ten."""

POLL = 0.5
"""Seconds between two looks at whether a parent still lives."""

SHELLS = ("sh", "dash", "bash", "zsh", "ash")


class Stopped(BaseException):
    """This process was asked to end. No Exception, so that nothing which forgives errors forgives this."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


class Stop:
    """Whether a signal has asked for the end, and whether that waits for the end of a step."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._deferred = 0

    def listen(self) -> None:
        """Take SIGTERM and SIGINT from here on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._hear)

    def _hear(self, signum: int, _frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum = signum
            threading.Thread(target=_end_after, args=(GRACE, 128 + signum), daemon=True).start()
        if not self._deferred:
            raise Stopped(signum)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within this block a signal is noted, and whoever runs it looks at `signum`; a signal that nobody saw is raised at its end."""
        self._deferred += 1
        try:
            yield
        finally:
            self._deferred -= 1
        if self.signum is not None and not self._deferred:
            raise Stopped(self.signum)


STOP = Stop()
"""A process has one: signals are the process's."""


def _end_after(seconds: float, code: int) -> None:
    time.sleep(seconds)
    os._exit(code)


def end_with(pids: list[int]) -> None:
    """End this process, as by SIGTERM, when one of the processes `pids` has ended: nobody waits for its result any more."""
    watched = [psutil.Process(pid) for pid in pids]

    def watch() -> None:
        while all(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in watched):
            time.sleep(POLL)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parents", daemon=True).start()


def starters() -> list[int]:
    """The parent, and where that is a shell that runs one command (as DVC starts stages), the shell's parent too."""
    parent = psutil.Process().parent()
    if parent is None:
        return []
    words = parent.cmdline()
    grandparent = parent.parent() if len(words) > 1 and Path(words[0]).name in SHELLS and words[1] == "-c" else None
    return [parent.pid, *([grandparent.pid] if grandparent else [])]
