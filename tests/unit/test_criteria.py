"""What every pruning criterion must keep, and what each of them says where it can be worked out by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tiny
from slimline.core.batch import Batch
from slimline.errors import SlimlineError
from slimline.models import MODELS
from slimline.pruning import CRITERIA
from slimline.registry import build

CRITERION = pytest.mark.parametrize("name", sorted(CRITERIA))
LOOKING = ("gradient", "taylor", "second_order")
"""Criteria that look at images."""
NORMED = [name for name in sorted(MODELS) if any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in tiny.trained(name).modules())]


def batches(sizes: tuple[int, ...] = (7, 5), *, classes: int = 3) -> list[Batch]:
    """The same twelve images in batches of these sizes."""
    generator = torch.Generator().manual_seed(5)
    images, labels = torch.rand(12, 1, 8, 8, generator=generator), torch.randint(0, classes, (12,), generator=generator)
    parts = zip(images.split(sizes), labels.split(sizes), torch.arange(12).split(sizes), strict=True)
    return [Batch(*part) for part in parts]


def scores_of(name: str, model: nn.Module, *, of: list[Batch] | None = None, **parameters) -> dict[str, Tensor]:
    return build(CRITERIA, {"name": name, **parameters}, model, batches() if of is None else of)


def scored(name: str, model: nn.Module) -> set[str]:
    """What a criterion has to score: channels by their batch norms, or every weight."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d) if name == "batch_norm" else (nn.Conv2d, nn.Linear)
    return {f"{layer}.weight" for layer, module in model.named_modules() if isinstance(module, kinds)}


@CRITERION
@pytest.mark.parametrize("model_name", sorted(MODELS))
def test_a_criterion_scores_every_weight_in_its_shape_and_touches_nothing(name, model_name) -> None:
    if name == "batch_norm" and model_name not in NORMED:
        pytest.skip("no batch norm")
    model = tiny.trained(model_name).train()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    scores = scores_of(name, model)
    parameters = dict(model.named_parameters())
    assert set(scores) == scored(name, model)
    assert all(score.shape == parameters[key].shape for key, score in scores.items())
    assert all(bool(torch.isfinite(score).all()) and not score.requires_grad for score in scores.values())
    assert all(bool((score >= 0).all()) for score in scores.values())
    assert any(len(score.unique()) > 1 for score in scores.values())
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert model.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@CRITERION
def test_a_criterion_gives_the_same_scores_again_and_draws_nothing_from_others(name) -> None:
    model = tiny.trained()
    torch.manual_seed(1)
    first = scores_of(name, model)
    torch.manual_seed(2)
    expected = torch.rand(())
    torch.manual_seed(2)
    second = scores_of(name, model)
    assert torch.equal(torch.rand(()), expected)
    assert all(torch.equal(first[key], second[key]) for key in first)


@CRITERION
def test_how_images_are_divided_into_batches_changes_no_score_but_by_rounding(name) -> None:
    model = tiny.trained()
    first = scores_of(name, model)
    for sizes in ((12,), (1, 3, 8), (1,) * 12):
        other = scores_of(name, model, of=batches(sizes))
        assert all(torch.allclose(first[key], other[key], rtol=1e-3, atol=1e-3 * float(first[key].max())) for key in first)


@CRITERION
def test_only_criteria_with_gradients_look_at_images(name) -> None:
    model = tiny.trained()
    if name in LOOKING:
        with pytest.raises(SlimlineError, match=r"needs images.*prune\.calibration"):
            scores_of(name, model, of=[])
        all_of_them, some = scores_of(name, model), scores_of(name, model, of=batches()[:1])
        assert any(not torch.equal(all_of_them[key], some[key]) for key in some)
    else:
        first = scores_of(name, model)
        assert all(torch.equal(score, first[key]) for key, score in scores_of(name, model, of=[]).items())


@pytest.mark.parametrize("p", [1, 2])
def test_magnitude_is_the_power_of_the_absolute_weight(p) -> None:
    model = tiny.trained()
    weight = model.network.classifier.weight.detach()
    scores = scores_of("magnitude", model, p=p)
    assert torch.allclose(scores["network.classifier.weight"], weight.abs() if p == 1 else weight * weight)


@pytest.mark.parametrize("value", [0.1, 0.25])
def test_what_is_below_the_threshold_scores_below_one(value) -> None:
    model = tiny.trained()
    scores = scores_of("threshold", model, value=value)["network.classifier.weight"]
    assert torch.equal(scores < 1, model.network.classifier.weight.detach().abs() < value)


def linear(weight: list[list[float]]) -> nn.Module:
    """Images of two pixels to two logits."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor(weight))
    return model


def two_pixels() -> Batch:
    return Batch(torch.tensor([[[[1.0, 2.0]]], [[[0.5, -1.0]]], [[[3.0, 0.0]]]]), torch.tensor([0, 1, 1]), torch.arange(3))


def slopes(model: nn.Module, batch: Batch) -> Tensor:
    """Of softmax regression by its formula: each image's (p - y) xᵀ."""
    x = batch.images.flatten(1)
    return torch.einsum("ni,nj->nij", model(batch.images).detach().softmax(1) - F.one_hot(batch.labels, 2), x).double()


def test_gradient_taylor_and_second_order_are_their_formulas_on_softmax_regression() -> None:
    model, batch = linear([[0.3, -0.7], [0.2, 0.9]]), two_pixels()
    each, weight = slopes(model, batch), model[1].weight.detach().double()
    expected = {
        "gradient": each.mean(0).abs(),
        "taylor": (each.mean(0) * weight).abs(),
        "second_order": each.square().mean(0) * weight.square() / 2,
    }
    for name, formula in expected.items():
        assert torch.allclose(scores_of(name, model, of=[batch])["1.weight"], formula, rtol=1e-5), name


def test_first_order_scores_say_how_the_loss_changes_when_a_small_weight_goes() -> None:
    model, batch = linear([[0.01, -0.7], [0.2, 0.9]]), two_pixels()
    score = float(scores_of("taylor", model, of=[batch])["1.weight"][0, 0])
    before = F.cross_entropy(model(batch.images), batch.labels)
    with torch.no_grad():
        model[1].weight[0, 0] = 0.0
    assert score == pytest.approx(abs(float((F.cross_entropy(model(batch.images), batch.labels) - before).detach())), rel=0.05)


def test_the_criterion_batch_norm_is_the_scales_of_batch_norms() -> None:
    model = tiny.trained("resnet")
    with torch.no_grad():
        model.network.stem[1].weight[0] = -3.0
    scores = scores_of("batch_norm", model)
    assert torch.equal(scores["network.stem.1.weight"], model.network.stem[1].weight.detach().abs())


def test_a_model_without_batch_norms_is_refused_by_their_criterion() -> None:
    with pytest.raises(SlimlineError, match="needs batch norms, and the model has none"):
        scores_of("batch_norm", tiny.trained("lenet5"))


def test_the_filter_at_the_geometric_median_scores_least() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([-3.0, 0.5, 1.0, 9.0]).reshape(4, 1, 1, 1))
    assert torch.allclose(scores_of("geometric_median", model)["0.weight"].flatten(), torch.tensor([19.5, 12.5, 12.5, 28.5], dtype=torch.float64))


def test_random_scores_change_with_their_seed_and_not_with_the_weights() -> None:
    first, other = (scores_of("random", tiny.trained(), seed=seed) for seed in (0, 1))
    assert not torch.equal(first["network.classifier.weight"], other["network.classifier.weight"])
    fresh = tiny.trained()
    with torch.no_grad():
        fresh.network.classifier.weight.zero_()
    assert torch.equal(scores_of("random", fresh)["network.classifier.weight"], first["network.classifier.weight"])


@pytest.mark.parametrize("name", LOOKING)
def test_a_network_whose_gradients_are_no_numbers_is_refused_by_the_layers_name(name) -> None:
    model = linear([[float("nan"), 1.0], [1.0, 1.0]])
    with pytest.raises(SlimlineError, match=r"'1\.weight' has an infinite or undefined gradient"):
        scores_of(name, model, of=[two_pixels()])


class Undecided(nn.Module):
    """Looks at values."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x.flatten(1))
        return y if y.sum() > 0 else -y


def test_a_network_whose_images_cannot_be_told_apart_is_refused_with_another_criterion() -> None:
    assert scores_of("taylor", Undecided(), of=[two_pixels()])
    with pytest.raises(SlimlineError, match="take the criterion taylor"):
        scores_of("second_order", Undecided(), of=[two_pixels()])


@CRITERION
def test_layers_that_share_a_weight_and_models_without_any_are_refused(name) -> None:
    if name == "batch_norm":
        pytest.skip("it scores norms")
    tied = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    tied[2].weight = tied[1].weight
    with pytest.raises(SlimlineError, match="layers '1' and '2' share one weight"):
        scores_of(name, tied, of=[two_pixels()])
    with pytest.raises(SlimlineError, match="no prunable layer"):
        scores_of(name, nn.Sequential(nn.Flatten(), nn.ReLU()), of=[two_pixels()])
