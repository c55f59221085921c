"""`slimline sync`."""

import argparse

from slimline.commands.command import Commands
from slimline.errors import SlimlineError
from slimline.paths import Paths


def declare(commands: Commands) -> None:
    commands.add_parser("sync", help="send to MLflow what waits for it, and tell it which run made what dvc.lock names").set_defaults(run=sync)


def sync(paths: Paths, _given: argparse.Namespace) -> None:
    """Bring MLflow up to date."""
    from slimline.runtime.recorded import sync as synchronized

    if problem := synchronized(paths):
        raise SlimlineError(f"{problem}; what waits is kept, run slimline sync again")
