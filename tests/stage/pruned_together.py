"""A pruning in several real processes, for its tests: `prune(folder, workspace, ranks, …)`, and the program that each process runs."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import together
from slimline import artifacts
from slimline.core.masked import Mask, set_masks
from slimline.params.hardware import Hardware
from slimline.params.prune import Prune as PruneParams
from slimline.paths import Paths
from slimline.pruning import SCHEDULES
from slimline.registry import build
from slimline.runtime.checkpoints import Place, key
from slimline.runtime.settings import Settings
from slimline.runtime.stopping import STOP, Stopped
from slimline.runtime.world import World
from slimline.stages import prune as stage
from slimline.tracking.memory import MemoryTracker

STOPPED = 9
"""Exit code of a process that a signal has ended in order."""


@dataclass(frozen=True)
class Pruned:
    """What one process left: its network, the masks of each of its cuts, its curve."""

    state: dict[str, Tensor]
    cuts: list[dict[str, Tensor]]
    curve: list[list[float]]


def prune(folder: Path, workspace: Path, ranks: int, *, stop_after: int | None = None, **block: Any) -> list[Pruned]:
    """Prune the student of `workspace` in `ranks` processes as `block` of params.yaml says; an entry a process.

    Args:
        stop_after: the step after which the last process hears SIGTERM; all end then, and nothing is returned.

    Raises:
        AssertionError: a process ended otherwise, with what all of them printed.
    """
    started = together.start(folder, workspace, ranks, program=__file__, block=block, stop_after=stop_after)
    texts = [process.communicate(timeout=300)[0] for process in started]
    expected = 0 if stop_after is None else STOPPED
    assert [process.returncode for process in started] == [expected] * ranks, "\n".join(texts)
    return [] if stop_after is not None else [Pruned(**torch.load(folder / f"{rank}.pt", weights_only=True)) for rank in range(ranks)]


def main(folder: Path) -> None:
    task = json.loads((folder / "task.json").read_text())
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    STOP.listen()
    world = World.of(os.environ)
    world.join()
    hardware, paths = Hardware.model_validate({"threads": 1, "accelerator": "cpu"}), Paths(Path(task["prepared"]))
    settings = Settings(0, hardware, world, Place(folder / "checkpoints", key("one", hardware, world), 1e9))
    params = PruneParams.model_validate(task["block"])
    cuts: list[dict[str, Tensor]] = []

    def noted(model: nn.Module, masks: Mapping[str, Mask]) -> None:
        cuts.append({name: mask.kept.clone() for name, mask in masks.items()})
        set_masks(model, masks)

    stage.set_masks = noted  # type: ignore[attr-defined]
    if task["stop_after"] is not None and world.rank == world.ranks - 1:
        stopping(task["stop_after"])
    manifest, student = artifacts.load(paths.model("student"))
    course = stage.Recovery(params, settings, paths, MemoryTracker(), manifest, student)
    pruned = build(SCHEDULES, params.schedule).run(course, student)
    curve = [[row.train_loss, row.val_loss, row.val_accuracy] for row in course.history]
    torch.save({"state": pruned.state_dict(), "cuts": cuts, "curve": curve}, folder / f"{world.rank}.pt")


def stopping(at: int) -> None:
    """Have this process hear SIGTERM after its step `at`."""
    whole, left = stage.GradualPrune.training_step, [at]

    def step(self: stage.GradualPrune, *batch: Any) -> None:
        whole(self, *batch)
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), 15)

    stage.GradualPrune.training_step = step  # type: ignore[method-assign]


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except Stopped:
        sys.exit(STOPPED)
