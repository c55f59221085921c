"""The teacher beside what it teaches, in training; what every loss must keep by itself stands in test_losses_contract.py."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tiny
from slimline.core.batch import Batch
from slimline.core.mapped import mapped
from slimline.data.prepared import load_split
from slimline.data.shuffled import Mixing, Shuffled
from slimline.distillation import LOSSES
from slimline.distillation.layers import overheard, shapes
from slimline.distillation.soft_hard import soft_hard
from slimline.distillation.taught import Taught
from slimline.params.fit import Fit
from slimline.params.hardware import Hardware
from slimline.registry import Spec, build
from slimline.runtime.checkpoints import Place
from slimline.runtime.classifier import Classifier
from slimline.runtime.fit import fit
from slimline.runtime.refusal import refusing
from slimline.runtime.settings import Settings
from slimline.runtime.stopping import STOP, Stopped
from slimline.tracking.memory import MemoryTracker

ALL = pytest.mark.parametrize("name", sorted(LOSSES))
SHAPES = {"image": (1, 8, 8), "map": (3, 4, 4), "row": (6,), "logits": (3,)}


@ALL
def test_every_loss_trains_a_student_and_keeps_what_it_learns_itself_out_of_it(name, prepared) -> None:
    torch.manual_seed(1)
    model = tiny.trained("mobilenet").train()
    module = Classifier(model, FIT, Taught(model, tiny.trained("wide_resnet"), tiny.teaching_spec(name), (1, 8, 8)))
    before, own = ({key: value.detach().clone() for key, value in part.named_parameters()} for part in (model, module.objective))
    names = set(model.state_dict())
    losses = trained(module, prepared, epochs=1)
    assert len(losses) == 1
    assert set(module.model.state_dict()) == names
    assert all(not torch.equal(value, own[key]) for key, value in module.objective.named_parameters())
    assert all(not torch.equal(value, before[key]) for key, value in module.model.named_parameters())


FIT = Fit.model_validate({"epochs": 2, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.01}, "schedule": {"name": "constant"}})


def trained(module: Classifier, prepared: Path, place: Place | None = None, **changes: Any) -> list[float]:
    settings = Settings(0, Hardware(threads=1, accelerator="cpu"), place=place)
    fit(module, prepared, FIT.model_copy(update=changes), settings, tracker=MemoryTracker(), name="student")
    return [row.train_loss for row in module.history]


def test_the_soft_terms_gradient_keeps_its_size_when_the_temperature_changes() -> None:
    first, second = (0.1 * torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    gradients = []
    for temperature in (5.0, 10.0, 40.0):
        ours = first.clone().requires_grad_()
        soft_hard(ours, second, torch.tensor([0, 1, 2, 3, 0]), temperature=temperature, alpha=1.0).backward()
        gradients.append(ours.grad)
    assert torch.allclose(gradients[0], gradients[2], rtol=0.1, atol=1e-4)
    assert torch.allclose(gradients[1], gradients[2], rtol=0.05, atol=1e-4)


@pytest.fixture
def prepared() -> Iterator[Path]:
    with tiny.prepared(tiny.items(90, classes=3)) as made:
        yield made.folder


class Surroundings(nn.Module):
    """What trains: it puts everything in it in train mode, as Lightning does."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective


def batch(images: Tensor, labels: Tensor) -> Batch:
    return Batch(images, labels, torch.arange(len(labels)))


def test_the_teacher_stays_in_eval_mode_and_frozen_whatever_its_surroundings_do(images) -> None:
    teaching = tiny.trained().train()
    taught = Taught(tiny.trained(), teaching, tiny.loss_spec("soft_hard"), (1, 8, 8))
    before = {key: tensor.clone() for key, tensor in teaching.state_dict().items()}
    for mode in (True, False, True):
        Surroundings(taught).train(mode)
        assert not any(module.training for module in teaching.modules())
    own = torch.randn(16, 3, requires_grad=True)
    taught(batch(images, torch.zeros(16, dtype=torch.int64)), lambda _: own).backward()
    assert own.grad is not None
    assert all(not p.requires_grad and p.grad is None for p in teaching.parameters())
    assert all(torch.equal(tensor, before[key]) for key, tensor in teaching.state_dict().items())


def test_the_loss_is_taken_against_the_teachers_answer_to_the_very_same_images(images) -> None:
    teaching, own, labels = tiny.trained(), torch.randn(16, 3), torch.arange(16) % 3
    taught = Taught(tiny.trained(), teaching, {"name": "soft_hard", "temperature": 2.0, "alpha": 1.0}, (1, 8, 8))
    expected = 4 * F.kl_div((own / 2).log_softmax(1), (teaching(images) / 2).softmax(1), reduction="batchmean")
    assert torch.isclose(taught(batch(images, labels), lambda _: own), expected, atol=1e-6)


@ALL
def test_a_loss_is_taken_in_32_bits_whatever_the_networks_compute_in(name, images) -> None:
    model, taught_batch = tiny.trained("resnet"), batch(1e3 * images, torch.arange(16) % 3)
    taught = Taught(model, tiny.trained("mobilenet"), tiny.teaching_spec(name), (1, 8, 8))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(taught_batch.images)
        value = taught(taught_batch, model)
    assert logits.dtype == torch.bfloat16
    assert value.dtype == torch.float32
    assert torch.isclose(value, taught(taught_batch, model), rtol=0.3)


class Interrupting(nn.Module):
    """A teacher in the middle of whose answers a signal arrives, at a chosen call."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.network, self.left = tiny.trained("wide_resnet"), call

    def forward(self, images: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0:
            STOP.signum = signal.SIGTERM
        return self.network(images)


def test_what_a_loss_learns_goes_on_from_a_checkpoint_to_the_same_bytes(prepared, tmp_path) -> None:
    place = Place(tmp_path, "key", every=1e9)

    def run(call: int, place: Place | None) -> dict[str, Tensor]:
        torch.manual_seed(1)
        model = tiny.trained("resnet").train()
        module = Classifier(model, FIT, Taught(model, Interrupting(call), tiny.teaching_spec("contrastive"), (1, 8, 8)))
        trained(module, prepared, place)
        return {**module.model.state_dict(), **module.objective.state_dict()}

    straight = run(0, None)
    with pytest.raises(Stopped):
        run(4, place)
    STOP.signum = None
    resumed = run(0, place)
    assert any(name.startswith("loss.losses.0.own") for name in straight)
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in straight.items())


def test_layers_are_overheard_while_asked_and_never_after(images) -> None:
    network = tiny.trained("resnet")
    known = shapes(network, (1, 8, 8))
    with overheard(network, ["network.stem", "network.classifier"]) as heard:
        logits = network(images)
    assert torch.equal(heard["network.classifier"], logits)
    assert {name: tuple(values.shape[1:]) for name, values in heard.items()} == {name: known[name] for name in heard}
    heard.clear()
    network(images)
    assert not heard
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"views": 2, "augment": ({"name": "shift", "pixels": 1},)},
        {"views": 2, "mix": {"name": "mixup", "alpha": 1.0}},
        {"precision": 64},
        {"precision": "bf16"},
        {"channels_last": True},
    ],
)
def test_a_teacher_whose_answers_are_known_beforehand_teaches_the_same(prepared, changes, monkeypatch) -> None:
    more = {"epochs": 3, **changes}
    (losses, weights, asked), (other_losses, other_weights, other_asked) = both("resnet", tiny.loss_spec("soft_hard"), prepared, more, monkeypatch)
    assert losses == pytest.approx(other_losses, rel=1e-5)
    assert all(torch.allclose(value, other_weights[key], rtol=1e-4, atol=1e-5) for key, value in weights.items())
    views = changes.get("views", 1)
    assert asked == views * len(load_split(prepared, "train"))
    assert other_asked * views == 3 * asked


@pytest.mark.parametrize("name", [name for name in sorted(LOSSES) if not build(LOSSES, tiny.loss_spec(name), SHAPES, SHAPES).pairs])
def test_every_loss_that_reads_logits_alone_teaches_the_same_from_known_answers(name, prepared, monkeypatch) -> None:
    more = {"epochs": 2, "batch_size": 18, "precision": 64}
    (_, weights, asked), (_, others, other_asked) = both("mlp", tiny.loss_spec(name), prepared, more, monkeypatch)
    assert all(torch.allclose(value, others[key], rtol=1e-12, atol=1e-12) for key, value in weights.items())
    assert 2 * asked == other_asked


def both(student: str, loss: Spec, prepared: Path, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Losses, weights and the number of images that the teacher was asked about: with answers known beforehand, and without."""
    found = []
    for _ in range(2):
        torch.manual_seed(1)
        model = tiny.trained(student).train()
        module = Classifier(model, FIT.model_copy(update=more), Taught(model, Counting(tiny.trained()), loss, (1, 8, 8)))
        found.append((trained(module, prepared, **more), module.model.state_dict(), module.objective.teacher.asked))
        monkeypatch.setattr(Taught, "look_ahead", lambda *_: None)
    return found


class Counting(nn.Module):
    """A teacher that counts the images it is asked about in training."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.asked = network, -1  # one blank image shows the layers' shapes

    def forward(self, images: Tensor) -> Tensor:
        self.asked += len(images)
        return self.network(images)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_mapped_tensor_holds_numbers_of_any_type(dtype) -> None:
    values = torch.randn(2, 3, 4).to(dtype)
    place = mapped((2, 3, 4), dtype)
    place[1, torch.tensor([2, 0])] = values[1, [2, 0]]
    assert torch.equal(place[1, [2, 0]], values[1, [2, 0]])
    assert not place[0].any()


def test_no_space_for_the_teachers_answers_costs_one_line_before_any_is_written(capsys) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(SystemExit) as ended, refusing():
            mapped((1, 1_000_000, 10), torch.float32)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("slimline: ")


SIGNALLED = """
import os, sys, torch
from pathlib import Path
import test_losses, tiny
from slimline.distillation.taught import Taught
from slimline.runtime.classifier import Classifier
from slimline.runtime.stopping import STOP, Stopped

class Signalled(torch.nn.Module):
    asked = 0
    def forward(self, images):
        self.asked += 1
        if self.asked == 3:
            os.kill(os.getpid(), 15)
        return torch.zeros(len(images), 3)

STOP.listen()
model, teacher = tiny.trained("resnet"), Signalled()
fit = test_losses.FIT.model_copy(update={"epochs": 4, "batch_size": 4})
module = Classifier(model, fit, Taught(model, teacher, tiny.loss_spec("soft_hard"), (1, 8, 8)))
try:
    test_losses.trained(module, Path(sys.argv[1]), epochs=4, batch_size=4)
except Stopped as stopped:
    print(stopped, teacher.asked, module.updates.done)
"""


def test_a_signal_while_the_teacher_is_asked_beforehand_is_heeded_at_the_next_batch(prepared) -> None:
    path = [str(Path(__file__).parent), str(Path(tiny.__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    done = subprocess.run([sys.executable, "-c", SIGNALLED, str(prepared)], capture_output=True, text=True, check=False, timeout=300, env=environment)
    assert done.stdout.strip() == "stopped by SIGTERM 3 0", done.stderr


def test_a_view_has_the_bits_of_its_epoch_whatever_the_order(prepared) -> None:
    split, augment = load_split(prepared, "train"), ({"name": "shift", "pixels": 1},)
    mix = Mixing({"name": "mixup", "alpha": 1.0}, 3)

    def seen(train: Shuffled, epochs: int) -> list[Tensor]:
        found = []
        for _ in range(epochs):
            images = torch.empty(len(split), *split.pixels.shape[1:])
            for one in train:
                images[one.samples] = one.images
            found.append(images)
        return found

    free, fixed = seen(Shuffled(split, 7, 3, augment, mix), 2), seen(Shuffled(split, 7, 3, augment, mix, views=2), 4)
    assert torch.equal(fixed[0], free[0])
    assert torch.equal(fixed[1], free[1])
    assert torch.equal(fixed[2], fixed[0])
    assert torch.equal(fixed[3], fixed[1])
    ahead = list(Shuffled(split, 7, 3, augment, mix, views=2).every_view())
    for one in ahead:
        assert torch.equal(one.images, fixed[one.view][one.samples])
