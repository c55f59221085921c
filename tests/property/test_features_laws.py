"""What losses do to features is what it says, at any size of numbers and of maps."""

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from slimline.distillation.features import length, pooled, unit

SIDES = st.integers(1, 9)


@given(SIDES, SIDES, st.data())
def test_pooling_is_torchs_adaptive_pooling(rows: int, columns: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, rows)), data.draw(st.integers(1, columns))
    maps = torch.randn(2, 3, rows, columns, dtype=torch.float64, requires_grad=True)
    values = []
    for pool in (pooled, F.adaptive_avg_pool2d):
        result = pool(maps, size)
        (gradient,) = torch.autograd.grad(result.square().sum(), maps)
        values.append((result, gradient))
    assert torch.allclose(values[0][0], values[1][0])
    assert torch.allclose(values[0][1], values[1][1])


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=8), st.integers(-30, 30))
def test_lengths_are_euclidean_wherever_a_float_can_hold_them(row: list[float], exponent: int) -> None:
    values = torch.tensor([row, [0.0] * len(row)], dtype=torch.float32) * 10.0**exponent
    exact = values.double().square().sum(1).sqrt()
    assert torch.allclose(length(values).double(), exact, rtol=1e-5, atol=0.0)
    assert torch.allclose(unit(values).double().square().sum(1), (exact > 0).double(), atol=1e-5)


def test_a_row_of_zeros_has_a_finite_gradient() -> None:
    zeros = torch.zeros(2, 3, requires_grad=True)
    (length(zeros).sum() + unit(zeros).sum()).backward()
    assert zeros.grad is not None
    assert torch.isfinite(zeros.grad).all()
