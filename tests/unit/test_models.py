"""What every network of the zoo must keep, and what is refused."""

import pytest
import torch
from torch import nn

import tiny
from slimline.core.quantized import folded
from slimline.errors import SlimlineError
from slimline.models import MODELS
from slimline.models.mlp import MLP
from slimline.models.mobilenet import MobileNet
from slimline.models.network import network
from slimline.models.resnet import ResNet
from slimline.registry import find, parameters_of

DROPPING = [name for name in sorted(MODELS) if "dropout" in parameters_of(find(MODELS, name))]
ZOO = pytest.mark.parametrize("name", tiny.shared(tiny.ZOO))


def built(spec, channels: int = 1, size: int = 8, classes: int = 3) -> nn.Module:
    return network(spec, (channels, size, size), classes, (0.4,) * channels, (0.3,) * channels)


@ZOO
@pytest.mark.parametrize(("channels", "size", "classes"), [(1, 28, 2), (3, 8, 11)])
def test_a_network_gives_one_logit_a_class_for_any_channels_size_and_batch(name, channels, size, classes) -> None:
    model = built(tiny.model_spec(name), channels, size, classes).eval()
    for batch in (1, 5):
        assert model(torch.rand(batch, channels, size, size)).shape == (batch, classes)


@pytest.mark.parametrize("name", tiny.shared(name for name in tiny.ZOO if "patch" not in tiny.model_spec(name)))
@pytest.mark.parametrize("shape", [(1, 9, 7), (3, 11, 13), (1, 8, 15)])
def test_odd_heights_and_widths_are_images_too(name, shape) -> None:
    model = network(tiny.model_spec(name), shape, 4, (0.4,) * shape[0], (0.3,) * shape[0]).eval()
    assert model(torch.rand(3, *shape)).shape == (3, 4)


@ZOO
def test_the_gradient_reaches_every_parameter(name) -> None:
    model = built(tiny.model_spec(name))
    (model(torch.rand(32, 1, 8, 8)) * torch.randn(32, 3)).sum().backward()
    assert not [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]


@ZOO
def test_a_network_can_be_traced_so_that_it_can_be_quantized(name, images) -> None:
    model = tiny.trained(name)
    assert torch.allclose(folded(model)(images), model(images), atol=1e-4)


@ZOO
def test_in_eval_mode_an_image_is_judged_alone(name, images) -> None:
    model = tiny.trained(name)
    alone = torch.cat([model(image[None]) for image in images])
    assert torch.allclose(model(images), alone, atol=1e-5)


@ZOO
def test_the_same_seed_gives_the_same_network(name) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(7)
        states.append(built(tiny.model_spec(name)).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize(
    ("name", "parameter", "small", "large"),
    [
        ("resnet", "width", 4, 8),
        ("resnet", "depth", 8, 14),
        ("wide_resnet", "widen", 1, 2),
        ("wide_resnet", "width", 2, 3),
        ("wide_resnet", "depth", 10, 16),
        ("densenet", "growth", 4, 5),
        ("densenet", "depth", 10, 16),
        ("densenet", "compression", 0.5, 1.0),
        ("mobilenet", "width", 4, 8),
        ("mobilenet", "stages", [2], [2, 2]),
        ("mobilenet_v2", "width", 0.25, 0.5),
        ("mobilenet_v2", "head", 8, 16),
        ("mobilenet_v2", "stages", [[1, 8, 1, 1]], [[1, 8, 2, 1]]),
        ("vit", "dim", 16, 32),
        ("vit", "depth", 1, 2),
        ("vit", "mlp_ratio", 1.0, 2.0),
        ("vit", "pool", "mean", "token"),
        ("lenet5", "filters", [4, 6], [4, 7]),
        ("lenet5", "hidden", 8, 16),
        ("mlp", "hidden", [8], [9]),
    ],
)
def test_parameters_of_a_network_change_its_size(name, parameter, small, large) -> None:
    def size(value: object) -> int:
        return sum(p.numel() for p in built({**tiny.model_spec(name), parameter: value}).parameters())

    assert size(large) > size(small)


@pytest.mark.parametrize("name", DROPPING)
def test_dropout_drops_while_training_and_never_after(name, images) -> None:
    model = built({**tiny.model_spec(name), "dropout": 0.5})
    assert not torch.equal(model.train()(images), model(images))
    assert torch.equal(model.eval()(images), model(images))


@pytest.mark.parametrize("name", DROPPING)
def test_dropout_drops_as_large_a_share_as_it_says_and_keeps_the_mean(name) -> None:
    model = built({**tiny.model_spec(name), "dropout": 0.25}).train()
    last = [module for module in model.modules() if isinstance(module, nn.Dropout)][-1]
    ones = torch.ones(100, 100)
    assert (last(ones) == 0).float().mean() == pytest.approx(0.25, abs=0.02)
    assert last(ones).mean() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("name", DROPPING)
def test_without_dropout_training_draws_nothing(name, images) -> None:
    model = built(tiny.model_spec(name)).train()
    state = torch.get_rng_state()
    model(images)
    assert torch.equal(torch.get_rng_state(), state)


SAME_DRAWS = [
    *((name, {"dropout": 0.5}) for name in DROPPING),
    *((name, {"norm": tiny.norm_spec(norm)}) for name in tiny.NORMED for norm in ("batch", "layer", "instance", "group")),
]


@pytest.mark.parametrize(("name", "change"), SAME_DRAWS)
def test_norms_and_dropout_change_no_initial_weight(name, change) -> None:
    states = []
    for spec in (tiny.model_spec(name), {**tiny.model_spec(name), **change}):
        torch.manual_seed(7)
        states.append(dict(built(spec).named_parameters()))
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_images_are_normalized_before_the_network_sees_them() -> None:
    model = network({"name": "tiny:Plain"}, (3, 8, 8), 2, (0.1, 0.2, 0.3), (0.5, 0.25, 2.0))
    seen = []
    model.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.rand(4, 3, 8, 8)
    model(images)
    expected = (images - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / torch.tensor([0.5, 0.25, 2.0])[:, None, None]
    assert torch.allclose(seen[0], expected, atol=1e-6)


def test_a_users_own_model_is_built_by_its_import_path(images) -> None:
    assert built({"name": "tiny:Plain", "width": 5})(images).shape == (16, 3)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"name": "tiny:OneTooMany"}, r"'tiny:OneTooMany' gives \(4,\) outputs an image, where 3 classes are needed"),
        ({"name": "tiny:OnlyLarge"}, r"'tiny:OnlyLarge' does not run on images of \(1, 8, 8\)"),
        ({"name": "tiny:Nowhere"}, "cannot import 'tiny:Nowhere'"),
        ({"name": "mlp", "hidden": [2**40]}, r"'mlp' cannot be built for images of \(1, 8, 8\) and 3 classes: .*allocate memory"),
        ({"name": "tiny:Plain", "width": 0}, "width: found 0; it should be greater than or equal to 1"),
        ({"name": "resnet", "depth": 21}, "resnet depth 21 is not 6n . 2; the nearest are 20 and 26"),
        ({"name": "resnet", "depth": 2}, "depth: found 2; it should be greater than or equal to 8"),
        ({"name": "mobilenet", "stages": []}, r"stages: found \[\]; it should have at least 1 item"),
        ({"name": "mobilenet", "stages": [2, 0]}, "stages.1: found 0"),
        ({"name": "mlp", "hidden": []}, r"hidden: found \[\]; it should have at least 1 item"),
        ({"name": "lenet300", "hidden": [3]}, "hidden: no such parameter; .*allowed here: dropout"),
        ({"name": "mlp", "dropout": 1.0}, "dropout: found 1.0; it should be less than 1"),
        ({"name": "resnet", "dropout": -0.1}, "dropout: found -0.1; it should be greater than or equal to 0"),
        ({"name": "resnet", "norm": {"name": "grup"}}, r'norm.name: found "grup"; did you mean group\?'),
        ({"name": "resnet", "norm": {"name": "group"}}, "norm.groups: missing; known here: groups"),
        ({"name": "resnet", "norm": {"name": "batch", "groups": 4}}, "norm.groups: no such parameter"),
        ({"name": "resnet", "norm": "group"}, 'norm: found "group"; a mapping is needed, as {name: group}'),
        ({"name": "mobilenet", "width": 6, "norm": {"name": "group", "groups": 4}}, "group norm: 4 groups do not divide 6 channels"),
        (
            {"name": "mobilenet", "width": 2, "stages": [1, 2, 3, 4], "norm": {"name": "instance"}},
            r"'mobilenet' does not run on images of \(1, 8, 8\)",
        ),
        (
            {"name": "mobilenet", "width": 4, "stages": [1, 2, 3, 4, 1], "norm": {"name": "group", "groups": 4}},
            "does not run on .* more than 1 value",
        ),
    ],
)
def test_a_model_that_cannot_be_is_refused_in_one_line(spec, told) -> None:
    with pytest.raises(SlimlineError, match=told) as refusal:
        built(spec)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("depth", [8, 14, 20])
def test_a_resnet_has_as_many_layers_with_weights_as_its_depth_says(depth) -> None:
    model = ResNet((1, 8, 8), 3, depth=depth, width=2)
    layers = [name for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and "shortcut" not in name]
    assert len(layers) == depth


def test_a_mobilenet_halves_its_map_where_its_channels_grow() -> None:
    model = MobileNet((1, 32, 32), 3, width=2, stages=(2, 4, 4, 8))
    assert model.blocks(model.stem(torch.rand(2, 1, 32, 32))).shape == (2, 16, 8, 8)


def test_lenet_300_100_has_the_266610_parameters_of_the_papers() -> None:
    model = built({"name": "lenet300"}, 1, 28, 10)
    assert sum(p.numel() for p in model.parameters()) == 266_610
    same = built({"name": "mlp", "hidden": [300, 100]}, 1, 28, 10)
    assert [(key, p.shape) for key, p in same.named_parameters()] == [(key, p.shape) for key, p in model.named_parameters()]


def test_an_mlp_has_a_layer_for_each_width_and_the_classifier() -> None:
    layers = [module for module in MLP((3, 4, 5), 7, hidden=(6, 2)).modules() if isinstance(module, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in layers] == [(60, 6), (6, 2), (2, 7)]
