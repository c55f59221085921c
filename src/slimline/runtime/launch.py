"""Several processes of one stage on this machine, started and ended together.

torchrun does the same over several machines and is taken instead where there are any (`SLIMLINE_LAUNCH`); here one line says why a
run ended, and no process outlives another by more than `stopping.GRACE` seconds.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from slimline.errors import SlimlineError
from slimline.runtime.refusal import REFUSALS
from slimline.runtime.stopping import GRACE

POLL = 0.05
PARTING = 2.0
"""Seconds that the others get after one has failed: time to say the same, should they have found it out by themselves."""

STOPPED = (128 + signal.SIGTERM, 128 + signal.SIGINT)
"""Exit codes of a process that a signal has ended in an orderly way."""

SUPERVISOR = "SLIMLINE_SUPERVISOR"
"""Process number of whoever started the ranks; they end when it does."""


class KilledError(SlimlineError):
    """One of the processes was killed; what they were asked for may be right."""


def free_port() -> int:
    """A port of this machine that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_together(command: Sequence[str], ranks: int) -> int:
    """Run `command` as `ranks` processes that find each other by torchrun's variables; return its exit code.

    A signal goes on to all of them. When one fails the others are ended.

    Raises:
        KilledError: one was killed, which it could not say itself.
        SlimlineError: what the first of those that refused has told.
    """
    told, telling = os.pipe()
    os.set_blocking(told, False)
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    common = {**os.environ, **meeting, SUPERVISOR: str(os.getpid()), REFUSALS: str(telling)}
    heard: list[int] = []

    def hear(signum: int, _frame: FrameType | None) -> None:
        heard.append(signum)

    heeded = {number: signal.signal(number, hear) for number in (signal.SIGTERM, signal.SIGINT)}
    processes = [subprocess.Popen(command, env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}, pass_fds=(telling,)) for rank in range(ranks)]
    try:
        while not heard and all(process.poll() in (None, 0) for process in processes):
            if all(process.returncode == 0 for process in processes):
                return 0
            time.sleep(POLL)
        failed = [(rank, process.returncode) for rank, process in enumerate(processes) if process.returncode not in (None, 0)]
        if heard:
            _send(processes, heard[0])
        stopped = heard or any(code in STOPPED for _, code in failed)  # one that was asked to end by itself has told the others
        _await(processes, GRACE + 1 if stopped else PARTING)
    finally:
        _send(processes, signal.SIGKILL)
        for process in processes:
            process.wait()
        for number, handler in heeded.items():
            signal.signal(number, handler)
        refusals = _heard(told)
        os.close(told)
        os.close(telling)
    if heard:
        for line in refusals[:1]:
            print(f"slimline: {line}", file=sys.stderr, flush=True)
        return 128 + heard[0]
    for rank, code in failed:
        if code < 0:
            name = signal.Signals(-code).name
            raise KilledError(
                f"process {rank} of {ranks} was killed by {name} (SIGKILL: perhaps for memory); all were ended; run again, and the stage goes on "
                "from its last checkpoint"
            )
    if refusals:
        raise SlimlineError(refusals[0])
    return failed[0][1]


def _heard(pipe: int) -> list[str]:
    """The lines that lie in `pipe`."""
    try:
        return os.read(pipe, 2**16).decode().splitlines()
    except BlockingIOError:
        return []


def _send(processes: Sequence[subprocess.Popen[bytes]], signum: int) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signum)


def _await(processes: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(process.poll() is None for process in processes):
        time.sleep(POLL)


def own_command() -> list[str]:
    """The command line of this process."""
    return [sys.executable, *sys.argv]
