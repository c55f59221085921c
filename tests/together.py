"""A training in several real processes, for the tests of the arrangements: `train(folder, ranks, …)`, and the program that each runs."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from slimline.core.batch import Batch
from slimline.core.binary import binary, binary_layers, learn
from slimline.core.masked import Mask, copy_masked
from slimline.core.objective import Network, Objective
from slimline.distillation.taught import Taught
from slimline.models.network import network
from slimline.params.fit import Fit
from slimline.params.hardware import Hardware
from slimline.pruning.layers import prunable
from slimline.runtime.checkpoints import Place, key
from slimline.runtime.classifier import Classifier
from slimline.runtime.fit import fit
from slimline.runtime.launch import free_port
from slimline.runtime.objectives import LabelsAlone
from slimline.runtime.settings import Settings
from slimline.runtime.stopping import STOP
from slimline.runtime.world import World
from slimline.tracking.memory import MemoryTracker

PLAIN = {"name": "together:Plain"}
STEADY: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 16,
    "precision": 64,
    "optimizer": {"name": "sgd", "lr": 0.05},
    "schedule": {"name": "cosine"},
    "weight_decay": 0.01,
    "clip_norm": 1.0,
}
"""A network without statistics, and a training whose course does not hang on last bits: one process and several are compared by these."""


@dataclass(frozen=True)
class Result:
    """What the processes of one training left: a curve each, the weights that they agree on, how many tensors of the best epoch each held."""

    curves: list[list[list[float]]]
    states: list[dict[str, Tensor]]
    reports: list[dict[str, Any]]
    best: list[int]


def train(folder: Path, prepared: Path, ranks: int, *, model: Mapping[str, Any], fit: Mapping[str, Any], **more: Any) -> Result:
    """Train in `ranks` processes, as `model`, `fit` and `more` (`hardware`, `taught`, `stop_after` or `stop_in_validation` with `stopped_rank`) say.

    Raises:
        AssertionError: a process failed, with what all of them printed.
    """
    done = start(folder, prepared, ranks, model=model, fit=fit, **more)
    texts = [process.communicate(timeout=300)[0] for process in done]
    assert all(process.returncode == 0 for process in done), "\n".join(texts)
    return results(folder, ranks)


def results(folder: Path, ranks: int) -> Result:
    """What the processes left in `folder`."""
    return Result(
        [json.loads((folder / f"{rank}.json").read_text())["curve"] for rank in range(ranks)],
        [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(ranks)],
        [json.loads((folder / f"{rank}.json").read_text())["report"] for rank in range(ranks)],
        [json.loads((folder / f"{rank}.json").read_text())["best"] for rank in range(ranks)],
    )


def task(folder: Path, prepared: Path, **settings: Any) -> None:
    """Tell the program what to do."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.json").write_text(json.dumps({"prepared": str(prepared), **settings}))


def start(folder: Path, prepared: Path, ranks: int, *, program: str = __file__, **settings: Any) -> list[subprocess.Popen[str]]:
    """The processes of `train`, or of another `program`, running."""
    task(folder, prepared, **settings)
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    ranked = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    common = {**os.environ, **ranked, "PYTHONPATH": path}
    return [
        subprocess.Popen(
            [sys.executable, program, str(folder)],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(ranks)
    ]


class Plain(nn.Module):
    """Layers without statistics, cut anywhere; two stretches can have as good as equal numbers of parameters."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int, *, width: int = 12) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(input_shape[0], width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
        )
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.flatten(self.body(x)))


class Steady(nn.BatchNorm2d):
    """A batch norm whose statistics stay, so that it computes the same of a part of a batch."""

    def train(self, mode: bool = True) -> "Steady":
        return super().train(False)


class Normed(Plain):
    """`Plain` with a norm after each convolution."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int, *, width: int = 12) -> None:
        super().__init__(input_shape, classes, width=width)
        layers = [(layer, Steady(width)) if isinstance(layer, nn.Conv2d) else (layer,) for layer in self.body]
        self.body = nn.Sequential(*(layer for some in layers for layer in some))


def half_pruned(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """`Plain` whose every second weight is pruned."""
    model = Plain(input_shape, classes)
    every_second = {name: torch.arange(layer.weight.numel()).reshape(layer.weight.shape) % 2 == 0 for name, layer in prunable(model).items()}
    return copy_masked(model, {name: Mask(kept) for name, kept in every_second.items()})


def signed(input_shape: tuple[int, int, int], classes: int, *, draws: bool = False) -> nn.Module:
    """`Plain` whose layers have weights of ±1, with scaling factors, and read ±1 but for the first."""
    model = Plain(input_shape, classes)
    layers = [name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    signs = [name for name, layer in model.named_modules() if isinstance(layer, nn.ReLU)][: len(layers) - 2]
    binary(model, {"layers": {name: {"inputs": 0 < place < 3, "scaled": True} for place, name in enumerate(layers)}, "signs": signs})
    learn(model, draws=draws)
    with torch.no_grad():
        for layer in binary_layers(model).values():
            layer.weight.mul_(1.2 / layer.weight.abs().max())  # so that there is something to clip
    return model


class Stopping(Objective):
    """An objective that raises SIGTERM in its own process at a chosen step."""

    def __init__(self, objective: Objective, at: int) -> None:
        super().__init__()
        self.objective, self.left = objective, at

    def forward(self, batch: Batch, network: Network) -> Tensor:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), 15)
        return self.objective(batch, network)


def stop_in_validation(model: nn.Module, at: int) -> None:
    """Have `model` raise SIGTERM in its own process when it is asked in eval mode for the `at`-th time."""
    asked = 0

    def hear(network: nn.Module, _inputs: object) -> None:
        nonlocal asked
        asked += not network.training
        if asked == at and not network.training:
            os.kill(os.getpid(), 15)

    model.register_forward_pre_hook(hear)


def main(folder: Path) -> None:
    task = json.loads((folder / "task.json").read_text())
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    STOP.listen()
    world = World.of(os.environ)
    world.join()
    params = Fit.model_validate(task["fit"])
    hardware = Hardware.model_validate({"threads": 1, "accelerator": "cpu"} | task.get("hardware", {}))
    place = Place(folder / "checkpoints", key("one", hardware, world), 1e9)
    settings = Settings(task.get("seed", 0), hardware, world, place)

    def made(spec: Mapping[str, Any]) -> nn.Module:
        torch.manual_seed(task.get("seed", 0))
        return network(spec, tuple(task.get("shape", (1, 8, 8))), task.get("classes", 3), (0.4,), (0.3,))

    shape, model = tuple(task.get("shape", (1, 8, 8))), made(task["model"])
    objective: Objective = LabelsAlone(params.label_smoothing)
    if "taught" in task:
        objective = Taught(model, made(task["taught"]["model"]), task["taught"]["loss"], shape)
    if "stop_after" in task and world.rank == task["stopped_rank"]:
        objective = Stopping(objective, task["stop_after"])
    if "stop_in_validation" in task and world.rank == task["stopped_rank"]:
        stop_in_validation(model, task["stop_in_validation"])
    module = Classifier(model, params, objective)
    fit(module, Path(task["prepared"]), params, settings, tracker=MemoryTracker(), name="training")
    assert module._best is not None
    best = module._best[1]
    curve = [[row.train_loss, row.val_loss, row.val_accuracy] for row in module.history]
    (folder / f"{world.rank}.json").write_text(json.dumps({"curve": curve, "report": module.arrangement.report(), "best": len(best)}))
    torch.save(module.model.state_dict(), folder / f"{world.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
