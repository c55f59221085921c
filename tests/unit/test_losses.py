"""What every distillation loss must keep, and the teacher beside it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tiny
from slimline.distillation import LOSSES
from slimline.distillation.soft_hard import soft_hard
from slimline.distillation.taught import Taught
from slimline.errors import SlimlineError
from slimline.registry import bind

ALL = pytest.mark.parametrize("name", sorted(LOSSES))


def logits(seed: int, size: float = 3.0) -> torch.Tensor:
    return size * torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


LABELS = torch.tensor([0, 1, 2, 3, 0])


@ALL
@pytest.mark.parametrize("size", [0.0, 1.0, 1e4])
def test_a_loss_is_one_finite_number_that_is_not_negative(name, size) -> None:
    loss = bind(LOSSES, tiny.loss_spec(name))(logits(1, size).float(), logits(2, size).float(), LABELS)
    assert loss.shape == ()
    assert torch.isfinite(loss)
    assert loss >= 0


@ALL
def test_a_loss_has_the_gradient_of_its_values(name) -> None:
    loss = bind(LOSSES, tiny.loss_spec(name))
    assert torch.autograd.gradcheck(lambda student: loss(student, logits(2), LABELS), logits(1).requires_grad_())


@ALL
def test_a_loss_falls_when_the_student_follows_its_gradient(name) -> None:
    loss, student = bind(LOSSES, tiny.loss_spec(name)), logits(1).requires_grad_()
    before = loss(student, logits(2), LABELS)
    before.backward()
    assert loss(student.detach() - 0.01 * student.grad, logits(2), LABELS) < before


@ALL
def test_the_teacher_makes_a_difference(name) -> None:
    loss = bind(LOSSES, tiny.loss_spec(name))
    assert loss(logits(1), logits(2), LABELS) != loss(logits(1), logits(3), LABELS)


@ALL
def test_order_within_the_batch_does_not_matter(name) -> None:
    loss, order = bind(LOSSES, tiny.loss_spec(name)), torch.tensor([3, 0, 4, 1, 2])
    assert torch.isclose(loss(logits(1), logits(2), LABELS), loss(logits(1)[order], logits(2)[order], LABELS[order]))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_soft_targets_alone_are_met_best_by_the_teachers_own_logits(temperature) -> None:
    student = logits(2).requires_grad_()
    loss = soft_hard(student, logits(2), LABELS, temperature=temperature, alpha=1.0)
    loss.backward()
    assert student.grad is not None
    assert abs(loss.item()) < 1e-12
    assert student.grad.abs().max() < 1e-12
    for seed in range(5):
        assert soft_hard(logits(2) + 0.1 * logits(seed + 10), logits(2), LABELS, temperature=temperature, alpha=1.0) > 1e-6


def test_the_formula_is_the_papers() -> None:
    student, teacher = logits(1), logits(2)
    p, q = (teacher / 3).softmax(1), (student / 3).softmax(1)
    soft = (p * (p / q).log()).sum(1).mean()
    hard = -student.log_softmax(1)[torch.arange(5), LABELS].mean()
    ours = soft_hard(student, teacher, LABELS, temperature=3.0, alpha=0.7)
    assert torch.isclose(ours, 0.7 * 9 * soft + 0.3 * hard)


def test_the_soft_terms_gradient_keeps_its_size_when_the_temperature_changes() -> None:
    gradients = []
    for temperature in (5.0, 10.0, 40.0):
        student = logits(1, 0.1).requires_grad_()
        soft_hard(student, logits(2, 0.1), LABELS, temperature=temperature, alpha=1.0).backward()
        gradients.append(student.grad)
    assert torch.allclose(gradients[0], gradients[2], rtol=0.1, atol=1e-4)
    assert torch.allclose(gradients[1], gradients[2], rtol=0.05, atol=1e-4)


@pytest.mark.parametrize(("parameters", "told"), [({"temperature": 0.0, "alpha": 0.5}, "temperature"), ({"temperature": 1.0, "alpha": 1.5}, "alpha")])
def test_an_impossible_parameter_is_refused(parameters, told) -> None:
    with pytest.raises(SlimlineError, match=told):
        bind(LOSSES, {"name": "soft_hard", **parameters})


class Surroundings(nn.Module):
    """What trains: it puts everything in it in train mode, as Lightning does."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective


def test_the_teacher_stays_in_eval_mode_and_frozen_whatever_its_surroundings_do(images) -> None:
    teacher = tiny.trained().train()
    taught = Taught(teacher, tiny.loss_spec("soft_hard"))
    before = {key: tensor.clone() for key, tensor in teacher.state_dict().items()}
    for mode in (True, False, True):
        Surroundings(taught).train(mode)
        assert not any(module.training for module in teacher.modules())
    student = torch.randn(16, 3, requires_grad=True)
    taught(images, torch.zeros(16, dtype=torch.int64), student).backward()
    assert student.grad is not None
    assert all(not p.requires_grad and p.grad is None for p in teacher.parameters())
    assert all(torch.equal(tensor, before[key]) for key, tensor in teacher.state_dict().items())


def test_the_loss_is_taken_against_the_teachers_answer_to_the_very_same_images(images) -> None:
    teacher, student, labels = tiny.trained(), torch.randn(16, 3), torch.arange(16) % 3
    ours = Taught(teacher, {"name": "soft_hard", "temperature": 2.0, "alpha": 1.0})(images, labels, student)
    expected = 4 * F.kl_div((student / 2).log_softmax(1), (teacher(images) / 2).softmax(1), reduction="batchmean")
    assert torch.isclose(ours, expected, atol=1e-6)
