"""The first experiment of "Distilling the Knowledge in a Neural Network"; the question and the answers stand in README.md.

    python -m experiments.hinton_mnist.measure --data ARCHIVE    # environment active; an hour on one free core
    python -m experiments.hinton_mnist.measure record            # the table of README.md, from results.json

ARCHIVE is MNIST's PNG files as experiments/mnist describes them. What results.json has is not measured again, and a training that was
interrupted goes on.
"""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.hinton_mnist import tables
from experiments.lab import Lab, Network, command, prepared, shortened

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
LONG_STUDENT_FIT: dict[str, Any] = {
    "epochs": 40,
    "batch_size": 250,
    "precision": "bf16",
    "optimizer": {"name": "adamw", "lr": 0.002},
    "schedule": {"name": "one_cycle", "warm_up": 0.1},
}
LONG_TEACHER_FIT = {**LONG_STUDENT_FIT, "epochs": 80, "weight_decay": 0.01, "augment": TEACHER_FIT["augment"]}
"""A second try: one teacher, from seed 0, and every seed's students, all trained longer and by another optimizer."""
LOSS = {"name": "soft_hard", "temperature": 20.0, "alpha": 1.0}
"""Soft targets alone, at the paper's temperature."""
WITHOUT = "3"
"""The class that a student never sees in the paper's second experiment."""
BIASES = np.arange(0, 300) / 10


NAMES = ("teacher", "alone", "distilled", "alone_without", "distilled_without")


def measure(archive: Path, home: Path, seeds: int, epochs: int | None) -> None:
    lab = Lab(home, prepared(archive, home, DATA), "MNIST")
    for seed in range(seeds):
        if all(lab.record(name, seed) for name in NAMES):
            continue
        teacher = lab.trained("teacher", seed, TEACHER, shortened(TEACHER_FIT, epochs))
        lab.measured("teacher", seed, teacher)
        for name in NAMES[1:]:
            if lab.record(name, seed) is None:
                taught = (teacher, LOSS) if name.startswith("distilled") else (None, None)
                without = [WITHOUT] if name.endswith("_without") else []
                student = lab.trained(name, seed, STUDENT, shortened(STUDENT_FIT, epochs), *taught, without)
                lab.measured(name, seed, student, unseen(lab, student) if without else None)
    teacher = lab.trained("teacher", 0, TEACHER, shortened(LONG_TEACHER_FIT, epochs))
    lab.measured("long_teacher", 0, teacher)
    for seed in range(seeds):
        for name, taught in {"alone": (None, None), "distilled": (teacher, LOSS)}.items():
            lab.measured(f"long_{name}", seed, lab.trained(name, seed, STUDENT, shortened(LONG_STUDENT_FIT, epochs), *taught))


def unseen(lab: Lab, network: Network) -> dict[str, Any]:
    """How a student that never saw the class does on it, as it is and with a bias that validation picks."""
    validation, test = (lab.logits(network.model, split) for split in ("validation", "test"))
    place = lab.data.classes.index(WITHOUT)
    bias = best_bias(validation, lab.labels("validation"), place)
    wrong, corrected = (set(lab.wrong(logits, "test")) for logits in (test, test + bias * np.eye(test.shape[1])[place]))
    theirs = set(np.flatnonzero(lab.labels("test") == place).tolist())
    facts = {"bias": bias, "errors_corrected": len(corrected), "unseen": len(theirs)}
    return {**facts, "unseen_wrong": len(theirs & wrong), "unseen_wrong_corrected": len(theirs & corrected)}


def best_bias(logits: np.ndarray, labels: np.ndarray, unseen: int) -> float:
    """What added to the logit of class `unseen`, in steps of a tenth, makes fewest errors; of several, the smallest."""
    column = np.eye(logits.shape[1])[unseen]
    return float(min(BIASES, key=lambda bias: np.count_nonzero((logits + bias * column).argmax(1) != labels)))


if __name__ == "__main__":
    raise SystemExit(command(__doc__, "mnist.tar.xz", HERE, SEEDS, measure, tables.renewed))
