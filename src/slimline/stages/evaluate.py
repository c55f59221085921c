"""evaluate: every model of the chain as it would be deployed, on ONNX Runtime, on images that chose nothing."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import count
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import SingleDeviceStrategy

from slimline.core.batch import Batch
from slimline.data.batches import Ordered
from slimline.data.prepared import Description, describe, load_split, name_of
from slimline.errors import SlimlineError
from slimline.evaluation import masking
from slimline.evaluation.candidate import Candidate
from slimline.evaluation.cold import cold
from slimline.evaluation.distillation import effect
from slimline.evaluation.gates import Sides, judge
from slimline.evaluation.latency import latency
from slimline.evaluation.layers import layers
from slimline.evaluation.one_bit import beside, reads_signs
from slimline.evaluation.promise import outcome
from slimline.evaluation.robustness import card, under_all, under_attack
from slimline.evaluation.scorecard import Answers, agreement, disagreements, score
from slimline.evaluation.statistics import compare_all, compared
from slimline.export.runtime import OnnxModel
from slimline.files import write_json, write_text
from slimline.params.evaluate import Evaluate as EvaluateParams
from slimline.paths import MADE_BY, MODELS, ModelFolder, Paths
from slimline.report.mistakes import picked
from slimline.report.page import page
from slimline.report.plots import write_plots
from slimline.report.words import EFFECTS, reading, ruined, ruined_by_teacher, unhelpful
from slimline.runtime.fingerprint import fingerprints, git_state
from slimline.runtime.settings import Made, Settings
from slimline.runtime.trainer import trainer
from slimline.runtime.world import World
from slimline.tracking import Tracker

REFERENCE, SHIPPED, MADE_OF = "teacher", "quantized", "pruned"
"""What all are compared with; what is shipped; what that was made of."""
BY_ITS_STAGE = ("val/", "size/", "cost/")
"""Names that the stage itself has recorded."""
PASSED = {True: "passed", False: "failed", None: "none"}
"""What the gates say, as a run's tag."""
REPEATED = ("student", "student_alone")
"""Models that may be trained from several seeds: with the teacher, and without."""
COMPARED = (("student", "student_alone"), ("student", REFERENCE), (MADE_OF, "student"), (SHIPPED, MADE_OF), (SHIPPED, REFERENCE))
SURROGATES = {name: "student_alone" if name == REFERENCE else REFERENCE for name in MODELS}
"""Who stands in for a model where an attacker does not see it: the teacher; for the teacher, the network that learned nothing from it."""


class Evaluate(pl.LightningModule):
    """Runs the candidates over a split and keeps their logits, image by image in the split's order."""

    def __init__(self, candidates: dict[str, Candidate]) -> None:
        super().__init__()
        self.candidates = candidates
        self._batches: list[tuple[np.ndarray, dict[str, tuple[np.ndarray, np.ndarray]]]] = []

    def on_test_epoch_start(self) -> None:
        self._batches = []

    def test_step(self, batch: Batch, _index: int) -> None:
        images, labels = batch.images.cpu(), batch.labels.cpu()
        if len(labels) == 0:  # this process has no image left, another one has
            return
        logits = {name: (one.deployed(images.numpy()), one.rebuilt(images).numpy()) for name, one in self.candidates.items()}
        self._batches.append((labels.numpy(), logits))

    def answers(self, world: World) -> tuple[dict[str, Answers], dict[str, Answers]]:
        """What each candidate answered to the whole split, deployed and rebuilt, in the split's order; nothing but in the first process."""
        batches = [batch for part in world.gathered(self._batches) for batch in part]
        if not batches:
            return {}, {}
        labels = np.concatenate([labels for labels, _ in batches])
        deployed, rebuilt = (
            {name: Answers(np.concatenate([logits[name][way] for _, logits in batches]), labels) for name in self.candidates} for way in (0, 1)
        )
        return deployed, rebuilt


def run(params: EvaluateParams, settings: Settings, paths: Paths, tracker: Tracker) -> Made:
    """Write the scorecard, the summary, the latencies, the gates, the plots' data and the report.

    Raises:
        SlimlineError: a model that cannot be evaluated; what could be said of the others is written before.
    """
    data = describe(paths.prepared)
    repeats = _repeats(paths)
    places = {name: paths.model(name) for name in MODELS} | {
        f"{name} {place}": paths.repeat(name, place) for name in REPEATED for place in range(1, repeats)
    }
    candidates, refused = _read(places, data, settings.hardware.threads)
    module = Evaluate(candidates)
    by_split: dict[str, dict[str, Answers]] = {}
    rebuilt: dict[str, Answers] = {}
    world = settings.world
    for split in ("validation", "test"):
        batches = Ordered(load_split(paths.prepared, split), params.batch_size, rank=world.rank, ranks=world.ranks)
        trainer(accelerator="cpu", devices=1, strategy=SingleDeviceStrategy()).test(module, batches, verbose=False)
        by_split[split], rebuilt = module.answers(world)
    if not world.first:
        return Made((), {}, {})
    models = {name: candidates[name] for name in MODELS if name in candidates}
    pairs = [pair for pair in COMPARED if set(pair) <= set(models)]
    scorecard = _scorecard(params, models, pairs, by_split, rebuilt, data) | {"refused": refused}
    scorecard["data"] = {"name": name_of(paths.origin), **scorecard["data"]}
    if not refused:
        scorecard["distillation"] = _distillation(by_split, repeats, settings.seed, params.confidence)
        scorecard["quantization"] = _quantization(paths, data, params.confidence)
    victims = {name: one.victim for name, one in models.items()} if set(SURROGATES.values()) <= set(models) else {}
    attacked = under_all(params.attacks, victims, SURROGATES, load_split(paths.prepared, "test"), settings.seed, params.batch_size)
    for name, robustness in attacked.items():
        found = {test: signs and [asdict(sign) for sign in signs] for test, signs in masking.signs(robustness, params.confidence).items()}
        scorecard["models"][name]["attacks"] = card(robustness, params.confidence) | {"masking": found}
    scorecard["robustness"] = under_attack(attacked, pairs, params.confidence)
    timings = _timings(candidates, paths, params) if REFERENCE in candidates else None
    gates = judge(params.gates.limits, Sides(scorecard, timings, SHIPPED, REFERENCE), params.confidence)

    cards = scorecard["models"]
    if params.promise is not None and SHIPPED in cards:
        scorecard["promise"] = outcome(params.promise, cards[SHIPPED])
    write_json(paths.scorecard, scorecard)
    write_json(paths.gates, gates)
    if timings is not None:
        write_json(paths.latency, timings)
    weights = layers(candidates[SHIPPED].rebuilt, candidates["student"].rebuilt) if {SHIPPED, "student"} <= set(candidates) else []
    plotted = write_plots(paths, scorecard, timings, weights)
    for told in _told(scorecard):
        print(f"slimline: {told}", file=sys.stderr, flush=True)
    if refused:
        raise SlimlineError(_refusal(refused, paths))

    assert timings is not None, "no model was refused"
    write_json(paths.summary, _summary(cards))
    curves = {name: paths.curve(name) for name in MODELS}
    again = {name: [paths.repeat(name, place).curve for place in range(1, repeats)] for name in REPEATED}
    images = _images(paths, picked(scorecard))
    shown = page(scorecard, timings, gates, curves, confidence=params.confidence, again=again, weights=weights, images=images)
    write_text(paths.report, shown)

    made_by = fingerprints(paths)
    metrics: dict[str, float] = {}
    for name, own in cards.items():
        values = _shared_names(own) | _speeds(timings["models"][name])
        metrics |= {f"{name}/{key}": value for key, value in values.items()}
        tracker.beside(MADE_BY[name], made_by[MADE_BY[name]], {key: value for key, value in values.items() if not key.startswith(BY_ITS_STAGE)})
    found = scorecard["distillation"]
    metrics |= {f"distillation/{split}_{key}": found[split][key] for split in ("validation", "test") for key in ("difference", "low", "high")}
    files = (paths.scorecard, paths.summary, paths.latency, paths.gates, *plotted, paths.report)
    tags = {"data.digest": data.digest, "distillation.teacher": EFFECTS[reading(found["test"])], "gates": PASSED[gates["passed"]]}
    return Made(files, metrics, tags, {"name": name_of(paths.origin), "digest": data.digest, "classes": len(data.classes), **data.counts})


def _read(places: Mapping[str, ModelFolder], data: Description, threads: int) -> tuple[dict[str, Candidate], dict[str, str]]:
    """The models that can be evaluated, and of each other one why not.

    Raises:
        SlimlineError: none can be.
    """
    candidates, refused = {}, {}
    for name, files in places.items():
        try:
            candidates[name] = Candidate.read(files, data, threads)
        except SlimlineError as error:
            refused[name] = str(error)
    if not set(candidates) & set(MODELS):
        raise SlimlineError(next(iter(refused.values())))
    return candidates, refused


def _refusal(refused: Mapping[str, str], paths: Paths) -> str:
    first, *others = refused.values()
    more = f" (and {len(others)} more: {', '.join(list(refused)[1:])})" if others else ""
    return f"{first}{more}. What could be said of the other models is in {paths.scorecard}"


def _scorecard(
    params: EvaluateParams,
    models: Mapping[str, Candidate],
    pairs: Sequence[tuple[str, str]],
    by_split: Mapping[str, Mapping[str, Answers]],
    rebuilt: Mapping[str, Answers],
    data: Description,
) -> dict[str, Any]:
    tested = {name: by_split["test"][name] for name in models}
    reference = tested.get(REFERENCE)
    rights = {f"{first}_vs_{second}": (tested[first].right, tested[second].right) for first, second in pairs}
    return {
        "data": {"classes": len(data.classes), "class_names": list(data.classes), **data.counts, "digest": data.digest},
        "models": {
            name: {
                **score(by_split["validation"][name], tested[name], params.confidence),
                **({} if reference is None or name == REFERENCE else agreement(tested[name], reference, params.confidence)),
                "export_agreement": float((tested[name].predicted == rebuilt[name].predicted).mean()),
                **one.cost,
            }
            for name, one in models.items()
        },
        "comparisons": compare_all(rights, params.confidence, params.margin),
        "disagreements": disagreements(tested, REFERENCE, SHIPPED) if {REFERENCE, SHIPPED} <= set(tested) else None,
    }


def _timings(candidates: Mapping[str, Candidate], paths: Paths, params: EvaluateParams) -> dict[str, Any]:
    """`metrics/latency.json`."""
    # The latency runs have sessions of their own: their number of threads is a parameter, the machine's is not.
    models = {name: one.timed(params.latency.threads) for name, one in candidates.items()}
    images = next(iter(Ordered(load_split(paths.prepared, "validation"), max(params.latency.batch_sizes)))).images.numpy()
    commit, dirty = git_state(paths.root)
    asked = params.latency.model_dump()
    timings: dict[str, Any] = {"commit": commit, "dirty": dirty, "date": datetime.now(UTC).date().isoformat()}
    timings |= latency(models, images, reference=REFERENCE, confidence=params.confidence, **asked)
    # What ONNX Runtime cannot run is timed on torch, and labelled so.
    timings["runtimes"] = {name: run.runtime for name, run in models.items()}
    files = {name: candidates[name].files.onnx for name, run in models.items() if name in MODELS and run.runtime == OnnxModel.runtime}
    try:
        timings["sessions"] = cold(files, batch_sizes=params.latency.batch_sizes, threads=params.latency.threads, confidence=params.confidence)
    except SlimlineError as error:  # a machine too slow or too small for it; all else was measured
        print(f"slimline: {error}", file=sys.stderr, flush=True)
        timings["sessions"] = {}
    both = {SHIPPED, MADE_OF} <= set(candidates)
    timings["one_bit"] = _one_bit(candidates[SHIPPED], candidates[MADE_OF], paths, images, params) if both else None
    return timings


def _told(scorecard: Mapping[str, Any]) -> Iterator[str]:
    """What must not be overlooked, for standard error."""
    data = scorecard["data"]
    rows = next(iter(scorecard["models"].values()))["per_class"]
    missing = [name for name, row in zip(data["class_names"], rows, strict=True) if row["images"] == 0]
    if missing:
        yield f"the test split ({data['test']} images) has none of {len(missing)} classes ({', '.join(missing[:10])}): nothing is known of them"
    if not scorecard["refused"]:
        yield from filter(None, (unhelpful(scorecard), ruined(scorecard), ruined_by_teacher(scorecard)))


def _images(paths: Paths, wanted: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[int, np.ndarray]:
    """Pixels of those test images, by their numbers in the split."""
    numbers = sorted({row["image"] for rows in wanted.values() for row in rows})
    if not numbers:
        return {}
    ((_, pixels, _),) = load_split(paths.prepared, "test").gathered([torch.tensor(numbers)])
    return dict(zip(numbers, pixels.numpy(), strict=True))


def _one_bit(quantized: Candidate, pruned: Candidate, paths: Paths, images: np.ndarray, params: EvaluateParams) -> dict[str, Any] | None:
    """The quantized network on packed bits beside the one that it was made of; None where it has no layers to run so."""
    if not reads_signs(quantized.rebuilt):
        return None
    batches = (batch.images.numpy() for batch in Ordered(load_split(paths.prepared, "test"), params.batch_size))
    return beside(
        quantized.rebuilt,
        quantized.files.onnx,
        pruned.rebuilt,
        quantized.manifest.input_shape,
        batches,
        images,
        confidence=params.confidence,
        **params.latency.model_dump(),
    )


def _repeats(paths: Paths) -> int:
    """How many students, and how many controls, were trained.

    Raises:
        SlimlineError: not as many of each.
    """
    student, alone = (next(place for place in count(1) if not paths.repeat(name, place).folder.exists()) for name in REPEATED)
    if student != alone:
        raise SlimlineError(f"models/student was trained {student} times, models/student_alone {alone}; run both stages again (dvc repro)")
    return student


def _distillation(by_split: Mapping[str, Mapping[str, Answers]], repeats: int, seed: int, confidence: float) -> dict[str, Any]:
    def all_of(split: str, name: str) -> list[Answers]:
        return [by_split[split][name], *(by_split[split][f"{name} {place}"] for place in range(1, repeats))]

    taught, alone = REPEATED
    effects = {split: asdict(effect(all_of(split, taught), all_of(split, alone), confidence)) for split in by_split}
    return {"seeds": [(seed + place) % 2**32 for place in range(repeats)], **effects}


def _quantization(paths: Paths, data: Description, confidence: float) -> dict[str, Any]:
    """What training on the grids made of the calibrated network, and calibration of student and control, by what `quantize` left.

    Raises:
        SlimlineError: its metrics are missing or foreign.
    """
    path = paths.stage_metrics("quantize")
    try:
        told = json.loads(path.read_text())
        found = {"calibrated": told["quantized"]["val/accuracy_calibrated"], "trained": told["quantized"]["val/accuracy"]}
        images = data.counts["validation"]
        control = None if told["control"] is None else {form: _against_control(one, images, confidence) for form, one in told["control"].items()}
        return {"validation": images, **found, "taught": told["taught"], "control": control}
    except (OSError, ValueError, KeyError) as error:
        raise SlimlineError(f"{path}: not what quantize writes ({error}); run that stage again (dvc repro --force quantize)") from error


def _against_control(told: Mapping[str, Any], images: int, confidence: float) -> dict[str, Any]:
    """The student against its control, both in one form."""
    taught, alone = REPEATED
    pair = compared(told[f"only_{taught}"], told[f"only_{alone}"], images, confidence)
    return {taught: told[taught], alone: told[alone], **asdict(pair)}


def _shared_names(card: dict[str, Any]) -> dict[str, float]:
    """A card under the metric names that every stage uses."""
    return {
        "val/accuracy": card["validation_accuracy"],
        "test/accuracy": card["accuracy"],
        "test/nll": card["nll"],
        "test/ece": card["ece"],
        "size/params": card["params"],
        "size/nonzero_params": card["nonzero_params"],
        "size/packed_bytes": card["packed_bytes"],
        "size/onnx_bytes": card["onnx_bytes"],
        "cost/macs": card["macs"],
        "cost/bops": card["bops"],
    }


def _speeds(batches: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """A model's latencies under the metric names that every stage uses."""
    return {f"latency/{batch}_{key}": timed[key] for batch, timed in batches.items() for key in ("p50_ms", "p95_ms", "images_per_second")}


def _summary(cards: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """`metrics/summary.json`: few enough numbers for one line of `dvc exp show`."""
    teacher, quantized = cards["teacher"], cards["quantized"]
    return {
        **{f"{name}_accuracy": round(cards[name]["accuracy"], 5) for name in MODELS},
        "quantized_validation_accuracy": round(quantized["validation_accuracy"], 5),
        "quantized_packed_bytes": quantized["packed_bytes"],
        "times_smaller_than_teacher": round(teacher["packed_bytes"] / quantized["packed_bytes"], 3),
        "times_fewer_bops_than_teacher": round(teacher["bops"] / quantized["bops"], 2),
        "pruned_share_of_student_params": round(cards["pruned"]["params"] / cards["student"]["params"], 4),
    }
