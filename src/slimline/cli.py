"""`slimline …`: everything that is not a stage of the pipeline."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slimline.errors import SlimlineError
from slimline.params.file import load
from slimline.params.tracking import Tracking
from slimline.paths import MODELS, Paths

BAD_INPUT = 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; on bad input print one line and exit with 2."""
    parser = argparse.ArgumentParser(prog="slimline", description="The smallest, fastest image classifier that still meets a target, with the proof.")
    parser.add_argument("--workspace", type=Path, default=Path(), help="folder that holds params.yaml (default: the current one)")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("check", help="check params.yaml as a whole").set_defaults(run=check)
    commands.add_parser("show", help="table of the models that the last run made").set_defaults(run=show)
    given = parser.parse_args(arguments)
    workspace = given.workspace.resolve()
    sys.path.insert(0, str(workspace))
    try:
        given.run(Paths(workspace))
    except SlimlineError as error:
        print(f"slimline: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)


def check(paths: Paths) -> None:
    """Refuse a params.yaml that cannot be, before any stage runs."""
    load(paths.params)


def show(paths: Paths) -> None:
    """Print every model of the last run beside the teacher, and where to look further."""
    scorecard, latency = _read(paths.scorecard), _read(paths.latency)
    batches = list(next(iter(latency["models"].values())))
    header = ["model", "validation", "test (95 % interval)".replace("95", _percent(paths)), "parameters", "packed bytes", "smaller"]
    header += [f"{batch.replace('_', ' ')} p50" for batch in batches] + [f"faster, {batches[0].replace('_', ' ')}"]
    rows = [header]
    teacher = scorecard["models"]["teacher"]
    for name in MODELS:
        card = scorecard["models"][name]
        ratio = latency["ratios_to_teacher"].get(name, {}).get(batches[0])
        rows.append(
            [
                name,
                f"{card['validation_accuracy']:.2%}",
                f"{card['accuracy']:.2%} ({card['accuracy_low']:.2%}–{card['accuracy_high']:.2%})",
                f"{card['params']:,}",
                f"{card['packed_bytes']:,}",
                f"{teacher['packed_bytes'] / card['packed_bytes']:.1f}×",
                *(f"{latency['models'][name][batch]['p50_ms']:.3f} ms" for batch in batches),
                f"{ratio['speed_up']:.2f}× ({ratio['low']:.2f}–{ratio['high']:.2f})" if ratio else "1×",
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    print()
    for number, row in enumerate(rows):
        print(
            "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(zip(row, widths, strict=True)))
        )
        if number == 0:
            print("  ".join("-" * width for width in widths))
    data, machine = scorecard["data"], latency["machine"]
    print(f"\nn = {data['test']} test images of {data['name']}; {machine['processor']}, {latency['threads']} thread(s), {latency['runtime']}.")
    print(f"Report:  {paths.report}")
    params = load(paths.params).block("tracking", Tracking)
    print(f"Runs:    make ui, then http://127.0.0.1:5000 (experiment {params.experiment})")


def _percent(paths: Paths) -> str:
    from slimline.params.evaluate import Evaluate

    return f"{load(paths.params).block('evaluate', Evaluate).confidence * 100:g}"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise SlimlineError(f"{path}: no such file; run make repro first") from error
    except ValueError as error:
        raise SlimlineError(f"{path}: no valid JSON ({error}); run dvc repro --force evaluate") from error
