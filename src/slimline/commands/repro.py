"""`slimline repro`."""

import argparse
import sys

from slimline.commands.command import Commands
from slimline.paths import Paths


def declare(commands: Commands) -> None:
    # Without prefix characters all that follows is dvc's, options too; else argparse takes a leading `--force` for its own.
    reproducing = commands.add_parser(
        "repro", help="dvc repro, alone in the repository; a signal ends all of it, and the next one goes on", prefix_chars="\0", add_help=False
    )
    reproducing.add_argument("arguments", nargs=argparse.REMAINDER, help="handed to dvc repro")
    reproducing.set_defaults(run=repro)


def repro(paths: Paths, given: argparse.Namespace) -> None:
    """Run what is stale of the pipeline, and nothing beside it."""
    from slimline.runtime.reproduction import reproduce

    if code := reproduce(paths.root, given.arguments):
        sys.exit(code)
