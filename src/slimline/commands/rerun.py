"""`slimline rerun`."""

import argparse
import json
import os
import sys

from slimline.commands.command import Commands
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
    from slimline.rerun.settings import FILE, load
    from slimline.rerun.tick import tick
    from slimline.runtime.stopping import STOP, Stopped

    def again() -> None:
        sys.stdout.flush()
        os.dup2(printed.fileno(), 1)
        os.execve(sys.executable, [sys.executable, "-c", "from slimline.cli import main; main()", *sys.argv[1:]], {**os.environ, PULLED: "1"})

    printed = os.fdopen(os.dup(1), "w")
    if given.json:  # then standard output is for programs, and what stages print for people goes beside it
        os.dup2(2, 1)
    settings = load(paths.root / FILE)
    if PULLED in os.environ:
        settings = settings.model_copy(update={"code": settings.code.model_copy(update={"pull": False})})
    try:
        STOP.listen()
        summary = tick(paths, settings, again)
    except Stopped as stopped:  # before its work began
        print(f"slimline: {stopped}", file=sys.stderr)
        sys.exit(128 + stopped.signum)
    print(json.dumps(summary.record(), indent=2) if given.json else summary.text(), file=printed, flush=True)
    sys.exit(0 if summary.outcome in given.well else summary.code)
