"""`slimline adopt`: what a sweep found, into params.yaml."""

import argparse

from slimline.commands.command import Commands
from slimline.paths import Paths


def declare(commands: Commands) -> None:
    adopting = commands.add_parser("adopt", help="write the values that a sweep recommends into the params.yaml that it started from")
    adopting.add_argument("folder", help="a folder that holds a sweep's best.yaml, or its name under experiments/")
    adopting.add_argument("--trial", type=int, help="of the sweep's front (default: the recommended one)")
    adopting.set_defaults(run=adopt)


def adopt(paths: Paths, given: argparse.Namespace) -> None:
    """Change params.yaml, and show the difference and the scores to expect."""
    from slimline.sweep.adopt import adopt as adopted
    from slimline.sweep.outcome import folder_of

    print(adopted(folder_of(paths.root, given.folder), given.trial))
