"""What attacks do where it can be worked out by hand, and what they do to quantized networks and to weak defences."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits
from torch import Tensor

import tiny
from slimline.attacks import ATTACKS
from slimline.attacks.ascent import slope
from slimline.attacks.attack import AT_ONCE, Attack, Victim
from slimline.attacks.balls import BALLS
from slimline.attacks.margin import margin
from slimline.attacks.measures import DISTANCES, distance, unbounded
from slimline.core.batch import Batch
from slimline.core.binary import Binarization, binary, clip_latent, learn, settle_binary
from slimline.core.draws import Draws
from slimline.errors import SlimlineError
from slimline.export.xnor import XnorModel
from slimline.models.network import network
from slimline.quantization.binarize import binarization, widths
from slimline.quantization.bits import Choice
from slimline.quantization.calibrate import calibrated, plan
from slimline.registry import build

SHAPE = (1, 2, 3)
WEIGHT = torch.tensor([[1.0, -2.0, 0.5, 0.0, 3.0, -1.0], [-1.0, 1.0, 1.5, 2.0, -0.5, 0.0]])


def attack(name: str, **parameters) -> Attack:
    made: Attack = build(ATTACKS, {"name": name, **tiny.ATTACK.get(name, {}), **parameters})
    return made


def linear(images: Tensor) -> Tensor:
    """Two classes of six pixels: the first one leads by (w_0 - w_1)·(x - ½)."""
    return (images - 0.5).flatten(1) @ WEIGHT.T


def in_the_middle(count: int = 8) -> Batch:
    """Images far enough from the edges of the range that nothing is clipped."""
    images = 0.4 + 0.2 * torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(4))
    return Batch(images, linear(images).argmax(1), torch.arange(count))


LEAD = (WEIGHT[0] - WEIGHT[1]).view(SHAPE)


def lost(batch: Batch) -> Tensor:
    """The direction in which the right class loses its lead."""
    return torch.where(batch.labels == 0, -1.0, 1.0)[:, None, None, None] * LEAD


@pytest.mark.parametrize("name", ["fgsm", "bim", "pgd"])
def test_on_a_linear_softmax_steps_along_the_sign_reach_the_best_change_there_is(name) -> None:
    batch, epsilon = in_the_middle(), 0.1
    more = {"steps": 30, "step": 0.1} if name == "pgd" else {}
    (changed,) = attack(name, **more)(Victim(linear), batch, [epsilon], 0)
    assert torch.allclose(changed, batch.images + epsilon * lost(batch).sign(), atol=1e-6)


def test_on_a_linear_softmax_a_step_of_length_epsilon_lowers_the_lead_by_epsilon_times_its_norm() -> None:
    batch, epsilon = in_the_middle(), 0.15
    (changed,) = attack("fgsm", norm="l2")(Victim(linear), batch, [epsilon], 0)
    fallen = margin(linear(batch.images), batch.labels) - margin(linear(changed), batch.labels)
    assert torch.allclose(fallen, torch.full_like(fallen, epsilon * float(LEAD.norm())), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "parameters", "slack"),
    [
        ("carlini_wagner", {"steps": 400, "searches": 8, "lr": 0.02, "constant": 0.05}, 1.03),
        ("hop_skip_jump", {"iterations": 25, "questions": 100, "tries": 30}, 1.03),
        ("pgd", {"norm": "l2", "steps": 40, "step": 0.1}, None),
    ],
)
def test_the_nearest_image_beyond_a_plane_is_as_far_as_the_plane(name, parameters, slack) -> None:
    """|(w_0 - w_1)·(x - ½)| / ‖w_0 - w_1‖."""
    batch = in_the_middle()
    away = margin(linear(batch.images), batch.labels) / LEAD.norm()
    if slack is None:  # within a given distance instead
        for part in range(len(away)):
            one = Batch(*(values[part : part + 1] for values in batch[:3]))
            near, far = attack(name, **parameters)(Victim(linear), one, [0.98 * float(away[part]), 1.02 * float(away[part])], 0)
            assert bool(linear(near).argmax(1) == one.labels)
            assert bool(linear(far).argmax(1) != one.labels)
        return
    (found,) = attack(name, **parameters)(Victim(linear), batch, [10.0], 0)
    assert bool((linear(found).argmax(1) != batch.labels).all())
    far = distance("l2", found - batch.images)
    assert bool((far >= away * (1 - 1e-5)).all())
    assert bool((far <= away * slack + 1e-3).all())


def test_jsma_moves_the_pair_of_the_largest_product_first() -> None:
    """Of class 0 aimed at 1: α_i = w_1i, β_i = w_0i, and of all pairs with α > 0 > β the largest -αβ."""
    images = torch.full((1, *SHAPE), 0.1)
    batch = Batch(images, torch.tensor([0]), torch.tensor([0]))
    bias = torch.tensor([5.0, 0.0])  # so much that one pair is not enough
    (changed,) = attack("jsma")(Victim(lambda x: linear(x) + bias), batch, [2 / 6], 0)
    pairs = [(p, q) for p in range(6) for q in range(p)]
    alpha, beta = ([float(WEIGHT[row, p] + WEIGHT[row, q]) for p, q in pairs] for row in (1, 0))
    products = [-a * b if a > 0 > b else 0.0 for a, b in zip(alpha, beta, strict=True)]
    best = pairs[int(np.argmax(products))]
    assert {int(place) for place in (changed != images).flatten().nonzero()} == set(best)
    assert bool((changed.flatten()[list(best)] == 1).all())


def test_jsma_stops_where_the_network_errs_and_where_no_pair_is_left() -> None:
    images = torch.full((1, *SHAPE), 0.5)
    batch = Batch(images, torch.tensor([0]), torch.tensor([0]))
    (changed,) = attack("jsma", theta=0.25)(Victim(lambda x: linear(x) + torch.tensor([0.1, 0.0])), batch, [1.0], 0)
    assert int((changed != images).sum()) == 2
    # Every pixel speaks for the class that is right: brighter ones are of no use, darker ones are.
    speaks = torch.tensor([[1.0] * 6, [-1.0] * 6])

    def one_sided(x: Tensor) -> Tensor:
        return x.flatten(1) @ speaks.T + torch.tensor([-2.0, 2.0])

    (brighter,) = attack("jsma")(Victim(one_sided), batch, [1.0], 0)
    (darker,) = attack("jsma", direction="darker")(Victim(one_sided), batch, [1.0], 0)
    assert torch.equal(brighter, images)
    assert bool(one_sided(darker).argmax(1) == 1)


def test_the_slope_is_that_of_each_images_own_loss() -> None:
    batch = in_the_middle()
    probabilities = linear(batch.images).softmax(1)
    expected = (probabilities - F.one_hot(batch.labels, 2)) @ WEIGHT
    assert torch.allclose(slope(linear, batch.images, batch.labels).flatten(1), expected, atol=1e-6)


def test_the_margin_is_the_lead_over_the_best_other_class() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.5], [0.0, 4.0, -1.0]])
    assert margin(logits, torch.tensor([0, 2])).tolist() == [0.5, -5.0]


@pytest.mark.parametrize("name", sorted(BALLS))
def test_starts_fill_the_ball_and_projections_end_on_it(name) -> None:
    ball, samples = BALLS[name], torch.arange(4000)
    starts = ball.start(Draws(0, 0, "test"), samples, SHAPE)
    sizes = distance(name, starts)
    assert float(sizes.max()) <= 1
    # In d dimensions a share r^d of a ball lies within r.
    assert float((sizes < 0.5 ** (1 / 6)).float().mean()) == pytest.approx(0.5, abs=0.03)
    assert float(starts.mean().abs()) < 0.02
    assert torch.equal(ball.project(starts, 2.0), starts)
    assert torch.allclose(distance(name, ball.project(3 * starts[sizes > 0.4], 1.0)), torch.ones(int((sizes > 0.4).sum())), atol=1e-6)
    assert torch.equal(ball.direction(torch.zeros(1, *SHAPE)), torch.zeros(1, *SHAPE))


def test_distances_and_the_budgets_that_reach_every_image() -> None:
    change = torch.tensor([0.3, 0.0, -0.4, 0.0, 0.0, 0.0]).view(1, *SHAPE)
    assert [round(float(distance(name, change)), 5) for name in ("linf", "l2", "components")] == [0.4, 0.5, round(2 / 6, 5)]
    whole = torch.ones(1, *SHAPE)
    assert all(float(distance(name, whole)) <= unbounded(name, 6) * (1 + 1e-6) for name in DISTANCES)
    assert unbounded("l2", 6) == math.sqrt(6)


@pytest.mark.parametrize("channels", [1, 3])
def test_blur_is_that_of_scipy(channels) -> None:
    images = torch.rand(2, channels, 9, 11)
    batch = Batch(images, torch.zeros(2, dtype=torch.long), torch.arange(2))
    for severity, sigma in ((1.0, 0.4), (5.0, 1.0)):
        (blurred,) = attack("gaussian_blur")(Victim(linear), batch, [severity], 0)
        expected = gaussian_filter(images.numpy(), (0, 0, sigma, sigma), mode="nearest")
        assert np.allclose(blurred.numpy(), expected, atol=1e-6)


def test_corruptions_are_as_strong_as_they_say() -> None:
    images = torch.full((64, 1, 16, 16), 0.5)
    images[:, :, :8] = 0.25
    batch = Batch(images, torch.zeros(64, dtype=torch.long), torch.arange(64))
    victim = Victim(linear)
    noisy = attack("gaussian_noise")(victim, batch, [0.05], 0)[0] - images
    assert float(noisy.std()) == pytest.approx(0.05, rel=0.02)
    hit = attack("impulse_noise")(victim, batch, [5.0], 0)[0]
    changed = hit != images
    assert float(changed.float().mean()) == pytest.approx(0.07, abs=0.006)
    assert float(hit[changed].mean()) == pytest.approx(0.5, abs=0.05)
    assert set(hit[changed].unique().tolist()) == {0.0, 1.0}
    assert torch.allclose(attack("brightness")(victim, batch, [2.5], 0)[0], images + 0.125)  # half-way between two amounts
    assert torch.allclose(attack("contrast")(victim, batch, [3.0], 0)[0], 0.4 * (images - 0.375) + 0.375)


def test_transfer_asks_for_another_network_in_one_line() -> None:
    with pytest.raises(SlimlineError, match=r"no other model of these classes.*take this attack out"):
        attack("transfer")(Victim(linear), in_the_middle(), [0.1], 0)


def test_a_transferred_change_is_that_which_fools_the_surrogate() -> None:
    batch = in_the_middle()
    (changed,) = attack("transfer", steps=30, step=0.1)(Victim(lambda x: -linear(x), surrogate=linear), batch, [0.1], 0)
    assert torch.equal(changed, attack("pgd", steps=30, step=0.1, starts=1)(Victim(linear), batch, [0.1], 0)[0])


@pytest.mark.parametrize(("name", "steps"), [("pgd", 19), ("transfer", 19), ("bim", 9)])
def test_steps_that_do_not_lead_across_the_ball_are_refused(name, steps) -> None:
    with pytest.raises(SlimlineError, match=rf"steps: found {steps} of 0\.1 of the budget"):
        build(ATTACKS, {"name": name, "steps": steps, "step": 0.1})
    build(ATTACKS, {"name": name, "steps": steps + 1, "step": 0.1})


def test_a_victim_is_asked_in_parts_and_answers_for_all() -> None:
    asked = []

    def deployed(images: Tensor) -> Tensor:
        asked.append(len(images))
        return linear(images)

    images = torch.rand(AT_ONCE + 5, *SHAPE)
    answers = Victim(linear, deployed).labels(images)
    assert asked == [AT_ONCE, 5]
    assert torch.equal(answers, linear(images).argmax(1))


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_gradients_flow_straight_through_a_quantized_network(bits) -> None:
    """Its answers are steps, whose true gradient is zero wherever there is one; the attack's is not, and it fools the network."""
    model, images = tiny.trained(), torch.rand(48, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    record, scheme = plan(model, (1, 8, 8), weight_bits=bits, activation_bits=8), {"name": "min_max"}
    network = calibrated(model, record, [images], weights=scheme, activations=scheme).eval()
    batch = Batch(images, network(images).argmax(1).detach(), torch.arange(48))
    assert float(slope(network, batch.images, batch.labels).abs().sum((1, 2, 3)).min()) > 0
    (changed,) = attack("pgd", steps=10, step=0.25)(Victim(network), batch, [0.3], 0)
    assert float((network(changed).argmax(1) != batch.labels).float().mean()) > 0.5


def test_a_network_of_one_bit_is_fooled_by_gradients_through_its_signs_and_without_any() -> None:
    """Its true gradient is zero everywhere; attacks take that which trained it, or ask the network as it runs on packed bits."""
    shape, data = (1, 8, 8), load_digits()
    images, labels = torch.tensor(data.images[:600], dtype=torch.float32)[:, None] / 16, torch.tensor(data.target[:600])
    model = network({"name": "binarynet", "hidden": [64, 64]}, shape, 10, (0.3,), (0.35,))
    model = binary(model, binarization(model, widths(model, Choice(1)), Binarization(), inputs=True))
    learn(model)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        clip_latent(p for name, p in model.named_parameters() if "norm" not in name and p.ndim == 2)
    settle_binary(model.eval())
    bits = XnorModel(model, shape, threads=1)
    victim = Victim(model, lambda images: torch.from_numpy(bits(images.contiguous().numpy())))
    right = (victim.labels(images) == labels).nonzero().flatten()[:48]
    assert len(right) == 48
    batch = Batch(images[right], labels[right], torch.arange(48))
    assert float(slope(model, batch.images, batch.labels).abs().sum((1, 2, 3)).min()) > 0

    def fooled(name: str, **parameters: object) -> float:
        (changed,) = attack(name, **parameters)(victim, batch, [0.25], 0)
        assert float((changed - batch.images).abs().max()) <= 0.25 + 1e-6
        return float((victim.labels(changed) != batch.labels).float().mean())

    by_chance = float((victim.labels((batch.images + 0.25 * torch.randn_like(batch.images).sign()).clamp(0, 1)) != batch.labels).float().mean())
    found = {"fgsm": fooled("fgsm"), "pgd": fooled("pgd", steps=20, step=0.1), "square": fooled("square", queries=100)}
    assert min(found.values()) > by_chance, (found, by_chance)
    assert found["pgd"] >= found["fgsm"] > 0.5
