"""Several real processes train what one would."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
import together

MODEL = {"name": "together:Plain"}
FIT = {
    "epochs": 3,
    "batch_size": 16,
    "precision": 64,
    "optimizer": {"name": "sgd", "lr": 0.05},
    "schedule": {"name": "cosine"},
    "weight_decay": 0.01,
}


@pytest.fixture(scope="module")
def prepared() -> Iterator[Path]:
    with tiny.prepared(tiny.items(150, classes=3)) as made:
        yield made.folder


@pytest.fixture(scope="module")
def alone(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> together.Result:
    return together.train(tmp_path_factory.mktemp("alone"), prepared, 1, model=MODEL, fit=FIT)


@pytest.mark.parametrize("strategy", [{"name": "ddp"}, {"name": "fsdp"}, {"name": "pipeline"}, {"name": "pipeline", "micro_batches": 2}])
def test_two_processes_follow_the_curve_of_one(strategy: dict[str, Any], prepared: Path, alone: together.Result, tmp_path: Path) -> None:
    two = together.train(tmp_path, prepared, 2, model=MODEL, fit=FIT, hardware={"strategy": strategy})
    for curve in two.curves:
        np.testing.assert_allclose(curve, alone.curves[0], rtol=1e-9)
        assert [row[2] for row in curve] == [row[2] for row in alone.curves[0]], "counts of right answers are exact"
    for state in two.states:
        assert state.keys() == alone.states[0].keys()
        for name, tensor in state.items():
            torch.testing.assert_close(tensor, alone.states[0][name], rtol=1e-5, atol=1e-7)
