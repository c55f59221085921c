"""What every pruning criterion must keep."""

import pytest
import torch

import tiny
from slimline.models import MODELS
from slimline.pruning import CRITERIA
from slimline.registry import build


@pytest.mark.parametrize("name", sorted(CRITERIA))
@pytest.mark.parametrize("model_name", sorted(MODELS))
def test_a_criterion_scores_every_weight_in_its_shape_and_touches_none(name, model_name) -> None:
    model = tiny.trained(model_name)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    scores = build(CRITERIA, {"name": name}, model)
    wanted = {key: p.shape for key, p in model.named_parameters() if p.ndim > 1}
    assert {key: score.shape for key, score in scores.items()} == wanted
    assert all(torch.isfinite(score).all() and not score.requires_grad for score in scores.values())
    assert all(len(score.unique()) > 1 for score in scores.values())
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", sorted(CRITERIA))
def test_a_criterion_gives_the_same_scores_again(name) -> None:
    model = tiny.trained()
    torch.manual_seed(1)
    first = build(CRITERIA, {"name": name}, model)
    torch.manual_seed(2)
    second = build(CRITERIA, {"name": name}, model)
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("p", [1, 2])
def test_magnitude_is_the_power_of_the_absolute_weight(p) -> None:
    model = tiny.trained()
    scores = build(CRITERIA, {"name": "magnitude", "p": p}, model)
    weight = model.network.classifier.weight.detach()
    assert torch.allclose(scores["network.classifier.weight"], weight.abs() if p == 1 else weight * weight)


def test_random_scores_change_with_their_seed_and_not_with_the_weights() -> None:
    first, other = (build(CRITERIA, {"name": "random", "seed": seed}, tiny.trained()) for seed in (0, 1))
    assert not torch.equal(first["network.classifier.weight"], other["network.classifier.weight"])
    fresh = tiny.trained()
    with torch.no_grad():
        fresh.network.classifier.weight.zero_()
    assert torch.equal(build(CRITERIA, {"name": "random"}, fresh)["network.classifier.weight"], first["network.classifier.weight"])
