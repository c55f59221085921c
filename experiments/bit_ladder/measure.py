"""Accuracy, bytes and latency on every rung from 64 bits to 2; the question and the answers stand in README.md.

    python -m experiments.bit_ladder.measure --data data/raw/ARCHIVE      # digits.md (default), mnist.tar.xz or cifar10-jpg.tar.xz
    python -m experiments.bit_ladder.measure record                       # tables and picture of README.md, from results.json

What results.json has is not measured again. `--epochs 1 --seeds 1 --home FOLDER` is a trial.
"""

import copy
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from experiments.bit_ladder import tables
from experiments.bit_ladder.tables import RUNGS, WAYS
from experiments.lab import Lab, Network, command, packed, prepared, shortened
from slimline.artifacts import Manifest, save
from slimline.core.double import double
from slimline.core.quantized import settled
from slimline.data.batches import Ordered
from slimline.data.prepare.arrays import prepare
from slimline.data.prepared import load_split
from slimline.data.sources.digits import digits
from slimline.distillation.taught import Taught
from slimline.evaluation.latency import measure as timed
from slimline.evaluation.latency import summarize
from slimline.export.runtime import Deployed, deployed
from slimline.files import whole_folder, write_bytes
from slimline.params.data import Data
from slimline.params.fit import Fit
from slimline.paths import ModelFolder
from slimline.quantization.bits import Bits, Choice
from slimline.quantization.calibrate import calibrated, plan
from slimline.quantization.learning import learnable
from slimline.runtime.fit import fit
from slimline.runtime.objectives import LabelsAlone
from slimline.runtime.settings import Settings
from slimline.runtime.world import ALONE
from slimline.stages.quantize import Quantize
from slimline.tracking.memory import MemoryTracker

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
SEEDS = 3
CALIBRATION = 512
LOSS = {"name": "soft_hard", "temperature": 4.0, "alpha": 0.9}
SCHEME = {"name": "mse"}
BATCHES = (1, 64)
SHIFTS = [{"name": "shift", "pixels": 1}]
FIT = {
    "epochs": 30,
    "batch_size": 64,
    "optimizer": {"name": "adamw", "lr": 0.003},
    "schedule": {"name": "one_cycle", "warm_up": 0.1},
    "weight_decay": 0.01,
    "augment": SHIFTS,
}
TUNE = {"epochs": 10, "batch_size": 64, "optimizer": {"name": "adamw", "lr": 0.001}, "schedule": {"name": "cosine"}, "augment": SHIFTS}


@dataclass(frozen=True)
class Task:
    """One data set, and the networks that learn it.

    Args:
        source: what the data set is called.
        data: block `data` without its source.
        only: a pattern of the beginnings of the paths that are taken; None: all.
        fit: of teacher and student. tune: of training on grids.
        tuned: the rungs on which the student is trained.
    """

    source: str
    data: Mapping[str, Any]
    only: str | None
    teacher: Mapping[str, Any]
    student: Mapping[str, Any]
    fit: Mapping[str, Any]
    tune: Mapping[str, Any]
    tuned: tuple[Bits, ...] = ("e4m3", "e5m2", 8, 6, 5, 4, 3, 2)


RESNET20 = {"name": "resnet", "depth": 20, "width": 16}
TASKS: dict[str, Task] = {
    "digits.md": Task(
        "digits", {"size": 8, "channels": 1, "validation": 0.2, "test": 0.2}, None, RESNET20, {"name": "mobilenet", "width": 16}, FIT, TUNE
    ),
    "mnist.tar.xz": Task(
        "MNIST",
        {"size": 28, "channels": 1, "validation": 0.16667, "test": 0.1},
        r"test/|train/\d/\d*0\.png",  # all test images, a tenth of the others
        {"name": "lenet5", "filters": [32, 64], "hidden": 256},
        {"name": "mobilenet", "width": 16, "stride": 2},
        {**FIT, "epochs": 15},
        {**TUNE, "epochs": 3},
    ),
    "cifar10-jpg.tar.xz": Task(
        "CIFAR-10 (JPEG copy)",
        {"size": 32, "channels": 3, "validation": 0.2, "test": 0.1},
        r"test/\w+/\d*[05]\.jpg|train/\w+/\d*0\.jpg",  # a fifth of the test images, a tenth of the others
        {"name": "resnet", "depth": 8, "width": 16},
        {"name": "resnet", "depth": 20, "width": 8},
        {**FIT, "epochs": 15, "augment": [*SHIFTS, {"name": "flip"}]},
        {**TUNE, "epochs": 2, "augment": [*SHIFTS, {"name": "flip"}]},
        (8, 4, 3, 2),
    ),
}


def measure(archive: Path, home: Path, seeds: int, epochs: int | None) -> None:
    task = TASKS[archive.name]
    lab = Lab(home, data(task, archive, home), task.source)
    for seed in range(seeds):
        teacher = lab.trained("teacher", seed, task.teacher, shortened(task.fit, epochs))
        lab.measured(f"{task.source}: teacher", seed, teacher)
        student = lab.trained("student", seed, task.student, shortened(task.fit, epochs), teacher, LOSS)
        runs: dict[str, Deployed] = {}
        for bits in RUNGS:
            for way in WAYS if bits in task.tuned else WAYS[:1]:
                name = f"{task.source}: {bits} {way}"
                needed = lab.record(name, seed) is None
                if not needed and way != "calibrated":
                    continue
                model, (form, record) = on_rung(lab, bits, way, student, teacher, seed, shortened(task.tune, epochs))
                facts, run = written(lab, task, model, form, record)
                if way == "calibrated":
                    runs[str(bits)] = run
                if needed:
                    lab.add(name, seed, facts)
                    print(f"{name} {seed}: {facts['errors']} test errors, {facts['packed_bytes']:,} bytes", flush=True)
        if lab.record(f"{task.source}: latency", seed) is None:
            lab.add(f"{task.source}: latency", seed, latencies(lab, runs))


def on_rung(lab: Lab, bits: Bits, way: str, student: Network, teacher: Network, seed: int, tune: Mapping[str, Any]) -> tuple[nn.Module, Any]:
    """The student at `bits` for weights and activations, and the form in which it is saved."""
    shape = lab.data.input_shape
    if bits == 64:
        return double(copy.deepcopy(student.model), {}), ("double", {})
    record = plan(student.model, shape, weights=Choice(bits, per_channel=True), activations=Choice(bits, symmetric=False))
    images = (batch.images for batch in Ordered(load_split(lab.prepared, "train"), CALIBRATION))
    graph = calibrated(student.model, record, [next(images)], weights=SCHEME, activations=SCHEME)
    if way == "calibrated":
        return graph.eval(), ("quantized", record)
    if isinstance(bits, int):
        learnable(graph, shape, weights={"name": "lsq"}, activations={"name": "lsq"})
    params = Fit.model_validate_json(json.dumps(tune))
    objective = Taught(graph, teacher.model, LOSS, shape) if way == "taught" else LabelsAlone(params.label_smoothing)
    module = Quantize(graph, params, lambda *_: objective)
    fit(module, lab.prepared, params, Settings(seed, lab.hardware, ALONE), tracker=MemoryTracker(), name=f"{bits} {way}")
    return settled(module.model).eval(), ("quantized", record)


def written(lab: Lab, task: Task, model: nn.Module, form: str, record: Mapping[str, Any]) -> tuple[dict[str, Any], Deployed]:
    """What is told of a model, and the model as it is deployed, whose answers to the test images these are."""
    manifest = Manifest.of(task.student, lab.data).after(form, record)
    with tempfile.TemporaryDirectory() as folder:
        files = ModelFolder(Path(folder) / "model")
        save(files, manifest, model)
        run = deployed(manifest.forms, files.onnx, model, threads=lab.threads)
        sizes = {"packed_bytes": files.packed.stat().st_size, "onnx_bytes": files.onnx.stat().st_size}
    answers = {
        split: np.concatenate([run(batch.images.numpy()) for batch in Ordered(load_split(lab.prepared, split), 500)])
        for split in ("validation", "test")
    }
    wrong = lab.wrong(answers["test"], "test")
    accuracy = float(np.mean(answers["validation"].argmax(1) == lab.labels("validation")))
    return {
        "runtime": run.runtime,
        "validation_accuracy": accuracy,
        "errors": len(wrong),
        "wrong": packed(wrong, lab.data.counts["test"]),
        **sizes,
    }, run


def latencies(lab: Lab, runs: Mapping[str, Deployed]) -> dict[str, Any]:
    """Milliseconds of every rung, measured in turn, by one thread."""
    images = next(iter(Ordered(load_split(lab.prepared, "validation"), max(BATCHES)))).images.numpy()
    torch.set_num_threads(1)
    return {f"batch_{size}": {name: summarize(s) for name, s in timed(runs, images[:size], rounds=100, warm_up=5).items()} for size in BATCHES}


def data(task: Task, archive: Path, home: Path) -> Path:
    """The prepared digits, or images of an archive."""
    if task.source != "digits":
        return prepared(archive, home, task.data, task.only)
    folder = home / ".slimline" / "digits"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        source = {"source": {"name": "digits", "path": "data/raw/digits.md"}}
        with whole_folder(folder) as made:
            prepare(digits(REPOSITORY, path="data/raw/digits.md"), Data.model_validate(source | dict(task.data)), made, seed=0, workers=1)
    return folder


def recorded() -> str:
    """README.md anew, with its picture beside it."""
    if tables.RESULTS.exists():
        write_bytes(HERE / "ladder.png", tables.picture(json.loads(tables.RESULTS.read_text())))
    return tables.renewed()


if __name__ == "__main__":
    raise SystemExit(command(__doc__, "digits.md", HERE, SEEDS, measure, recorded))
