"""`slimline …`: everything that is not a stage of the pipeline."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from slimline.errors import SlimlineError
from slimline.files import write_bytes, write_csv, write_json, write_text
from slimline.params.data import Data
from slimline.params.evaluate import Evaluate
from slimline.params.file import Params, load
from slimline.params.hardware import Hardware
from slimline.params.prune import Prune
from slimline.params.quantize import Quantize
from slimline.params.tracking import Tracking
from slimline.paths import Paths, repository_root
from slimline.report.record import made, renewed, results, rows
from slimline.runtime.refusal import refusing

WELL_KNOWN = ("mnist", "fashion_mnist", "cifar10")
"""What `data.fetch.datasets` gives, which help need not wait half a second for."""

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Of each layer, that `sensitivity` tries."""

DRIFT = 1
"""Exit code of `data diff` above its limit."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; on bad input print one line and exit with 2."""
    parser = argparse.ArgumentParser(prog="slimline", description="A small, fast image classifier from a folder of images, with the proof.")
    parser.add_argument("--workspace", type=Path, default=Path(), help="folder that holds params.yaml (default: the current one)")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("check", help="check params.yaml as a whole").set_defaults(run=check)
    commands.add_parser("show", help="table of the models that the last run made").set_defaults(run=show)
    commands.add_parser("record", help="write the last run into results.json and the table of README.md").set_defaults(run=record)
    planning = commands.add_parser("plan", help="which stages would run, why, and how long they took last; nothing is started")
    planning.add_argument("--json", action="store_true", help="print JSON")
    planning.set_defaults(run=plan)
    # Without prefix characters all that follows is dvc's, options too; else argparse takes a leading `--force` for its own.
    reproducing = commands.add_parser(
        "repro", help="dvc repro, alone in the repository; a signal ends all of it, and the next one goes on", prefix_chars="\0", add_help=False
    )
    reproducing.add_argument("arguments", nargs=argparse.REMAINDER, help="handed to dvc repro")
    reproducing.set_defaults(run=repro)
    sensing = commands.add_parser("sensitivity", help="accuracy of the student when single layers are pruned, as CSV and as a picture")
    sensing.add_argument("--points", type=float, default=1.0, help="of accuracy that a layer may cost in the limits printed (default: %(default)s)")
    sensing.set_defaults(run=sensitivity)
    fetching = commands.add_parser("fetch", help="download a well-known data set into data/raw")
    fetching.add_argument("name", help=", ".join(WELL_KNOWN))
    fetching.set_defaults(run=fetch)
    about_data = commands.add_parser("data", help="questions about prepared data").add_subparsers(dest="about", required=True, metavar="COMMAND")
    about_data.add_parser("show", help="make a page of the prepared images and of what is odd about them").set_defaults(run=data_show)
    comparing = about_data.add_parser("diff", help="what changed between two versions, and whether it is more than chance")
    for side in ("before", "after"):
        comparing.add_argument(side, help="a folder of prepared data, a git revision, or . for what is prepared now")
    comparing.add_argument("--json", action="store_true", help="print JSON")
    comparing.add_argument("--limit", type=_index, help="exit with 1 if a population stability index that chance does not explain is above this")
    comparing.set_defaults(run=data_diff)
    predicting = commands.add_parser("predict", help="classes of images and how probable they are, by a model as it is shipped")
    predicting.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    predicting.add_argument("--model", type=Path, required=True, help="folder with model.onnx or model.slim, or one of these files")
    predicting.add_argument("--top", type=_count, default=3, help="so many classes an image (default: 3)")
    predicting.add_argument("--json", action="store_true", help="print JSON, all classes")
    predicting.add_argument(
        "--resize", choices=("fit", "pad", "crop"), help="as in data.resize (default: as the images were made that the model learned from)"
    )
    predicting.add_argument("--background", type=int, help="as in data.background (default: likewise)")
    predicting.add_argument("--threads", type=_count, default=1)
    predicting.set_defaults(run=predict)
    allocating = commands.add_parser("bits", help="how many bits each layer of a model bears, and which to give it within a budget")
    allocating.add_argument("--model", default="pruned", help="folder under models/ (default: pruned)")
    allocating.add_argument("--widths", default="8,6,5,4,3,2", help="widths that a layer may get (default: 8,6,5,4,3,2)")
    budget = allocating.add_mutually_exclusive_group(required=True)
    budget.add_argument("--bytes", type=float, help="of all weights, before entropy coding")
    budget.add_argument("--drop", type=float, help="of validation accuracy, added up over layers: 0.01 is one point")
    allocating.set_defaults(run=bits)
    given = parser.parse_args(arguments)
    workspace = given.workspace.resolve()
    sys.path.insert(0, str(workspace))
    with refusing():
        try:
            given.run(Paths(workspace), given)
            sys.stdout.flush()
        except BrokenPipeError:  # whoever read has seen enough, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _index(text: str) -> float:
    """A stability index: a number that is not below zero."""
    if not float(text) >= 0:  # so put, NaN is refused too
        raise ValueError
    return float(text)


def _count(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1 on")
    return int(text)


def check(paths: Paths, _given: argparse.Namespace) -> None:
    """Refuse a params.yaml that cannot be, before any stage runs."""
    source = load(paths.params).block("data", Data).source["path"]
    if not (paths.root / source).exists():
        raise SlimlineError(f"{paths.params}: data.source.path: '{source}' does not exist; put the images there or name another path")
    print(f"{paths.params}: no fault found")


def repro(paths: Paths, given: argparse.Namespace) -> None:
    """Run what is stale of the pipeline, and nothing beside it."""
    from slimline.runtime.reproduction import reproduce

    if code := reproduce(paths.root, given.arguments):
        sys.exit(code)


def plan(paths: Paths, given: argparse.Namespace) -> None:
    """Print which stages are stale, and why."""
    from slimline.runtime.plan import plan as planned
    from slimline.runtime.plan import told

    params = load(paths.params)
    stages = planned(paths)
    seconds: dict[str, float] = {}
    if stages:
        from slimline.tracking.mlflow import last_seconds, resolved_uri  # two seconds

        tracking = params.block("tracking", Tracking)
        try:
            seconds = last_seconds(resolved_uri(tracking.uri, repository_root(paths.root)), tracking.experiment, [one.stage for one in stages])
        except SlimlineError as error:  # the plan does not hang on it
            print(f"slimline: {error}", file=sys.stderr)
    print(json.dumps([asdict(one) | {"last_seconds": seconds.get(one.stage)} for one in stages], indent=2) if given.json else told(stages, seconds))


def fetch(paths: Paths, given: argparse.Namespace) -> None:
    """Download a data set and print what to write into params.yaml."""
    from slimline.data.fetch import fetch as fetched  # these two take half a second to import, and `check` is quick

    print(fetched(given.name, paths))


def data_show(paths: Paths, _given: argparse.Namespace) -> None:
    """Write the page of the prepared images, and say where."""
    from slimline.report.data_page import data_page

    write_text(paths.data_page, data_page(paths))
    print(paths.data_page)


def data_diff(paths: Paths, given: argparse.Namespace) -> None:
    """Print what changed between two versions of the prepared data."""
    from slimline.report.difference import difference_command
    from slimline.runtime.revision import prepared_at

    with prepared_at(given.before, paths) as before, prepared_at(given.after, paths) as after:
        if not difference_command(before, after, as_program=given.json, limit=given.limit):
            sys.exit(DRIFT)


def predict(_paths: Paths, given: argparse.Namespace) -> None:
    """Print what a model sees in images."""
    from slimline.evaluation.predict import probabilities, shipped

    asked = {"resize": given.resize, "background": given.background}
    if given.background is not None and not 0 <= given.background <= 255:
        raise SlimlineError(f"--background: found {given.background}; a grey level from 0 to 255")
    model = replace(shipped(given.model, threads=given.threads), **{key: value for key, value in asked.items() if value is not None})
    rows = probabilities(model, given.images)
    if given.json:
        found = [
            {"image": str(i), "probabilities": dict(zip(model.classes, row.tolist(), strict=True))} for i, row in zip(given.images, rows, strict=True)
        ]
        print(json.dumps(found, ensure_ascii=False))
        return
    for image, row in zip(given.images, rows, strict=True):
        best = (-row).argsort(kind="stable")[: given.top]
        print(f"{image}  " + "  ".join(f"{model.classes[place]} {row[place]:.4f}" for place in best))


def bits(paths: Paths, given: argparse.Namespace) -> None:
    """Write table and picture of which bits where, and print what to put into params.yaml."""
    from slimline.evaluation.bits import which_bits
    from slimline.report.bits import picture, table

    params = load(paths.params).block("quantize", Quantize)
    rows, chosen, accuracy = which_bits(paths, given.model, given.widths, params.weights, total_bytes=given.bytes, drop=given.drop)
    write_csv(paths.bits_table, (made := table(rows, chosen)), list(made[0]))
    write_bytes(paths.bits_picture, picture(rows, chosen))
    sizes = sum(row.bytes for row in rows if chosen[row.layer] == row.width)
    print("quantize.weights.exceptions:")
    for layer, width in chosen.items():
        print(f'  "{layer}": {width}')
    print(f"# {sizes:,.0f} bytes of weights, {100 * accuracy:.2f} % of the validation images right without training; {paths.bits_picture}")


def sensitivity(paths: Paths, given: argparse.Namespace) -> None:
    """Prune the student's layers one by one, as block `prune` says; write what that costs, and print the limits that follow."""
    from slimline.pruning.sensitivity import limits
    from slimline.report.sensitivity import picture
    from slimline.runtime.settings import Settings
    from slimline.stages.prune import sensitivities

    params = load(paths.params)
    rows = sensitivities(params.block("prune", Prune), Settings(params.seed, params.block("hardware", Hardware)), paths, FRACTIONS)
    write_csv(paths.sensitivity, [asdict(row) for row in rows], ["layer", "fraction", "accuracy"])
    write_bytes(paths.sensitivity_picture, picture([(row.layer, row.fraction, row.accuracy) for row in rows]))
    allowed = ", ".join(f"{layer}: {fraction:.4g}" for layer, fraction in limits(rows, given.points).items())
    print(f"{paths.sensitivity}\n{paths.sensitivity_picture}\nlimits: {{{allowed}}}   # for prune.granularity: {given.points:g} points a layer")


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
    return results(_read(paths.scorecard), _read(paths.latency), seed=params.seed, confidence=params.block("evaluate", Evaluate).confidence)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise SlimlineError(f"{path}: no such file; run make repro first") from error
    except ValueError as error:
        raise SlimlineError(f"{path}: no valid JSON ({error}); run dvc repro --force evaluate") from error
