"""The sum of an epoch's losses has the same bits however often, and from wherever, it is looked at."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slimline.runtime.losses import WINDOW, Losses, NotFiniteError

FINITE = st.lists(st.floats(width=32, min_value=-(2.0**99), max_value=2.0**99), max_size=3 * WINDOW)


def add(losses: Losses, values: list[float], looks: frozenset[int] = frozenset()) -> None:
    """Add `values`, with a look before each of the places `looks`."""
    for place, value in enumerate(values):
        if place in looks:
            losses.look()
        losses.add(torch.tensor(value))


def total(values: list[float], looks: frozenset[int] = frozenset()) -> float:
    """The sum, looked at before the steps `looks`."""
    losses = Losses()
    add(losses, values, looks)
    return losses.look()


@given(FINITE, st.frozensets(st.integers(0, 3 * WINDOW)))
def test_the_sum_has_the_same_bits_however_often_it_is_looked_at(values: list[float], looks: frozenset[int]) -> None:
    slow = 0.0
    for value in values:
        slow += value
    assert total(values).hex() == total(values, looks).hex() == slow.hex()


@given(FINITE, st.data())
def test_a_sum_that_goes_on_from_a_checkpoint_has_the_same_bits_too(values: list[float], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(values)))
    resumed = Losses()
    resumed.reset(total(values[:cut]), cut)
    add(resumed, values[cut:])
    assert resumed.look().hex() == total(values).hex()
    assert resumed.steps == len(values)


@given(FINITE, st.sampled_from([math.nan, math.inf, -math.inf]), st.integers(0, 2 * WINDOW), st.frozensets(st.integers(0, 3 * WINDOW)))
def test_what_is_no_finite_number_is_found_within_a_window_with_its_step(
    values: list[float], bad: float, started: int, looks: frozenset[int]
) -> None:
    losses = Losses()
    losses.reset(0.0, started)
    add(losses, values, looks)
    with pytest.raises(NotFiniteError) as caught:
        add(losses, [bad] + [1.0] * (WINDOW - 1))
    assert caught.value.step == started + len(values)
    assert math.isnan(caught.value.value) == math.isnan(bad)


def test_an_epoch_starts_from_nothing() -> None:
    losses = Losses()
    losses.add(torch.tensor(3.0))
    losses.reset()
    losses.add(torch.tensor(1.0))
    assert losses.look() == 1.0
    assert losses.steps == 1
