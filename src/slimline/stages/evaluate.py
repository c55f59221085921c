"""evaluate: every model of the chain as it would be deployed, on ONNX Runtime, on images that chose nothing."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytorch_lightning as pl
from torch import Tensor

from slimline import artifacts
from slimline.core.cost import measure
from slimline.data.batches import Ordered
from slimline.data.prepared import Description, describe, load_split
from slimline.errors import SlimlineError
from slimline.evaluation.latency import latency
from slimline.evaluation.scorecard import Answers, confusion, score
from slimline.evaluation.statistics import compare
from slimline.export.runtime import OnnxModel
from slimline.files import write_csv, write_json, write_text
from slimline.params.evaluate import Evaluate as EvaluateParams
from slimline.paths import MODELS, Paths
from slimline.report.page import page
from slimline.runtime.fit import trainer
from slimline.runtime.script import Made, Settings
from slimline.tracking import Tracker

REFERENCE = "teacher"
COMPARED = (("student", "student_alone"), ("student", "teacher"), ("pruned", "student"), ("quantized", "pruned"), ("quantized", "teacher"))


class Evaluate(pl.LightningModule):
    """Runs exported models over a split and keeps their logits, image by image in the split's order."""

    def __init__(self, models: dict[str, OnnxModel]) -> None:
        super().__init__()
        self.models = models
        self._logits: dict[str, list[np.ndarray]] = {}
        self._labels: list[np.ndarray] = []

    def on_test_epoch_start(self) -> None:
        self._logits, self._labels = {name: [] for name in self.models}, []

    def test_step(self, batch: tuple[Tensor, Tensor], _index: int) -> None:
        images, labels = batch
        for name, model in self.models.items():
            self._logits[name].append(model(images.cpu().numpy()))
        self._labels.append(labels.cpu().numpy())

    def answers(self) -> dict[str, Answers]:
        """What each model answered on the split last run."""
        return {name: Answers(np.concatenate(parts), np.concatenate(self._labels)) for name, parts in self._logits.items()}


def run(params: EvaluateParams, settings: Settings, paths: Paths, tracker: Tracker) -> Made:
    """Write the scorecard, the summary, the latencies, the plots' data and the report."""
    data = describe(paths.prepared)
    sessions = {name: OnnxModel(paths.model(name).onnx, threads=settings.hardware.threads) for name in MODELS}
    module = Evaluate(sessions)
    by_split: dict[str, dict[str, Answers]] = {}
    for split in ("validation", "test"):
        trainer().test(module, Ordered(load_split(paths.prepared, split), params.batch_size), verbose=False)
        by_split[split] = module.answers()
    scorecard: dict[str, Any] = {
        "data": {"name": data.name, "classes": len(data.classes), **data.counts, "digest": data.digest},
        "models": {name: _card(name, paths, data, by_split, params.confidence) for name in MODELS},
        "comparisons": {
            f"{first}_vs_{second}": asdict(compare(by_split["test"][first].right, by_split["test"][second].right, params.confidence))
            for first, second in COMPARED
        },
    }
    # The latency runs have sessions of their own: their number of threads is a parameter, the machine's is not.
    timed = {name: OnnxModel(paths.model(name).onnx, threads=params.latency.threads) for name in MODELS}
    images = next(iter(Ordered(load_split(paths.prepared, "validation"), max(params.latency.batch_sizes))))[0].numpy()
    timings = latency(timed, images, reference=REFERENCE, confidence=params.confidence, **params.latency.model_dump())
    confusions = {name: confusion(by_split["test"][name]) for name in MODELS}
    summary = _summary(scorecard["models"])

    write_json(paths.scorecard, scorecard)
    write_json(paths.summary, summary)
    write_json(paths.latency, timings)
    cards = scorecard["models"]
    write_csv(paths.tradeoff, [{"model": name, "packed_bytes": card["packed_bytes"], "accuracy": card["accuracy"]} for name, card in cards.items()])
    quantized = by_split["test"]["quantized"]
    pairs = zip(quantized.labels, quantized.predicted, strict=True)
    write_csv(paths.confusion, [{"actual": data.classes[a], "predicted": data.classes[p]} for a, p in pairs])
    write_text(paths.report, page(scorecard, timings, confusions, {name: paths.curve(name) for name in MODELS}, data.classes))

    files = (paths.scorecard, paths.summary, paths.latency, paths.tradeoff, paths.confusion, paths.report)
    metrics = {f"{name}/{key}": value for name, card in cards.items() for key, value in _shared_names(card).items()}
    return Made(files, metrics, {"data.digest": data.digest})


def _card(name: str, paths: Paths, data: Description, by_split: dict[str, dict[str, Answers]], confidence: float) -> dict[str, Any]:
    manifest, model = artifacts.load(paths.model(name))
    if manifest.classes != data.classes:
        raise SlimlineError(
            f"models/{name} knows the classes {manifest.classes}, the data {data.classes}; run the pipeline from its start (dvc repro)"
        )
    files = paths.model(name)
    return {
        **score(by_split["validation"][name], by_split["test"][name], confidence),
        **asdict(measure(model, manifest.input_shape)),
        "packed_bytes": files.packed.stat().st_size,
        "onnx_bytes": files.onnx.stat().st_size,
    }


def _shared_names(card: dict[str, Any]) -> dict[str, float]:
    """A card under the metric names that every stage uses."""
    return {
        "val/accuracy": card["validation_accuracy"],
        "test/accuracy": card["accuracy"],
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
