"""A convolution, its norm and its first weights."""

import pytest
import torch
from torch import nn

import tiny
from slimline.models.convolution import initialize, normalized
from slimline.models.norms import NORMS
from slimline.registry import bind

NORM = pytest.mark.parametrize("name", sorted(NORMS))


@NORM
def test_a_convolution_has_a_bias_only_where_no_norm_brings_a_shift(name) -> None:
    convolution, norm = normalized(3, 4, 3, bind(NORMS, tiny.norm_spec(name)))
    assert (convolution.bias is None) == any(key == "bias" for key, _ in norm.named_parameters())


@NORM
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_height_and_width_are_divided_by_the_stride_rounded_up(name, kernel, stride) -> None:
    layers = nn.Sequential(*normalized(4, 6, kernel, bind(NORMS, tiny.norm_spec(name)), stride=stride, groups=2))
    assert layers(torch.rand(2, 4, 7, 9)).shape == (2, 6, -(-7 // stride), -(-9 // stride))


@NORM
def test_weights_begin_with_he_s_variance(name) -> None:
    convolution, _ = normalized(64, 128, 3, bind(NORMS, tiny.norm_spec(name)))
    initialize(convolution)
    assert float(convolution.weight.detach().std()) == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("groups", [1, 4, 256])
def test_a_stack_without_norms_keeps_the_scale_of_its_images_at_any_number_of_groups(groups) -> None:
    layers = [module for _ in range(3) for module in (*normalized(256, 256, 3, bind(NORMS, {"name": "none"}), groups=groups), nn.ReLU())]
    stack = nn.Sequential(*layers)
    initialize(stack)
    x = torch.randn(4, 256, 12, 12)
    assert 0.2 < float(stack(x).square().mean() / x.square().mean()) < 1.5
