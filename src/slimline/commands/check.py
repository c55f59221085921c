"""`slimline check`."""

import argparse

from slimline.commands.command import Commands
from slimline.errors import SlimlineError
from slimline.params.data import Data
from slimline.params.file import load
from slimline.paths import Paths


def declare(commands: Commands) -> None:
    commands.add_parser("check", help="check params.yaml as a whole").set_defaults(run=check)


def check(paths: Paths, _given: argparse.Namespace) -> None:
    """Refuse a params.yaml that cannot be, before any stage runs."""
    source = load(paths.params).block("data", Data).source["path"]
    if not (paths.root / source).exists():
        raise SlimlineError(f"{paths.params}: data.source.path: '{source}' does not exist; put the images there or name another path")
    print(f"{paths.params}: no fault found")
