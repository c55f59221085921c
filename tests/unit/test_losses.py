"""What every distillation loss must keep, and the teacher beside it."""

import os
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
from slimline.data.prepared import load_split
from slimline.data.shuffled import Mixing, Shuffled
from slimline.distillation import LOSSES
from slimline.distillation.layers import overheard, shapes
from slimline.distillation.loss import Loss, Response
from slimline.distillation.soft_hard import soft_hard
from slimline.distillation.taught import Taught, mapped
from slimline.errors import SlimlineError
from slimline.params.fit import Fit
from slimline.params.hardware import Hardware
from slimline.registry import build
from slimline.runtime.classifier import Classifier
from slimline.runtime.fit import fit
from slimline.runtime.settings import Settings
from slimline.tracking.memory import MemoryTracker

ALL = pytest.mark.parametrize("name", sorted(LOSSES))
LABELS = torch.tensor([0, 1, 2, 3, 0])
STUDENT, TEACHER = {"early": (3, 4, 4), "late": (6, 2, 2)}, {"early": (5, 4, 4), "late": (8, 2, 2)}
"""Layers of two networks, and what each answers to an image."""


def response(shapes: dict[str, tuple[int, ...]], seed: int, size: float = 3.0) -> Response:
    """Numbers in the place of a network's answers."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> Tensor:
        return size * torch.randn(len(LABELS), *shape, dtype=torch.float64, generator=generator)

    return Response(numbers(4), {name: numbers(*shape) for name, shape in shapes.items()})


def made(name: str) -> Loss:
    torch.manual_seed(0)
    loss: Loss = build(LOSSES, tiny.loss_spec(name), STUDENT, TEACHER)
    return loss.double()


def student(seed: int, size: float = 3.0) -> Response:
    return response(STUDENT, seed, size)


def teacher(seed: int, size: float = 3.0) -> Response:
    return response(TEACHER, seed, size)


def as_inputs(response: Response) -> list[Tensor]:
    return [response.logits.requires_grad_(), *(values.requires_grad_() for values in response.layers.values())]


def as_response(logits: Tensor, *layers: Tensor) -> Response:
    return Response(logits, dict(zip(STUDENT, layers, strict=True)))


@ALL
@pytest.mark.parametrize("size", [0.0, 1.0, 1e4])
def test_a_loss_is_one_finite_number_that_is_not_negative(name, size) -> None:
    loss = made(name).float()
    own, theirs = (Response(r.logits.float(), {k: v.float() for k, v in r.layers.items()}) for r in (student(1, size), teacher(2, size)))
    value = loss(own, theirs, LABELS)
    assert value.shape == ()
    assert torch.isfinite(value)
    assert value >= 0


@ALL
def test_a_loss_has_the_gradient_of_its_values(name) -> None:
    loss = made(name)
    inputs = as_inputs(student(1))
    assert torch.autograd.gradcheck(lambda *values: loss(as_response(*values), teacher(2), LABELS), inputs)


@ALL
def test_a_loss_falls_when_the_student_follows_its_gradient(name) -> None:
    loss, inputs = made(name), as_inputs(student(1))
    before = loss(as_response(*inputs), teacher(2), LABELS)
    gradients = torch.autograd.grad(before, inputs, allow_unused=True)
    length = sum(float(g.square().sum()) for g in gradients if g is not None) ** 0.5
    moved = [x.detach() if g is None else x.detach() - 1e-3 / length * g for x, g in zip(inputs, gradients, strict=True)]
    assert loss(as_response(*moved), teacher(2), LABELS) < before


@ALL
def test_the_teacher_makes_a_difference(name) -> None:
    loss = made(name)
    assert loss(student(1), teacher(2), LABELS) != loss(student(1), teacher(3), LABELS)


@ALL
def test_order_within_the_batch_does_not_matter(name) -> None:
    loss, order = made(name), torch.tensor([3, 0, 4, 1, 2])

    def turned(response: Response) -> Response:
        return Response(response.logits[order], {key: values[order] for key, values in response.layers.items()})

    assert torch.isclose(loss(student(1), teacher(2), LABELS), loss(turned(student(1)), turned(teacher(2)), LABELS[order]))


@ALL
def test_what_a_loss_learns_is_its_own_and_trained_beside_the_student(name, prepared) -> None:
    torch.manual_seed(1)
    model = tiny.trained("resnet").train()
    spec = tiny.loss_spec(name)
    module = Classifier(model, FIT, Taught(model, tiny.trained("mobilenet"), spec, (1, 8, 8)))
    before = {key: value.clone() for key, value in module.objective.state_dict().items()}
    names = set(model.state_dict())
    trained(module, prepared)
    assert set(module.model.state_dict()) == names
    assert all(not torch.equal(value, before[key]) for key, value in module.objective.named_parameters())


FIT = Fit.model_validate({"epochs": 2, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.01}, "schedule": {"name": "constant"}})


def trained(module: Classifier, prepared: Path, **changes: Any) -> list[float]:
    fit(
        module, prepared, FIT.model_copy(update=changes), Settings(0, Hardware(threads=1, accelerator="cpu")), tracker=MemoryTracker(), name="student"
    )
    return [row.train_loss for row in module.history]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_soft_targets_alone_are_met_best_by_the_teachers_own_logits(temperature) -> None:
    theirs = teacher(2).logits
    ours = theirs.clone().requires_grad_()
    loss = soft_hard(ours, theirs, LABELS, temperature=temperature, alpha=1.0)
    loss.backward()
    assert ours.grad is not None
    assert abs(loss.item()) < 1e-12
    assert ours.grad.abs().max() < 1e-12
    for seed in range(5):
        assert soft_hard(theirs + 0.1 * teacher(seed + 10).logits, theirs, LABELS, temperature=temperature, alpha=1.0) > 1e-6


def test_the_formula_is_the_papers() -> None:
    ours, theirs = student(1).logits, teacher(2).logits
    p, q = (theirs / 3).softmax(1), (ours / 3).softmax(1)
    soft = (p * (p / q).log()).sum(1).mean()
    hard = -ours.log_softmax(1)[torch.arange(5), LABELS].mean()
    assert torch.isclose(soft_hard(ours, theirs, LABELS, temperature=3.0, alpha=0.7), 0.7 * 9 * soft + 0.3 * hard)


def test_the_soft_terms_gradient_keeps_its_size_when_the_temperature_changes() -> None:
    gradients = []
    for temperature in (5.0, 10.0, 40.0):
        ours = student(1, 0.1).logits.requires_grad_()
        soft_hard(ours, teacher(2, 0.1).logits, LABELS, temperature=temperature, alpha=1.0).backward()
        gradients.append(ours.grad)
    assert torch.allclose(gradients[0], gradients[2], rtol=0.1, atol=1e-4)
    assert torch.allclose(gradients[1], gradients[2], rtol=0.05, atol=1e-4)


def test_a_sum_is_the_weighted_sum_of_its_terms() -> None:
    terms = [[2.0, tiny.loss_spec("soft_hard")], [0.25, {"name": "soft_hard", "temperature": 1.0, "alpha": 1.0}]]
    whole = build(LOSSES, {"name": "sum", "terms": terms}, STUDENT, TEACHER)
    parts = [weight * build(LOSSES, spec, STUDENT, TEACHER)(student(1), teacher(2), LABELS) for weight, spec in terms]
    assert torch.isclose(whole(student(1), teacher(2), LABELS), parts[0] + parts[1])


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"name": "soft_hard", "temperature": 0.0, "alpha": 0.5}, "temperature"),
        ({"name": "soft_hard", "temperature": 1.0, "alpha": 1.5}, "alpha"),
        ({"name": "sum", "terms": []}, "terms"),
        ({"name": "sum", "terms": [[0.0, {"name": "soft_hard", "temperature": 1.0, "alpha": 1.0}]]}, "terms"),
        ({"name": "sum", "terms": [[1.0, {"name": "soft_hard", "temperature": -1.0, "alpha": 1.0}]]}, "temperature"),
    ],
)
def test_an_impossible_parameter_is_refused(spec, told) -> None:
    with pytest.raises(SlimlineError, match=told):
        build(LOSSES, spec, STUDENT, TEACHER)


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
    def run() -> tuple[list[float], dict[str, Tensor], int]:
        torch.manual_seed(1)
        model = tiny.trained("resnet").train()
        module = Classifier(model, FIT.model_copy(update=more), Taught(model, Counting(tiny.trained()), tiny.loss_spec("soft_hard"), (1, 8, 8)))
        return trained(module, prepared, **more), module.model.state_dict(), module.objective.teacher.asked

    more = {"epochs": 6, **changes}
    losses, weights, asked = run()
    monkeypatch.setattr(Taught, "look_ahead", lambda *_: None)
    other_losses, other_weights, other_asked = run()
    assert losses == pytest.approx(other_losses, rel=1e-5)
    assert all(torch.allclose(value, other_weights[key], rtol=1e-4, atol=1e-5) for key, value in weights.items())
    views = changes.get("views", 1)
    assert asked == views * len(load_split(prepared, "train"))
    assert other_asked * views == 6 * asked


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


FULL = """
import resource, torch
from slimline.distillation.taught import mapped
from slimline.runtime.refusal import refusing
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
with refusing():
    mapped((1, 1_000_000, 10), torch.float32)
"""


def test_no_space_for_the_teachers_answers_costs_one_line_before_any_is_written() -> None:
    done = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
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
    done = subprocess.run([sys.executable, "-c", SIGNALLED, str(prepared)], capture_output=True, text=True, check=False, timeout=60, env=environment)
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
