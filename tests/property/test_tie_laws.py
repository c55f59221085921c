"""Laws of sums kept away from the halves between codes."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from slimline.core.ties import MARGIN, NUDGE, NUDGES, apart, ties

RATIOS = st.lists(st.floats(1e-4, 10), min_size=1, max_size=5).map(lambda values: torch.tensor(values, dtype=torch.float64))


@given(RATIOS, st.integers(0, 255))
def test_scales_move_by_a_hair_only_where_sums_fall_between_codes_and_then_fewer_do(ratios: torch.Tensor, zero: int) -> None:
    factors = apart(ratios, zero, 0, 255)
    before, after = ties(ratios, zero, 0, 255), ties(ratios * factors, zero, 0, 255)
    assert (factors[before == 0] == 1).all()
    assert (after <= before).all()
    assert ((factors - 1).abs() <= NUDGE * NUDGES).all()


@given(st.integers(1, 200), st.integers(0, 50), st.integers(0, 20))
def test_a_sum_on_a_half_is_found_and_moved(z: int, k: int, zero: int) -> None:
    ratio = torch.tensor([(k + 0.5) / z], dtype=torch.float64)
    high = k + zero + 1  # the code below the half is k + zero
    assert ties(ratio, zero, 0, high) >= 1
    moved = z * ratio * apart(ratio, zero, 0, high) - k - 0.5
    few = ratio > 0.5  # with few sums there is a place that none of them shares
    assert not few or abs(moved) >= MARGIN * (1 - 1e-9)
