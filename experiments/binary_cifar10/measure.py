"""BinaryConnect, binarized networks and XNOR-Net on a part of CIFAR-10, beside real numbers; the question and the answers stand in README.md.

    python -m experiments.binary_cifar10.measure           # environment active; about 22 minutes of one core
    python -m experiments.binary_cifar10.measure record    # the tables of README.md, from results.json

What results.json has is not measured again, and a training that was interrupted goes on. `--epochs 1 --seeds 1 --home FOLDER` is a trial.
"""

from pathlib import Path
from typing import Any

from experiments.binary_cifar10 import tables
from experiments.lab import Lab, command, prepared
from experiments.one_bit import Study, Variant

HERE = Path(__file__).resolve().parent
SEEDS = 3
DATA = {"size": 16, "channels": 3, "validation": 0.25, "test": 0.1, "smallest_class": 1}
ONLY = r"test/|train/[^/]+/0[0-7]"
"""The test images, and the first 800 training images of each class."""


def network(activation: str) -> dict[str, Any]:
    return {"name": "binarynet_conv", "filters": [32, 64, 128], "hidden": [128], "activation": activation}


STUDY = Study(
    variants={
        "real": Variant(network("relu")),
        "connect": Variant(network("relu"), {"name": "binary_connect"}),
        "real_hard_tanh": Variant(network("hard_tanh")),
        "binarized": Variant(network("hard_tanh"), {"name": "binarized"}, inputs=True),
        "xnor": Variant(network("hard_tanh"), {"name": "xnor"}, inputs=True),
    },
    fit={"epochs": 10, "batch_size": 64, "schedule": {"name": "one_cycle", "warm_up": 0.1}},
    rates=(0.003, 0.01, 0.03),
    trial=2,
)


def measure(archive: Path, home: Path, seeds: int, epochs: int | None) -> None:
    STUDY.measure(Lab(home, prepared(archive, home, DATA, ONLY), "CIFAR-10 (JPEG copy), 16×16"), seeds, epochs)


if __name__ == "__main__":
    raise SystemExit(command(__doc__, "cifar10-jpg.tar.xz", HERE, SEEDS, measure, tables.renewed))
