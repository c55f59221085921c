"""Deep Compression end to end on MNIST: prune, share values, entropy-code; the question and the answers stand in README.md.

    python -m experiments.deep_compression.measure           # environment active; pruned networks are those of deep_compression_pruning
    python -m experiments.deep_compression.measure record    # the tables and the picture of README.md, from results.json

What results.json has is not measured again, and a training that was interrupted goes on. `--epochs 1 --seeds 1 --home FOLDER` is a trial.
"""

import json
from pathlib import Path

from experiments.deep_compression import tables
from experiments.deep_compression.tables import CELLS, Cell
from experiments.deep_compression_pruning import measure as pruning
from experiments.lab import QUANTIZE, Kept, Lab, command, prepared, shortened
from slimline.files import write_bytes
from slimline.params.quantize import Quantize

HERE = Path(__file__).resolve().parent
FIT = {
    name: {**fit, "optimizer": {"name": "adamw", "lr": 0.001}, "weight_decay": 0.0, **({"views": 1} if "augment" in fit else {})}
    for name, fit in pruning.PRUNE_FIT.items()
}
"""One view of each image, so that the teacher is asked once."""


def measure(archive: Path, home: Path, seeds: int, epochs: int | None) -> None:
    # The networks of the other experiment, made there if they are not.
    source = pruning.HERE if home == HERE else home / "pruning"
    source.mkdir(parents=True, exist_ok=True)
    data = prepared(archive, source, pruning.DATA)
    networks, lab = Lab(source, data, "MNIST"), Lab(home, data, "MNIST")
    for seed in range(seeds):
        for name in pruning.NETWORKS:
            dense = pruning.dense(networks, name, seed, epochs)
            lab.measured(name, seed, dense, {"packed_bytes": pruning.kept(networks, name, seed, epochs).folder.packed.stat().st_size})
            for cell in CELLS[name]:
                if lab.record(cell.name, seed) is None:
                    facts = lab.shipped(shared(lab, networks, cell, seed, epochs))
                    lab.add(cell.name, seed, facts)
                    said = f"validation accuracy {facts['validation_accuracy']:.2%}, {facts['errors']} test errors, {facts['packed_bytes']:,} bytes"
                    print(f"{cell.name} {seed}: {said}", flush=True)


def shared(lab: Lab, networks: Lab, cell: Cell, seed: int, epochs: int | None = None) -> Kept:
    """The network of `cell`."""
    block = {
        "weights": {
            "bits": cell.bits,
            "exceptions": {"*conv*": cell.bits + 1} if cell.pruning.network == "lenet5" else {},
            "codebook": {"name": "k_means"},
            "scheme": {"name": "min_max"},
            "per_channel": False,
        },
        "activations": {"bits": 32, "scheme": {"name": "min_max"}},
        "calibration": 256,
        "loss": pruning.LOSS,
        "fit": shortened({**FIT[cell.pruning.network], "epochs": cell.epochs}, epochs),
    }
    params = Quantize.model_validate_json(json.dumps(block))
    pruned = pruning.pruned(networks, cell.pruning, seed, epochs)
    teacher = networks.kept(pruning.teacher(networks, epochs), pruning.TEACHER)
    # The stage compares a student with its control beside this, which is not asked here: both are the dense network.
    dense = pruning.kept(networks, cell.pruning.network, seed, epochs)
    return lab.staged(QUANTIZE, cell.name, seed, params, pruned=pruned, teacher=teacher, student=dense, student_alone=dense)


def renewed() -> str:
    """README.md, and beside it its picture."""
    if (HERE / "results.json").exists():
        write_bytes(HERE / "curve.png", tables.curve())
    return tables.renewed()


if __name__ == "__main__":
    raise SystemExit(command(__doc__, "mnist.tar.xz", HERE, pruning.SEEDS, measure, renewed))
