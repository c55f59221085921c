"""Accuracy, bytes and latency on every rung from 64 bits to 2; the question and the answers stand in README.md.

    python -m experiments.bit_ladder.measure --data digits      # or an archive of MNIST's PNG files, see experiments/mnist
    python -m experiments.bit_ladder.measure record             # the table of README.md, from results.json
    python -m experiments.bit_ladder.measure --smoke            # two rungs, hardly trained, nothing written into this folder

What results.json has is not measured again.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from experiments.bit_ladder import tables
from experiments.lab import Lab, Network, prepared
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
from slimline.files import whole_folder, write_text
from slimline.params.data import Data
from slimline.params.fit import Fit
from slimline.paths import ModelFolder
from slimline.quantization.bits import Bits, Choice
from slimline.quantization.calibrate import calibrated, plan
from slimline.quantization.learning import learnable
from slimline.runtime.classifier import Classifier
from slimline.runtime.fit import fit
from slimline.runtime.objectives import LabelsAlone
from slimline.runtime.settings import Settings
from slimline.runtime.world import ALONE
from slimline.tracking.memory import MemoryTracker

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
RUNGS: tuple[Bits, ...] = (64, 32, 16, "bf16", "e4m3", "e5m2", 8, 6, 5, 4, 3, 2)
WAYS = ("calibrated", "trained", "taught")
"""Post-training; then trained on its grids under labels alone; or under labels and the teacher."""
SEEDS = 3
CALIBRATION = 512
TEACHER = {"name": "resnet", "depth": 20, "width": 16}
STUDENT = {"name": "mobilenet", "width": 16}
AUGMENT = [{"name": "shift", "pixels": 1}]
FIT = {
    "epochs": 30,
    "batch_size": 64,
    "optimizer": {"name": "adamw", "lr": 0.003},
    "schedule": {"name": "one_cycle", "warm_up": 0.1},
    "weight_decay": 0.01,
    "augment": AUGMENT,
}
TUNE = {"epochs": 10, "batch_size": 64, "optimizer": {"name": "adamw", "lr": 0.001}, "schedule": {"name": "cosine"}, "augment": AUGMENT}
LOSS = {"name": "soft_hard", "temperature": 4.0, "alpha": 0.9}
SCHEME = {"name": "mse"}
BATCHES = (1, 64)


class Tuned(Classifier):
    """Training on grids: batch norms that were not folded keep their statistics."""

    def train(self, mode: bool = True) -> "Tuned":
        super().train(mode)
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def on_rung(lab: Lab, bits: Bits, way: str, student: Network, teacher: Network, seed: int, tune: Mapping[str, Any]) -> tuple[nn.Module, Any]:
    """The student at `bits` for weights and activations, and the form in which it is saved."""
    shape = lab.data.input_shape
    if bits == 64:
        return double(student.model, {}), ("double", {})
    record = plan(student.model, shape, weights=Choice(bits, per_channel=True), activations=Choice(bits, symmetric=False))
    images = (batch.images for batch in Ordered(load_split(lab.prepared, "train"), CALIBRATION))
    graph = calibrated(student.model, record, [next(images)], weights=SCHEME, activations=SCHEME)
    if way == "calibrated":
        return graph.eval(), ("quantized", record)
    if isinstance(bits, int) and bits <= 8:
        learnable(graph, shape, weights={"name": "lsq"}, activations={"name": "lsq"})
    params = Fit.model_validate_json(json.dumps(tune))
    objective = Taught(graph, teacher.model, LOSS, shape) if way == "taught" else LabelsAlone(params.label_smoothing)
    module = Tuned(graph, params, objective)
    fit(module, lab.prepared, params, Settings(seed, lab.hardware, ALONE), tracker=MemoryTracker(), name=f"{bits} {way}")
    return settled(module.model).eval(), ("quantized", record)


def measure(lab: Lab, rungs: tuple[Bits, ...], seeds: int, fit_params: Mapping[str, Any], tune: Mapping[str, Any]) -> None:
    for seed in range(seeds):
        teacher = lab.trained("teacher", seed, TEACHER, fit_params)
        runs: dict[str, Deployed] = {}
        for bits in rungs:
            for way in WAYS:
                name = f"{bits} {way}"
                student = lab.trained("student", seed, STUDENT, fit_params, teacher, LOSS)
                needed = lab.record(name, seed) is None
                if (bits in (64, 32) and way != "calibrated") or not (needed or way == "calibrated"):
                    continue
                model, (form, record) = on_rung(lab, bits, way, student, teacher, seed, tune)
                facts, run = written(lab, model, form, record)
                if way == "calibrated":
                    runs[str(bits)] = run
                if needed:
                    lab.add(name, seed, facts)
                    print(f"{name} {seed}: {facts['errors']} test errors, {facts['packed_bytes']:,} bytes", flush=True)
        if lab.record("latency", seed) is None:
            lab.add("latency", seed, latencies(lab, runs))


def written(lab: Lab, model: nn.Module, form: str, record: Mapping[str, Any]) -> tuple[dict[str, Any], Deployed]:
    """What is told of a model, and the model as it is deployed, whose answers to the test images these are."""
    data = lab.data
    manifest = Manifest(architecture=STUDENT, input_shape=data.input_shape, mean=data.mean, std=data.std, classes=data.classes).after(form, record)
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
    return {"runtime": run.runtime, "validation_accuracy": accuracy, "errors": len(wrong), "wrong": wrong, **sizes}, run


def latencies(lab: Lab, runs: Mapping[str, Deployed]) -> dict[str, Any]:
    """Milliseconds of every rung, measured in turn, by one thread."""
    images = next(iter(Ordered(load_split(lab.prepared, "validation"), max(BATCHES)))).images.numpy()
    torch.set_num_threads(1)
    return {f"batch_{size}": {name: summarize(s) for name, s in timed(runs, images[:size], rounds=100, warm_up=5).items()} for size in BATCHES}


def data(source: str, home: Path) -> Path:
    """The prepared digits, or MNIST of an archive."""
    if source != "digits":
        return prepared(Path(source), home, {"size": 28, "channels": 1, "validation": 0.0834, "test": 0.1, "smallest_class": 1})
    folder = home / ".slimline" / "digits"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        form = {"source": {"name": "digits", "path": "data/raw/digits.md"}, "size": 8, "channels": 1, "validation": 0.2, "test": 0.2}
        with whole_folder(folder) as made:
            prepare(digits(REPOSITORY, path="data/raw/digits.md"), Data.model_validate(form), made, seed=0, workers=1)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=["measure", "record"], default="measure")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    if given.command == "record":
        write_text(HERE / "README.md", tables.renewed())
    elif given.smoke:
        with tempfile.TemporaryDirectory() as folder:
            lab = Lab(Path(folder), data("digits", Path(folder)), "digits")
            short = {"epochs": 1}
            measure(lab, (64, 8, 2), 1, FIT | short, TUNE | short)
            print(tables.table(lab.values))
    else:
        measure(Lab(HERE, data(given.data, HERE), "digits" if given.data == "digits" else "MNIST"), RUNGS, given.seeds, FIT, TUNE)


if __name__ == "__main__":
    main()
