"""BinaryConnect and binarized networks on MNIST, beside their real-numbered twins; the question and the answers stand in README.md.

    python -m experiments.binary_mnist.measure --data ARCHIVE    # environment active; about an hour on one free core
    python -m experiments.binary_mnist.measure record            # the tables of README.md, from results.json

ARCHIVE is MNIST's PNG files as experiments/mnist describes them. What results.json has is not measured again, and a training that was
interrupted goes on.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from experiments.binary_mnist import tables
from experiments.lab import EVALUATION_BATCH, Lab, Network, command, prepared, shortened
from slimline import artifacts
from slimline.core.binary import BINARY as LAYERS
from slimline.core.binary import Binarization, binary, binary_layers, learn, settle_binary
from slimline.data.batches import Ordered
from slimline.data.prepared import load_split
from slimline.export.runtime import OnnxModel
from slimline.paths import ModelFolder
from slimline.quantization import BINARY
from slimline.quantization.binarize import binarization, estimate_norms, widths
from slimline.quantization.bits import Choice
from slimline.registry import Spec, build

HERE = Path(__file__).resolve().parent
SEEDS = 3
DATA = {"size": 28, "channels": 1, "validation": 0.0834, "test": 0.1, "smallest_class": 1}
HIDDEN = [512, 512, 512]
FIT = {"epochs": 10, "batch_size": 200, "schedule": {"name": "one_cycle", "warm_up": 0.1}}
RATES, TRIAL = (0.003, 0.01, 0.03, 0.1), 2
"""Learning rates of Adam that each network may have: the one of most right validation images in a training of so many epochs, from seed 0."""


@dataclass(frozen=True)
class Variant:
    """A network and how it is trained.

    Args:
        binary: an entry of quantization's BINARY; None leaves it as real numbers.
    """

    activation: str
    dropout: float = 0.0
    binary: Spec | None = None

    @property
    def spec(self) -> dict[str, Any]:
        return {"name": "binarynet", "hidden": HIDDEN, "activation": self.activation, "dropout": self.dropout}

    def fit(self, rate: float) -> dict[str, Any]:
        return {**FIT, "optimizer": {"name": "adamw", "lr": rate}}


VARIANTS: Mapping[str, Variant] = {
    "real": Variant("relu"),
    "real_dropout": Variant("relu", dropout=0.5),
    "connect": Variant("relu", binary={"name": "binary_connect"}),
    "connect_stochastic": Variant("relu", binary={"name": "binary_connect", "stochastic": True}),
    "real_hard_tanh": Variant("hard_tanh"),
    "binarized": Variant("hard_tanh", binary={"name": "binarized"}),
}


def measure(archive: Path, home: Path, seeds: int, epochs: int | None) -> None:
    lab = Lab(home, prepared(archive, home, DATA), "MNIST")
    for seed in range(seeds):
        for name, variant in VARIANTS.items():
            if lab.record(name, seed) is None:
                one(lab, name, seed, variant, epochs)


def one(lab: Lab, name: str, seed: int, variant: Variant, epochs: int | None) -> None:
    records: list[dict[str, Any]] = []
    form, trials = _former(variant, records), {}
    for rate in RATES:
        trial = lab.trained(f"{name}_trial", 0, variant.spec, shortened(variant.fit(rate), min(TRIAL, epochs or TRIAL)), formed=form)
        trials[rate] = max(accuracy for *_, accuracy in trial.curve)
    rate = max(trials, key=lambda rate: trials[rate])
    network = lab.trained(name, seed, variant.spec, shortened(variant.fit(rate), epochs), formed=form)
    facts = {
        "rate": rate,
        "trials": list(trials.items()),
        "train_errors": len(lab.wrong(lab.logits(network.model, "train"), "train")),
        "train": lab.data.counts["train"],
    }
    if variant.binary is not None:
        if variant.activation == "relu":  # where activations are ±1 too, there is no such network of real numbers
            facts["errors_latent"] = len(lab.wrong(lab.logits(with_latent_weights(network.model), "test"), "test"))
        settle_binary(network.model)
        if variant.binary.get("stochastic"):
            estimate_norms(network.model, (batch.images for batch in Ordered(load_split(lab.prepared, "train"), EVALUATION_BATCH)))
        facts |= shipped(lab, f"{name}-{seed}", variant, records[0], network)
    lab.measured(name, seed, network, facts)


def _former(variant: Variant, records: list[dict[str, Any]]) -> Callable[[nn.Module], nn.Module] | None:
    """What brings a network into the binary form of `variant`, all of its layers, and adds the record to `records`."""
    if variant.binary is None:
        return None
    how: Binarization = build(BINARY, variant.binary)

    def formed(model: nn.Module) -> nn.Module:
        record = binarization(model, widths(model, Choice(1)), how, inputs=bool(how.inputs))
        records.append(record)
        model = binary(model, record)
        learn(model, draws=how.stochastic)
        return model

    return formed


def with_latent_weights(model: nn.Module) -> nn.Module:
    """A copy of `model` that computes with the real numbers whose signs are its weights, as BinaryConnect's paper runs stochastic ones."""
    real = copy.deepcopy(model)
    kinds = {made: plain for plain, made in LAYERS.items()}
    for layer in binary_layers(real).values():
        layer.__class__ = kinds[type(layer)]  # type: ignore[assignment]
    return real


def shipped(lab: Lab, name: str, variant: Variant, record: Mapping[str, Any], network: Network) -> dict[str, Any]:
    """The sizes of the files, and on how many test images the files' answers are other classes than the trained network's."""
    data = lab.data
    manifest = artifacts.Manifest(architecture=variant.spec, input_shape=data.input_shape, mean=data.mean, std=data.std, classes=data.classes).after(
        "binary", record
    )
    folder = ModelFolder(lab.folder / ".slimline" / "binary" / f"{name}-{network.identity}")
    folder.folder.parent.mkdir(parents=True, exist_ok=True)
    artifacts.save(folder, manifest, network.model)
    answers = lab.logits(network.model, "test").argmax(1)
    onnx = OnnxModel(folder.onnx, threads=lab.threads)
    runs: dict[str, nn.Module] = {"packed": artifacts.load_packed(folder.packed)[1], "onnx": _Called(onnx)}
    differing = {f"{way}_differs": int(np.count_nonzero(lab.logits(run, "test").argmax(1) != answers)) for way, run in runs.items()}
    bits = sum(layer.weight.numel() for layer in binary_layers(network.model).values())
    return {**differing, "packed_bytes": folder.packed.stat().st_size, "onnx_bytes": folder.onnx.stat().st_size, "binary_weights": bits}


class _Called(nn.Module):
    """A deployed network as a module."""

    def __init__(self, run: OnnxModel) -> None:
        super().__init__()
        self._run = run

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self._run(images.numpy()))


if __name__ == "__main__":
    raise SystemExit(command(__doc__, "mnist.tar.xz", HERE, SEEDS, measure, tables.renewed))
