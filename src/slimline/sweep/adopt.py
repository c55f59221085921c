"""A sweep's choice, written into params.yaml."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import unified_diff
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from slimline.errors import SlimlineError
from slimline.files import write_text
from slimline.params.changes import changed, keys, put
from slimline.params.file import load as load_params
from slimline.paths import Paths
from slimline.sweep.definition import load
from slimline.sweep.outcome import Files


def adopt(folder: Path, trial: int | None) -> str:
    """Write the values of a trial of the sweep in `folder` into its base's params.yaml, whose comments stay; the difference, and what to expect.

    Args:
        trial: None for the recommended one.

    Raises:
        SlimlineError: the sweep has not ended, has no such trial, what it left was damaged, or does not fit params.yaml any more.
    """
    definition = load(folder / "sweep.yaml")
    path = Paths((folder / definition.base).resolve()).params
    params = load_params(path)
    try:
        chosen = _chosen(folder, trial)
        values = json.loads(json.dumps({**chosen.values, "evaluate.promise": chosen.expected(folder.name)}, allow_nan=False))
        told = chosen.told()
    except (YAMLError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        files, why = Files(folder), f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise SlimlineError(
            f"{files.best}, or {files.trials.name} beside it, is not as a sweep leaves it ({why}); "
            f"slimline sweep run {folder.name} writes both again, its trials stay"
        ) from error
    try:
        changed(params, values)
    except SlimlineError as error:
        raise SlimlineError(
            f"{path}: what trial {chosen.trial} of {folder.name} found does not fit it any more: {error}; run the sweep again"
        ) from error
    text = rewritten(params.text, values)
    difference = "".join(unified_diff(params.text.splitlines(keepends=True), text.splitlines(keepends=True), str(path), str(path), n=1))
    write_text(path.resolve(), text)  # where params.yaml is a link, what it leads to is changed
    return f"{difference or f'{path}: these values stand there already'}\n{told}\nBuild it: make repro"


def rewritten(text: str, values: dict[str, Any]) -> str:
    """A YAML text with other values at some paths; comments, order and layout stay."""
    yaml = YAML()
    yaml.width = 10_000
    yaml.preserve_quotes = True
    yaml.representer.add_representer(type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null"))
    content = yaml.load(text)
    for name, value in values.items():
        _make_room(content, keys(name))
        put(content, keys(name), _in_line(value))
    made = StringIO()
    yaml.dump(content, made)
    return made.getvalue()


def _make_room(content: Any, path: tuple[str, ...]) -> None:
    """A new key of a block stands before the others: behind the last one stand comments on what follows."""
    block, *rest = path
    if len(rest) == 1 and rest[0] not in content[block]:
        content[block].insert(0, rest[0], None)


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


@dataclass(frozen=True)
class Chosen:
    """A trial's values, and what it promises."""

    trial: int
    values: Mapping[str, Any]
    scores: Mapping[str, float]
    promise: Mapping[str, float]

    def told(self) -> str:
        """What is to be expected, for a terminal."""
        told = self.promise
        return (
            f"expected: {told['accuracy']:.2%} on validation images that chose nothing ({told['low']:.2%} to {told['high']:.2%}), "
            f"between {told['test_accuracy_low']:.2%} and {told['test_accuracy_high']:.2%} of the test images, "
            f"{self.scores['packed_bytes']:,} bytes, {self.scores['bops']:,} bit operations"
        )

    def expected(self, sweep: str) -> dict[str, Any]:
        """The same as `evaluate.promise`."""
        accuracy = [self.promise["test_accuracy_low"], self.promise["test_accuracy_high"]]
        scores = {name: int(self.scores[name]) for name in ("packed_bytes", "bops")}
        return {"sweep": sweep, "trial": self.trial, "accuracy": accuracy, **scores}


def _chosen(folder: Path, trial: int | None) -> Chosen:
    """What was recommended, or another trial of the front.

    Raises:
        SlimlineError: the sweep has not ended, or has no such trial.
    """
    files = Files(folder)
    try:
        best = YAML(typ="safe", pure=True).load(StringIO(files.best.read_text()))
        if trial is None or trial == best["trial"]:
            return Chosen(best["trial"], best["values"], best["scores"], best["promise"])
        if trial not in best["others"]:
            raise SlimlineError(
                f"--trial {trial}: the front of {folder.name} has no such trial; there are {best['trial']}, {_listed(best['others'])}"
            )
        found = json.loads(files.trials.read_text())
    except FileNotFoundError as error:
        if files.trials.exists():
            raise SlimlineError(
                f"{folder / 'sweep.yaml'}: no trial keeps to all constraints, so none is promised anything; relax one (slimline sweep run "
                f"{folder.name} names the nearest, and keeps the trials), then adopt"
            ) from error
        raise SlimlineError(f"{error.filename}: no such file; run the sweep to its end first (slimline sweep run {folder.name})") from error
    (row,) = (row for row in list(found["rungs"].values())[-1] if row["trial"] == trial)
    return Chosen(trial, {**found["fixed"], **row["values"]}, row["scores"], best["others"][trial])


def _listed(trials: Mapping[int, Any]) -> str:
    return ", ".join(map(str, trials)) or "no others"
