"""Laws of signs, of drawn signs, of their gradients and of packed bits."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from slimline.core.binary import hard_sigmoid, packed_signs, sign, stochastic, unpacked_signs
from slimline.errors import SlimlineError

NUMBERS = arrays(np.float32, st.integers(1, 40), elements=st.floats(-3, 3, width=32))


@given(NUMBERS)
def test_a_sign_is_plus_one_from_zero_on_and_minus_one_below(x) -> None:
    assert sign(torch.from_numpy(x)).tolist() == [1.0 if value >= 0 else -1.0 for value in x]


def test_both_zeros_and_infinities_have_signs() -> None:
    x = torch.tensor([0.0, -0.0, 1e-45, -1e-45, float("inf"), -float("inf")])
    assert sign(x).tolist() == [1, 1, 1, -1, 1, -1]


@pytest.mark.parametrize("make", [sign, stochastic])
@given(NUMBERS, st.data())
def test_what_is_no_number_is_refused_wherever_it_stands(make, x, data) -> None:
    x[data.draw(st.integers(0, len(x) - 1))] = np.nan
    with pytest.raises(SlimlineError, match=r"no number \(NaN\) has a sign"):
        make(torch.from_numpy(x))


@pytest.mark.parametrize("make", [sign, stochastic])
@given(NUMBERS)
def test_the_gradient_passes_where_a_value_is_within_one_and_is_cut_elsewhere(make, x) -> None:
    values = torch.from_numpy(x).requires_grad_()
    above = torch.arange(1.0, len(x) + 1)
    (make(values) * above).sum().backward()
    assert torch.equal(values.grad, above * (values.detach().abs() <= 1))


@given(st.floats(-1.5, 1.5), st.integers(0, 2**32))
def test_drawn_signs_have_the_mean_of_the_clipped_value(x, seed) -> None:
    """n draws of ±1 of mean m: the mean's deviation is √((1 - m²) / n), and six of them are hardly ever left."""
    n = 4096
    drawn = stochastic(torch.full((n,), x, dtype=torch.float64), torch.Generator().manual_seed(seed))
    assert set(drawn.tolist()) <= {-1.0, 1.0}
    mean = 2 * float(hard_sigmoid(torch.tensor(x, dtype=torch.float64))) - 1
    assert mean == pytest.approx(min(max(x, -1), 1))
    assert abs(float(drawn.mean()) - mean) <= 6 * ((1 - mean**2) / n) ** 0.5 + 1e-12


@given(NUMBERS, st.integers(0, 2**32))
def test_the_same_seed_draws_the_same_signs_and_certain_ones_are_never_missed(x, seed) -> None:
    values = torch.from_numpy(x)
    first, second = (stochastic(values, torch.Generator().manual_seed(seed)) for _ in range(2))
    assert torch.equal(first, second)
    certain = values.abs() >= 1
    assert torch.equal(first[certain], sign(values)[certain])


@given(arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.floats(-2, 2, width=32)))
def test_packed_signs_take_a_bit_each_and_come_back(x) -> None:
    weight = torch.from_numpy(x)
    stream = packed_signs(weight)
    assert stream.dtype == torch.uint8
    assert stream.shape == ((weight.numel() + 7) // 8,)
    assert torch.equal(unpacked_signs(stream, weight.shape), sign(weight))
