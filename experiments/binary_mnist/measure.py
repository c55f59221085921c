"""BinaryConnect and binarized networks on MNIST, beside their real-numbered twins; the question and the answers stand in README.md.

    python -m experiments.binary_mnist.measure --data ARCHIVE    # environment active; about half an hour on one free core
    python -m experiments.binary_mnist.measure record            # the tables of README.md, from results.json

ARCHIVE is MNIST's PNG files as experiments/mnist describes them. What results.json has is not measured again, and a training that was
interrupted goes on. `--epochs 1 --seeds 1 --home FOLDER` is a trial.
"""

from pathlib import Path
from typing import Any

from experiments.binary_mnist import tables
from experiments.lab import Lab, command, prepared
from experiments.one_bit import Study, Variant

HERE = Path(__file__).resolve().parent
SEEDS = 3
DATA = {"size": 28, "channels": 1, "validation": 0.0834, "test": 0.1, "smallest_class": 1}


def network(activation: str, **further: Any) -> dict[str, Any]:
    return {"name": "binarynet", "hidden": [512, 512, 512], "activation": activation, **further}


STUDY = Study(
    variants={
        "real": Variant(network("relu")),
        "real_dropout": Variant(network("relu", dropout=0.5)),
        "connect": Variant(network("relu"), {"name": "binary_connect"}),
        "connect_stochastic": Variant(network("relu"), {"name": "binary_connect", "stochastic": True}),
        "real_hard_tanh": Variant(network("hard_tanh")),
        "binarized": Variant(network("hard_tanh"), {"name": "binarized"}, inputs=True),
    },
    fit={"epochs": 10, "batch_size": 200, "schedule": {"name": "one_cycle", "warm_up": 0.1}},
    rates=(0.003, 0.01, 0.03, 0.1),
    trial=2,
)


def measure(archive: Path, home: Path, seeds: int, epochs: int | None) -> None:
    STUDY.measure(Lab(home, prepared(archive, home, DATA), "MNIST"), seeds, epochs)


if __name__ == "__main__":
    raise SystemExit(command(__doc__, "mnist.tar.xz", HERE, SEEDS, measure, tables.renewed))
