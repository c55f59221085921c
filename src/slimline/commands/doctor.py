"""`slimline doctor`."""

import argparse
import sys

from slimline.commands.command import Commands
from slimline.params.file import load
from slimline.params.hardware import Hardware
from slimline.params.tracking import Tracking
from slimline.paths import Paths, store_root

FAULT = 1
"""Exit code where something is to be done."""


def declare(commands: Commands) -> None:
    commands.add_parser(
        "doctor", help="what could go wrong here: store, permissions, disk, DVC, versions, GPU; each fault with its remedy"
    ).set_defaults(run=doctor)


def doctor(paths: Paths, _given: argparse.Namespace) -> None:
    """Print every finding; a fault's line begins with a cross."""
    from slimline.runtime.doctor import local
    from slimline.tracking.health import examined
    from slimline.tracking.journal import resolved_uri

    params = load(paths.params)
    tracking = params.block("tracking", Tracking)
    faults = 0
    for parts in (
        local(paths, params.block("hardware", Hardware)),
        examined(resolved_uri(tracking.uri, store_root(paths.root)), tracking.experiment),
    ):
        for one in parts:
            faults += bool(one.remedy)
            print(f"{'✗' if one.remedy else '✓'} {one.about:<12} {one.fact}{f': {one.remedy}' if one.remedy else ''}", flush=True)
    if faults:
        sys.exit(FAULT)
