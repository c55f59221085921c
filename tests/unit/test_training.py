"""What one `fit` does to a network: which epoch stays, what decays, which statistics move."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tiny
from slimline.params.fit import Fit
from slimline.params.hardware import Hardware
from slimline.registry import bind
from slimline.runtime.classifier import Classifier, Epoch
from slimline.runtime.fit import fit
from slimline.runtime.objectives import LabelsAlone
from slimline.runtime.optimizers import OPTIMIZERS
from slimline.runtime.schedules import SCHEDULES
from slimline.runtime.settings import Settings
from slimline.stages.quantize import Quantize
from slimline.tracking.memory import MemoryTracker

HERE = Settings(seed=0, hardware=Hardware(threads=1))


def settings(**changes: object) -> Fit:
    plain = {"epochs": 3, "batch_size": 16, "optimizer": {"name": "adamw", "lr": 0.01}, "schedule": {"name": "constant"}}
    return Fit.model_validate(plain | changes)


@pytest.fixture
def prepared() -> Iterator[Path]:
    with tiny.prepared(tiny.items(90, classes=3)) as made:
        yield made.folder


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def test_the_best_epoch_by_validation_stays_and_among_equals_the_one_with_the_lowest_loss(prepared: Path) -> None:
    module = Classifier(network(), settings(epochs=6, optimizer={"name": "adamw", "lr": 0.3}), LabelsAlone(0.0))
    kept = fit(module, prepared, module.fit_params, HERE, tracker=MemoryTracker())
    assert kept == max(module.history, key=lambda row: (row.val_accuracy, -row.val_loss))
    assert len(module.history) == 6
    assert kept != module.history[-1], "choose settings under which the last epoch is not the best, or this test sees nothing"
    again = Classifier(module.model, settings(epochs=1, optimizer={"name": "sgd", "lr": 1e-30}), LabelsAlone(0.0))
    row = fit(again, prepared, again.fit_params, HERE, tracker=MemoryTracker())
    assert row.val_accuracy == kept.val_accuracy


def test_every_epoch_reaches_the_tracker(prepared: Path) -> None:
    tracker = MemoryTracker()
    module = Classifier(network(), settings(), LabelsAlone(0.0))
    fit(module, prepared, module.fit_params, HERE, tracker=tracker, prefix="control/")
    assert [(name, step) for name, _, step in tracker.recorded_metrics if "accuracy" in name] == [("control/val/accuracy", s) for s in range(3)]
    assert all(isinstance(row, Epoch) for row in module.history)


def test_norms_and_biases_do_not_decay(prepared: Path) -> None:
    """With a gradient of zero only decay moves a parameter."""
    model = network()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}

    class Nothing(nn.Module):
        def forward(self, images: torch.Tensor, labels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
            return logits.sum() * 0

    module = Classifier(model, settings(epochs=1, weight_decay=0.5, optimizer={"name": "sgd", "lr": 0.1}), Nothing())
    fit(module, prepared, module.fit_params, HERE, tracker=MemoryTracker())
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"0.weight", "5.weight"}


def test_a_model_from_disk_is_trained_in_train_mode(prepared: Path) -> None:
    model = network().eval()
    before = model[1].running_mean.clone()  # type: ignore[index, union-attr]
    module = Classifier(model, settings(epochs=1), LabelsAlone(0.0))
    fit(module, prepared, module.fit_params, HERE, tracker=MemoryTracker())
    assert not torch.equal(model[1].running_mean, before)  # type: ignore[index, union-attr]


def test_quantization_aware_training_keeps_the_statistics_of_batch_norms() -> None:
    module = Quantize.__new__(Quantize)
    nn.Module.__init__(module)
    module.model = network()
    module.train()
    assert not module.model[1].training
    assert module.model[0].training


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_lowers_a_loss(name: str) -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = bind(OPTIMIZERS, {"name": name, "lr": 0.1})([{"params": [weight]}])
    for _ in range(20):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
    assert float(weight.detach().square().sum()) < 1


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_stays_between_nothing_and_the_optimizer_s_rate(name: str) -> None:
    factors = np.array([bind(SCHEDULES, {"name": name})(progress) for progress in np.linspace(0, 1, 101)])
    assert factors.min() >= 0
    assert factors.max() == pytest.approx(1.0)


def test_one_cycle_rises_to_its_peak_and_falls_to_zero() -> None:
    factor = bind(SCHEDULES, {"name": "one_cycle", "warm_up": 0.2})
    assert [factor(p) for p in (0.0, 0.2, 0.6, 1.0)] == pytest.approx([0.04, 1.0, 0.5, 0.0])


def test_cosine_is_half_way_in_the_middle() -> None:
    assert bind(SCHEDULES, {"name": "cosine"})(0.5) == pytest.approx(0.5)
