"""Counting parameters, multiply-accumulates and bit operations."""

from fractions import Fraction

import pytest
import torch
from torch import nn

import tiny
from slimline.core.cost import measure
from slimline.core.quantized import quantized, quantized_layers
from slimline.models.mobilenet import separable
from slimline.models.resnet import ResNet
from slimline.quantization.calibrate import calibrated, plan


def test_resnet_20_costs_what_its_paper_says() -> None:
    cost = measure(ResNet((3, 32, 32), 10), (3, 32, 32))
    assert 0.265e6 < cost.params < 0.280e6
    assert 40.5e6 < cost.macs < 41.5e6
    assert cost.bops == cost.macs * 32 * 32


@pytest.mark.parametrize(("channels", "filters"), [(3, 8), (16, 32), (5, 7)])
def test_a_separable_block_costs_one_nth_plus_one_ninth_of_a_standard_convolution(channels, filters) -> None:
    shape = (channels, 8, 8)
    standard = measure(nn.Conv2d(channels, filters, 3, padding=1, bias=False), shape).macs
    assert standard == 9 * channels * filters * 64
    assert Fraction(measure(separable(channels, filters, 1, nn.BatchNorm2d), shape).macs, standard) == Fraction(1, filters) + Fraction(1, 9)


def test_bit_operations_of_a_layer_are_its_macs_times_the_bits_of_weights_and_inputs() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.Flatten(), nn.Linear(4 * 4 * 4, 3))
    model = nn.Sequential(nn.ReLU(), *model)
    record = plan(model, (2, 8, 8), weight_bits=4, activation_bits=8)
    record["weights"]["3"]["bits"], record["activations"]["_1"]["bits"] = 3, 5
    network = quantized(model, record)
    cost = measure(network, (2, 8, 8))
    first, second = 9 * 2 * 4 * 4 * 4, 64 * 3
    assert cost.macs == first + second
    assert cost.bops == first * 4 * 8 + second * 3 * 5


def test_a_layer_that_runs_twice_costs_twice() -> None:
    layer = nn.Linear(5, 5)
    flat = nn.Flatten(0)
    assert measure(nn.Sequential(flat, layer, layer), (1, 1, 5)).macs == 2 * measure(nn.Sequential(flat, layer), (1, 1, 5)).macs


def test_a_weight_that_rounds_to_zero_is_zero_as_deployed(images) -> None:
    model = tiny.trained()
    with torch.no_grad():
        model.network.classifier.weight[0, 0] = 1e-9
    record = plan(model, (1, 8, 8), weight_bits=8, activation_bits=8)
    network = calibrated(model, record, [images], weights={"name": "min_max"}, activations={"name": "min_max"})
    cost = measure(network, (1, 8, 8))
    codes = sum(int(layer.grid.encode(layer.weight.detach()).count_nonzero()) for layer in quantized_layers(network).values())
    biases = sum(int(layer.bias.count_nonzero()) for layer in quantized_layers(network).values())
    assert cost.nonzero_params == codes + biases < cost.params


def test_zeros_are_parameters_but_not_nonzero_ones() -> None:
    layer = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        layer[1].weight[0] = 0
    cost = measure(layer, (1, 2, 2))
    assert (cost.params, cost.nonzero_params) == (10, 6)


def test_measuring_leaves_mode_statistics_and_hooks_as_they_were() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).train()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    measure(model, (1, 8, 8))
    assert model.training
    assert model[1].training
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
