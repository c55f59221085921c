"""A signal in the middle of a training leaves a checkpoint, in one process and in several, and the training goes on from there."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
import together

FIT: dict[str, Any] = {"epochs": 3, "batch_size": 16, "optimizer": {"name": "adamw", "lr": 0.01}, "schedule": {"name": "cosine"}}
NEVER = 10**9


@pytest.fixture(scope="module")
def prepared() -> Iterator[Path]:
    with tiny.prepared(tiny.items(150, classes=3)) as made:
        yield made.folder


def train(folder: Path, prepared: Path, strategy: str) -> together.Result:
    hardware = {"strategy": {"name": strategy}}
    return together.train(folder, prepared, 2, model={"name": "together:Plain"}, fit=FIT, hardware=hardware, stop_after=NEVER)


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [0, 1])
def test_a_signal_to_one_of_two_processes_stops_both_with_a_checkpoint_and_they_go_on_to_the_same_bytes(
    stopped: int, prepared: Path, tmp_path: Path
) -> None:
    undisturbed = train(tmp_path / "undisturbed", prepared, "ddp")
    processes = together.start(
        tmp_path / "stopped",
        prepared,
        2,
        model={"name": "together:Plain"},
        fit=FIT,
        hardware={"strategy": {"name": "ddp"}},
        stop_after=8,
        stopped_rank=stopped,
    )
    texts = [process.communicate(timeout=60)[0] for process in processes]
    assert all("stopped by SIGTERM" in text for text in texts), "\n".join(texts)
    (kept,) = (tmp_path / "stopped" / "checkpoints").rglob("*.checkpoint")
    assert kept.name > "000000-00000007"
    resumed = train(tmp_path / "stopped", prepared, "ddp")
    assert resumed.curves == undisturbed.curves
    for one, other in zip(resumed.states, undisturbed.states, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in other)


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
    fit(Classifier(Killed(), params, LabelsAlone(0.0)), Path(sys.argv[1]), params, here, tracker=MemoryTracker())
except Stopped as stopped:
    sys.exit(128 + stopped.signum)
"""


def test_a_signal_in_a_validation_is_no_success_and_leaves_a_checkpoint(prepared: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", VALIDATING, str(prepared), str(tmp_path)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 143, done.stderr
    assert [path.name for path in tmp_path.rglob("*.checkpoint")] == ["000001-00000001.checkpoint"]
