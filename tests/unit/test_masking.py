"""Signs of gradient masking, on made-up results and on defences that are known to mask."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from slimline.attacks import ATTACKS
from slimline.attacks.attack import Access, Victim
from slimline.core.batch import Batch
from slimline.evaluation.masking import TESTS, signs
from slimline.evaluation.robustness import Arena, Attacked, Robustness, card, points, subset, under_attack
from slimline.evaluation.statistics import mean_interval, wilson
from slimline.registry import build

IMAGES, BUDGETS = 100, (0.1, 0.2)


def fooled(*counts: int) -> np.ndarray:
    return np.stack([np.arange(IMAGES) < count for count in counts])


def attacked(access: Access, *counts: int, one_step: bool = False, losses: tuple[float, float] = (2.0, 4.0), freely: int | None = None) -> Attacked:
    noise = np.random.default_rng(0).normal(0, 0.1, (2, IMAGES))
    loss = np.array(losses)[:, None] + noise if access == "gradient" else None
    return Attacked("linf", access, one_step, BUDGETS, fooled(*counts), loss, None if freely is None else fooled(freely)[0])


def healthy(**changes: Attacked) -> Robustness:
    attacks = {
        "fgsm": attacked("gradient", 30, 50, one_step=True),
        "pgd": attacked("gradient", 40, 80, freely=IMAGES),
        "square": attacked("scores", 35, 75),
    }
    losses = np.full(IMAGES, 0.1) + np.random.default_rng(1).normal(0, 0.01, IMAGES)
    return Robustness(np.ones(IMAGES, dtype=bool), losses, attacks | changes)


def found(of: Robustness) -> set[str]:
    return {name for name, told in signs(of, 0.95).items() if told}


def test_a_healthy_model_shows_no_sign() -> None:
    assert signs(healthy(), 0.95) == {name: [] for name in TESTS}


@pytest.mark.parametrize(
    ("changes", "sign"),
    [
        ({"fgsm": attacked("gradient", 60, 80, one_step=True)}, "one_step_beats_iterated"),
        ({"square": attacked("scores", 35, 95)}, "black_box_beats_white_box"),
        ({"transfer": attacked("surrogate", 60, 80)}, "black_box_beats_white_box"),
        ({"hop": attacked("label", 60, 80)}, "black_box_beats_white_box"),
        ({"pgd": attacked("gradient", 40, 80, freely=99)}, "unbounded_attack_fails"),
        ({"pgd": attacked("gradient", 40, 80, freely=100, losses=(4.0, 2.0))}, "loss_does_not_grow"),
        ({"pgd": attacked("gradient", 40, 80, freely=100, losses=(0.1, 0.1))}, "loss_does_not_grow"),
    ],
)
def test_each_test_finds_its_sign_and_no_other(changes, sign) -> None:
    assert found(healthy(**changes)) == {sign}


def test_a_difference_that_chance_explains_is_no_sign() -> None:
    assert found(healthy(fgsm=attacked("gradient", 42, 50, one_step=True), square=attacked("scores", 35, 83))) == set()


def test_what_was_not_tried_is_told_apart_from_what_was_not_found() -> None:
    of = healthy()
    no_queries = replace(of, attacks={name: of.attacks[name] for name in ("fgsm", "pgd")})
    assert signs(no_queries, 0.95)["black_box_beats_white_box"] is None
    assert set(signs(replace(of, attacks={"fgsm": of.attacks["fgsm"]}), 0.95).values()) == {None}
    nothing_right = Robustness(np.zeros(IMAGES, dtype=bool), of.losses, {name: replace(one, fooled=fooled(0, 0)) for name, one in of.attacks.items()})
    assert set(map(type, signs(nothing_right, 0.95).values())) == {type(None)}


def test_images_that_were_wrong_before_count_for_nothing() -> None:
    right = np.arange(IMAGES) < 50
    of = replace(healthy(), right=right)
    one = Attacked("linf", "gradient", False, BUDGETS, fooled(10, 25), of.attacks["pgd"].losses, right)
    assert found(replace(of, attacks={"pgd": one})) == set()
    rows = points(right, BUDGETS, one.fooled, 0.95)
    assert [(row["fooled"], row["accuracy"], row["success"]) for row in rows] == [(10, 0.4, 0.2), (25, 0.25, 0.5)]
    assert (rows[0]["accuracy_low"], rows[0]["accuracy_high"]) == wilson(40, IMAGES, 0.95)
    assert (rows[1]["success_low"], rows[1]["success_high"]) == wilson(25, 50, 0.95)


def test_an_image_is_lost_that_any_attack_of_the_measure_fools() -> None:
    of = healthy(square=Attacked("linf", "scores", False, BUDGETS, ~fooled(90, 90)))
    ((budgets, together),) = of.together().values()
    assert budgets == BUDGETS
    assert together.sum(1).tolist() == [50, 90]
    told = card(of, 0.95)
    assert [row["fooled"] for row in told["together"]["linf"]] == [50, 90]
    assert told["methods"]["pgd"]["fooled_without_bound"] == IMAGES
    (first, second) = under_attack({"a": of, "b": healthy()}, [("a", "b")], 0.95)
    assert (first["only_first"], first["only_second"], first["images"]) == (0, 10, IMAGES)
    assert first["high"] < 0 < second["p_value"]
    assert under_attack({}, [("a", "b")], 0.95) == []


def test_a_mean_and_its_interval_are_those_of_scipy() -> None:
    from scipy.stats import ttest_1samp

    values = np.random.default_rng(3).normal(1, 2, 30)
    interval = ttest_1samp(values, 0).confidence_interval(0.9)
    assert mean_interval(values, 0.9) == pytest.approx((values.mean(), interval.low, interval.high))


def test_the_attacked_images_are_drawn_by_the_seed() -> None:
    assert subset(5, 3, 0) == [0, 1, 2]
    assert subset(10, 100, 1) == subset(10, 100, 1) != subset(10, 100, 2)
    assert len(set(subset(50, 100, 1))) == 50


WEIGHT = torch.randn(3, 64, generator=torch.Generator().manual_seed(2))


def linear(images: Tensor) -> Tensor:
    return (images - 0.5).flatten(1) @ WEIGHT.T


def saturated(images: Tensor) -> Tensor:
    """The same answers with logits so far apart that the softmax's gradient is zero, as defensive distillation leaves them."""
    return 1e4 * linear(images)


def stepped(images: Tensor) -> Tensor:
    """The same answers nearly everywhere, on pixels in eight levels: rounding has no gradient, and none is put in its place."""
    return linear(torch.round(images * 8) / 8)


def arena(network: Any, **methods: dict[str, Any]) -> Arena:
    images = torch.rand(80, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    batch = Batch(images, network(images).argmax(1), torch.arange(80))
    attacks = {name: build(ATTACKS, spec) for name, spec in methods.items()}
    return Arena({"a": Victim(network), "b": Victim(linear)}, {"a": "b", "b": "a"}, batch, attacks, {"linf": (0.02, 0.05)}, 0, 32)


METHODS: dict[str, dict[str, Any]] = {
    "fgsm": {"name": "fgsm"},
    "pgd": {"name": "pgd", "steps": 10, "step": 0.25},
    "square": {"name": "square", "queries": 60},
}
TRANSFER = {"transfer": {"name": "transfer", "steps": 10, "step": 0.25}}


def test_a_plain_network_shows_no_sign_and_defences_that_hide_gradients_show_theirs() -> None:
    assert found(arena(linear, **METHODS, **TRANSFER).robustness("a")) == set()
    for defence in (saturated, stepped):
        of = arena(defence, **METHODS, **TRANSFER).robustness("a")
        assert {"black_box_beats_white_box", "unbounded_attack_fails"} <= found(of)
        assert of.attacks["transfer"].fooled[-1].mean() > 0.5 > of.attacks["pgd"].fooled[-1].mean()


def test_the_exported_file_judges_and_what_needs_no_victim_is_made_once() -> None:
    of = arena(linear, **TRANSFER)
    asked = []

    def surrogate(images: Tensor) -> Tensor:
        asked.append(len(images))
        return linear(images)

    of.victims = {"a": Victim(linear), "c": Victim(linear, lambda images: linear(images).flip(1)), "b": Victim(surrogate)}
    of.surrogates = {"a": "b", "c": "b", "b": "a"}
    first = of.robustness("a")
    once = len(asked)
    other = of.robustness("c")
    assert len(asked) == once > 0
    assert other.right.mean() < first.right.mean()
    assert first.attacks["transfer"].losses is None
    assert first.attacks["transfer"].freely is None
