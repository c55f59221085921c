"""Normalizations against their formula."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import tiny
from slimline.models.norms import NORMS
from slimline.registry import build

NORM = pytest.mark.parametrize("name", sorted(NORMS))


def reference(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """(x - mean) / sqrt(variance + ε), both over `dims`."""
    mean = x.mean(dims, keepdim=True)
    return (x - mean) / ((x - mean).square().mean(dims, keepdim=True) + 1e-5).sqrt()


def grouped(x: Tensor, groups: int) -> Tensor:
    images, channels, height, width = x.shape
    return reference(x.reshape(images, groups, channels // groups, height, width), (2, 3, 4)).reshape(x.shape)


EXPECTED = {
    "batch": lambda x: reference(x, (0, 2, 3)),
    "layer": lambda x: reference(x, (1, 2, 3)),
    "instance": lambda x: reference(x, (2, 3)),
    "group": lambda x: grouped(x, 2),
    "none": lambda x: x,
}


@NORM
@given(images=st.integers(2, 4), pairs=st.integers(1, 3), height=st.integers(2, 5), width=st.integers(1, 5), seed=st.integers(0, 9))
def test_a_norm_computes_its_formula(name, images, pairs, height, width, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(images, 2 * pairs, height, width, generator=generator).double() * 3 + 1
    norm = build(NORMS, tiny.norm_spec(name), 2 * pairs).double().train()
    scale, shift = torch.rand(2, 2 * pairs, generator=generator).double()
    expected = EXPECTED[name](x)
    if name != "none":
        with torch.no_grad():
            norm.weight.copy_(scale)
            norm.bias.copy_(shift)
        expected = expected * scale[:, None, None] + shift[:, None, None]
    assert torch.allclose(norm(x), expected, atol=1e-9)


@NORM
def test_only_a_batch_norm_lets_images_of_a_batch_touch_each_other(name, images) -> None:
    norm = build(NORMS, tiny.norm_spec(name), 2).train()
    x = images.expand(-1, 2, -1, -1)
    alone = torch.cat([norm(image[None]) for image in x])
    assert torch.allclose(norm(x), alone, atol=1e-5) == (name != "batch")
