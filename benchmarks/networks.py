"""What benchmarks of quantization share: images, and networks that are trained in a few lines, with nothing of the trainer around them."""

import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, fx, nn

from slimline.core.quantized import settled
from slimline.models.network import network
from slimline.quantization.bits import Choice
from slimline.quantization.calibrate import ACTIVATIONS, calibrated, plan
from slimline.quantization.learning import learnable

CLASSES = 10
BATCH = 64
LSQ = {"name": "lsq"}
SCHEMES = {"weights": {"name": "mse"}, "activations": {"name": "min_max"}}


@dataclass(frozen=True)
class Split:
    """Float32 images in [0, 1], [n channels height width], and their labels."""

    images: Tensor
    labels: Tensor

    def part(self, start: int, step: int) -> "Split":
        return Split(self.images[start::step], self.labels[start::step])

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.images.shape[1:]
        return channels, height, width


def digits(side: int) -> tuple[Split, Split]:
    """The digits, enlarged: 1,200 to train on, 597 held out."""
    loaded = load_digits()
    images = nn.functional.interpolate(torch.tensor(loaded.images, dtype=torch.float32)[:, None] / 16, size=(side, side), mode="bilinear")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    whole = Split(images[order], torch.tensor(loaded.target)[order])
    return Split(whole.images[:1200], whole.labels[:1200]), Split(whole.images[1200:], whole.labels[1200:])


def mnist(archive: Path) -> tuple[Split, Split]:
    """Training and test images of an archive of PNG files, `train/<class>/*.png` and `test/<class>/*.png`, in its order."""
    found: dict[str, tuple[list[np.ndarray], list[int]]] = {"train": ([], []), "test": ([], [])}
    with tarfile.open(archive) as members:
        for member in members:
            if member.isfile() and (file := members.extractfile(member)) is not None:
                split, label = Path(member.name).parts[-3:-1]
                found[split][0].append(np.asarray(Image.open(BytesIO(file.read()))))
                found[split][1].append(int(label))
    train, test = (Split(torch.from_numpy(np.stack(images))[:, None].float() / 255, torch.tensor(labels)) for images, labels in found.values())
    return train, test


def trained(spec: Mapping[str, Any], split: Split, epochs: int) -> nn.Module:
    """A network of the zoo that learned `split`."""
    torch.manual_seed(0)
    model = network(spec, split.shape, CLASSES, (float(split.images.mean()),), (float(split.images.std()),)).train()
    descend(model, split, epochs, 3e-3)
    return model.eval()


def on_grids(model: nn.Module, split: Split, weight_bits: int, epochs: int) -> tuple[fx.GraphModule, dict[str, Any]]:
    """`model` with weights of `weight_bits` and activations of 8 bits, calibrated, then trained with learned steps; and its record."""
    record = plan(model, split.shape, weights=Choice(weight_bits, per_channel=True), activations=ACTIVATIONS)
    graph = calibrated(model, record, [split.part(0, max(1, len(split.labels) // 512)).images], **SCHEMES)
    learnable(graph, split.shape, weights=LSQ, activations=LSQ)
    torch.manual_seed(0)
    descend(graph.eval(), split, epochs, 1e-3)  # in eval mode: norms that were not folded keep their statistics
    settled(graph)
    return graph, record


def descend(model: nn.Module, split: Split, epochs: int, rate: float) -> None:
    """`epochs` over `split`, on labels, AdamW with one cycle of its rate."""
    steps = len(split.labels) // BATCH
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * steps)
    for images, labels in _batches(split, epochs):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        schedule.step()


def _batches(split: Split, epochs: int) -> Iterator[tuple[Tensor, Tensor]]:
    for _ in range(epochs):
        order = torch.randperm(len(split.labels))
        for first in range(0, len(order) // BATCH * BATCH, BATCH):
            batch = order[first : first + BATCH]
            yield split.images[batch], split.labels[batch]
