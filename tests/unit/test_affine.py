"""Affine quantization: hand-made cases and refusals; the laws are in tests/property/test_affine_laws.py."""

import numpy as np
import pytest
import torch

from slimline.core.affine import PER_TENSOR, asymmetric_scale, dequantize, fake_quantize, integer_range, quantize, round_to_step, symmetric_scale
from slimline.errors import SlimlineError


@pytest.mark.parametrize(("bits", "signed", "expected"), [(8, True, (-127, 127)), (8, False, (0, 255)), (2, True, (-1, 1)), (4, False, (0, 15))])
def test_the_range_of_integers_is_symmetric_if_signed_and_full_if_not(bits, signed, expected) -> None:
    assert integer_range(bits, signed=signed) == expected


@pytest.mark.parametrize("bits", [-1, 0, 1, 9, 16])
def test_a_width_that_no_integer_has_is_refused_with_what_was_found(bits) -> None:
    with pytest.raises(SlimlineError, match=f"found {bits}; integers have 2 to 8"):
        integer_range(bits, signed=True)


def test_ties_go_to_the_even_code() -> None:
    x = torch.tensor([0.25, 0.75, 1.25, -0.25, -0.75, 126.25])
    assert quantize(x, torch.tensor(0.5), torch.tensor(0), PER_TENSOR, -127, 127).tolist() == [0, 2, 2, 0, -2, 127]
    assert quantize(x, torch.tensor(0.5), torch.tensor(3), PER_TENSOR, 0, 255).tolist() == [3, 5, 5, 3, 1, 255]


def test_codes_are_those_of_a_division_not_of_a_product_with_the_inverse() -> None:
    scales = np.linspace(0.01, 0.5, 99, dtype=np.float32)[:, None]
    x = (np.arange(200, dtype=np.float32) + np.float32(0.5)) * scales
    ours = quantize(torch.from_numpy(x), torch.from_numpy(scales[:, 0]), torch.zeros(99), 0, 0, 255).numpy()
    assert np.array_equal(ours, np.rint(x / scales))
    assert not np.array_equal(ours, np.rint(x * (np.float32(1) / scales))), "these inputs cannot tell the two apart"


def test_a_channel_of_zeros_gets_codes_of_zero_and_harms_no_other() -> None:
    scale, zero_point = symmetric_scale(torch.tensor([0.0, -2.0]), torch.tensor([0.0, 1.0]), 127)
    assert scale[0] == 1
    assert torch.isclose(scale[1], torch.tensor(2 / 127))
    assert quantize(torch.tensor([[0.0], [-2.0]]), scale, zero_point, 0, -127, 127).tolist() == [[0], [-127]]
    scale, zero_point = asymmetric_scale(torch.tensor([0.0, -2.0]), torch.tensor([0.0, 0.55]), 255)
    assert torch.allclose(scale, torch.tensor([1.0, 0.01]))
    assert quantize(torch.tensor([[0.0], [0.55]]), scale, zero_point, 0, 0, 255).tolist() == [[0], [255]]


def test_a_channel_that_decayed_to_almost_nothing_is_one_of_zeros() -> None:
    """A step of it would be 0 in 32 bits, and x / step no number."""
    low, high = torch.tensor([-1e-42, -2.0]), torch.tensor([1e-42, 1.0])
    for ranged, largest in ((symmetric_scale, 127), (asymmetric_scale, 255)):
        scale, zero_point = ranged(low, high, largest)
        assert scale[0] == 1
        assert torch.isfinite(quantize(high[:, None], scale, zero_point, 0, -127, 255)).all()


@pytest.mark.parametrize("value", [0.0, 1e-42])
def test_a_tensor_without_range_is_refused(value) -> None:
    with pytest.raises(SlimlineError, match="without range"):
        asymmetric_scale(torch.zeros(2), torch.full((2,), value), 255)


def test_a_range_off_zero_is_widened_until_it_holds_zero() -> None:
    scale, zero_point = asymmetric_scale(torch.tensor([1.0, -3.0]), torch.tensor([2.55, -0.5]), 255)
    assert torch.allclose(scale, torch.tensor([0.01, 3 / 255]))
    assert zero_point.tolist() == [0, 255]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_scale_along_an_axis_treats_each_slice_as_a_tensor_of_its_own(axis) -> None:
    x = torch.randn(3, 3, 3)
    scale, zero_point = torch.tensor([0.1, 0.02, 0.3]), torch.tensor([0, 7, 100], dtype=torch.uint8)
    whole = fake_quantize(x, scale, zero_point, axis, 0, 255)
    for index in range(3):
        alone = fake_quantize(x.select(axis, index).contiguous(), scale[index], zero_point[index], PER_TENSOR, 0, 255)
        assert torch.equal(whole.select(axis, index), alone)
    codes = quantize(x, scale, zero_point, axis, 0, 255)
    assert torch.equal(dequantize(codes, scale, zero_point, axis), whole)


def test_the_gradient_of_a_clipped_value_is_zero_and_of_any_other_one() -> None:
    x = torch.tensor([[-5.0, -1.0, 0.5], [-5.0, 40.0, 60.0]], requires_grad=True)
    scale, zero_point = torch.tensor([0.01, 0.5]), torch.zeros(2, dtype=torch.int8)
    fake_quantize(x, scale, zero_point, 0, -127, 127).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0, 1, 1], [1, 1, 1]]


def test_a_bias_is_rounded_to_its_step_and_its_gradient_passes_straight_through() -> None:
    x = torch.tensor([0.26, -0.74, 1.25], requires_grad=True)
    y = round_to_step(x, torch.full((3,), 0.5))
    assert y.tolist() == [0.5, -0.5, 1.0]
    y.backward(torch.tensor([1.0, -2.0, 3.0]))
    assert x.grad is not None
    assert x.grad.tolist() == [1, -2, 3]
