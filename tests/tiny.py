"""The smallest of everything: plugins' parameters for tests, networks whose batch norms have seen data, users' own methods."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from slimline.artifacts import Manifest
from slimline.data.prepare.arrays import Prepared, prepare
from slimline.data.prepare.divide import SPLITS
from slimline.data.sources.item import Item, Membership
from slimline.distillation import LOSSES
from slimline.models import MODELS
from slimline.models.network import network
from slimline.models.norms import BATCH, NORMS
from slimline.params.data import Data
from slimline.pruning import CRITERIA, GRANULARITIES
from slimline.pruning.channels import Channels
from slimline.pruning.plan import Granularity, Plan
from slimline.pruning.target import Scales
from slimline.pruning.targets.params import Params
from slimline.registry import build, find, parameters_of

MODEL: dict[str, dict[str, Any]] = {
    "resnet": {"depth": 8, "width": 4},
    "wide_resnet": {"depth": 10, "widen": 2, "width": 2},
    "densenet": {"depth": 10, "growth": 8},
    "mobilenet": {"width": 8, "stages": [1, 2]},
    "mobilenet_v2": {"width": 0.25, "stages": [[1, 8, 1, 1], [3, 16, 2, 2]], "head": 16},
    "vit": {"dim": 16, "depth": 2, "heads": 4, "patch": 4},
    "lenet5": {"filters": [4, 6], "hidden": 16},
    "mlp": {"hidden": [24, 32]},
    "binarynet": {"hidden": [24, 32]},
    "binarynet_conv": {"filters": [4, 6, 8], "hidden": [16]},
}
NORM = {"group": {"groups": 2}}
LOSS: dict[str, dict[str, Any]] = {"soft_hard": {"temperature": 3.0, "alpha": 0.7}}
LOSS["sum"] = {"terms": [[2.0, {"name": "soft_hard", **LOSS["soft_hard"]}], [0.5, {"name": "soft_hard", "temperature": 1.0, "alpha": 1.0}]]}
ATTACK: dict[str, dict[str, Any]] = {
    "pgd": {"steps": 5, "step": 0.4, "starts": 2},
    "transfer": {"steps": 5, "step": 0.4},
    "carlini_wagner": {"steps": 40, "searches": 3, "lr": 0.1, "constant": 0.1},
    "square": {"queries": 30},
    "hop_skip_jump": {"iterations": 3, "questions": 20, "tries": 10},
}
"""Parameters of plugins that are too large, or incomplete, by default; a plugin that is not here is built as it stands."""


NORMED = [name for name in sorted(MODELS) if "norm" in parameters_of(find(MODELS, name))]
ZOO = [*sorted(MODELS), *(f"{name} {norm}" for name in NORMED for norm in sorted(NORMS) if norm != BATCH["name"])]
"""Every network of the zoo, and those with norms once more with each that is not their default."""
QUICK = ("resnet", "mobilenet")
"""Families on which fast tests try every norm; slow ones do on all."""


def shared(names: Iterable[str]) -> list[Any]:
    """Arguments of a test over `names`, networks of ZOO: norms that are not the default are slow but on QUICK families."""
    return [pytest.param(name, marks=pytest.mark.slow) if " " in name and name.split()[0] not in QUICK else name for name in names]


def norm_spec(name: str) -> dict[str, Any]:
    return {"name": name, **NORM.get(name, {})}


def model_spec(name: str) -> dict[str, Any]:
    """The spec of a network of ZOO."""
    model, _, norm = name.partition(" ")
    return {"name": model, **MODEL.get(model, {}), **({"norm": norm_spec(norm)} if norm else {})}


def loss_spec(name: str) -> dict[str, Any]:
    return {"name": name, **LOSS.get(name, {})}


def teaching_spec(name: str) -> dict[str, Any]:
    """The spec of a loss that stands alone: a comparison of layers has the labels beside it."""
    spec = loss_spec(name)
    return spec if find(LOSSES, name).teaches_logits else {"name": "sum", "terms": [[1.0, spec], [1.0, {"name": "labels"}]]}  # type: ignore[attr-defined]


def manifest(name: str = "mobilenet", *, channels: int = 1, size: int = 8, classes: int = 3) -> Manifest:
    shape = (channels, size, size)
    names = tuple(f"class {number}" for number in range(classes))
    return Manifest(architecture=model_spec(name), input_shape=shape, mean=(0.4,) * channels, std=(0.3,) * channels, classes=names)


def warmed(model: nn.Module, input_shape: tuple[int, int, int]) -> nn.Module:
    """`model` in eval mode, its norms with statistics and affine parameters as after training."""
    generator = torch.Generator().manual_seed(2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.InstanceNorm2d | nn.GroupNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.uniform_(module.bias, -0.3, 0.3, generator=generator)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # the plain mean over the batches below
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(16, *input_shape, generator=generator))
    return model.eval()


def trained(name: str = "mobilenet", *, channels: int = 1, size: int = 8, classes: int = 3) -> nn.Module:
    """A tiny network of the zoo, behind its normalization, as after training."""
    torch.manual_seed(3)
    shape = (channels, size, size)
    model = warmed(network(model_spec(name), shape, classes, (0.4,) * channels, (0.3,) * channels), shape)
    return centred(model, shape)


def centred(model: nn.Module, input_shape: tuple[int, int, int]) -> nn.Module:
    """`model` with its logits brought to a mean of zero, so that every class is the answer to some image."""
    *_, (_, last) = ((name, parameter) for name, parameter in model.named_parameters() if name.endswith(".bias"))
    with torch.no_grad():
        last -= model(torch.rand(64, *input_shape)).mean(0)
    return model


def items(count: int, *, classes: int = 2, size: int = 8, seed: int = 0, split: str | None = None) -> list[Item]:
    """Distinct noisy grey images, the classes in turn."""
    levels = torch.randint(0, 256, (count, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)).numpy()
    return [Item(pixels, Membership(f"class {n % classes}", split), f"{split} {seed} {n}", (n + 1) / count) for n, pixels in enumerate(levels)]


def data(**changes: Any) -> Data:
    """Block `data` for such images, with `changes`."""
    source = {"name": "digits", "path": "photos"}
    form = {"source": source, "size": 8, "channels": 1, "validation": 0.3, "test": 0.3, "label_noise": False}
    return Data.model_validate(form | changes)


@dataclass(frozen=True)
class Arrays:
    """Prepared images, read again."""

    folder: Path
    prepared: Prepared

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.prepared.description["classes"])

    def images(self, split: str) -> np.ndarray:
        return np.load(self.folder / split / "images.npy")

    def labels(self, split: str) -> list[str]:
        return [self.classes[label] for label in np.load(self.folder / split / "labels.npy")]

    def files(self) -> dict[str, bytes]:
        """Every file's bytes by its name."""
        return {str(f.relative_to(self.folder)): f.read_bytes() for f in sorted(self.folder.rglob("*")) if f.is_file()}

    def places(self) -> dict[bytes, set[str]]:
        """The splits in which each image stands."""
        where: dict[bytes, set[str]] = {}
        for split in SPLITS:
            for image in self.images(split):
                where.setdefault(image.tobytes(), set()).add(split)
        return where


@contextmanager
def prepared(images: Iterable[Item], *, seed: int = 0, workers: int = 1, **changes: Any) -> Iterator[Arrays]:
    """`images` as the stage would prepare them, in a folder that goes with the block."""
    with tempfile.TemporaryDirectory() as folder:
        yield Arrays(Path(folder), prepare(images, data(**changes), Path(folder), seed=seed, workers=workers))


def scales(model: nn.Module, input_shape: tuple[int, int, int] = (1, 8, 8), **measures: Any) -> Scales:
    """What targets weigh with; those that need an accuracy or a file's size are given the measure."""
    return Scales(model, input_shape, measures.get("packed_bytes", lambda _: 0), measures.get("accuracy", lambda _: 1.0))


def plan_of(model: nn.Module, granularity: str = "weights", criterion: str = "magnitude", **parameters: Any) -> Plan:
    """The units of `model`, one that sees grey images of 8×8."""
    made: Granularity = build(GRANULARITIES, {"name": granularity, **parameters}, model, (1, 8, 8))
    return made.plan(model, build(CRITERIA, {"name": criterion}, model, ()))


def cut_channels(model: nn.Module, scores: Mapping[str, Tensor], input_shape: tuple[int, int, int], *, amount: float, **how: Any) -> nn.Module:
    """`model` without the fewest channels that hold `amount` of its parameters."""
    plan = Channels(model, input_shape, **how).plan(model, scores)
    return plan.cut(Params(scales(model, input_shape), amount=amount).count(plan, model))(model)


class Plain(nn.Module):
    """A user's own model: convolution with a bias, pooling, classifier."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int, *, width: Annotated[int, Field(ge=1)] = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(input_shape[0], width, 3, padding=1)
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.relu(self.conv(x)).mean((2, 3)))


class OneTooMany(Plain):
    """A user's own model that gives one logit more than there are classes."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__(input_shape, classes + 1)


class OnlyLarge(Plain):
    """A user's own model that cannot run on small images."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.conv2d(x, torch.ones(x.shape[1], x.shape[1], 99, 99)))


def method(first: int, second: int, *, rate: Annotated[float, Field(gt=0.0)], label: str = "none", pair: tuple[int, ...] = ()) -> tuple[Any, ...]:
    """A user's own method, with two runtime arguments and three parameters."""
    return first, second, rate, label, pair


def untyped(runtime: int, *, anything=3):  # type: ignore[no-untyped-def]
    """A user's own method without annotations."""
    return runtime, anything


def unreadable(runtime: int, *, layer: nn.Module) -> int:
    """A user's own method with a parameter that no file can hold."""
    return runtime


NO_METHOD = 3
