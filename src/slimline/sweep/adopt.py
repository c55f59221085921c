"""A sweep's choice, written into params.yaml."""

import json
from difflib import unified_diff
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from slimline.errors import SlimlineError
from slimline.files import write_text
from slimline.params.changes import changed, keys, put
from slimline.params.file import load as load_params
from slimline.paths import Paths
from slimline.sweep.definition import load
from slimline.sweep.objectives import ACCURACY
from slimline.sweep.outcome import Files


def adopt(folder: Path, trial: int | None) -> str:
    """Write the values of a trial of the sweep in `folder` into its base's params.yaml, whose comments stay; the difference, and what to expect.

    Args:
        trial: None for the recommended one.

    Raises:
        SlimlineError: the sweep has not ended, has no such trial, or what it found does not fit params.yaml any more.
    """
    definition = load(folder / "sweep.yaml")
    path = Paths((folder / definition.base).resolve()).params
    params = load_params(path)
    values, expected = _chosen(folder, trial)
    try:
        changed(params, values)
    except SlimlineError as error:
        raise SlimlineError(f"{path}: what trial {trial} of {folder.name} found does not fit it any more: {error}; run the sweep again") from error
    text = rewritten(params.text, values)
    difference = "".join(unified_diff(params.text.splitlines(keepends=True), text.splitlines(keepends=True), str(path), str(path), n=1))
    write_text(path, text)
    return f"{difference or f'{path}: these values stand there already'}\n{expected}\nBuild it: make repro"


def rewritten(text: str, values: dict[str, Any]) -> str:
    """A YAML text with other values at some paths; comments, order and layout stay."""
    yaml = YAML()
    yaml.width = 10_000
    yaml.preserve_quotes = True
    yaml.representer.add_representer(type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null"))
    content = yaml.load(text)
    for name, value in values.items():
        put(content, keys(name), _in_line(value))
    made = StringIO()
    yaml.dump(content, made)
    return made.getvalue()


def _in_line(value: Any) -> Any:
    """Mappings and lists as params.yaml writes short ones."""
    if not isinstance(value, dict | list):
        return value
    made: Any = CommentedMap() if isinstance(value, dict) else CommentedSeq()
    if isinstance(value, dict):
        made.update({key: _in_line(inner) for key, inner in value.items()})
    else:
        made.extend(_in_line(inner) for inner in value)
    made.fa.set_flow_style()
    return made


def _chosen(folder: Path, trial: int | None) -> tuple[dict[str, Any], str]:
    """The values of a trial, and what it promises."""
    files = Files(folder)
    try:
        if trial is None:
            best = YAML(typ="safe", pure=True).load(StringIO(files.best.read_text()))
            promise = best["promise"]
            return best["values"], (
                f"expected: {promise['accuracy']:.2%} on validation images that chose nothing ({promise['low']:.2%} to {promise['high']:.2%}), "
                f"between {promise['test_accuracy_low']:.2%} and {promise['test_accuracy_high']:.2%} of the test images, "
                f"{best['scores']['packed_bytes']:,} bytes, {best['scores']['bops']:,} bit operations"
            )
        found = json.loads(files.trials.read_text())
    except FileNotFoundError as error:
        raise SlimlineError(f"{error.filename}: no such file; run the sweep to its end first (slimline sweep run {folder.name})") from error
    rung, rows = list(found["rungs"].items())[-1]
    row = next((row for row in rows if row["trial"] == trial and row["scores"]), None)
    if row is None:
        there = ", ".join(str(row["trial"]) for row in rows if row["scores"])
        raise SlimlineError(f"--trial {trial}: rung {rung} of {folder.name} has no such trial; there are {there}")
    scores = row["scores"]
    return {**found["fixed"], **row["values"]}, (
        f"expected: {scores[ACCURACY]:.2%} on the validation images that chose, which flatters it; {scores['packed_bytes']:,} bytes, "
        f"{scores['bops']:,} bit operations"
    )
