"""What the experiments on one bit share: the choice of a rate, a training in the binary form, and what is left when it is deployed."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from experiments.lab import EVALUATION_BATCH, Lab, Network, shortened
from slimline import artifacts
from slimline.core.binary import BINARY as LAYERS
from slimline.core.binary import Binarization, binary, binary_layers, learn, settle_binary
from slimline.data.batches import Ordered
from slimline.data.prepared import load_split
from slimline.evaluation.one_bit import reads_signs
from slimline.export.runtime import Deployed, OnnxModel
from slimline.export.xnor import XnorModel
from slimline.paths import ModelFolder
from slimline.quantization import BINARY
from slimline.quantization.binarize import binarization, estimate_norms, widths
from slimline.quantization.bits import Choice
from slimline.registry import Spec, build


@dataclass(frozen=True)
class Variant:
    """A network and how it is trained.

    Args:
        network: an entry of the zoo.
        binary: an entry of quantization's BINARY, for all layers; None leaves them as real numbers.
        inputs: whether layers of ±1 read ±1.
    """

    network: Spec
    binary: Spec | None = None
    inputs: bool = False


@dataclass(frozen=True)
class Study:
    """How networks of real numbers and of one bit are compared.

    Args:
        fit: block `fit`, without an optimizer.
        rates: learning rates of Adam that each network may have: the one of most right validation images in a training of `trial` epochs, from
            seed 0.
    """

    variants: Mapping[str, Variant]
    fit: Mapping[str, Any]
    rates: Sequence[float]
    trial: int

    def measure(self, lab: Lab, seeds: int, epochs: int | None) -> None:
        for seed in range(seeds):
            for name, variant in self.variants.items():
                if lab.record(name, seed) is None:
                    self._one(lab, name, seed, variant, epochs)

    def _one(self, lab: Lab, name: str, seed: int, variant: Variant, epochs: int | None) -> None:
        records: list[dict[str, Any]] = []
        form, trials = _former(variant, records), {}
        for rate in self.rates:
            trial = lab.trained(f"{name}_trial", 0, variant.network, shortened(self._fit(rate), min(self.trial, epochs or self.trial)), formed=form)
            trials[rate] = max(accuracy for *_, accuracy in trial.curve)
        rate = max(trials, key=lambda rate: trials[rate])
        network = lab.trained(name, seed, variant.network, shortened(self._fit(rate), epochs), formed=form)
        facts: dict[str, Any] = {"rate": rate, "trials": list(trials.items()), "train": lab.data.counts["train"]}
        if variant.binary is not None:
            if variant.binary.get("stochastic"):
                # Batch norms still have the statistics of drawn signs, whose mean the latent weights are.
                facts["errors_latent"] = len(lab.wrong(lab.logits(with_latent_weights(network.model), "test"), "test"))
            settle_binary(network.model)
            if variant.binary.get("stochastic"):
                estimate_norms(network.model, (batch.images for batch in Ordered(load_split(lab.prepared, "train"), EVALUATION_BATCH)))
            facts |= shipped(lab, f"{name}-{seed}", variant.network, records[0], network)
        facts["train_errors"] = len(lab.wrong(lab.logits(network.model, "train"), "train"))  # of the network that is deployed
        lab.measured(name, seed, network, facts)

    def _fit(self, rate: float) -> dict[str, Any]:
        return {**self.fit, "optimizer": {"name": "adamw", "lr": rate}}


def _former(variant: Variant, records: list[dict[str, Any]]) -> Callable[[nn.Module], nn.Module] | None:
    """What brings a network into the binary form of `variant`, all of its layers, and adds the record to `records`."""
    if variant.binary is None:
        return None
    how: Binarization = build(BINARY, variant.binary)

    def formed(model: nn.Module) -> nn.Module:
        record = binarization(model, widths(model, Choice(1)), how, inputs=variant.inputs)
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


def shipped(lab: Lab, name: str, spec: Spec, record: Mapping[str, Any], network: Network) -> dict[str, Any]:
    """The sizes of the files, and on how many test images the files' answers are other classes than the trained network's."""
    data = lab.data
    manifest = artifacts.Manifest.of(spec, data).after("binary", record)
    folder = ModelFolder(lab.folder / ".slimline" / "binary" / f"{name}-{network.identity}")
    folder.folder.parent.mkdir(parents=True, exist_ok=True)
    artifacts.save(folder, manifest, network.model)
    answers = lab.logits(network.model, "test").argmax(1)
    deployed: dict[str, Deployed] = {"onnx": OnnxModel(folder.onnx, threads=lab.threads)}
    _, read = artifacts.load_packed(folder.packed)
    if reads_signs(read):
        deployed["xnor"] = XnorModel(read, data.input_shape, threads=lab.threads)
    runs: dict[str, nn.Module] = {"packed": read, **{way: _Called(run) for way, run in deployed.items()}}
    differing = {f"{way}_differs": int(np.count_nonzero(lab.logits(run, "test").argmax(1) != answers)) for way, run in runs.items()}
    layers = [layer.weight.numel() for layer in binary_layers(network.model).values()]
    return {
        **differing,
        "packed_bytes": folder.packed.stat().st_size,
        "onnx_bytes": folder.onnx.stat().st_size,
        "binary_weights": sum(layers),
        "binary_bytes": sum(-(-numel // 8) for numel in layers),
    }


class _Called(nn.Module):
    """A deployed network as a module."""

    def __init__(self, run: Deployed) -> None:
        super().__init__()
        self._run = run

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self._run(images.numpy()))
