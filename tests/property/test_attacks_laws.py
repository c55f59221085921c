"""What every attack must keep, over the table."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import tiny
from slimline.attacks import ATTACKS
from slimline.attacks.attack import Attack, Victim
from slimline.attacks.measures import DISTANCES, LARGEST, distance
from slimline.core.batch import Batch
from slimline.registry import build, find, parameters_of

NORMED = [name for name in sorted(ATTACKS) if "norm" in parameters_of(find(ATTACKS, name))]
ALL = [*sorted(ATTACKS), *(f"{name} l2" for name in NORMED)]
"""Every attack, and those that know norms once more within L2."""
EACH = pytest.mark.parametrize("name", ALL)
SHAPES = ((1, 8, 8), (3, 5, 7))
BUDGETS = {"linf": 0.3, "l2": 3.0, "components": 0.5, "deviation": 0.5, "severity": 5.0}
"""With which every attack changes something."""


def attack(name: str) -> Attack:
    plain, _, norm = name.partition(" ")
    made: Attack = build(ATTACKS, {"name": plain, **tiny.ATTACK.get(plain, {}), **({"norm": norm} if norm else {})})
    return made


class Small(nn.Module):
    """A convolution, a pool and a classifier with weights of their own seed, centred so that every class is the answer to some image."""

    def __init__(self, shape: tuple[int, int, int], seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.conv, self.classifier = nn.Conv2d(shape[0], 6, 3, padding=1), nn.Linear(6, 3)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            self.classifier.bias -= self(torch.rand(64, *shape, generator=generator)).mean(0)
        self.requires_grad_(requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.relu(self.conv(x - 0.5)).mean((2, 3)))


def batch_of(victim: Victim, shape: tuple[int, int, int], count: int = 12, seed: int = 3) -> Batch:
    """Images that the victim has right, with a stretch at each end of the range."""
    images = (torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed)) * 1.4 - 0.2).clamp(0, 1)
    return Batch(images, victim.labels(images), torch.arange(count) * 7)


def victim_of(shape: tuple[int, int, int] = SHAPES[0]) -> Victim:
    return Victim(Small(shape), surrogate=Small(shape, seed=5))


def part(batch: Batch, places: Any) -> Batch:
    return Batch(batch.images[places], batch.labels[places], batch.samples[places])


@EACH
@pytest.mark.parametrize("shape", SHAPES)
@given(seed=st.integers(0, 2**32 - 1), shares=st.lists(st.floats(0, 1), min_size=1, max_size=3))
def test_images_stay_within_their_budget_and_range_and_what_was_given_is_not_touched(name, shape, seed, shares) -> None:
    method, victim = attack(name), victim_of(shape)
    batch = batch_of(victim, shape, count=4)
    before = batch.images.clone()
    budgets = [share * BUDGETS[method.measure] for share in shares]
    changed = method(victim, batch, budgets, seed)
    assert torch.equal(batch.images, before)
    assert len(changed) == len(budgets)
    for images, budget in zip(changed, budgets, strict=True):
        assert images.shape == before.shape
        assert images.dtype == torch.float32
        assert not images.requires_grad
        assert bool(((images >= 0) & (images <= 1)).all())
        if method.measure in DISTANCES:
            assert bool((distance(method.measure, images - before) <= budget + 1e-5).all())


@EACH
def test_a_budget_of_zero_changes_nothing_and_a_large_one_does(name) -> None:
    method, victim = attack(name), victim_of()
    batch = batch_of(victim, SHAPES[0])
    none, much = method(victim, batch, [0.0, BUDGETS[method.measure]], 0)
    assert torch.equal(none, batch.images)
    assert not torch.equal(much, batch.images)
    assert BUDGETS[method.measure] <= LARGEST[method.measure]


@EACH
def test_the_seed_decides_all_that_is_drawn_and_nothing_is_drawn_from_others(name) -> None:
    method, victim = attack(name), victim_of()
    batch = batch_of(victim, SHAPES[0])
    budgets = [BUDGETS[method.measure] / 3]
    torch.manual_seed(1)
    (first,) = method(victim, batch, budgets, 4)
    torch.manual_seed(2)
    expected = torch.rand(())
    torch.manual_seed(2)
    (second,) = method(victim, batch, budgets, 4)
    assert torch.equal(torch.rand(()), expected)
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", ["pgd", "pgd l2", "transfer", "square", "hop_skip_jump", "gaussian_noise", "impulse_noise"])
def test_another_seed_draws_other_numbers(name) -> None:
    method, victim = attack(name), victim_of()
    batch = batch_of(victim, SHAPES[0])
    first, second = (method(victim, batch, [BUDGETS[method.measure]], seed)[0] for seed in (0, 1))
    assert not torch.equal(first, second)


@EACH
def test_how_images_are_divided_into_batches_changes_nothing_but_rounding(name) -> None:
    method, victim = attack(name), victim_of()
    batch = batch_of(victim, SHAPES[0])
    budgets = [BUDGETS[method.measure] / 3]
    (whole,) = method(victim, batch, budgets, 4)
    pieces = torch.cat([method(victim, part(batch, places), budgets, 4)[0] for places in torch.arange(12).split([5, 1, 6])])
    assert float((whole - pieces).abs().max()) < 1e-3


@EACH
def test_an_attack_sees_no_more_than_it_says(name) -> None:
    """Its victim's other faces raise; behind `label` there are answers alone."""
    method, full = attack(name), victim_of()

    def closed(_: Tensor) -> Tensor:
        raise AssertionError(f"{name} looked at what it may not see")

    def answers(images: Tensor) -> Tensor:
        return nn.functional.one_hot(full.labels(images), 3).float()

    seen = Victim(closed, closed, closed)
    allowed = {
        "gradient": replace(seen, network=full.network),
        "surrogate": replace(seen, surrogate=full.surrogate),
        "scores": replace(seen, deployed=full.network),
        "label": replace(seen, deployed=answers),
        "nothing": seen,
    }[method.access]
    batch, budgets = batch_of(full, SHAPES[0]), [BUDGETS[method.measure]]
    assert torch.equal(method(allowed, batch, budgets, 2)[0], method(full, batch, budgets, 2)[0])


@EACH
def test_no_gradient_is_left_in_the_network_and_its_mode_is_kept(name) -> None:
    method, victim = attack(name), victim_of()
    assert isinstance(victim.network, nn.Module)
    victim.network.requires_grad_()
    method(victim, batch_of(victim, SHAPES[0]), [BUDGETS[method.measure]], 0)
    assert all(p.grad is None and p.requires_grad for p in victim.network.parameters())


@pytest.mark.parametrize("name", [name for name in ALL if attack(name).access in ("gradient", "scores", "label")])
def test_an_attack_that_sees_its_victim_fools_it(name) -> None:
    method, victim = attack(name), victim_of()
    batch = batch_of(victim, SHAPES[0])
    (changed,) = method(victim, batch, [BUDGETS[method.measure]], 0)
    assert float((victim.labels(changed) != batch.labels).float().mean()) >= 0.5


@pytest.mark.parametrize("name", [name for name in ALL if attack(name).access == "gradient"])
def test_of_a_linear_network_a_larger_budget_fools_no_fewer_images(name) -> None:
    method = attack(name)
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(3, 64, generator=generator)
    victim = Victim(lambda images: (images - 0.5).flatten(1) @ weight.T)
    batch = batch_of(victim, SHAPES[0], count=40)
    budgets = [share * BUDGETS[method.measure] for share in (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)]
    fooled = [int((victim.labels(images) != batch.labels).sum()) for images in method(victim, batch, budgets, 0)]
    assert fooled[0] == 0
    assert fooled == sorted(fooled)
    assert fooled[-1] > 30
