"""`slimline repro`."""

import argparse
import sys

from slimline.commands.command import Commands, end_with_terminal
from slimline.errors import SlimlineError
from slimline.paths import Paths, store_root


def declare(commands: Commands) -> None:
    # Without prefix characters all that follows is dvc's, options too; else argparse takes a leading `--force` for its own.
    reproducing = commands.add_parser(
        "repro", help="dvc repro, alone in the repository; a signal ends all of it, and the next one goes on", prefix_chars="\0", add_help=False
    )
    reproducing.add_argument("arguments", nargs=argparse.REMAINDER, help="handed to dvc repro")
    reproducing.set_defaults(run=repro)


def repro(paths: Paths, given: argparse.Namespace) -> None:
    """Run what is stale of the pipeline, and nothing beside it; then tell MLflow what became of it, unless a signal leaves no time for that."""
    from slimline.runtime.recorded import sync
    from slimline.runtime.reproduction import reproduce, signalled
    from slimline.tracking.journal import journals

    end_with_terminal()
    before = _locks(paths)
    code = reproduce(paths.root, given.arguments)
    if not signalled(code) and (_locks(paths) != before or journals(Paths(store_root(paths.root)).spool)):
        try:
            problem = sync(paths)
        except SlimlineError as error:
            problem = str(error)
        if problem:  # the pipeline does not hang on it
            print(f"slimline: {problem}; slimline sync tells MLflow the rest", file=sys.stderr)
    if code:
        sys.exit(code)


def _locks(paths: Paths) -> list[bytes]:
    return [lock.read_bytes() for lock in paths.locks if lock.exists()]
