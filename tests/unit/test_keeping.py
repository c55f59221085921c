"""A signal in the middle of a training leaves a checkpoint, in one process and in several, and the training goes on from there."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import nn
from tqdm import tqdm

import tiny
import together
from slimline.data.prepared import describe
from slimline.params.fit import Fit
from slimline.params.hardware import Hardware
from slimline.runtime.checkpoints import Checkpoints
from slimline.runtime.classifier import Classifier, Position
from slimline.runtime.keeping import Keeper
from slimline.runtime.losses import Losses
from slimline.runtime.objectives import LabelsAlone
from slimline.runtime.parallel.arrangement import Arrangement
from slimline.runtime.updates import Updates
from slimline.runtime.world import World
from slimline.tracking.memory import MemoryTracker

FIT: dict[str, Any] = {"epochs": 3, "batch_size": 16, "optimizer": {"name": "adamw", "lr": 0.01}, "schedule": {"name": "cosine"}}


@pytest.fixture(scope="module")
def prepared() -> Iterator[Path]:
    with tiny.prepared(tiny.items(150, classes=3)) as made:
        yield made.folder


RESIDUAL = {"name": "resnet", "depth": 8, "width": 4}
EVERYDAY = {"channels_last": True, "precision": "bf16"}
WAYS: dict[str, dict[str, Any]] = {
    "ddp": {"hardware": {"strategy": {"name": "ddp"}}},
    "fsdp": {"hardware": {"strategy": {"name": "fsdp"}}},
    "pipeline": {"hardware": {"strategy": {"name": "pipeline"}}},
    "local_sgd": {"fit": {**FIT, "synchrony": {"name": "local_sgd", "period": 3}, "ema": 0.9}},
    "compiled": {"fit": {**FIT, "channels_last": True, "compile": True}},
    "everyday": {"fit": {**FIT, **EVERYDAY, "ema": 0.9}},
    "everyday_local_sgd": {"fit": {**FIT, **EVERYDAY, "synchrony": {"name": "local_sgd", "period": 3}}},
    "everyday_fsdp": {"fit": {**FIT, "channels_last": True}, "hardware": {"strategy": {"name": "fsdp"}}, "model": RESIDUAL},
}


def stopped_and_resumed(folder: Path, prepared: Path, way: dict[str, Any], stopped: int, *, at: dict[str, int] | None = None) -> together.Result:
    task = {"model": {"name": "together:Plain"}, "fit": FIT, **way}
    processes = together.start(folder, prepared, 2, **task, **(at or {"stop_after": 8}), stopped_rank=stopped)
    texts = [process.communicate(timeout=120)[0] for process in processes]
    assert all("stopped by SIGTERM" in text for text in texts), "\n".join(texts)
    (kept,) = (folder / "checkpoints").rglob("*.checkpoint")
    assert at or kept.name > "000000-00000007"
    return together.train(folder, prepared, 2, **task)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "stopped"),
    [("ddp", 0), ("ddp", 1), ("fsdp", 0), ("pipeline", 1), ("local_sgd", 0), *((way, 1) for way in WAYS if way.startswith(("everyday", "compiled")))],
)
def test_a_signal_to_one_of_two_processes_stops_both_with_a_checkpoint_and_they_go_on_to_the_same_bytes(
    way: str, stopped: int, prepared: Path, tmp_path: Path
) -> None:
    task = {"model": {"name": "together:Plain"}, "fit": FIT, **WAYS[way]}
    undisturbed = together.train(tmp_path / "undisturbed", prepared, 2, **task)
    resumed = stopped_and_resumed(tmp_path / "stopped", prepared, WAYS[way], stopped)
    assert resumed.curves == undisturbed.curves
    for one, other in zip(resumed.states, undisturbed.states, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["ddp", "everyday_local_sgd"])
def test_a_signal_in_the_last_validation_leaves_a_checkpoint_and_they_go_on_to_the_same_bytes(way: str, prepared: Path, tmp_path: Path) -> None:
    task = {"model": {"name": "together:Plain"}, "fit": FIT, **WAYS[way]}
    undisturbed = together.train(tmp_path / "undisturbed", prepared, 2, **task)
    resumed = stopped_and_resumed(tmp_path / "stopped", prepared, WAYS[way], 1, at={"stop_in_validation": FIT["epochs"]})
    assert resumed.curves == undisturbed.curves
    assert all(torch.equal(resumed.states[1][name], tensor) for name, tensor in undisturbed.states[1].items())


STILL = {**FIT, "optimizer": {"name": "sgd", "lr": 1e-12}, "synchrony": {"name": "asynchronous"}}
"""The order of events decides what is learned, so there are no bytes to compare; where nothing is learned, losses are."""


@pytest.mark.slow
@pytest.mark.parametrize(("stopped", "at"), [(0, {"stop_after": 8}), (1, {"stop_after": 8}), (0, {"stop_in_validation": 1})])
def test_a_stopped_parameter_server_s_weights_and_claims_go_on(stopped: int, at: dict[str, int], prepared: Path, tmp_path: Path) -> None:
    resumed = stopped_and_resumed(tmp_path, prepared, {"fit": STILL}, stopped, at=at)
    losses = [row[0] for row in resumed.curves[0]]
    assert losses == pytest.approx([losses[0]] * FIT["epochs"], rel=5e-3), "each epoch counts each of its parts once"
    (parts,) = {sum(report["staleness"].values()) for report in resumed.reports}
    assert parts == 2 * FIT["epochs"] * -(-describe(prepared).counts["train"] // FIT["batch_size"]), "no part is lost, none used twice"
    assert resumed.curves[0] == resumed.curves[1]
    assert len(resumed.curves[0]) == FIT["epochs"]
    assert all(torch.equal(resumed.states[0][name], resumed.states[1][name]) for name in resumed.states[0])


@pytest.mark.slow
def test_a_parameter_server_that_dies_ends_its_worker_with_a_line_that_names_it(prepared: Path, tmp_path: Path) -> None:
    endless = {**FIT, "epochs": 100_000, "synchrony": {"name": "asynchronous"}}
    (worker,) = together.start(tmp_path, prepared, 1, model={"name": "together:Plain"}, fit=endless)
    deadline = time.monotonic() + 120
    while not (servers := [child for child in psutil.Process(worker.pid).children() if "spawn_main" in " ".join(child.cmdline())]):
        assert worker.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    servers[0].kill()
    text, _ = worker.communicate(timeout=120)
    assert worker.returncode != 0
    assert "SlimlineError: process 0 of 1 lost touch with the parameter server" in text


def test_a_checkpoint_that_is_due_is_asked_for_once_though_all_agree_a_step_later(tmp_path: Path) -> None:
    class Later(Arrangement):
        """Wishes are known after the next step, as those of several processes are."""

        wishes = (0, 0)

        def agree(self, wish: int) -> int:
            self.wishes = (self.wishes[1], wish)
            return self.wishes[0]

        def state(self, updates: Updates) -> dict[str, Any]:
            return {}

    model, fit = nn.Linear(2, 2), Fit.model_validate(FIT)
    module = Classifier(model, fit, LabelsAlone(0.0))
    module.arrangement = Later(World(), Hardware(threads=1))
    module.updates = Updates(model, module.objective, torch.optim.SGD(model.parameters(), 0.1), fit, 1, torch.device("cpu"))
    module._losses = Losses()
    checkpoints = Checkpoints(tmp_path, every=0.0)
    keeper = Keeper(checkpoints, MemoryTracker(), "training")
    keeper._bar = tqdm(disable=True)
    for step in range(7):
        module.position = Position(0, step)
        keeper.on_train_batch_end(None, module, None, "a batch", step)  # type: ignore[arg-type]
        saved = sorted(int(file.stem.rpartition("-")[2]) for file in checkpoints.files)
        assert saved == [step for step in (1, 3, 5) if step <= module.position.step][-2:]


VALIDATING = """
import os, signal, sys
from pathlib import Path
import torch
from torch import nn
from slimline.params.fit import Fit
from slimline.params.hardware import Hardware
from slimline.runtime.checkpoints import Place
from slimline.runtime.classifier import Classifier
from slimline.runtime.fit import fit
from slimline.runtime.objectives import LabelsAlone
from slimline.runtime.settings import Settings
from slimline.runtime.stopping import STOP, Stopped
from slimline.tracking.memory import MemoryTracker

class Killed(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    def forward(self, x):
        if not self.training and STOP.signum is None:
            os.kill(os.getpid(), signal.SIGTERM)
        return self.body(x)

torch.set_num_threads(1)
STOP.listen()
params = Fit.model_validate({"epochs": 2, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.01}, "schedule": {"name": "constant"}})
here = Settings(seed=0, hardware=Hardware(threads=1), place=Place(Path(sys.argv[2]), "key", 1e9))
try:
    fit(Classifier(Killed(), params, LabelsAlone(0.0)), Path(sys.argv[1]), params, here, tracker=MemoryTracker(), name="training")
except Stopped as stopped:
    sys.exit(128 + stopped.signum)
"""


def test_a_signal_in_a_validation_is_no_success_and_leaves_a_checkpoint(prepared: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", VALIDATING, str(prepared), str(tmp_path)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 143, done.stderr
    steps = -(-describe(prepared).counts["train"] // 16)
    assert [path.name for path in tmp_path.rglob("*.checkpoint")] == [f"000000-{steps:08d}.checkpoint"]
