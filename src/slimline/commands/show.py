"""`slimline show` and `slimline record`: the last run as a table."""

import argparse
from typing import Any

from slimline.commands.command import Commands
from slimline.errors import SlimlineError
from slimline.files import write_json, write_text
from slimline.params.evaluate import Evaluate
from slimline.params.file import Params, load
from slimline.params.tracking import Tracking
from slimline.paths import Paths
from slimline.report.record import made, renewed, results, rows, table
from slimline.runtime.results import read


def declare(commands: Commands) -> None:
    commands.add_parser("show", help="table of the models that the last run made").set_defaults(run=show)
    commands.add_parser("record", help="write the last run into results.json and the table of README.md").set_defaults(run=record)


def show(paths: Paths, _given: argparse.Namespace) -> None:
    """Print every model of the last run beside the teacher, and where to look further."""
    params = load(paths.params)
    values = _last_run(paths, params)
    header, *body = rows(values)
    widths = [max(len(row[column]) for row in (header, *body)) for column in range(len(header))]
    print()
    for row in (header, ["-" * width for width in widths], *body):
        print(
            "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(zip(row, widths, strict=True)))
        )
    print(f"\n{made(values)}\n")
    print(f"Report:  {paths.report}")
    print(f"Runs:    make ui, then http://127.0.0.1:5000 (experiment {params.block('tracking', Tracking).experiment})")


def record(paths: Paths, _given: argparse.Namespace) -> None:
    """Write the last run into results.json and into the table of README.md, both beside params.yaml."""
    values = _last_run(paths, load(paths.params))
    if values["dirty"]:
        raise SlimlineError("this run's code or parameters are in no commit, so a record could not name them; commit, run dvc repro, record")
    if not paths.readme.exists():
        raise SlimlineError(f"{paths.readme}: no such file; write the experiment's question there first")
    readme = renewed(paths.readme.read_text(), values)
    write_json(paths.results, values)
    write_text(paths.readme, readme)


def _last_run(paths: Paths, params: Params) -> dict[str, Any]:
    """What `results.json` holds of the last run.

    Raises:
        SlimlineError: there was none, it could not evaluate a model, or its files were damaged.
    """
    scorecard, latency = read(paths.scorecard), read(paths.latency)
    try:
        values = results(scorecard, latency, seed=params.seed, confidence=params.block("evaluate", Evaluate).confidence)
        table(values)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        refused = scorecard.get("refused") if isinstance(scorecard, dict) else None
        if isinstance(refused, dict) and refused:
            name, reason = next(iter(refused.items()))
            raise SlimlineError(f"{paths.scorecard}: the last run could not evaluate the {name} ({reason}); mend that, then dvc repro") from error
        raise SlimlineError(f"{paths.scorecard} or {paths.latency.name} was not written by evaluate; run dvc repro --force evaluate") from error
    return values
