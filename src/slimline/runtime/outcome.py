"""What every training stage leaves behind: the model's four files, its numbers, its training curve."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor, nn

from slimline import artifacts
from slimline.core.cost import measure
from slimline.data.batches import Ordered, scaled
from slimline.data.prepared import Images, describe, load_split, name_of
from slimline.errors import SlimlineError
from slimline.export.parity import Parity, parities, ways
from slimline.export.runtime import deployed
from slimline.files import write_csv, write_json
from slimline.paths import ModelFolder, Paths
from slimline.runtime.classifier import Classifier, Epoch
from slimline.runtime.settings import Made, Settings

BATCH = 512
WAYS = {
    "deployed": "exported model",
    "unoptimized": "exported model without optimization",
    "integers": "integer reference",
}
"""How a message calls the ways of `export.parity.ways`."""

FLOAT_PARITY = 0.99
"""Least agreement of a model of real numbers with its export; one image of a hundred may lie on the fence."""


@dataclass(frozen=True)
class Trained:
    """A model that a stage made.

    Args:
        name: its folder under `models/`.
        history: its training curve; empty where nothing was trained.
        early: weights of an early step of its training, to be kept beside it.
        parity: least share of validation images on which trained and exported model must agree.
        again: the same trained from further seeds, each with its curve; they are kept beside the model, to tell luck from what it learned.
    """

    name: str
    manifest: artifacts.Manifest
    model: nn.Module
    history: Sequence[Epoch] = ()
    parity: float = FLOAT_PARITY
    extra: Mapping[str, float] = field(default_factory=dict)
    again: Sequence[tuple[nn.Module, Sequence[Epoch]]] = ()
    early: Mapping[str, Tensor] | None = None


def leave(stage: str, paths: Paths, settings: Settings, *trained: Trained, beside: Mapping[str, Any] | None = None) -> Made:
    """Save each of `trained` and check its export; write the stage's metrics. The first is the stage's own model.

    Of several processes the first one does it.

    Args:
        beside: what the stage's metrics say besides those of its models.

    Raises:
        SlimlineError: an exported model that does not compute what was trained; its files are not kept.
    """
    if not settings.world.first:
        return Made((), {}, {})
    validation = load_split(paths.prepared, "validation")
    numbers = {one.name: _save(one, paths, validation, settings.provenance) for one in trained}
    write_json(paths.stage_metrics(stage), {**numbers, **(beside or {})})
    own, *others = trained
    metrics = dict(numbers[own.name])
    for other in others:
        metrics |= {f"{other.name}/{key}": value for key, value in numbers[other.name].items()}
    curves = [paths.curve(one.name) for one in trained]
    files = (*(paths.model(one.name).folder for one in trained), *curves, paths.stage_metrics(stage))
    models = {one.name: paths.model(one.name).onnx for one in trained}
    data = described(paths)
    return Made(files, metrics, {"data.digest": data["digest"]}, data, models, scaled(validation.pixels[:1]).numpy())


def described(paths: Paths) -> dict[str, Any]:
    """The prepared images, as a run tells of them."""
    data = describe(paths.prepared)
    return {"name": name_of(paths.origin), "digest": data.digest, "classes": len(data.classes), **data.counts}


def _save(one: Trained, paths: Paths, validation: Images, provenance: str | None) -> dict[str, float]:
    target = paths.model(one.name)
    found = _save_folder(one, one.model, target, validation, provenance)
    # A model that was not trained has a curve too, one without rows: DVC expects every output of its stage.
    _write_curve(paths.curve(one.name), one.history)
    for place, (model, history) in enumerate(one.again, start=1):
        folder = paths.repeat(one.name, place)
        _save_folder(one, model, folder, validation, provenance)
        _write_curve(folder.curve, history)
    cost = measure(one.model, one.manifest.input_shape)
    return {
        "val/accuracy": accuracy(one.model, validation),
        "size/params": cost.params,
        "size/nonzero_params": cost.nonzero_params,
        "size/packed_bytes": _bytes(target.packed),
        "size/onnx_bytes": _bytes(target.onnx),
        "cost/macs": cost.macs,
        "cost/bops": cost.bops,
        **_parity(found),
        **_spread([one.model, *(model for model, _ in one.again)], validation),
        **one.extra,
    }


def _parity(found: dict[str, Parity]) -> dict[str, float]:
    """The deployed model's parity, and under further names that of the other ways."""
    metrics = {"parity/agreement": found["deployed"].agreement, "parity/largest_difference": found["deployed"].largest_difference}
    for way, result in found.items():
        numbers = {"agreement": result.agreement, "largest_steps": result.largest_steps, "mean_steps": result.mean_steps}
        metrics |= {f"parity/{way}/{key}": value for key, value in numbers.items()}
    return metrics


def _spread(models: Sequence[nn.Module], validation: Images) -> dict[str, float]:
    """Mean and standard deviation over the seeds, where there are several."""
    if len(models) == 1:
        return {}
    accuracies = [accuracy(model, validation) for model in models]
    return {"val/accuracy_mean": fmean(accuracies), "val/accuracy_deviation": stdev(accuracies), "repeats": len(models)}


def _write_curve(path: Path, history: Sequence[Epoch]) -> None:
    write_csv(path, [asdict(row) for row in history], [column.name for column in fields(Epoch)])


def _save_folder(one: Trained, model: nn.Module, target: ModelFolder, validation: Images, provenance: str | None) -> dict[str, Parity]:
    checks: list[dict[str, Parity]] = []
    threads = torch.get_num_threads()

    def check(files: ModelFolder) -> None:
        artifacts.load(files)  # what cannot be rebuilt must not be left behind
        others = ways(model, files.onnx, deployed(one.manifest.forms, files.onnx, model, threads=threads), threads=threads)
        found = parities(model, others, (batch.images for batch in Ordered(validation, BATCH)))
        for way, result in found.items():
            if result.agreement < one.parity:
                raise SlimlineError(
                    f"models/{one.name}: trained and {WAYS[way]} agree on {result.agreement:.4f} of {result.images} validation images, below "
                    f"{one.parity:g} (largest logit difference {result.largest_difference:.3g}, {result.largest_steps:.2g} steps of 8 bits); "
                    "train longer or use more bits"
                )
        checks.append(found)

    artifacts.save(target, one.manifest, model, early=one.early if model is one.model else None, provenance=provenance, check=check)
    (found,) = checks
    return found


def _bytes(path: Path) -> int:
    return path.stat().st_size


def told_of(module: Classifier, validation: Images) -> dict[str, Any]:
    """What a stage's metrics say of a training whose network is no model of its own: a member of an ensemble, an assistant."""
    return {
        "val/accuracy": accuracy(module.model, validation),
        "size/params": sum(p.numel() for p in module.model.parameters()),
        "curve": [[row.train_loss, row.val_loss, row.val_accuracy] for row in module.history],
    }


def accuracy(model: nn.Module, images: Images) -> float:
    """Share of `images` that `model` classifies rightly."""
    return int(rightly(model, images).sum()) / len(images)


@torch.no_grad()
def rightly(model: nn.Module, images: Images) -> Tensor:
    """Which of `images` `model` classifies rightly, as truth values."""
    return torch.cat([model.eval()(batch.images).argmax(1) == batch.labels for batch in Ordered(images, BATCH)])
