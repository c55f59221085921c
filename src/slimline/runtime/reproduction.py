"""`slimline repro`: `dvc repro`, alone in its workspace and ended as a whole."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

import psutil

from slimline.errors import SlimlineError
from slimline.paths import Paths, repository_root
from slimline.runtime.lockfiles import mend
from slimline.runtime.locks import held
from slimline.runtime.refusal import BAD_INPUT, REFUSED
from slimline.runtime.stopping import GRACE

LOCK = "repro.lock"
"""Held by whoever runs the pipeline."""

POLL = 0.05
PR_SET_PDEATHSIG = 1
"""Linux's word for: tell me by a signal when my parent dies."""

SIGNALS = 128
"""What the exit code of whom a signal has ended adds to its number. DVC's own failure is 255, which is none."""

LAST = GRACE + 1.5
"""Seconds from a signal to the end of this program, whatever it does after the pipeline: where a disk is busy, each file can take half a minute."""

LEAST, PATIENCE = 64 * 1024, 30.0
"""Bytes below which a disk is full, and seconds that DVC has to notice: its database of hashes tries again for ever."""


class FullError(SlimlineError):
    """The disk of the workspace is full."""


def mended(workspace: Path) -> list[str]:
    """`lockfiles.mend` in the repository of `workspace`, while nobody runs its pipeline.

    Raises:
        SlimlineError: somebody does.
    """
    root = repository_root(workspace)
    with held(Paths(root).scratch / LOCK, f"{root}"):
        return mend(root)


def reproduce(workspace: Path, arguments: Sequence[str]) -> int:
    """Run `dvc repro` with `arguments` in `workspace`; return its exit code, `BAD_INPUT` where a stage has refused, or 128 + signal.

    A signal reaches every process that takes part, as SIGINT, which DVC waits through and stages end at with a checkpoint; who has not
    ended after `GRACE` seconds is killed. When this returns none of them is left, and the caller has until `LAST`; then this program is ended.

    Raises:
        FullError: for `PATIENCE` seconds no room was left on the disk, and nobody had ended by that; all of it is ended now.
        SlimlineError: another one is at work in this repository.
    """
    root = repository_root(workspace)
    scratch = Paths(root).scratch
    with held(scratch / LOCK, f"{root}"):
        _mend(root)
        refused = scratch / "refused"
        refused.unlink(missing_ok=True)
        heard: list[int] = []

        def hear(signum: int, _frame: FrameType | None) -> None:
            if not heard:
                end = threading.Timer(LAST, os._exit, (SIGNALS + signum,))
                end.daemon = True
                end.start()
            heard.append(signum)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, hear)
        # The stages' `python` is this one, not another on the PATH.
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}", REFUSED: str(refused)}
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro", *arguments], cwd=workspace, env=environment, start_new_session=True, preexec_fn=end_with_parent
        )
        told = full = False
        deadline, roomy = float("inf"), time.monotonic()
        while process.poll() is None or _lives(process.pid):
            if _room(root) >= LEAST:
                roomy = time.monotonic()
            full = full or time.monotonic() - roomy > PATIENCE
            # Stages that have lost DVC end by themselves too, but later.
            if not told and (heard or full or process.poll() is not None):
                told, deadline = True, time.monotonic() + GRACE + 1
                _tell(process.pid, signal.SIGINT)
            if time.monotonic() > deadline:
                break
            time.sleep(POLL)
        _tell(process.pid, signal.SIGKILL)
        code = process.wait()
        while _lives(process.pid):
            time.sleep(POLL)
        if heard:
            return SIGNALS + heard[0]
        if full:
            raise FullError(f"{root}: no room is left on this disk; make some (dvc gc --workspace), and the next run goes on")
        _mend(root)
        if refused.exists():
            return BAD_INPUT
        return SIGNALS - code if code < 0 else code


def _mend(root: Path) -> None:
    for line in mend(root):
        print(f"slimline: {line}", file=sys.stderr, flush=True)


def signalled(code: int) -> bool:
    """Whether `code`, of `reproduce`, says that a signal has ended it."""
    return SIGNALS < code < SIGNALS + signal.NSIG


def end_with_parent() -> None:
    """In a child, before its program: be told when this program is killed, since then nobody passes signals on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _tell(group: int, signum: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signum)


def _room(place: Path) -> int:
    """Bytes that this user can still write there; enough where a file system, as some of networks, does not count them."""
    disk = os.statvfs(place)
    if not disk.f_blocks:
        return LEAST
    return disk.f_frsize * (disk.f_bavail if os.geteuid() else disk.f_bfree)


def _lives(group: int) -> bool:
    """Whether a process of `group` is left; one that has ended, and for which nobody has asked, is none."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return any(_at_work(process, group) for process in psutil.process_iter())


def _at_work(process: psutil.Process, group: int) -> bool:
    with suppress(ProcessLookupError, psutil.NoSuchProcess):
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    return False
