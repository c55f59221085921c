"""`slimline rerun`."""

import argparse
import json
import os
import sys
import traceback
from contextlib import suppress

from slimline.commands.command import Commands, end_with_terminal
from slimline.errors import SlimlineError
from slimline.paths import Paths

PULLED = "SLIMLINE_PULLED"
"""Set where a tick goes on with code that it has just pulled."""


def declare(commands: Commands) -> None:
    rerunning = commands.add_parser(
        "rerun", help="one tick: take in what is new, run what is stale, promote or keep, tell; docs/operations.md has its exit codes"
    )
    rerunning.add_argument("--json", action="store_true", help="print JSON")
    rerunning.add_argument(
        "--well",
        action="append",
        default=[],
        choices=("kept", "busy"),
        help="an outcome that whoever starts the tick does not call a failure: exit with 0",
    )
    rerunning.set_defaults(run=rerun)


def rerun(paths: Paths, given: argparse.Namespace) -> None:
    """Do one tick, print what came of it, and exit with the code of its outcome."""
    from slimline.rerun.summary import CODES, FAILED

    try:
        code = _rerun(paths, given)
    except (SlimlineError, OSError):
        raise
    except Exception:  # a bug; the code that Python ends with then, 1, is that of an outcome
        traceback.print_exc()
        code = CODES[FAILED]
    sys.exit(code)


def _rerun(paths: Paths, given: argparse.Namespace) -> int:
    """Do one tick and print what came of it; the exit code."""
    from slimline.rerun.settings import FILE, Rerun, load
    from slimline.rerun.tick import tick
    from slimline.runtime.stopping import STOP, Stopped

    def settings() -> Rerun:
        found = load(paths.root / FILE)
        return found.model_copy(update={"code": found.code.model_copy(update={"pull": False})}) if PULLED in os.environ else found

    def again() -> None:
        sys.stdout.flush()
        os.dup2(printed.fileno(), 1)
        os.execve(sys.executable, [sys.executable, "-c", "from slimline.cli import main; main()", *sys.argv[1:]], {**os.environ, PULLED: "1"})

    printed = os.fdopen(os.dup(1), "w")
    if given.json:  # then standard output is for programs, and what stages print for people goes beside it
        os.dup2(2, 1)
    end_with_terminal()
    try:
        STOP.listen()
        summary = tick(paths, settings, again)
    except Stopped as stopped:  # before its work began
        print(f"slimline: {stopped}", file=sys.stderr)
        return 128 + stopped.signum
    with suppress(OSError):  # nobody looks, or the disk is full: the code says it too
        print(json.dumps(summary.record(), indent=2) if given.json else summary.text(), file=printed, flush=True)
    return 0 if summary.outcome in given.well else summary.code
