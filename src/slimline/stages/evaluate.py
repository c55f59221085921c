"""evaluate: every model of the chain as it would be deployed, on ONNX Runtime, on images that chose nothing."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import nn

from slimline import artifacts
from slimline.attacks import ATTACKS
from slimline.attacks.attack import Victim
from slimline.core.batch import Batch
from slimline.core.cost import measure
from slimline.data.batches import Ordered, scaled
from slimline.data.prepared import Description, describe, load_split, name_of
from slimline.errors import SlimlineError
from slimline.evaluation import masking
from slimline.evaluation.distillation import effect
from slimline.evaluation.latency import latency
from slimline.evaluation.one_bit import beside, reads_signs
from slimline.evaluation.robustness import Arena, Robustness, card, subset, under_attack
from slimline.evaluation.scorecard import Answers, agreement, confusion, disagreements, score
from slimline.evaluation.statistics import compare, compared
from slimline.export.runtime import Deployed, deployed
from slimline.files import write_csv, write_json, write_text
from slimline.params.evaluate import Attacks
from slimline.params.evaluate import Evaluate as EvaluateParams
from slimline.paths import MODELS, ModelFolder, Paths
from slimline.registry import build
from slimline.report.page import page
from slimline.report.robustness import table as robustness_table
from slimline.report.words import EFFECTS, reading, ruined, ruined_by_teacher, unhelpful
from slimline.runtime.fingerprint import git_state
from slimline.runtime.settings import Made, Settings
from slimline.runtime.trainer import trainer
from slimline.runtime.world import World
from slimline.tracking import Tracker

REFERENCE = "teacher"
REPEATED = ("student", "student_alone")
"""Models that may be trained from several seeds: with the teacher, and without."""
COMPARED = (("student", "student_alone"), ("student", "teacher"), ("pruned", "student"), ("quantized", "pruned"), ("quantized", "teacher"))
SURROGATES = {name: "student_alone" if name == REFERENCE else REFERENCE for name in MODELS}
"""Who stands in for a model where an attacker does not see it: the teacher; for the teacher, the network that learned nothing from it."""


@dataclass(frozen=True)
class Candidate:
    """One model of the chain: as deployed, and as rebuilt from its tensors."""

    manifest: artifacts.Manifest
    files: ModelFolder
    deployed: Deployed
    rebuilt: nn.Module

    @classmethod
    def read(cls, files: ModelFolder, data: Description, threads: int) -> "Candidate":
        """
        Raises:
            SlimlineError: files that are missing or damaged, or a model of other classes than the data's.
        """
        manifest, model = artifacts.load(files)
        if manifest.classes != data.classes:
            raise SlimlineError(
                f"{files.folder} knows the classes {manifest.classes}, the data {data.classes}; run the pipeline from its start (dvc repro)"
            )
        return cls(manifest, files, deployed(manifest.forms, files.onnx, model, threads=threads), model.requires_grad_(requires_grad=False))

    @property
    def victim(self) -> Victim:
        return Victim(self.rebuilt, lambda images: torch.from_numpy(self.deployed(images.contiguous().numpy())))


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
    """Write the scorecard, the summary, the latencies, the plots' data and the report."""
    data = describe(paths.prepared)
    repeats = _repeats(paths)
    places = {name: paths.model(name) for name in MODELS} | {
        f"{name} {place}": paths.repeat(name, place) for name in REPEATED for place in range(1, repeats)
    }
    candidates = {name: Candidate.read(files, data, settings.hardware.threads) for name, files in places.items()}
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
    tested = {name: by_split["test"][name] for name in MODELS}
    about = {"name": name_of(paths.origin), "classes": len(data.classes), "class_names": data.classes, **data.counts, "digest": data.digest}
    scorecard: dict[str, Any] = {
        "data": about,
        "models": {
            name: {
                **score(by_split["validation"][name], tested[name], params.confidence),
                **({} if name == REFERENCE else agreement(tested[name], tested[REFERENCE], params.confidence)),
                "export_agreement": float((tested[name].predicted == rebuilt[name].predicted).mean()),
                **asdict(measure(one.rebuilt, one.manifest.input_shape)),
                "packed_bytes": one.files.packed.stat().st_size,
                "onnx_bytes": one.files.onnx.stat().st_size,
            }
            for name, one in candidates.items()
            if name in MODELS
        },
        "comparisons": {
            f"{first}_vs_{second}": asdict(compare(tested[first].right, tested[second].right, params.confidence)) for first, second in COMPARED
        },
        "disagreements": disagreements(tested, REFERENCE, "quantized"),
        "distillation": _distillation(by_split, repeats, settings.seed, params.confidence),
        "quantization": _quantization(paths, data, params.confidence),
    }
    attacked = {} if params.attacks is None else _attacked(params.attacks, candidates, paths, settings.seed, params.batch_size)
    for name, robustness in attacked.items():
        found = {test: signs and [asdict(sign) for sign in signs] for test, signs in masking.signs(robustness, params.confidence).items()}
        scorecard["models"][name]["attacks"] = card(robustness, params.confidence) | {"masking": found}
    scorecard["robustness"] = under_attack(attacked, COMPARED, params.confidence)
    # The latency runs have sessions of their own: their number of threads is a parameter, the machine's is not.
    timed = {name: deployed(one.manifest.forms, one.files.onnx, one.rebuilt, threads=params.latency.threads) for name, one in candidates.items()}
    images = next(iter(Ordered(load_split(paths.prepared, "validation"), max(params.latency.batch_sizes)))).images.numpy()
    commit, dirty = git_state(paths.root)
    timings = {"commit": commit, "dirty": dirty, "date": datetime.now(UTC).date().isoformat()} | latency(
        timed, images, reference=REFERENCE, confidence=params.confidence, **params.latency.model_dump()
    )
    # What ONNX Runtime cannot run is timed on torch, and labelled so.
    timings["runtimes"] = {name: run.runtime for name, run in timed.items()}
    timings["one_bit"] = _one_bit(candidates["quantized"], candidates["pruned"], paths, images, params)
    confusions = {name: confusion(tested[name]) for name in MODELS}
    summary = _summary(scorecard["models"])

    write_json(paths.scorecard, scorecard)
    write_json(paths.summary, summary)
    write_json(paths.latency, timings)
    cards = scorecard["models"]
    columns = ("packed_bytes", "accuracy")
    write_csv(paths.tradeoff, [{"model": name} | {key: card[key] for key in columns} for name, card in cards.items()], ["model", *columns])
    write_csv(paths.robustness, robustness_table(scorecard), ["budget", *MODELS])
    quantized = tested["quantized"]
    pairs = zip(quantized.labels, quantized.predicted, strict=True)
    write_csv(paths.confusion, [{"actual": data.classes[a], "predicted": data.classes[p]} for a, p in pairs], ["actual", "predicted"])
    curves = {name: paths.curve(name) for name in MODELS}
    again = {name: [paths.repeat(name, place).curve for place in range(1, repeats)] for name in REPEATED}
    write_text(paths.report, page(scorecard, timings, confusions, curves, data.classes, confidence=params.confidence, again=again))
    for told in filter(None, (unhelpful(scorecard), ruined(scorecard), ruined_by_teacher(scorecard))):
        print(f"slimline: {told}", file=sys.stderr, flush=True)

    files = (paths.scorecard, paths.summary, paths.latency, paths.tradeoff, paths.robustness, paths.confusion, paths.report)
    metrics = {f"{name}/{key}": value for name, card in cards.items() for key, value in _shared_names(card).items()}
    metrics |= {
        f"{name}/latency/{batch}_{quantile}": value
        for name, batches in timings["models"].items()
        for batch, quantiles in batches.items()
        for quantile, value in quantiles.items()
    }
    found = scorecard["distillation"]
    metrics |= {f"distillation/{split}_{key}": found[split][key] for split in ("validation", "test") for key in ("difference", "low", "high")}
    return Made(files, metrics, {"data.digest": data.digest, "distillation.teacher": EFFECTS[reading(found["test"])]})


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


def _attacked(params: Attacks, candidates: Mapping[str, Candidate], paths: Paths, seed: int, batch_size: int) -> dict[str, Robustness]:
    """Every model under every attack, on the same test images."""
    split = load_split(paths.prepared, "test")
    ((samples, pixels, labels),) = split.gathered([torch.tensor(subset(params.images, len(split), seed))])
    victims = {name: candidates[name].victim for name in MODELS}
    attacks = {name: build(ATTACKS, spec) for name, spec in params.methods.items()}
    arena = Arena(victims, SURROGATES, Batch(scaled(pixels), labels, samples), attacks, params.budgets, seed, batch_size)
    return {name: arena.robustness(name) for name in MODELS}


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
