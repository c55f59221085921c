"""Two models on the same images: what stands between two revisions, or two folders."""

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
    """The second model against the first, which it is to be held to: cards as in the scorecard, latencies, comparison and gates.

    Attacks are made where a gate is about them.

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
    asked = params.attacks if "robustness_drop" in params.gates.limits else None
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
    gates = judge(params.gates.limits, Sides(scorecard, timings, AFTER, BEFORE), params.confidence)
    # The statistics of the training images, by which a network normalizes, tell data apart.
    foreign = [name for name, one in models.items() if (one.manifest.mean, one.manifest.std) != (data.mean, data.std)]
    return {**scorecard, "latency": timings, "gates": gates, "trained_on_other_data": foreign}
