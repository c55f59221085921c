"""`slimline register` and `slimline rollback`."""

import argparse
import sys

from slimline.commands.command import Commands
from slimline.paths import Paths

NOT_PROMOTED = 1
"""Exit code where the model is registered, but may not be champion."""


def declare(commands: Commands) -> None:
    registering = commands.add_parser("register", help="register the quantized model; make it champion if its gates pass and it is not worse")
    registering.add_argument("--why", default="slimline register", help="kept with every move of an alias")
    registering.add_argument("--again", action="store_true", help="let a version be champion that was rolled back")
    registering.set_defaults(run=register)
    rolling = commands.add_parser("rollback", help="champion and previous of the registered model change places")
    rolling.add_argument("--why", default="slimline rollback", help="kept with the move")
    rolling.set_defaults(run=rollback)


def register(paths: Paths, given: argparse.Namespace) -> None:
    """Register what `quantize` made as challenger, and promote it unless something speaks against it."""
    from slimline.runtime import promotion

    decision = promotion.register(paths, why=given.why, again=given.again)
    version = f"version {decision.version} of {decision.model}"
    if decision.champion:
        print(f"{version} is champion: {decision.reason}")
    else:
        print(f"{version} is registered, as challenger")
        print(f"slimline: it is not made champion: {decision.reason}", file=sys.stderr)
        sys.exit(NOT_PROMOTED)


def rollback(paths: Paths, given: argparse.Namespace) -> None:
    """Go back to the champion before."""
    from slimline.runtime import promotion

    champion, previous = promotion.rollback(paths, why=given.why)
    print(f"version {champion.version} of {champion.model} is champion again, version {previous} previous")
