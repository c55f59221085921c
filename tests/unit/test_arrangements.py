"""Several real processes train what one would."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import tiny
import together
from slimline.data.batches import Ordered
from slimline.data.prepared import describe, load_split
from slimline.models.network import network


@pytest.fixture(scope="module")
def prepared() -> Iterator[Path]:
    with tiny.prepared(tiny.items(150, classes=3)) as made:
        yield made.folder


def steps(prepared: Path) -> int:
    """Of a whole training."""
    return together.STEADY["epochs"] * -(-describe(prepared).counts["train"] // together.STEADY["batch_size"])


@pytest.fixture(scope="module")
def alone(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> together.Result:
    return together.train(tmp_path_factory.mktemp("alone"), prepared, 1, model=together.PLAIN, fit=together.STEADY)


DIVIDED = [{"name": "fsdp"}, {"name": "pipeline"}, {"name": "pipeline", "micro_batches": 2}]
HALF = pytest.approx(0.55, abs=0.05)
"""Layers are not cut finely enough for 0.5."""


@pytest.mark.parametrize(
    ("strategy", "held"),
    [({"name": "ddp"}, {}), *(pytest.param(strategy, {"largest_share_of_parameters": HALF}, marks=pytest.mark.slow) for strategy in DIVIDED)],
)
def test_two_processes_follow_the_curve_of_one_and_where_they_divide_the_network_each_holds_about_half_of_it(
    strategy: dict[str, Any], held: dict[str, Any], prepared: Path, alone: together.Result, tmp_path: Path
) -> None:
    two = together.train(tmp_path, prepared, 2, model=together.PLAIN, fit=together.STEADY, hardware={"strategy": strategy})
    for curve in two.curves:
        np.testing.assert_allclose(curve, alone.curves[0], rtol=1e-9)
        assert [row[2] for row in curve] == [row[2] for row in alone.curves[0]], "counts of right answers are exact"
    for state in two.states:
        assert state.keys() == alone.states[0].keys()
        for name, tensor in state.items():
            torch.testing.assert_close(tensor, alone.states[0][name], rtol=1e-5, atol=1e-7)
    assert two.reports == [held, held]
    assert two.best == [len(two.states[0]), 0], "the best epoch so far lies in the first process alone"


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "loss"), [("ddp", "hint"), ("ddp", "attention"), ("fsdp", "attention")])
def test_a_loss_that_compares_layers_follows_the_same_curve_in_two_processes(strategy: str, loss: str, prepared: Path, tmp_path: Path) -> None:
    terms = [[1.0, {"name": "labels"}], [0.5, {"name": loss}]]
    taught = {"model": {**together.PLAIN, "width": 16}, "loss": {"name": "sum", "terms": terms}}
    hardware = {"strategy": {"name": strategy}}
    one, two = (
        together.train(tmp_path / str(ranks), prepared, ranks, model=together.PLAIN, fit=together.STEADY, taught=taught, hardware=hardware)
        for ranks in (1, 2)
    )
    for curve in two.curves:
        np.testing.assert_allclose(curve, one.curves[0], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("synchrony", [None, {"name": "local_sgd", "period": 1}], ids=["together", "local_sgd"])
def test_two_processes_slim_the_scales_of_norms_as_one_does(synchrony: dict[str, Any] | None, prepared: Path, tmp_path: Path) -> None:
    architecture = {"name": "together:Normed"}
    plain = {**together.STEADY, "clip_norm": None, "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.0}}
    fit = {**plain, "norm_sparsity": 0.5}
    one = together.train(tmp_path / "one", prepared, 1, model=architecture, fit=fit)
    two = together.train(tmp_path / "two", prepared, 2, model=architecture, fit={**fit, "synchrony": synchrony})
    free = together.train(tmp_path / "free", prepared, 1, model=architecture, fit=plain)
    for curve, state in zip(two.curves, two.states, strict=True):
        np.testing.assert_allclose(curve, one.curves[0], rtol=1e-9)
        for name, tensor in state.items():
            torch.testing.assert_close(tensor, one.states[0][name], rtol=1e-5, atol=1e-7)
    scales = [name for name, tensor in one.states[0].items() if name.endswith(".running_mean")]
    assert len(scales) == 3
    for name in (name.replace(".running_mean", ".weight") for name in scales):
        assert float(one.states[0][name].sum()) < float(free.states[0][name].sum()) - 1.0, name


@pytest.mark.slow
def test_a_pipeline_of_whole_batches_has_the_statistics_of_one_process(prepared: Path, tmp_path: Path) -> None:
    architecture = {"name": "resnet", "depth": 8, "width": 4}
    one, two = (
        together.train(tmp_path / str(ranks), prepared, ranks, model=architecture, fit=together.STEADY, hardware={"strategy": {"name": "pipeline"}})
        for ranks in (1, 2)
    )
    np.testing.assert_allclose(two.curves[0], one.curves[0], rtol=1e-9)
    for name, tensor in two.states[0].items():
        torch.testing.assert_close(tensor, one.states[0][name], rtol=1e-5, atol=1e-7)


EVERYDAY: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 16,
    "optimizer": {"name": "adamw", "lr": 0.01},
    "schedule": {"name": "one_cycle", "warm_up": 0.2},
    "channels_last": True,
}
MIXED = {**EVERYDAY, "precision": "bf16", "ema": 0.5}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fit", "strategy"),
    [
        pytest.param(MIXED, "ddp", id="ddp"),
        pytest.param({**EVERYDAY, "compile": True}, "ddp", id="compiled"),
        pytest.param(EVERYDAY, "fsdp", id="fsdp"),
        pytest.param(EVERYDAY, "pipeline", id="pipeline"),
        pytest.param({**MIXED, "synchrony": {"name": "local_sgd", "period": 3}}, "ddp", id="local_sgd"),
        pytest.param({**MIXED, "synchrony": {"name": "asynchronous"}}, "ddp", id="asynchronous"),
    ],
)
def test_with_everything_that_is_used_every_day_what_is_saved_is_what_was_validated(
    fit: dict[str, Any], strategy: str, prepared: Path, tmp_path: Path
) -> None:
    architecture = {"name": "resnet", "depth": 8, "width": 4}
    two = together.train(tmp_path, prepared, 2, model=architecture, fit=fit, hardware={"strategy": {"name": strategy}})
    assert two.curves[0] == two.curves[1]
    assert all(torch.equal(two.states[0][name], two.states[1][name]) for name in two.states[0])
    model = network(architecture, (1, 8, 8), 3, (0.4,), (0.3,))
    model.load_state_dict(two.states[0])
    (batch,) = Ordered(load_split(prepared, "validation"), 1000)
    with torch.no_grad():
        logits = model.eval()(batch.images)
    loss, accuracy = F.cross_entropy(logits, batch.labels).item(), (logits.argmax(1) == batch.labels).double().mean().item()
    best = max(two.curves[0], key=lambda row: (row[2], -row[1]))
    assert (loss, accuracy) == (pytest.approx(best[1], rel=1e-4), best[2])


@pytest.mark.slow
def test_one_worker_and_its_parameter_server_take_the_steps_of_one_process(prepared: Path, alone: together.Result, tmp_path: Path) -> None:
    server = together.train(tmp_path, prepared, 1, model=together.PLAIN, fit={**together.STEADY, "synchrony": {"name": "asynchronous"}})
    np.testing.assert_allclose(server.curves[0], alone.curves[0], rtol=1e-9)
    assert server.reports[0]["staleness"] == {"0": steps(prepared)}, "a worker alone meets no weights that others have moved"


@pytest.mark.slow
def test_two_workers_share_an_epoch_without_waiting_and_agree_at_its_end(prepared: Path, tmp_path: Path) -> None:
    fit = {**together.STEADY, "ema": 0.9, "synchrony": {"name": "asynchronous"}}
    two = together.train(tmp_path, prepared, 2, model=together.PLAIN, fit=fit)
    assert two.curves[0] == two.curves[1]
    assert all(torch.equal(two.states[0][name], two.states[1][name]) for name in two.states[0])
    assert sum(two.reports[0]["staleness"].values()) == 2 * steps(prepared), "every part of every batch is used once"
    assert two.curves[0][-1][0] < two.curves[0][0][0], "it learns"


@pytest.mark.slow
def test_local_steps_with_an_average_at_each_are_synchronous_descent(prepared: Path, alone: together.Result, tmp_path: Path) -> None:
    """Averaging weights after a plain step is a step along the averaged gradient (momentum aside)."""
    plain = {**together.STEADY, "clip_norm": None, "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.0}}
    one = together.train(tmp_path / "one", prepared, 1, model=together.PLAIN, fit=plain)
    two = together.train(tmp_path / "two", prepared, 2, model=together.PLAIN, fit={**plain, "synchrony": {"name": "local_sgd", "period": 1}})
    np.testing.assert_allclose(two.curves[0], one.curves[0], rtol=1e-9)


@pytest.mark.slow
def test_longer_periods_leave_the_synchronous_course_and_still_end_alike_everywhere(prepared: Path, alone: together.Result, tmp_path: Path) -> None:
    two = together.train(
        tmp_path, prepared, 2, model=together.PLAIN, fit={**together.STEADY, "ema": 0.9, "synchrony": {"name": "local_sgd", "period": 4}}
    )
    assert two.curves[0] == two.curves[1] != alone.curves[0]
    assert all(torch.equal(two.states[0][name], two.states[1][name]) for name in two.states[0])


@pytest.mark.slow
@pytest.mark.parametrize("way", [{"name": "ddp"}, {"name": "fsdp"}, {"name": "pipeline"}], ids=lambda way: way["name"])
def test_signs_are_trained_by_two_processes_as_by_one_and_latent_weights_stay_within_one(way: dict[str, Any], prepared: Path, tmp_path: Path) -> None:
    fit, model = together.STEADY | {"optimizer": {"name": "sgd", "lr": 0.5}}, {"name": "together:signed"}
    one = together.train(tmp_path / "one", prepared, 1, model=model, fit=fit)
    two = together.train(tmp_path / "two", prepared, 2, model=model, fit=fit, hardware={"strategy": way})
    np.testing.assert_allclose(two.curves[0], one.curves[0], rtol=1e-9)
    for name, tensor in two.states[0].items():
        torch.testing.assert_close(tensor, one.states[0][name], rtol=1e-5, atol=1e-7)
        if name.endswith(".weight") and tensor.ndim > 1:
            assert 0.9 < float(tensor.abs().max()) <= 1.0, name


@pytest.mark.slow
@pytest.mark.parametrize("synchrony", [{"name": "local_sgd", "period": 3}, {"name": "asynchronous"}], ids=lambda synchrony: synchrony["name"])
def test_drawn_signs_are_trained_in_every_synchrony(synchrony: dict[str, Any], prepared: Path, tmp_path: Path) -> None:
    fit = together.STEADY | {"optimizer": {"name": "sgd", "lr": 0.5}, "synchrony": synchrony}
    two = together.train(tmp_path, prepared, 2, model={"name": "together:signed", "draws": True}, fit=fit)
    assert two.curves[0] == two.curves[1]
    for name, tensor in two.states[0].items():
        assert torch.equal(tensor, two.states[1][name])
        if name.endswith(".weight") and tensor.ndim > 1:
            assert float(tensor.abs().max()) <= 1.0, name
