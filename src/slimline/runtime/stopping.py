"""How a stage is stopped from outside: a signal, or the end of the process that had started it.

Outside of training a signal raises `Stopped` at once. Training defers it to the end of the step, writes a checkpoint, and raises it
then. Whatever happens, the process is gone `GRACE` seconds after the first signal.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TypeVar

import psutil

T = TypeVar("T")

GRACE = 8.0
"""Seconds from a signal to the end, whatever the process is at; containers kill after ten."""

AGAIN = 0.01
"""Seconds after which a stop that was raised where nothing can be raised is tried again."""

POLL = 0.5
"""Seconds between two looks at whether a parent still lives."""


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
        self._listens = False

    def listen(self) -> None:
        """Take SIGTERM and SIGINT from here on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._hear)
        if not self._listens:
            sys.unraisablehook = self._unheard(sys.unraisablehook)
        self._listens = True

    def listen_again(self) -> None:
        """Take them back from a library that has taken them since; nothing where this process never listened."""
        if self._listens:
            self.listen()

    def _hear(self, signum: int, _frame: FrameType | None) -> None:
        if self.signum is not None:
            # A terminal, DVC and a supervisor may each say it; the second time must not break off the orderly end of the first.
            return
        self.signum = signum
        threading.Thread(target=_end_after, args=(GRACE, 128 + signum), daemon=True).start()
        if not self._deferred:
            raise Stopped(signum)

    def _unheard(self, others: Callable[[Any], None]) -> Callable[[Any], None]:
        """What takes the exceptions that nobody can catch: Python drops those raised within the callback of a weak reference, or a
        finalizer, and goes on. A stop that is lost so is sent again.
        """

        def take(lost: Any) -> None:
            if not isinstance(lost.exc_value, Stopped):
                others(lost)
                return
            self.signum = None
            threading.Timer(AGAIN, os.kill, (os.getpid(), lost.exc_value.signum)).start()

        return take

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

    def heeded(self, items: Iterable[T]) -> Iterator[T]:
        """`items`, as long as no signal has come: for what may be broken off between two of them, although signals are deferred.

        Raises:
            Stopped: one has come.
        """
        for item in items:
            if self.signum is not None:
                raise Stopped(self.signum)
            yield item


STOP = Stop()
"""A process has one: signals are the process's."""


def _end_after(seconds: float, code: int) -> None:
    time.sleep(seconds)
    os._exit(code)


def end_with(pids: list[int]) -> None:
    """End this process, as by SIGTERM, when one of the processes `pids` has ended: nobody waits for its result any more."""

    def watch() -> None:
        with suppress(psutil.NoSuchProcess):  # it has ended before it could be looked at
            watched = [psutil.Process(pid) for pid in pids]
            while all(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in watched):
                time.sleep(POLL)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parents", daemon=True).start()


def starters() -> list[int]:
    """The processes between this one, which DVC has started, and DVC; the last one is DVC.

    DVC sets DVC_STAGE for what it starts (a shell, perhaps a launcher, this) and has none itself. Where DVC was killed while this process
    was starting, whoever adopts orphans stands in its place, and in another process group than the orphan: this process is to end too.
    """
    chain = [psutil.Process()]
    while "DVC_STAGE" in _environment(chain[-1]) and (parent := chain[-1].parent()) is not None:
        chain.append(parent)
    if len(chain) > 1 and _group(chain[-2]) != _group(chain[-1]):
        os.kill(os.getpid(), signal.SIGTERM)
    return [process.pid for process in chain[1:]]


def _group(process: psutil.Process) -> int | None:
    """The process group of `process`; None where it has ended."""
    with suppress(ProcessLookupError):
        return os.getpgid(process.pid)
    return None


def _environment(process: psutil.Process) -> dict[str, str]:
    """What `process` was started with; empty where it is another user's."""
    with suppress(psutil.Error):
        return dict(process.environ())
    return {}
