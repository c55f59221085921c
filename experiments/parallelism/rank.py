"""What each of the processes runs: the cells of a task in their order; the first process keeps what was measured.

rank.py TASK    # a JSON file: cells, prepared folders, the file of results; torchrun's variables in the environment
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from networks import Held
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from slimline.core.objective import Objective
from slimline.data.prepared import describe
from slimline.files import write_json
from slimline.models.network import network
from slimline.params.fit import Fit
from slimline.params.hardware import Hardware
from slimline.runtime.classifier import Classifier
from slimline.runtime.fit import fit
from slimline.runtime.objectives import LabelsAlone
from slimline.runtime.settings import Settings
from slimline.runtime.world import ALONE, World
from slimline.tracking.memory import MemoryTracker

ALL_REDUCES = 9
SAMPLING = 0.005
"""Seconds between two looks at the memory."""

CONDITIONS: dict[str, Callable[[int], float]] = {"even": lambda rank: 0.0, "slow": lambda rank: 0.030 if rank == 1 else 0.0}
"""Seconds that a process sleeps before each forward pass in training, by its number."""


class Timed(Classifier):
    """A training that looks at the clock, and at what it holds."""

    def __init__(self, model: nn.Module, params: Fit, objective: Objective) -> None:
        super().__init__(model, params, objective)
        self.epochs: list[tuple[float, float]] = []
        self.steps: list[tuple[float, float]] = []
        self.held: dict[str, int] = {}

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self._begun = self._last = time.perf_counter(), time.process_time()

    def training_step(self, batch: Any, index: int) -> None:
        super().training_step(batch, index)
        now = time.perf_counter(), time.process_time()
        if index > 0 and len(batch[0]) == self._full:  # the first one includes the epoch's beginning, the last one may be smaller
            self.steps.append(since(self._last, now))
        self._last, self._full = now, len(batch[0]) if index == 0 else self._full

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()  # where the processes become equal again: an epoch ends when the last one is there
        self.epochs.append(since(self._begun, (time.perf_counter(), time.process_time())))
        moments = [value for state in self.updates.optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
        self.held = {"parameter_bytes": sum(map(own_bytes, self.model.parameters())), "optimizer_bytes": sum(map(own_bytes, moments))}


def since(then: tuple[float, float], now: tuple[float, float]) -> tuple[float, float]:
    """Seconds on the clock, and of a processor's work, between the two."""
    return now[0] - then[0], now[1] - then[1]


def own_bytes(tensor: Tensor) -> int:
    """Bytes of `tensor` that lie in this process."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).nbytes


def trained(cell: Mapping[str, Any], world: World, prepared: Path, own: int = 0) -> Timed:
    """The training that `cell` names.

    Args:
        own: number of this process, for what holds it up.
    """
    description = describe(prepared)
    seed = int(cell.get("seed", 0))
    torch.manual_seed(seed)
    model = network(cell["model"], description.input_shape, len(description.classes), description.mean, description.std)
    if "condition" in cell:
        model = Held(model, CONDITIONS[cell["condition"]](own))
    params = Fit.model_validate(cell["fit"])
    hardware = Hardware.model_validate({"threads": 1, "accelerator": "cpu", "strategy": cell.get("strategy", {"name": "ddp"})})
    module = Timed(model, params, LabelsAlone(params.label_smoothing))
    fit(module, prepared, params, Settings(seed, hardware, world), tracker=MemoryTracker(), name="training")
    return module


def parameters(module: Timed) -> int:
    return sum(p.numel() for p in module.model.parameters())


def synchrony(cell: Mapping[str, Any], world: World, prepared: Path) -> dict[str, Any] | None:
    """Speed of all epochs but the first, accuracy, and how stale gradients were."""
    if cell["way"] == "one process":
        if not world.first:
            return None
        module = trained(cell, ALONE, prepared)
    else:
        module = trained(cell, world, prepared, world.rank)
    later = module.epochs[1:]
    seconds = sum(wall for wall, _ in later)
    return {
        "images_per_second": describe(prepared).counts["train"] * len(later) / seconds,
        "processor_share": sum(worked for _, worked in later) / seconds,
        "validation_accuracy": max(row.val_accuracy for row in module.history),
        "parameters": parameters(module),
        "staleness": module.arrangement.report().get("staleness"),
    }


def speed(cell: Mapping[str, Any], world: World, prepared: Path) -> dict[str, Any] | None:
    """Seconds of a step: in one process, in each of two that know nothing of each other, in two that share it."""
    if cell["way"] == "one" and not world.first:
        return None
    together = cell["way"] in ("data", "pipeline")
    module = trained(cell, world if together else ALONE, prepared)
    seconds, worked = np.median(module.steps, axis=0).tolist()
    found = {"step_seconds": seconds, "step_work": worked, "parameters": parameters(module)}
    if cell["way"] == "data":
        found["all_reduce_seconds"], found["all_reduce_work"] = all_reduce(parameters(module))
    return found


def all_reduce(numbers: int) -> tuple[float, float]:
    """Seconds, and a process's work, that two processes take to sum so many float32 numbers; medians of a few times."""
    values, spent = torch.zeros(numbers), []
    for _ in range(ALL_REDUCES):
        dist.barrier()
        start = time.perf_counter(), time.process_time()
        dist.all_reduce(values)
        spent.append(since(start, (time.perf_counter(), time.process_time())))
    seconds, worked = np.median(spent, axis=0).tolist()
    return seconds, worked


def memory(cell: Mapping[str, Any], world: World, prepared: Path) -> dict[str, Any]:
    """Bytes of weights and of the optimizer's state in this process, growth of its anonymous memory, its losses."""
    with growth() as grown:
        module = trained(cell, world, prepared)
    curve = [[row.train_loss, row.val_loss] for row in module.history]
    return {**module.held, "median_growth": int(np.median(grown)), "largest_growth": max(grown), "curve": curve, "parameters": parameters(module)}


@contextmanager
def growth() -> Iterator[list[int]]:
    """A list that fills with this process's anonymous memory, in bytes, beyond what it was; every few milliseconds within the block."""
    before, grown, done = anonymous(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLING):
            grown.append(anonymous() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield grown
    finally:
        done.set()
        watcher.join()


def anonymous() -> int:
    """Bytes of this process's anonymous memory."""
    return 1024 * next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))


QUESTIONS: dict[str, Callable[[Mapping[str, Any], World, Path], dict[str, Any] | None]] = {"synchrony": synchrony, "speed": speed, "memory": memory}


def main(task: Mapping[str, Any]) -> None:
    torch.set_num_threads(1)
    world = World.of(os.environ)
    world.join()
    results = Path(task["results"])
    for cell in task["cells"]:
        measured = world.everyones(QUESTIONS[cell["question"]](cell, world, Path(task["prepared"][cell["data"]])))
        if world.first:
            values = json.loads(results.read_text())
            load = round(os.getloadavg()[0], 2)
            values["records"].append({**cell, "session": len(values["sessions"]) - 1, "load": load, "processes": [m for m in measured if m]})
            write_json(results, values)
            print(" · ".join(str(cell[key]) for key in ("question", "name", "way", "round")), flush=True)
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
