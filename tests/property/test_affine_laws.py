"""Laws of affine quantization, on any range, width and tensor."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from slimline.core.affine import PER_TENSOR, asymmetric_scale, dequantize, fake_quantize, integer_range, quantize, symmetric_scale

bits = st.integers(2, 8)
numbers = st.floats(-1000, 1000, width=32)
tensors = st.lists(numbers, min_size=1, max_size=30).map(torch.tensor)


@st.composite
def grids(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, int, int, float, float]:
    """Scale, zero point, lowest and highest code, and the range [low, high] that they were made for."""
    width, signed = draw(bits), draw(st.booleans())
    code_low, code_high = integer_range(width, signed=signed)
    low = draw(st.floats(-1000, 0, width=32))
    high = draw(st.floats(0.0078125, 1000, width=32))
    make = symmetric_scale if signed else asymmetric_scale
    scale, zero_point = make(torch.tensor([low]), torch.tensor([high]), code_high)
    reach = max(-low, high)
    return scale[0], zero_point[0], code_low, code_high, -reach if signed else low, reach if signed else high


@given(grids(), tensors)
def test_what_lies_on_the_grid_stays_where_it_is(grid, x) -> None:
    scale, zero_point, low, high, *_ = grid
    once = fake_quantize(x, scale, zero_point, PER_TENSOR, low, high)
    assert torch.equal(fake_quantize(once, scale, zero_point, PER_TENSOR, low, high), once)


@given(grids(), tensors)
def test_codes_are_integers_within_their_range_wherever_the_values_lie(grid, x) -> None:
    scale, zero_point, low, high, *_ = grid
    codes = quantize(x * 1000, scale, zero_point, PER_TENSOR, low, high)
    assert torch.equal(codes, codes.round())
    assert low <= codes.min() <= codes.max() <= high


@given(grids(), st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_error_is_at_most_half_a_step_inside_the_range(grid, shares) -> None:
    scale, zero_point, low, high, bottom, top = grid
    x = torch.tensor([bottom + share * (top - bottom) for share in shares])
    error = (fake_quantize(x, scale, zero_point, PER_TENSOR, low, high) - x).abs().max()
    assert error <= scale * 0.5 * (1 + 1e-4)


@given(grids())
def test_the_range_is_used_up_to_one_code(grid) -> None:
    scale, zero_point, low, high, bottom, top = grid
    ends = quantize(torch.tensor([bottom, top]), scale, zero_point, PER_TENSOR, low, high)
    assert ends[0] <= low + 1
    assert ends[1] >= high - 1


@given(grids())
def test_zero_is_on_every_grid(grid) -> None:
    scale, zero_point, low, high, *_ = grid
    assert fake_quantize(torch.zeros(1), scale, zero_point, PER_TENSOR, low, high).item() == 0.0


@given(grids(), tensors)
def test_fake_quantize_is_quantize_then_dequantize(grid, x) -> None:
    scale, zero_point, low, high, *_ = grid
    codes = quantize(x, scale, zero_point, PER_TENSOR, low, high)
    assert torch.equal(fake_quantize(x, scale, zero_point, PER_TENSOR, low, high), dequantize(codes, scale, zero_point, PER_TENSOR))


@given(bits, tensors)
def test_opposite_values_have_opposite_codes_on_a_symmetric_grid(width, x) -> None:
    low, high = integer_range(width, signed=True)
    scale, zero_point = symmetric_scale(x.min()[None], x.max()[None], high)
    codes = quantize(x, scale[0], zero_point[0], PER_TENSOR, low, high)
    assert torch.equal(quantize(-x, scale[0], zero_point[0], PER_TENSOR, low, high), -codes)


@given(grids(), tensors)
def test_the_gradient_passes_where_the_code_lies_in_the_range_and_nowhere_else(grid, x) -> None:
    scale, zero_point, low, high, *_ = grid
    x = x.clone().requires_grad_()
    upstream = torch.linspace(-2, 3, len(x))
    fake_quantize(x, scale, zero_point, PER_TENSOR, low, high).backward(upstream)
    expected = [
        g if low <= round(float(value / scale)) + int(zero_point) <= high else 0.0 for value, g in zip(x.detach(), upstream.tolist(), strict=True)
    ]
    assert x.grad is not None
    assert x.grad.tolist() == expected
