"""Whether the quantized model of the last run may take the champion's place: its gates, and both on the same test images.

Whoever makes a model calls `register`: the command, and whatever reruns the pipeline. No stage depends on this.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from slimline.data.batches import Ordered
from slimline.data.prepared import load_split
from slimline.errors import SlimlineError
from slimline.evaluation.predict import shipped
from slimline.evaluation.statistics import Comparison, compare
from slimline.params.evaluate import Evaluate
from slimline.params.file import load
from slimline.params.hardware import Hardware
from slimline.params.tracking import Tracking
from slimline.paths import Paths, repository_root, store_root
from slimline.runtime.recorded import Recorded, recorded
from slimline.runtime.results import read
from slimline.tracking.journal import md5, resolved_uri

if TYPE_CHECKING:  # it imports MLflow, which takes seconds
    from slimline.tracking.registry import Registry

SHIPPED, STAGE, JUDGE = "quantized", "quantize", "evaluate"
"""The model that is registered, the stage that makes it, and the one that judges it."""

BATCH = 512


@dataclass(frozen=True)
class Decision:
    """What became of a model that was registered.

    Args:
        model, version: in the registry.
        champion: whether the version is the champion now.
        reason: what speaks for it or against it, in words that stand with the version too.
        before: whether it was the champion before; then its gates have moved nothing, and `reason` says which of them fail now.
    """

    model: str
    version: int
    champion: bool
    reason: str
    before: bool = False


def register(paths: Paths, *, why: str, again: bool = False) -> Decision:
    """Register the quantized model that dvc.lock names as challenger, and make it champion if all gates pass and it is not worse.

    A model that is registered is no second version. Called again after a kill, it goes on where it was.

    Args:
        why: kept with every move of an alias.
        again: let a version be champion that was rolled back.

    Raises:
        SlimlineError: nothing to register, or a store that fails.
    """
    from slimline.tracking.mlflow import asked
    from slimline.tracking.registry import CHAMPION

    card = _scorecard(paths)
    made = _evaluated(paths)
    registry = registry_of(paths)
    with asked(registry.uri):
        files = paths.model(SHIPPED)
        version = registry.register(made.fingerprint, SHIPPED, files.packed, files.onnx, card, why)
        number, champion = int(version.version), registry.holder(CHAMPION)
        if champion is not None and champion.version == version.version:
            registry.settle(version)
            return Decision(registry.name, number, True, _anew(read(paths.gates)), before=True)
        passes, reason = _judged(paths, registry, version, champion, again)
        if passes:
            registry.promote(version, f"{why} ({reason})")
        else:
            registry.hold_back(version, reason)
        return Decision(registry.name, number, passes, reason)


def rollback(paths: Paths, *, why: str) -> tuple[Decision, int]:
    """Champion and previous change places; the champion then, and the version that no longer is.

    Raises:
        SlimlineError: one of them is not there, or the store fails.
    """
    from slimline.tracking.mlflow import asked

    registry = registry_of(paths)
    with asked(registry.uri):
        champion, previous = registry.rollback(why)
    return Decision(registry.name, int(champion.version), True, why), int(previous.version)


def registry_of(paths: Paths) -> "Registry":
    """The registry that params.yaml names.

    Raises:
        SlimlineError: the store fails, or has no such experiment.
    """
    from slimline.tracking.registry import Registry

    tracking = load(paths.params).block("tracking", Tracking)
    return Registry(resolved_uri(tracking.uri, store_root(paths.root)), tracking.experiment, tracking.model)


def _anew(judged: dict[str, Any]) -> str:
    """What is said of a model that is judged while it is the champion; to take its place away is for people to decide."""
    return f"it was that before, but {_failed(judged)}; slimline rollback takes it back" if judged["passed"] is False else "it was that before"


def _failed(judged: dict[str, Any]) -> str:
    return f"gates failed: {', '.join(name for name, one in judged['gates'].items() if not one['passed'])}; slimline gate says why"


def _judged(paths: Paths, registry: "Registry", version: Any, champion: Any | None, again: bool) -> tuple[bool, str]:
    """Whether `version` may be the champion, and why or why not."""
    judged = read(paths.gates)
    if judged["passed"] is None:
        return False, "no gate is set, so none has passed; set evaluate.gates"
    if not judged["passed"]:
        return False, _failed(judged)
    if (rolled_back := registry.rolled_back(version)) and not again:
        return False, f"it was rolled back ({rolled_back}); slimline register --again lets it"
    if champion is None:
        return True, "all gates passed, and there was no champion"
    params = load(paths.params)
    evaluate = params.block("evaluate", Evaluate)
    margin, confidence = evaluate.margin, evaluate.confidence
    if margin is None:
        return False, "no margin is set, so it cannot be held against the champion; set evaluate.margin"
    with TemporaryDirectory() as folder:
        network = registry.network(champion, Path(folder))
        pair = against(paths.model(SHIPPED).onnx, network, paths, threads=params.block("hardware", Hardware).threads, confidence=confidence)
    low, high = 100 * pair.low, 100 * pair.high
    found = f"against version {champion.version}: {100 * pair.difference:+.2f} points on {pair.images:,} test images"
    found += f" ({confidence:.0%} interval {low:+.2f} to {high:+.2f})"
    if pair.low >= -margin:
        return True, f"all gates passed; {found}, not worse by the margin of {100 * margin:.2f}"
    return False, f"{found}, which may be worse than evaluate.margin allows ({-100 * margin:+.2f})"


def against(model: Path, champion: Path, paths: Paths, *, threads: int, confidence: float) -> Comparison:
    """`model` against `champion`, files to run, on the test images as they are now.

    Raises:
        SlimlineError: they do not know the same classes in the same order, or take images of different shapes.
    """
    sides = [shipped(file, threads=threads) for file in (model, champion)]
    for what in ("classes", "shape"):
        first, second = (getattr(side, what) for side in sides)
        if first != second:
            raise SlimlineError(
                f"the champion's {what} are {second}, this model's {first}: no test compares them; register this one under another tracking.model"
            )
    answers: list[list[np.ndarray]] = [[], []]
    for batch in Ordered(load_split(paths.prepared, "test"), BATCH):
        for right, side in zip(answers, sides, strict=True):
            right.append(side.run(batch.images.numpy()).argmax(1) == batch.labels.numpy())
    first, second = (np.concatenate(right) for right in answers)
    return compare(first, second, confidence)


def _evaluated(paths: Paths) -> Recorded:
    """The stage that made the model, as dvc.lock has it.

    Raises:
        SlimlineError: what dvc.lock records was not made, or not judged, or gates.json was changed since.
    """
    _, stages = recorded(paths)
    by_name = {one.stage: one for one in stages}
    for stage in (STAGE, JUDGE):
        if stage not in by_name:
            raise SlimlineError(f"dvc.lock has no stage {stage}, so there is nothing to register; run dvc repro")
    made, judge = by_name[STAGE], by_name[JUDGE]
    root = repository_root(paths.root)
    model, gates = (os.path.relpath(place, root) for place in (paths.model(SHIPPED).folder, paths.gates))
    if judge.inputs.get(model) != made.outputs.get(model) or judge.outputs.get(gates) != md5(paths.gates):
        raise SlimlineError(f"{paths.gates} is not what {JUDGE} said of {model} as dvc.lock has it; run dvc repro")
    return made


def _scorecard(paths: Paths) -> dict[str, Any]:
    """The entry of the model in the scorecard."""
    card = read(paths.scorecard)["models"].get(SHIPPED)
    if card is None:
        raise SlimlineError(f"{paths.scorecard}: the {SHIPPED} model could not be evaluated, so it is not registered; run dvc repro, which says why")
    return dict(card)
