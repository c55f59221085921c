"""What one `fit` does to a network: which epoch stays, what decays, which statistics move."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tiny
from slimline.core.batch import Batch
from slimline.core.binary import binary, binary_layers, learn
from slimline.core.objective import Network, Objective
from slimline.errors import SlimlineError
from slimline.params.fit import Fit
from slimline.params.hardware import Hardware
from slimline.registry import bind
from slimline.runtime.checkpoints import Place
from slimline.runtime.classifier import Classifier, Epoch
from slimline.runtime.fit import fit
from slimline.runtime.objectives import LabelsAlone
from slimline.runtime.optimizers import OPTIMIZERS
from slimline.runtime.schedules import SCHEDULES
from slimline.runtime.settings import Settings
from slimline.runtime.stopping import STOP, Stopped
from slimline.runtime.updates import moving_average
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


class Turning(LabelsAlone):
    """Teaches for some steps, then the opposite: the best epoch lies in the middle."""

    def __init__(self, steps: int) -> None:
        super().__init__(0.0)
        self.left = steps

    def forward(self, batch: Batch, network: Network) -> torch.Tensor:
        self.left -= 1
        return super().forward(batch, network) * (1 if self.left >= 0 else -1)


def test_the_best_epoch_by_validation_stays_and_among_equals_the_one_with_the_lowest_loss(prepared: Path) -> None:
    module = Classifier(network(), settings(epochs=6, optimizer={"name": "adamw", "lr": 0.05}), Turning(9))
    kept = fit(module, prepared, module.fit_params, HERE, tracker=MemoryTracker(), name="training")
    assert kept == max(module.history, key=lambda row: (row.val_accuracy, -row.val_loss))
    assert len(module.history) == 6
    assert kept != module.history[-1], "choose settings under which the last epoch is not the best, or this test sees nothing"
    again = Classifier(module.model, settings(epochs=1, optimizer={"name": "sgd", "lr": 1e-30}), LabelsAlone(0.0))
    row = fit(again, prepared, again.fit_params, HERE, tracker=MemoryTracker(), name="training")
    assert row.val_accuracy == kept.val_accuracy


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"batch_size": 1}, "a batch norm cannot train on batches of one image; raise fit.batch_size"),
        ({"optimizer": {"name": "adamw", "lr": 1e300}}, r"a number of fit or loss leaves the range of 32 bits .*; lower fit.optimizer.lr"),
    ],
)
def test_what_torch_cannot_compute_is_told_in_the_words_of_params(changes: dict[str, Any], told: str, prepared: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    module = Classifier(model, settings(**changes), LabelsAlone(0.0))
    with pytest.raises(SlimlineError, match=told):
        fit(module, prepared, module.fit_params, HERE, tracker=MemoryTracker(), name="training")


def test_every_epoch_reaches_the_tracker(prepared: Path) -> None:
    tracker = MemoryTracker()
    module = Classifier(network(), settings(), LabelsAlone(0.0))
    fit(module, prepared, module.fit_params, HERE, tracker=tracker, name="training")
    assert [(name, step) for name, _, step in tracker.recorded_metrics if "accuracy" in name] == [("val/accuracy", s) for s in range(3)]
    assert all(isinstance(row, Epoch) for row in module.history)


def test_norms_and_biases_do_not_decay(prepared: Path) -> None:
    """With a gradient of zero only decay moves a parameter."""
    model = network()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}

    class Nothing(Objective):
        def forward(self, batch: Batch, network: Network) -> torch.Tensor:
            return network(batch.images).sum() * 0

    module = Classifier(model, settings(epochs=1, weight_decay=0.5, optimizer={"name": "sgd", "lr": 0.1}), Nothing())
    fit(module, prepared, module.fit_params, HERE, tracker=MemoryTracker(), name="training")
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"0.weight", "5.weight"}


def test_a_model_from_disk_is_trained_in_train_mode(prepared: Path) -> None:
    model = network().eval()
    before = model[1].running_mean.clone()  # type: ignore[index, union-attr]
    module = Classifier(model, settings(epochs=1), LabelsAlone(0.0))
    fit(module, prepared, module.fit_params, HERE, tracker=MemoryTracker(), name="training")
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


def test_training_is_stopped_early_when_patience_ends_and_the_best_stays(prepared: Path) -> None:
    module = Classifier(network(), settings(epochs=50, patience=3, optimizer={"name": "adamw", "lr": 0.05}), Turning(9))
    kept = fit(module, prepared, module.fit_params, HERE, tracker=MemoryTracker(), name="training")
    assert len(module.history) < 50
    assert module.history[-1].epoch - kept.epoch == 3
    assert all(row.score <= kept.score for row in module.history[kept.epoch + 1 :])


def trained(prepared: Path, model: nn.Module | None = None, here: Settings = HERE, **changes: object) -> Classifier:
    module = Classifier(model or network(), settings(**changes), LabelsAlone(0.0))
    fit(module, prepared, module.fit_params, here, tracker=MemoryTracker(), name="training")
    return module


def test_the_moving_average_is_what_is_kept(prepared: Path) -> None:
    """After one update the average is the weights themselves; after two, a blend of both."""
    seen: list[torch.Tensor] = []

    class Watched(Classifier):
        def training_step(self, batch, index):  # type: ignore[no-untyped-def]
            super().training_step(batch, index)
            seen.append(self.model[5].weight.detach().clone())  # type: ignore[index, union-attr]

    torch.manual_seed(1)
    module = Watched(network(), settings(epochs=1, batch_size=32, ema=0.75), LabelsAlone(0.0))
    fit(module, prepared, module.fit_params, HERE, tracker=MemoryTracker(), name="training")
    average = seen[0]
    for weight in seen[1:]:
        average = 0.75 * average + 0.25 * weight
    torch.testing.assert_close(module.model[5].weight.detach(), average)  # type: ignore[index, union-attr]
    assert not torch.equal(average, seen[-1])


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_the_moving_average_takes_integers_as_they_are(decay: float) -> None:
    """A zero point that is averaged with itself stays what it is."""
    update = moving_average(decay)
    codes, reals = [torch.arange(256, dtype=torch.uint8)], [torch.tensor([1.0])]
    for _ in range(50):
        update(codes, [torch.arange(256, dtype=torch.uint8)], 1)
        update(reals, [torch.tensor([3.0])], 1)
    assert codes[0].tolist() == list(range(256))
    assert float(reals[0]) == pytest.approx(3 - 2 * decay**50)


def test_a_clipped_step_of_plain_descent_is_no_longer_than_rate_times_norm(prepared: Path) -> None:
    model = network()
    before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    steps = {"epochs": 1, "batch_size": 32, "clip_norm": 1e-3, "optimizer": {"name": "sgd", "lr": 0.5, "momentum": 0.0}}
    module = trained(prepared, model, **steps)
    moved = torch.cat([p.detach().flatten() for p in module.model.parameters()]) - before
    assert 0 < float(moved.norm()) <= 0.5 * 1e-3 * module.updates.done * 1.001


@pytest.mark.parametrize("precision", [64, 32, "bf16"])
def test_every_precision_learns_and_leaves_weights_of_32_bits(precision: object, prepared: Path) -> None:
    module = trained(prepared, precision=precision, epochs=4)
    assert module.history[-1].train_loss < module.history[0].train_loss
    assert all(p.dtype == torch.float32 for p in module.model.parameters())


def test_the_order_of_channels_in_memory_changes_nothing_but_last_bits(prepared: Path) -> None:
    curves = []
    for last in (False, True):
        torch.manual_seed(1)
        curves.append([row.train_loss for row in trained(prepared, channels_last=last).history])
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-4)


def stopped_at(step: int) -> nn.Module:
    """A network with dropout in whose training a signal arrives at a chosen step."""

    class Interrupted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.dropout, self.calls = network(), nn.Dropout(0.3), 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += self.training
            if self.training and self.calls == step:
                STOP.signum = signal.SIGTERM
            return self.network(self.dropout(x))

    torch.manual_seed(1)
    return Interrupted()


@pytest.mark.parametrize("steps", [(1,), (3,), (4, 2), (5, 1, 1, 2), (2, 2, 2, 2, 2)])
def test_a_training_that_was_stopped_at_any_step_ends_with_the_same_bytes(steps: tuple[int, ...], prepared: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"ema": 0.9, "patience": 5, "schedule": {"name": "one_cycle"}, "augment": ({"name": "shift", "pixels": 1},)}
    changes |= {"mix": {"name": "mixup", "alpha": 0.4}, "epochs": 4}
    straight = trained(prepared, stopped_at(0), **changes)
    here = Settings(seed=0, hardware=Hardware(threads=1), place=Place(tmp_path, "key", every=1e9))
    for step in steps:
        with pytest.raises(Stopped):
            trained(prepared, stopped_at(step), here, **changes)
        STOP.signum = None
        assert here.place is not None
        assert len(here.place.training("training").files) in (1, 2)
    resumed = trained(prepared, stopped_at(0), here, **changes)
    assert resumed.model.calls == straight.model.calls - sum(steps), "it began anew"
    assert resumed.history == straight.history
    for name, tensor in straight.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_signs_that_training_draws_are_drawn_alike_where_it_was_stopped_and_weights_stay_within_one(prepared: Path, tmp_path: Path) -> None:
    def drawing(step: int) -> nn.Module:
        model = stopped_at(step)
        record = {"layers": {name: {"inputs": False, "scaled": True} for name in ("network.0", "network.5")}, "signs": []}
        learn(binary(model, record), draws=True)
        return model

    changes: dict[str, Any] = {"ema": 0.9, "optimizer": {"name": "adamw", "lr": 0.1}}
    straight = trained(prepared, drawing(0), **changes)
    here = Settings(seed=0, hardware=Hardware(threads=1), place=Place(tmp_path, "key", every=1e9))
    with pytest.raises(Stopped):
        trained(prepared, drawing(4), here, **changes)
    STOP.signum = None
    resumed = trained(prepared, drawing(0), here, **changes)
    assert resumed.model.calls == straight.model.calls - 4, "it began anew"
    assert resumed.history == straight.history
    for name, tensor in straight.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    assert max(float(layer.weight.detach().abs().max()) for layer in binary_layers(straight.updates.model).values()) == 1


def test_batch_norms_of_binary_layers_follow_them() -> None:
    module = Quantize.__new__(Quantize)
    nn.Module.__init__(module)
    module.model = binary(network(), {"layers": {"5": {"inputs": True, "scaled": False}}, "signs": []})
    module.train()
    assert module.model[1].training


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before_it_and_no_byte(prepared: Path, tmp_path: Path) -> None:
    straight = trained(prepared, stopped_at(0))
    place = Place(tmp_path, "key", every=1e9)
    here = Settings(seed=0, hardware=Hardware(threads=1), place=place)
    for step in (2, 3):
        with pytest.raises(Stopped):
            trained(prepared, stopped_at(step), here)
        STOP.signum = None
    _, newest = place.training("training").files
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    resumed = trained(prepared, stopped_at(0), here)
    assert resumed.model.calls == straight.model.calls - 2
    assert resumed.history == straight.history
    for name, tensor in straight.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_a_loss_that_is_no_number_ends_the_training_with_step_and_rate_and_saves_nothing(prepared: Path, tmp_path: Path) -> None:
    here = Settings(seed=0, hardware=Hardware(threads=1), place=Place(tmp_path, "key", every=1e9))
    with pytest.raises(
        SlimlineError, match=r"the loss became (nan|inf) in epoch 1 at step 2, at a learning rate of 9.7e\+29.*no checkpoint was due yet"
    ):
        trained(prepared, here=here, optimizer={"name": "sgd", "lr": 1e30}, schedule={"name": "cosine"})
    assert not list(tmp_path.rglob("*.checkpoint"))


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_warm_up_rises_in_a_line_to_the_rate_itself(name: str) -> None:
    factor = bind(SCHEDULES, {"name": name, "warm_up": 0.4})
    assert [factor(p) for p in (0.0, 0.2, 0.4)] == pytest.approx([0.04, 0.52, 1.0])


def test_a_stepped_schedule_falls_at_its_places() -> None:
    factor = bind(SCHEDULES, {"name": "step", "at": (0.5, 0.75), "factor": 0.1})
    assert [factor(p) for p in (0.0, 0.49, 0.5, 0.74, 0.75, 1.0)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


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
