"""Equalization across layers, and biases that take back the mean error."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

import tiny
from slimline.core.normalize import Normalize
from slimline.core.quantized import folded, quantized_layers
from slimline.errors import SlimlineError
from slimline.quantization.bias_correction import _mean
from slimline.quantization.bits import Choice
from slimline.quantization.calibrate import calibrated, plan
from slimline.quantization.equalization import _by_input, _pairs, equalize

SHAPE = (1, 8, 8)
MIN_MAX = {"weights": {"name": "min_max"}, "activations": {"name": "min_max"}}
PAIRS = {"resnet": 3, "mobilenet": 4, "lenet5": 3, "mlp": 2}
"""Layers of the tiny networks with nothing but ReLU between them."""


@pytest.mark.parametrize(("name", "count"), PAIRS.items())
def test_equalizing_leaves_the_function_as_it_was_and_both_ranges_alike(name, count, images) -> None:
    graph = folded(tiny.trained(name))
    before, pairs = graph(images), _pairs(graph)
    assert len(pairs) == count
    equalize(graph)
    assert torch.allclose(graph(images), before, atol=1e-4)
    for first, second in pairs:
        ranges = [weight.detach().flatten(1).abs().amax(1) for weight in (first.weight, _by_input(second))]
        alive = (ranges[0] > 0) & (ranges[1] > 0)
        assert torch.allclose(ranges[0][alive], ranges[1][alive], rtol=0.05)


def uneven() -> nn.Module:
    """Two convolutions whose channels differ a thousand times in range."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 5, 3)
    with torch.no_grad():
        factors = torch.tensor([0.03, 1.0, 3.0, 30.0]).view(-1, 1, 1, 1)
        first.weight.mul_(factors)
        first.bias.mul_(factors.flatten())
        second.weight.div_(factors.view(1, -1, 1, 1))
    body = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(80, 3))
    return nn.Sequential(OrderedDict(normalize=Normalize([0.0], [1.0]), network=body)).eval()


def test_one_scale_a_layer_serves_equalized_channels_much_better(images) -> None:
    model = uneven()
    record = plan(model, SHAPE, weights=Choice(6), activations=Choice(8, symmetric=False))
    with torch.no_grad():
        logits = [calibrated(model, record, [images], **MIN_MAX, equalized=way)(images) for way in (False, True)]
        errors = [float((one - model(images)).square().mean()) for one in logits]
    assert errors[1] < errors[0] / 10


def test_without_a_pair_of_layers_there_is_nothing_to_equalize() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(72, 3))
    with pytest.raises(SlimlineError, match=r"quantize.equalize: no two layers"):
        equalize(folded(model))


@pytest.mark.parametrize("name", ["resnet", "mobilenet", "vit"])
def test_corrected_layers_give_on_average_what_they_gave_in_real_numbers(name, images) -> None:
    model = tiny.trained(name)
    record = plan(model, SHAPE, weight_bits=3, activation_bits=8)
    real = folded(model)
    plain, corrected = (calibrated(model, record, [images[:8], images[8:]], **MIN_MAX, corrected=way) for way in (False, True))
    for layer in quantized_layers(plain):
        wanted = _mean(real, layer, [images])
        before, after = ((_mean(graph, layer, [images]) - wanted).abs().max() for graph in (plain, corrected))
        step = quantized_layers(corrected)[layer].bias_step
        assert after < float(step.max()) + 0.02 * before, "but for the step of the bias"
    assert (corrected(images) - model(images)).square().mean() < (plain(images) - model(images)).square().mean()
