"""Two models on the same images: what stands between two revisions, or two folders."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slimline.data.batches import Ordered
from slimline.data.prepared import describe, load_split
from slimline.evaluation.candidate import Candidate, answers
from slimline.evaluation.gates import Sides, judge
from slimline.evaluation.latency import latency
from slimline.evaluation.robustness import card, under_all, under_attack
from slimline.evaluation.scorecard import agreement, disagreements, score
from slimline.evaluation.statistics import compare_all
from slimline.params.evaluate import Evaluate
from slimline.paths import ModelFolder

BEFORE, AFTER = "A", "B"


def versus(before: Path, after: Path, prepared: Path, params: Evaluate, *, seed: int, threads: int) -> dict[str, Any]:
    """The second model against the first, which it is held to: cards as in the scorecard, latencies, comparison, and the limits of
    `evaluate.regression`.

    Attacks are made where a limit is about them.

    Args:
        before, after: model folders.
        threads: of the sessions that answer; those of latencies are a parameter.

    Raises:
        SlimlineError: a model that is missing, damaged, or of other classes or other images than the prepared data.
    """
    data = describe(prepared)
    models = {name: Candidate.read(ModelFolder(folder), data, threads) for name, folder in ((BEFORE, before), (AFTER, after))}
    validation, test = (load_split(prepared, split) for split in ("validation", "test"))
    known, tested = (answers(models, split, params.batch_size) for split in (validation, test))
    pair = (AFTER, BEFORE)
    key = f"{AFTER}_vs_{BEFORE}"
    cards = {name: score(known[name], tested[name], params.confidence) | one.cost for name, one in models.items()}
    cards[AFTER] |= agreement(tested[AFTER], tested[BEFORE], params.confidence)
    limits = params.regression.limits
    asked = params.attacks if "robustness_drop" in limits else None
    attacked = under_all(asked, {name: one.victim for name, one in models.items()}, dict((pair, pair[::-1])), test, seed, params.batch_size)
    for name, robustness in attacked.items():
        cards[name]["attacks"] = card(robustness, params.confidence)
    scorecard = {
        "data": {"classes": len(data.classes), "class_names": list(data.classes), **data.counts, "digest": data.digest},
        "models": cards,
        "comparisons": compare_all({key: (tested[AFTER].right, tested[BEFORE].right)}, params.confidence, params.margin),
        "disagreements": disagreements(tested, BEFORE, AFTER),
        "robustness": under_attack(attacked, [pair], params.confidence),
    }
    timed = {name: one.timed(params.latency.threads) for name, one in models.items()}
    images = next(iter(Ordered(validation, max(params.latency.batch_sizes)))).images.numpy()
    timings = latency(timed, images, reference=BEFORE, confidence=params.confidence, **params.latency.model_dump())
    judged = judge(limits, Sides(scorecard, timings, AFTER, BEFORE), params.confidence)
    # The statistics of the training images, by which a network normalizes, tell data apart.
    foreign = [name for name, one in models.items() if (one.manifest.mean, one.manifest.std) != (data.mean, data.std)]
    return {**scorecard, "latency": timings, "regression": judged, "trained_on_other_data": foreign}


def of_its_run(
    record: Mapping[str, Any], found: Mapping[str, Any], limits: Mapping[str, float], confidence: float, *, model: str, reference: str
) -> Any:
    """The limits of `evaluate.gates` for the second model of `versus`, by what the run that made it has measured.

    Args:
        record: `scorecard` and `latency` of that run.
        found: by `versus`.
        limits: by names of GATES.
        model, reference: names that the second one and its teacher have in the record.

    Returns:
        As `judge`; None where the record is about other files than those that were compared.
    """
    here, there = found["models"][AFTER], record["scorecard"]["models"].get(model)
    figures = ["packed_bytes", "onnx_bytes"] + (["errors"] if record["scorecard"]["data"]["digest"] == found["data"]["digest"] else [])
    if there is None or any(there[figure] != here[figure] for figure in figures):
        return None
    return judge(limits, Sides(record["scorecard"], record["latency"], model, reference), confidence)
