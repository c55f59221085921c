"""The first experiment of "Distilling the Knowledge in a Neural Network"; the question and the answers stand in README.md.

    python -m experiments.hinton_mnist.measure --data ARCHIVE    # environment active; half an hour on one free core
    python -m experiments.hinton_mnist.measure record            # the table of README.md, from results.json

ARCHIVE is MNIST's PNG files as experiments/mnist describes them. What results.json has is not measured again, and a training that was
interrupted goes on.
"""

import argparse
from pathlib import Path

import numpy as np

from experiments.hinton_mnist import tables
from experiments.lab import Lab, Network, prepared
from slimline.files import write_text

HERE = Path(__file__).resolve().parent
SEEDS = 3
DATA = {"size": 28, "channels": 1, "validation": 0.0834, "test": 0.1, "smallest_class": 1}

TEACHER = {"name": "mlp", "hidden": [1200, 1200], "dropout": 0.5}
STUDENT = {"name": "mlp", "hidden": [800, 800]}
TEACHER_FIT = {
    "epochs": 30,
    "batch_size": 250,
    "optimizer": {"name": "sgd", "lr": 0.1},
    "schedule": {"name": "one_cycle", "warm_up": 0.1},
    "augment": [{"name": "shift", "pixels": 2}],
}
"""Dropout and shifts of up to two pixels, as in the paper; its constraint on weights is left out."""
STUDENT_FIT = {"epochs": 25, "batch_size": 250, "optimizer": {"name": "sgd", "lr": 0.05}, "schedule": {"name": "one_cycle", "warm_up": 0.1}}
"""No regularization and no shifts, as in the paper; alone and distilled alike."""
LOSS = {"name": "soft_hard", "temperature": 20.0, "alpha": 1.0}
"""Soft targets alone, at the paper's temperature."""


def measure(archive: Path, seeds: int) -> None:
    lab = Lab(HERE, prepared(archive, HERE, DATA), "MNIST")
    for seed in range(seeds):
        if all(lab.record(name, seed) for name in ("teacher", "alone", "distilled")):
            continue
        teacher = lab.trained("teacher", seed, TEACHER, TEACHER_FIT)
        record(lab, "teacher", seed, teacher)
        record(lab, "alone", seed, lab.trained("alone", seed, STUDENT, STUDENT_FIT))
        record(lab, "distilled", seed, lab.trained("distilled", seed, STUDENT, STUDENT_FIT, teacher, LOSS))


def record(lab: Lab, name: str, seed: int, network: Network) -> None:
    """Measure one on both splits, where results.json lacks it."""
    if lab.record(name, seed) is not None:
        return
    right = np.mean(lab.logits(network.model, "validation").argmax(1) == lab.labels("validation"))
    wrong = lab.wrong(lab.logits(network.model, "test"), "test")
    parameters = sum(p.numel() for p in network.model.parameters())
    facts = {"validation_accuracy": float(right), "errors": len(wrong), "wrong": wrong, "parameters": parameters, "curve": network.curve}
    lab.add(name, seed, facts)
    print(f"{name} {seed}: {len(wrong)} test errors, validation accuracy {right:.2%}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=("measure", "record"), default="measure")
    parser.add_argument("--data", type=Path, default=Path("data/raw/mnist.tar.xz"), help="archive of MNIST's PNG files (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    given = parser.parse_args()
    if given.command == "record":
        write_text(HERE / "README.md", tables.renewed())
        return 0
    measure(given.data.resolve(), given.seeds)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
