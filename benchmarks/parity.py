"""Does every way of running a quantized network name the class that the trained network names? For all of the zoo.

    python benchmarks/parity.py [MNIST.tar.xz]      (about half an hour on one core; without an archive: two networks on the digits)

Each network of the zoo, narrow, learns 6,000 images; then it is put on grids of 8, 4 and 2 bits for weights and 8 bits for activations
and trained there. It is exported, and three other ways of computing it are compared with it on 3,000 validation images, in which the
training had no part: ONNX Runtime with and without optimization of the graph, and the integer reference (`export.parity`). The bar is
equal classes for 99.9 % of the images in every row. The last line is JSON.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from networks import CLASSES, Split, digits, mnist, on_grids, trained

from slimline.artifacts import Manifest, save
from slimline.evaluation.latency import machine
from slimline.export.parity import parities, ways
from slimline.export.runtime import OnnxModel
from slimline.paths import ModelFolder

BAR = 0.999
LEARNED = 0.5
"""Accuracy below which a network is taken to guess."""

BITS = (8, 4, 2)
PARAMETERS: dict[str, dict[str, Any]] = {
    "resnet": {"depth": 8, "width": 8},
    "wide_resnet": {"depth": 10, "widen": 1, "width": 8},
    "densenet": {"depth": 10, "growth": 6},
    "mobilenet": {"width": 8},
    "mobilenet_v2": {"width": 0.5, "stages": [[1, 16, 1, 1], [4, 24, 2, 2], [4, 32, 2, 2]], "head": 64},
    "vit": {"patch": 7, "dim": 32, "depth": 2},
    "lenet5": {"filters": [8, 16], "hidden": 64},
    "mlp": {"hidden": [64, 32]},
    "lenet300": {},
    "binarynet": {"hidden": [64, 32]},
    "binarynet_conv": {"filters": [8, 12, 16], "hidden": [32]},
}
"""Narrow ones of every network of the zoo."""
QUICK = ("lenet5", "mobilenet")


def measured(name: str, train: Split, validation: Split, epochs: int, bits: tuple[int, ...]) -> list[dict[str, Any]]:
    """A row for each width of the network called `name`."""
    spec = {"name": name, **PARAMETERS[name]}
    model = trained(spec, train, epochs)
    whole = Manifest(architecture=spec, input_shape=train.shape, mean=(0.0,), std=(1.0,), classes=tuple(map(str, range(CLASSES))))
    rows = []
    for width in bits:
        graph, record = on_grids(model, train, width, 1)
        with tempfile.TemporaryDirectory() as folder:
            files = ModelFolder(Path(folder) / "model")
            save(files, whole.after("quantized", record), graph)
            others = ways(graph, files.onnx, OnnxModel(files.onnx, threads=1), threads=1)
            found = parities(graph, others, validation.images.split(250))
        with torch.no_grad():
            accuracies = [float((one(validation.images).argmax(1) == validation.labels).double().mean()) for one in (model, graph)]
        row: dict[str, Any] = {"network": name, "bits": width, "accuracy_float": accuracies[0], "accuracy": accuracies[1]}
        for way, one in found.items():
            row[way] = {"agreement": one.agreement, "largest_steps": one.largest_steps, "mean_steps": one.mean_steps}
        rows.append(row)
        told = ", ".join(f"{way} {one.agreement:.4f} ({one.largest_steps:.2g} steps)" for way, one in found.items())
        print(f"{name}, {width} bits, accuracy {accuracies[0]:.4f} to {accuracies[1]:.4f}: {told}", flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, nargs="?")
    archive = parser.parse_args().archive
    torch.set_num_threads(1)
    if archive is None:
        train, validation = digits(28)
        rows = [row for name in QUICK for row in measured(name, train, validation, 8, (8, 2))]
    else:
        whole, _ = mnist(archive)
        train, validation = whole.part(0, 10), whole.part(5, 20)
        rows = [row for name in PARAMETERS for row in measured(name, train, validation, 6, BITS)]
    below = [f"{row['network']}, {row['bits']} bits" for row in rows if min(one["agreement"] for one in row.values() if isinstance(one, dict)) < BAR]
    print("below the bar:", "; ".join(below) or "none")
    guesses = [f"{row['network']}, {row['bits']} bits" for row in rows if row["accuracy"] < LEARNED]
    print("hardly learned, so that agreement says little:", "; ".join(guesses) or "none")
    print(json.dumps({"machine": machine(), "images": len(validation.labels), "bar": BAR, "rows": rows}))
    return 1 if below else 0


if __name__ == "__main__":
    raise SystemExit(main())
