"""A process that runs trials for the driver, one after another: importing Lightning takes longer than a small trial.

It knows no study. When the driver is gone it ends; when it is killed, the driver hands its trial to another one.
"""

import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

from slimline.errors import SlimlineError
from slimline.runtime.stopping import end_with
from slimline.sweep.asked import Place

CONTEXT = get_context("forkserver")
"""All workers are forked from one process that has imported what they need and computed nothing, so that the second one, and whoever takes
the place of one that was killed, is there at once. The driver itself could not be forked: it may have threads.
"""

CONTEXT.set_forkserver_preload(["slimline.sweep.trial"])


PATIENCE = 5.0
"""Seconds that an idle worker may take to end by itself."""

PAUSES = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds before each attempt to start a worker. What it is forked from may have died meanwhile; while it dies, it has closed its socket but
still counts as running, so that trying again at once is no help.
"""


@dataclass(frozen=True)
class Refused:
    """What was asked for cannot be; `reason` in one line."""

    reason: str


@dataclass(frozen=True)
class Broken:
    """An error of ours, with its traceback."""

    text: str


class Worker:
    """The driver's end of one such process; `task` is what it is at.

    Raises:
        SlimlineError: none can be started.
    """

    def __init__(self, place: Place) -> None:
        os.environ["TQDM_DISABLE"] = "1"  # the driver shows how far all of it is
        self.process, self.connection = _started(place)
        self.task: Any = None

    def give(self, task: Any, method: str, *arguments: Any) -> None:
        """Have it call `method` of its `Trials`."""
        self.task = task
        with suppress(OSError):  # it has died, which whoever waits for its answer sees
            self.connection.send((method, arguments))

    def take(self) -> Any:
        """Its answer.

        Raises:
            EOFError: it has died.
        """
        try:
            answer = self.connection.recv()
        except (OSError, EOFError) as error:
            raise EOFError from error
        self.task = None
        return answer

    def end(self) -> None:
        """End it; if it is at something, by killing it: whatever that writes is written whole or not at all."""
        self.connection.close()
        if self.task is None:
            self.process.join(PATIENCE)
        self.process.kill()
        self.process.join()


def _started(place: Place) -> tuple[ForkServerProcess, Connection]:
    """Such a process, and the driver's end of the pipe to it. What it is forked from may be killed meanwhile: then another one is tried."""
    problem: Exception | None = None
    for pause in PAUSES:
        time.sleep(pause)
        ours, other = CONTEXT.Pipe()  # a new one: a child that was forked and not told of has the end of the last
        process = CONTEXT.Process(target=_work, args=(place, other, os.getpid()), name="slimline sweep worker", daemon=True)
        try:
            process.start()
            return process, ours
        except (OSError, EOFError) as error:
            problem = error
            ours.close()
        finally:
            other.close()
    raise SlimlineError(f"no worker can be started ({problem!r}); is there memory left, and leave for more processes?") from problem


def _work(place: Place, connection: Connection, driver: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the driver ends its workers
    end_with([driver])
    sys.path.insert(0, str(place.base))
    from slimline.runtime.launch import KilledError  # what takes long is imported here, so that a driver need not wait for its own
    from slimline.sweep.trial import Trials

    trials = Trials(place)
    while True:
        try:
            method, arguments = connection.recv()
        except (EOFError, OSError):  # the driver is gone; a reset where it has left an answer unread
            return
        try:
            answer = getattr(trials, method)(*arguments)
        except KilledError:
            return  # one of several processes that a trial was run in: as if it had been this one
        except SlimlineError as error:
            answer = Refused(" ".join(str(error).split()))
        except Exception:
            answer = Broken(traceback.format_exc())
        try:
            connection.send(answer)
        except OSError:
            return
