"""`slimline trace`."""

import argparse
import json

from slimline.commands.command import Commands
from slimline.params.file import load
from slimline.params.tracking import Tracking
from slimline.paths import Paths, store_root


def declare(commands: Commands) -> None:
    tracing = commands.add_parser(
        "trace", help="where a model came from: data, parameters, commits, runs and scores of every stage before and after it"
    )
    tracing.add_argument("thing", metavar="X", help="a file, its md5, an MLflow run, an alias of the registered model, or a git revision")
    tracing.add_argument("--json", action="store_true", help="print JSON")
    tracing.set_defaults(run=trace)


def trace(paths: Paths, given: argparse.Namespace) -> None:
    """Print the chain of a thing."""
    from slimline.runtime.trace import told
    from slimline.runtime.trace import trace as traced
    from slimline.tracking.journal import resolved_uri
    from slimline.tracking.lineage import Archive

    tracking = load(paths.params).block("tracking", Tracking)
    chain = traced(given.thing, paths, Archive(resolved_uri(tracking.uri, store_root(paths.root)), tracking.model))
    print(json.dumps(chain.plain(), indent=2) if given.json else told(chain))
