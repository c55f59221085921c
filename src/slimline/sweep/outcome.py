"""What a sweep leaves in its folder: its front, all its trials, the recommended model with what it promises, and a page."""

import json
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from scipy.stats import betabinom

from slimline.errors import SlimlineError
from slimline.evaluation.statistics import compare, wilson
from slimline.files import write_csv, write_json, write_text
from slimline.params.changes import changed
from slimline.params.tracking import Tracking
from slimline.paths import Paths, repository_root
from slimline.sweep.asked import Asked
from slimline.sweep.driver import Ended, Team
from slimline.sweep.objectives import ACCURACY, OBJECTIVES
from slimline.sweep.results import Choice, dominates, front, limits, recommended
from slimline.sweep.study import Finished

CONFIDENCE = 0.95
ROUNDS = 100
"""Calls by which the latency of each model of the front is measured."""

BASELINE = "baseline"


def leave(ended: Ended, team: Team) -> None:
    """Measure the front, judge what is recommended, and write all files.

    Raises:
        SlimlineError: no trial keeps to the constraints; all but best.yaml is written.
    """
    sweep, definition = ended.sweep, ended.sweep.definition
    members = front(ended.last, definition.objectives)
    bounds = limits(definition, ended.reference)
    choice, refused = None, None
    try:
        # Of all trials, not of the front alone: a constraint may be on what is no objective.
        choice = recommended(ended.last, definition, bounds)
        members += [] if choice.trial in members else [choice.trial]
    except SlimlineError as error:
        refused = error
    folders = _kept(ended, team, members)
    milliseconds = team.ask("latencies", folders, ROUNDS) if folders else {}
    files = Files(sweep.folder)
    write_json(files.trials, trials(ended))
    _write_front(files.front, members, ended, milliseconds, choice)
    best = None if choice is None else _best(ended, team, choice, folders)
    if best is not None:
        text = StringIO()
        YAML().dump(best, text)
        write_text(
            files.best, f"# The model that this sweep recommends; slimline adopt {sweep.folder.name} puts it into params.yaml.\n{text.getvalue()}"
        )
    from slimline.sweep.page import page  # matplotlib takes a second

    write_text(files.page, page(ended, members, milliseconds, best, str(refused) if refused else None))
    _record(ended)
    if refused is not None:
        files.best.unlink(missing_ok=True)
        raise SlimlineError(f"{sweep.folder}: {refused}")


METRICS = {
    ACCURACY: "val/accuracy",
    "packed_bytes": "size/packed_bytes",
    "bops": "cost/bops",
    "macs": "cost/macs",
    "params": "size/params",
    "nonzero_params": "size/nonzero_params",
}
"""What every stage calls these in its runs."""


def _record(ended: Ended) -> None:
    """Each trial as an MLflow run under the sweep's."""
    from slimline.tracking.journal import resolved_uri
    from slimline.tracking.trials import Record, record_trials  # two seconds

    tracking = ended.sweep.params.block("tracking", Tracking)
    records = [
        Record(
            f"{rung} {one.slot}",
            one.values,
            {METRICS[name]: value for name, value in one.scores.items()} | {f"seconds/{part}": spent for part, spent in one.seconds.items()},
            one.reason,
        )
        for rung, found in ended.rungs.items()
        for one in found
    ]
    uri = resolved_uri(tracking.uri, repository_root(ended.sweep.base.root))
    record_trials(uri, tracking.experiment, f"sweep {ended.sweep.folder.name}", ended.sweep.identity, records)


class Files:
    """What a sweep's folder holds afterwards."""

    def __init__(self, folder: Path) -> None:
        self.front, self.best, self.trials, self.page = (folder / name for name in ("front.csv", "best.yaml", "trials.json", "sweep.html"))


def trials(ended: Ended) -> dict[str, Any]:
    """The export of the study: every finished trial, rung by rung, without what differs from run to run."""
    return {
        "sweep": ended.sweep.folder.name,
        "objectives": {name: OBJECTIVES[name].direction for name in ended.sweep.definition.objectives},
        "fixed": ended.sweep.definition.fixed,
        "student": ended.reference,
        "rungs": {
            name: [{"trial": one.slot, "values": one.values, "scores": one.scores, "reason": one.reason} for one in found]
            for name, found in ended.rungs.items()
        },
    }


def _kept(ended: Ended, team: Team, members: Sequence[Finished]) -> dict[str, Path]:
    """Folders of the models of the front, which are made where they are not there yet."""
    folders = {str(one.slot): ended.sweep.models / str(one.slot) for one in members}
    missing = [one for one in members if not folders[str(one.slot)].exists()]
    made = team.all({str(one.slot): ("run", Asked(one.values, ended.epochs, folders[str(one.slot)])) for one in missing})
    for one in missing:
        if made[str(one.slot)].scores != dict(one.scores):
            raise SlimlineError(
                f"trial {one.slot} gave {made[str(one.slot)].scores} when it was run again, and {dict(one.scores)} before; "
                "was it run on another kind of machine? Run the sweep on one kind, or delete its .slimline folder"
            )
    return folders


def _write_front(path: Path, members: Sequence[Finished], ended: Ended, milliseconds: Mapping[str, float], choice: Choice | None) -> None:
    parameters = list(dict.fromkeys(name for one in members for name in one.values))
    columns = ["trial", "recommended", *parameters, *OBJECTIVES, "latency_ms"]
    rows = [
        {
            "trial": one.slot,
            "recommended": int(choice is not None and choice.trial.slot == one.slot),
            **{name: value if isinstance(value, int | float | str) else json.dumps(value) for name, value in one.values.items()},
            **{name: one.scores[name] for name in OBJECTIVES},
            "latency_ms": milliseconds[str(one.slot)],
        }
        for one in sorted(members, key=lambda one: (-one.scores[ACCURACY], one.slot))
    ]
    write_csv(path, rows, columns)


def _best(ended: Ended, team: Team, choice: Choice, folders: Mapping[str, Path]) -> dict[str, Any]:
    """`best.yaml`: the recommended values, and what is promised of them by images that chose nothing."""
    sweep, one = ended.sweep, choice.trial
    right = {"best": np.array(team.ask("judged", folders[str(one.slot)])), "student": np.array(team.ask("judged", None))}
    baseline = _baseline(ended, team)
    if baseline is not None:
        right[BASELINE] = np.array(team.ask("judged", sweep.models / BASELINE))
    test = json.loads((sweep.base.prepared / "dataset.json").read_text())["counts"]["test"]
    others = {int(name): _promise(team.ask("judged", folder), test) for name, folder in folders.items() if name != str(one.slot)}
    return {
        "sweep": sweep.folder.name,
        "trial": one.slot,
        "epochs": "as in params.yaml" if ended.epochs is None else ended.epochs,
        "values": {**sweep.definition.fixed, **one.values},
        "scores": dict(one.scores),
        "limits": dict(choice.bounds),
        # By validation images that neither chose this model nor saw it trained.
        "promise": _promise(right["best"], test),
        "against_student": _against(right["best"], right["student"]),
        **({} if baseline is None else {"against_baseline": _beside(one.scores, baseline, right, sweep.definition.objectives)}),
        # What the others of the front promise, for slimline adopt --trial. Whoever chooses by these has chosen by what was to judge.
        "others": others,
    }


def _promise(right: Sequence[bool] | np.ndarray, test: int) -> dict[str, float]:
    """What a model promises that names `right` of the images that judge, of these and of so many test images."""
    count, images = int(np.sum(right)), len(right)
    low, high = wilson(count, images, CONFIDENCE)
    # What is expected of so many other images, by a Beta distribution after Jeffreys of what is right.
    least, most = betabinom(test, count + 0.5, images - count + 0.5).interval(CONFIDENCE)
    return {
        "images": images,
        "accuracy": round(count / images, 6),
        "low": round(low, 6),
        "high": round(high, 6),
        "test_images": test,
        "test_accuracy_low": round(float(least) / test, 6),
        "test_accuracy_high": round(float(most) / test, 6),
    }


def _baseline(ended: Ended, team: Team) -> dict[str, float] | None:
    """The scores of the values in baseline.yaml, if there is one, made as the last rung's trials are; its model is kept.

    Raises:
        SlimlineError: values that cannot be.
    """
    path = ended.sweep.folder / "baseline.yaml"
    if not path.exists():
        return None
    values = YAML(typ="safe", pure=True).load(StringIO(path.read_text(encoding="utf-8"))) or {}
    try:
        changed(ended.sweep.params, values)
        found = team.ask("run", Asked(values, ended.epochs, ended.sweep.models / BASELINE, bare=True))
    except SlimlineError as error:
        raise SlimlineError(f"{path}: {error}") from error
    scores: dict[str, float] = dict(found.scores)
    return scores


def _against(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    found = compare(first, second, CONFIDENCE)
    return {"difference": round(found.difference, 6), "low": round(found.low, 6), "high": round(found.high, 6)}


def _beside(scores: Mapping[str, float], baseline: Mapping[str, float], right: Mapping[str, np.ndarray], objectives: Sequence[str]) -> dict[str, Any]:
    """Whether the recommended model is better in one objective and worse in none, the accuracies being those of the images that judge."""
    own = {**scores, ACCURACY: float(right["best"].mean())}
    other = {**baseline, ACCURACY: float(right[BASELINE].mean())}
    return {
        "scores": {name: other[name] for name in objectives},
        "accuracy": _against(right["best"], right[BASELINE]),
        "dominates": dominates(own, other, objectives),
    }


def folder_of(root: Path, name: str) -> Path:
    """The folder of a sweep, by its path or its name under experiments/.

    Raises:
        SlimlineError: there is none.
    """
    for folder in (root / name, Path(name), root / "experiments" / name):
        if (folder / "sweep.yaml").exists():
            return folder.resolve()
    there = sorted(path.parent.name for path in (Paths(root).root / "experiments").glob("*/sweep.yaml"))
    raise SlimlineError(f"{name}: no folder with a sweep.yaml; there are: {', '.join(there) or 'none'}")


def tell(folder: Path) -> str:
    """What the files of a finished sweep say, in a few lines."""
    files = Files(folder)
    best = YAML(typ="safe", pure=True).load(StringIO(files.best.read_text()))
    promise, scores = best["promise"], best["scores"]
    values = ", ".join(f"{name} {json.dumps(value)}" for name, value in best["values"].items())
    return (
        f"recommended: trial {best['trial']}: {values}\n"
        f"  {promise['accuracy']:.2%} on {promise['images']} validation images that chose nothing ({promise['low']:.2%} to {promise['high']:.2%}), "
        f"{scores['packed_bytes']:,} bytes, {scores['bops']:,} bit operations\n{files.front}\n{files.page}"
    )
