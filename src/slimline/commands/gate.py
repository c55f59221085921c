"""`slimline gate`: may the quantized model of the last run be shipped?"""

import argparse
import json
import sys

from slimline.commands.command import Commands
from slimline.errors import SlimlineError
from slimline.params.evaluate import Evaluate, Gates
from slimline.params.file import load
from slimline.paths import Paths
from slimline.runtime.results import read

FAILED = 1
"""Exit code where a gate does not pass."""


def declare(commands: Commands) -> None:
    gating = commands.add_parser("gate", help="whether the last run keeps the limits of evaluate.gates; exits with 1 if not")
    gating.add_argument("--json", action="store_true", help="print JSON")
    gating.set_defaults(run=gate)


def gate(paths: Paths, given: argparse.Namespace) -> None:
    """Print which gates passed and which failed."""
    from slimline.evaluation.gates import table

    limits = load(paths.params).block("evaluate", Evaluate).gates.limits
    if not limits:
        raise SlimlineError(f"{paths.params}: evaluate.gates sets no limit; put one there: {', '.join(Gates.model_fields)}")
    judged = read(paths.gates)
    try:
        if {name: one["limit"] for name, one in judged["gates"].items()} != limits:
            raise SlimlineError(f"{paths.gates} was made with other limits than evaluate.gates has now; run dvc repro")
        told, passed = table(judged), [judged["passed"], *(one["passed"] for one in judged["gates"].values())]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise SlimlineError(f"{paths.gates} was not written by evaluate; run dvc repro --force evaluate") from error
    print(json.dumps(judged, indent=2) if given.json else told)
    if not all(one is True for one in passed):
        sys.exit(FAILED)
