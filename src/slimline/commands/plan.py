"""`slimline plan`."""

import argparse
import json
import sys
from dataclasses import asdict

from slimline.commands.command import Commands
from slimline.errors import SlimlineError
from slimline.params.file import load
from slimline.params.tracking import Tracking
from slimline.paths import Paths, store_root


def declare(commands: Commands) -> None:
    planning = commands.add_parser("plan", help="which stages would run, why, and how long they took last; nothing is started")
    planning.add_argument("--json", action="store_true", help="print JSON")
    planning.set_defaults(run=plan)


def plan(paths: Paths, given: argparse.Namespace) -> None:
    """Print which stages are stale, and why."""
    from slimline.runtime.plan import plan as planned
    from slimline.runtime.plan import told

    params = load(paths.params)
    stages = planned(paths)
    seconds: dict[str, float] = {}
    if stages:
        from slimline.tracking.journal import resolved_uri
        from slimline.tracking.mlflow import last_seconds  # two seconds

        tracking = params.block("tracking", Tracking)
        try:
            seconds = last_seconds(resolved_uri(tracking.uri, store_root(paths.root)), tracking.experiment, [one.stage for one in stages])
        except SlimlineError as error:  # the plan does not hang on it
            print(f"slimline: {error}", file=sys.stderr)
    print(json.dumps([asdict(one) | {"last_seconds": seconds.get(one.stage)} for one in stages], indent=2) if given.json else told(stages, seconds))
