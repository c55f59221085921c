"""Every criterion for channels against random ones, at 2× and 4× fewer multiply-accumulates; question and answers stand in README.md.

    python -m experiments.channel_pruning.measure           # environment active; about an hour on one free core
    python -m experiments.channel_pruning.measure record    # tables and picture of README.md, from results.json

What results.json has is not measured again, and a training that was interrupted goes on. `--epochs 1 --seeds 1 --home FOLDER` is a trial.
"""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from experiments.channel_pruning import tables
from experiments.channel_pruning.tables import BATCHES, CELLS, DENSE, LONG, ONCE, ROUNDS, ROUNDWISE, SLIMMED, TAUGHT, TIMES, Cell
from experiments.lab import Lab, Network, command, packed, prepared, shortened, unpacked
from slimline import artifacts
from slimline.core.cost import measure as cost_of
from slimline.data.batches import Ordered
from slimline.data.prepared import load_split
from slimline.evaluation.latency import measure as timed
from slimline.evaluation.latency import speed_up
from slimline.export.onnx import to_onnx
from slimline.export.runtime import OnnxModel
from slimline.files import write_bytes
from slimline.params.prune import Prune
from slimline.paths import Paths
from slimline.pruning import SCHEDULES
from slimline.pruning.schedule import Schedule, Share
from slimline.registry import build
from slimline.runtime.checkpoints import Place, key
from slimline.runtime.settings import Settings
from slimline.runtime.world import ALONE
from slimline.stages.prune import Recovery
from slimline.tracking.memory import MemoryTracker

HERE = Path(__file__).resolve().parent
SEEDS = 3
DATA = {"size": 16, "channels": 3, "validation": 0.25, "test": 0.1, "smallest_class": 1}
ONLY = r"test/|train/[^/]+/0[0-7]"
"""The test images, and the first 800 training images of each class."""

NETWORK = {"name": "resnet", "depth": 14, "width": 16}
COMMON = {
    "batch_size": 64,
    "weight_decay": 0.02,
    "augment": [{"name": "flip"}, {"name": "shift", "pixels": 2}],
}
DENSE_FIT = {**COMMON, "epochs": 20, "optimizer": {"name": "adamw", "lr": 0.004}, "schedule": {"name": "one_cycle", "warm_up": 0.2}}
SHORT_FIT = {**COMMON, "epochs": 4, "optimizer": {"name": "adamw", "lr": 0.002}, "schedule": {"name": "one_cycle", "warm_up": 0.1}}
LONG_FIT = {**SHORT_FIT, "epochs": 8}
ROUND_EPOCHS = 2
ITERATIVE = {"name": "iterative", "rounds": 3, "epochs": ROUND_EPOCHS}
"""Two rounds of two epochs, and the last one of four: as many as `LONG_FIT`."""
LOSS = {"name": "soft_hard", "temperature": 4.0, "alpha": 0.9}
STRENGTHS = (1e-3, 1e-2)
"""Of the penalty on the scales of batch norms; validation picks."""
CALIBRATION = 1024

L2 = {"name": "magnitude", "p": 2}
METHODS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "random": ({"name": "random"}, {}),
    "magnitude L1": ({"name": "magnitude", "p": 1}, {}),
    "magnitude L2": (L2, {}),
    "gradient": ({"name": "gradient"}, {}),
    "taylor": ({"name": "taylor"}, {}),
    "second_order": ({"name": "second_order"}, {}),
    "geometric_median": ({"name": "geometric_median"}, {"readers": False}),
    "batch_norm": ({"name": "batch_norm"}, {"relative": False}),
    "network slimming": ({"name": "batch_norm"}, {"relative": False}),
    "magnitude L2, multiples of 8": (L2, {"multiple_of": 8}),
    LONG: (L2, {}),
}
"""Criterion and what the granularity `channels` is told, as docs/pruning.md says of each."""


class Watched(Recovery):
    """Keeps what the last cut has left, before it is retrained."""

    def cut(self, model: nn.Module, share: Share | None) -> nn.Module:
        pruned = super().cut(model, share)
        self.left = copy.deepcopy(pruned)
        return pruned


def measure(archive: Path, home: Path, seeds: int, epochs: int | None) -> None:
    lab = Lab(home, prepared(archive, home, DATA, ONLY), "CIFAR-10 (JPEG copy), 16×16")
    fit = shortened(DENSE_FIT, epochs)
    for seed in range(seeds):
        dense = lab.trained(DENSE, seed, NETWORK, fit)
        strength = picked(lab, fit, epochs)
        slimmed = lab.trained(SLIMMED, seed, NETWORK, {**fit, "norm_sparsity": strength})
        for name, network in ((DENSE, dense), (SLIMMED, slimmed)):
            if lab.record(name, seed) is None:
                lab.add(name, seed, {"curve": network.curve, **facts(lab, network.model), "wrong": wrong(lab, network.model)})
        pruned = {}
        for cell in CELLS:
            pruned[cell.name] = recorded(lab, cell, seed, slimmed if cell.method == "network slimming" else dense, epochs)
        time_all(lab, seed, dense.model, pruned)
        for cell in (ONCE, ROUNDWISE, TAUGHT):
            recorded(lab, cell, seed, dense, epochs)


def picked(lab: Lab, fit: Mapping[str, Any], epochs: int | None) -> float:
    """The strength of the penalty after which seed 0 validates best, cut to half and retrained; among equals the weakest."""
    accuracies = {}
    for strength in STRENGTHS:
        name = f"penalty {strength:g}"
        if (found := lab.record(name, 0)) is None:
            slimmed = lab.trained(SLIMMED, 0, NETWORK, {**fit, "norm_sparsity": strength})
            _, _, model = pruned_by(lab, Cell("network slimming", TIMES[0]), 0, slimmed, epochs)
            found = lab.add(name, 0, {"validation_accuracy": facts(lab, model)["validation_accuracy"]})
            print(f"{name}: validation accuracy {found['validation_accuracy']:.2%}", flush=True)
        accuracies[strength] = found["validation_accuracy"]
    return max(accuracies, key=lambda strength: accuracies[strength])


def pruned_by(lab: Lab, cell: Cell, seed: int, dense: Network, epochs: int | None) -> tuple[dict[str, float], nn.Module, nn.Module]:
    """What pruning `dense` obtained, the network right after the last cut, and the retrained one."""
    criterion, told = METHODS[cell.method]
    schedule = ITERATIVE if cell.schedule == "iterative" else {"name": cell.schedule}
    fit = LONG_FIT if cell.method == LONG and cell.schedule == "one_shot" else SHORT_FIT
    block = {
        "criterion": {**criterion, "seed": seed} if cell.method == tables.CONTROL else criterion,
        "granularity": {"name": "channels", **told},
        "target": {"name": "macs", "amount": 1 - 1 / cell.times},
        "schedule": {**schedule, "epochs": epochs} if epochs is not None and "epochs" in schedule else schedule,
        "calibration": CALIBRATION,
        "loss": LOSS if cell.taught else None,
        "fit": shortened(fit, epochs),
    }
    params = Prune.model_validate_json(json.dumps(block))
    manifest = artifacts.Manifest.of(NETWORK, lab.data)
    paths = workspace(lab, seed, manifest, dense.model)
    name = f"{cell.name}-{seed}".replace(" ", "-").replace("/", "-")
    place = Place(paths.scratch / name, key(json.dumps([block, dense.identity]), lab.hardware, ALONE), lab.hardware.checkpoint_seconds)
    course = Watched(params, Settings(seed, lab.hardware, ALONE, place), paths, MemoryTracker(), manifest, dense.model)
    schedule_: Schedule = build(SCHEDULES, params.schedule)
    model = schedule_.run(course, dense.model)
    place.clear()
    return course.obtained, course.left, model


def workspace(lab: Lab, seed: int, manifest: artifacts.Manifest, teacher: nn.Module) -> Paths:
    """A folder in which the stage `prune` finds data and teacher: the dense network itself."""
    paths = Paths(lab.folder / ".slimline" / "workspaces" / str(seed))
    paths.prepared.parent.mkdir(parents=True, exist_ok=True)
    if not paths.prepared.exists():
        paths.prepared.symlink_to(lab.prepared)
        artifacts.save(paths.model("teacher"), manifest, teacher)
    return paths


def recorded(lab: Lab, cell: Cell, seed: int, dense: Network, epochs: int | None) -> Path:
    """Record what `cell` makes of `dense` where results.json lacks it; the file of the exported network."""
    onnx = lab.folder / ".slimline" / "onnx" / f"{cell.name.replace('/', '-')}-{seed}.onnx"
    if lab.record(cell.name, seed) is None:
        obtained, left, model = pruned_by(lab, cell, seed, dense, epochs)
        write_bytes(onnx, to_onnx(model.eval(), lab.data.input_shape, {}))
        shares = {"macs_asked": obtained["prune/asked"], "macs_removed": obtained["prune/removed_macs"]}
        shares |= {"params_removed": obtained["prune/removed_params"], "channels_removed": obtained["prune/removed"]}
        found = {**shares, "validation_accuracy_cut": obtained["prune/accuracy_cut"], **facts(lab, model)}
        made = lab.add(cell.name, seed, {**found, "wrong_cut": wrong(lab, left), "wrong": wrong(lab, model)})
        rights = [1 - len(unpacked(made[when])) / lab.data.counts["test"] for when in ("wrong_cut", "wrong")]
        print(f"{cell.name} {seed}: {made['macs_removed']:.2%} gone, accuracy {rights[0]:.2%}, retrained {rights[1]:.2%}", flush=True)
    return onnx


def facts(lab: Lab, model: nn.Module) -> dict[str, Any]:
    cost = cost_of(model, lab.data.input_shape)
    accuracy = float(np.mean(lab.logits(model, "validation").argmax(1) == lab.labels("validation")))
    return {"validation_accuracy": accuracy, "parameters": cost.params, "macs": cost.macs}


def wrong(lab: Lab, model: nn.Module) -> str:
    return packed(lab.wrong(lab.logits(model, "test"), "test"), lab.data.counts["test"])


def time_all(lab: Lab, seed: int, dense: nn.Module, files: Mapping[str, Path]) -> None:
    """Add to the records how much faster than the dense network each pruned one is on ONNX Runtime, all measured in turn by one thread."""
    records = {name: lab.record(name, seed) for name in files}
    if all(record is not None and "speed_up" in record for record in records.values()):
        return
    torch.set_num_threads(1)
    runs = {name: OnnxModel(file, threads=1) for name, file in files.items()}
    runs[DENSE] = OnnxModel(to_onnx(dense.eval(), lab.data.input_shape, {}), threads=1)
    images = next(iter(Ordered(load_split(lab.prepared, "validation"), max(BATCHES)))).images.numpy()
    for size in BATCHES:
        seconds = timed(runs, images[:size], rounds=ROUNDS, warm_up=5)
        for name, record in records.items():
            assert record is not None  # all cells of the seed were recorded before
            record.setdefault("speed_up", {})[f"batch_{size}"] = speed_up(seconds[DENSE], seconds[name], tables.FAMILY)
    lab.write()
    print(f"timed, seed {seed}", flush=True)


def renewed() -> str:
    """README.md anew, and the picture in it."""
    write_bytes(HERE / "accuracy.png", tables.picture(HERE / "results.json"))
    return tables.renewed()


if __name__ == "__main__":
    raise SystemExit(command(__doc__, "cifar10-jpg.tar.xz", HERE, SEEDS, measure, renewed))
