"""Pruning of LeNet-300-100 and LeNet-5 on MNIST; the question and the answers stand in README.md.

    python -m experiments.deep_compression_pruning.measure           # environment active; hours on one core
    python -m experiments.deep_compression_pruning.measure record    # the tables of README.md, from results.json

What results.json has is not measured again, and a training that was interrupted goes on. `--epochs 1 --seeds 1 --home FOLDER` is a trial.
"""

import json
from pathlib import Path
from typing import Any

from experiments.deep_compression_pruning import tables
from experiments.deep_compression_pruning.tables import Cell, cells
from experiments.lab import Lab, Network, command, prepared, shortened
from slimline import artifacts
from slimline.core.cost import measure as cost_of
from slimline.params.prune import Prune
from slimline.paths import Paths
from slimline.runtime.checkpoints import Place, key
from slimline.runtime.settings import Settings
from slimline.runtime.world import ALONE
from slimline.stages import prune
from slimline.tracking.memory import MemoryTracker

HERE = Path(__file__).resolve().parent
SEEDS = 3
DATA = {"size": 28, "channels": 1, "validation": 0.0834, "test": 0.1, "smallest_class": 1}

NETWORKS: dict[str, dict[str, Any]] = {"lenet300": {"name": "lenet300"}, "lenet5": {"name": "lenet5"}}
TEACHER = {"name": "resnet", "depth": 8, "width": 8}
SHIFTS = [{"name": "shift", "pixels": 2}]
DENSE_FIT = {
    "epochs": 30,
    "batch_size": 128,
    "optimizer": {"name": "adamw", "lr": 0.002},
    "schedule": {"name": "one_cycle", "warm_up": 0.1},
    "weight_decay": 0.01,
}
"""No shifts, as in the paper: the dense network is the paper's, and the baseline of every comparison."""
TEACHER_FIT = {**DENSE_FIT, "epochs": 12, "augment": SHIFTS}
LOSS = {"name": "soft_hard", "temperature": 4.0, "alpha": 0.9}
PRUNE_FIT = {**DENSE_FIT, "epochs": 40, "augment": SHIFTS, "views": 8}
"""In eight views, on which the teacher is asked once; on labels alone in the same ones."""
ROUND_EPOCHS = 10
SCHEDULES: dict[str, dict[str, Any]] = {
    "one_shot": {"name": "one_shot"},
    "iterative": {"name": "iterative", "rounds": 4, "epochs": ROUND_EPOCHS},
    "gradual": {"name": "gradual", "every": 50, "end": 0.6},
}


def measure(archive: Path, home: Path, seeds: int, epochs: int | None) -> None:
    lab = Lab(home, prepared(archive, home, DATA), "MNIST")
    for seed in range(seeds):
        teacher = lab.trained("teacher", seed, TEACHER, shortened(TEACHER_FIT, epochs))
        lab.measured("teacher", seed, teacher)
        for name, spec in NETWORKS.items():
            dense = lab.trained(name, seed, spec, shortened(DENSE_FIT, epochs))
            lab.measured(name, seed, dense)
            paths = workspace(lab, name, seed, spec, dense, teacher)
            for cell in cells(name):
                if lab.record(cell.name, seed) is None:
                    record_pruned(lab, cell, seed, paths, epochs)


def workspace(lab: Lab, name: str, seed: int, spec: dict[str, Any], dense: Network, teacher: Network) -> Paths:
    """A folder in which the stage `prune` finds data, student and teacher."""
    data = lab.data
    paths = Paths(lab.folder / ".slimline" / "workspaces" / f"{name}-{seed}")
    paths.prepared.parent.mkdir(parents=True, exist_ok=True)
    if not paths.prepared.exists():
        paths.prepared.symlink_to(lab.prepared)
    for folder, architecture, network in (("student", spec, dense), ("teacher", TEACHER, teacher)):
        manifest = artifacts.Manifest.of(architecture, data)
        artifacts.save(paths.model(folder), manifest, network.model)
    return paths


def record_pruned(lab: Lab, cell: Cell, seed: int, paths: Paths, epochs: int | None) -> None:
    schedule = SCHEDULES[cell.schedule]
    block = {
        "criterion": {"name": "magnitude", "p": 1},
        "granularity": {"name": "weights"},
        "target": {"name": "fraction", "amount": 1 - 1 / cell.times},
        "schedule": {**schedule, "epochs": epochs} if epochs is not None and "epochs" in schedule else schedule,
        "loss": LOSS if cell.taught else None,
        "fit": shortened(PRUNE_FIT, epochs),
    }
    params = Prune.model_validate_json(json.dumps(block))
    place = Place(paths.scratch / cell.name.replace(" ", "-"), key(json.dumps(block), lab.hardware, ALONE), lab.hardware.checkpoint_seconds)
    made = prune.run(params, Settings(seed, lab.hardware, ALONE, place), paths, MemoryTracker())
    place.clear()
    manifest, model = artifacts.load(paths.model("pruned"))
    wrong = lab.wrong(lab.logits(model, "test"), "test")
    facts = {
        "errors": len(wrong),
        "wrong": wrong,
        "validation_accuracy": made.metrics["val/accuracy"],
        "accuracy_cut": made.metrics.get("prune/accuracy_cut"),
        "removed": made.metrics["prune/removed"],
        "nonzero_parameters": cost_of(model, manifest.input_shape).nonzero_params,
        "packed_bytes": int(made.metrics["size/packed_bytes"]),
    }
    lab.add(cell.name, seed, facts)
    print(f"{cell.name} {seed}: {len(wrong)} test errors, {facts['packed_bytes']:,} bytes", flush=True)


if __name__ == "__main__":
    raise SystemExit(command(__doc__, "mnist.tar.xz", HERE, SEEDS, measure, tables.renewed))
