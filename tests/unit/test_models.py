"""What every network of the zoo must keep, and what is refused."""

import pytest
import torch
from torch import nn

import tiny
from slimline.core.quantized import folded
from slimline.errors import SlimlineError
from slimline.models import MODELS
from slimline.models.mobilenet import MobileNet
from slimline.models.network import network
from slimline.models.resnet import ResNet

ZOO = pytest.mark.parametrize("name", sorted(MODELS))


def built(spec, channels: int = 1, size: int = 8, classes: int = 3) -> nn.Module:
    return network(spec, (channels, size, size), classes, (0.4,) * channels, (0.3,) * channels)


@ZOO
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 28])
@pytest.mark.parametrize("classes", [2, 11])
def test_a_network_gives_one_logit_a_class_for_any_channels_size_and_batch(name, channels, size, classes) -> None:
    model = built(tiny.model_spec(name), channels, size, classes).eval()
    for batch in (1, 5):
        assert model(torch.rand(batch, channels, size, size)).shape == (batch, classes)


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


@ZOO
def test_parameters_of_a_network_change_its_size(name) -> None:
    def size(**parameters: object) -> int:
        return sum(p.numel() for p in built({**tiny.model_spec(name), **parameters}).parameters())

    assert size(width=8) > size(width=4)


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
        ({"name": "tiny:Plain", "width": 0}, "width: found 0; it should be greater than or equal to 1"),
        ({"name": "resnet", "depth": 21}, "resnet depth 21 is not 6n . 2; the nearest are 20 and 26"),
        ({"name": "resnet", "depth": 2}, "depth: found 2; it should be greater than or equal to 8"),
        ({"name": "mobilenet", "stages": []}, r"stages: found \[\]; it should have at least 1 item"),
        ({"name": "mobilenet", "stages": [2, 0]}, "stages.1: found 0"),
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
