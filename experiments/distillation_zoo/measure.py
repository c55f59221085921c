"""Every loss against the student alone, for two pairs of networks; the question and the answers stand in README.md.

    python -m experiments.distillation_zoo.measure --data ARCHIVE    # environment active; about an hour on one free core
    python -m experiments.distillation_zoo.measure record            # the tables of README.md, from results.json

ARCHIVE is the CIFAR-10 JPEG copy as README.md describes it. What results.json has is not measured again, and a training that was
interrupted goes on. For a trial: `--seeds 1 --epochs 1 --home FOLDER`, which leaves its results there.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.distillation_zoo import tables
from experiments.lab import Lab, Network, command, prepared
from slimline.models import ensemble as ensembles
from slimline.models.network import network

HERE = Path(__file__).resolve().parent
SEEDS = 3
DATA = {"size": 16, "channels": 3, "validation": 0.25, "test": 0.1, "smallest_class": 1}
ONLY = r"test/|train/[^/]+/0[0-7]"
"""The test images, and the first 800 training images of each class."""

TEACHER = {"name": "resnet", "depth": 14, "width": 16}
STUDENTS: dict[str, dict[str, Any]] = {
    "resnet": {"name": "resnet", "depth": 8, "width": 8},
    "mobilenet": {"name": "mobilenet", "width": 16, "stages": [2, 4, 4]},
}
COMMON = {
    "batch_size": 64,
    "optimizer": {"name": "adamw", "lr": 0.004},
    "schedule": {"name": "one_cycle", "warm_up": 0.2},
    "weight_decay": 0.02,
    "augment": [{"name": "flip"}, {"name": "shift", "pixels": 2}],
}
TEACHER_EPOCHS, STUDENT_EPOCHS = 20, 16
VIEWS = {"views": 5}
"""All students alike see the images in five ways, so that what a teacher says of them can be computed once."""


def beside_labels(weight: float, name: str) -> dict[str, Any]:
    """A comparison of layers, which the loss chooses itself, beside cross-entropy."""
    return {"name": "sum", "terms": [[1.0, {"name": "labels"}], [weight, {"name": name}]]}


SOFT_HARD = {"name": "soft_hard", "temperature": 4.0, "alpha": 0.9}
LOSSES: dict[str, dict[str, Any] | None] = {
    "alone": None,
    "soft_hard": SOFT_HARD,
    tables.ENSEMBLE: SOFT_HARD,
    "hard": {"name": "hard"},
    "dkd": {"name": "dkd"},
    "hint": beside_labels(1.0, "hint"),
    "attention": beside_labels(500 / 16, "attention"),
    "relational": beside_labels(1.0, "relational"),
    "similarity": beside_labels(3000.0, "similarity"),
    "contrastive": beside_labels(0.8, "contrastive"),
}
"""Weights as in the papers (a hint's, which hangs on the size of features, is 1), not tuned; the last maps have 4×4 pixels."""


def measure(archive: Path, home: Path, seeds: int, epochs: int | None) -> None:
    lab = Lab(home, prepared(archive, home, DATA, ONLY), "CIFAR-10 (JPEG copy), 16×16")
    teacher_fit = {**COMMON, "epochs": epochs or TEACHER_EPOCHS}
    student_fit = {**COMMON, **VIEWS, "epochs": epochs or STUDENT_EPOCHS}
    teachers = [lab.trained("teacher", seed, TEACHER, teacher_fit) for seed in range(seeds)]
    whole = ensemble(lab, teachers)
    lab.measured("ensemble", 0, whole)
    for seed, teacher in enumerate(teachers):
        lab.measured("teacher", seed, teacher)
        for pair, student in STUDENTS.items():
            for loss, spec in LOSSES.items():
                name = tables.named(pair, loss)
                if lab.record(name, seed) is None:
                    taught = None if spec is None else whole if loss == tables.ENSEMBLE else teacher
                    lab.measured(name, seed, lab.trained(name, seed, student, student_fit, taught, spec))


def ensemble(lab: Lab, members: Sequence[Network]) -> Network:
    """`members` as one teacher: the mean of their probabilities."""
    data = lab.data
    spec = {"name": ensembles.NAME, "members": [TEACHER] * len(members), "average": "probabilities", "weights": [1.0] * len(members)}
    model = network(spec, data.input_shape, len(data.classes), data.mean, data.std)
    for own, member in zip(model.get_submodule("network.members").children(), members, strict=True):
        own.load_state_dict(member.model.get_submodule("network").state_dict())
    return Network(model.eval(), [], " ".join(member.identity for member in members))


if __name__ == "__main__":
    raise SystemExit(command(__doc__, "cifar10-jpg.tar.xz", HERE, SEEDS, measure, tables.renewed))
