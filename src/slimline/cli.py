"""`slimline …`: everything that is not a stage of the pipeline."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from slimline.commands import COMMANDS
from slimline.errors import SlimlineError
from slimline.paths import Paths
from slimline.runtime.refusal import refusing


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; on bad input print one line and exit with 2."""
    parser = argparse.ArgumentParser(prog="slimline", description="A small, fast image classifier from a folder of images, with the proof.")
    parser.add_argument("--workspace", type=Path, default=Path(), help="folder that holds params.yaml (default: the current one)")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        import_module(f"slimline.commands.{name}").declare(commands)
    given = parser.parse_args(arguments)
    workspace = given.workspace.resolve()
    sys.path.insert(0, str(workspace))
    with refusing():
        if not workspace.is_dir():
            raise SlimlineError(f"{workspace}: no such folder; name a workspace by --workspace")
        try:
            given.run(Paths(workspace), given)
            sys.stdout.flush()
        except BrokenPipeError:  # whoever read has seen enough, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
