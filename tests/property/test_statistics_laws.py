"""Intervals and paired comparisons, held against their definitions."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binom, norm

from slimline.evaluation.statistics import compare, median_interval, tango, wilson

levels = st.sampled_from([0.8, 0.9, 0.95, 0.99])


@st.composite
def tables(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Which of n images each of two classifiers got right."""
    both, first, second, neither = (draw(st.integers(0, 60)) for _ in range(4))
    assume(both + first + second + neither > 0)
    right = np.repeat([[True, True], [True, False], [False, True], [False, False]], [both, first, second, neither], axis=0)
    return right[:, 0], right[:, 1]


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), levels)
def test_wilsons_interval_is_that_of_his_formula(counts, confidence) -> None:
    successes, trials = counts
    z, p = norm.ppf((1 + confidence) / 2), successes / trials
    middle = (p + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(p * (1 - p) / trials + z**2 / (4 * trials**2))
    low, high = wilson(successes, trials, confidence)
    assert np.allclose([low, high], [middle - half, middle + half], atol=1e-9)
    assert -1e-12 <= low <= p + 1e-12
    assert p - 1e-12 <= high <= 1 + 1e-12


@given(tables())
def test_the_p_value_is_the_exact_mcnemar_test(table) -> None:
    first, second = table
    one, other = int((first & ~second).sum()), int((second & ~first).sum())
    expected = min(1.0, 2 * binom.cdf(min(one, other), one + other, 0.5)) if one + other else 1.0
    result = compare(first, second, 0.95)
    assert np.isclose(result.p_value, expected)
    assert (result.only_first, result.only_second, result.images) == (one, other, len(first))


@given(tables(), levels)
def test_comparing_the_other_way_round_turns_every_sign(table, confidence) -> None:
    first, second = table
    ours, theirs = compare(first, second, confidence), compare(second, first, confidence)
    assert ours.difference == -theirs.difference == pytest.approx(first.mean() - second.mean())
    assert ours.p_value == theirs.p_value
    assert ours.low == pytest.approx(-theirs.high, abs=1e-6)
    assert ours.high == pytest.approx(-theirs.low, abs=1e-6)
    assert -1 <= ours.low <= ours.difference <= ours.high <= 1


def slow_score(difference: float, only_first: int, only_second: int, images: int) -> float:
    """Tango's statistic with the likeliest shares found by search: how many deviations the counts lie from `difference`."""

    def unlikely(second_only: float) -> float:
        shares = [second_only + difference, second_only, 1 - 2 * second_only - difference]
        counts = [only_first, only_second, images - only_first - only_second]
        return -sum(count * np.log(max(share, 1e-300)) for count, share in zip(counts, shares, strict=True))

    bounds = (max(0.0, -difference), (1 - difference) / 2)
    second_only = minimize_scalar(unlikely, bounds=bounds, method="bounded", options={"xatol": 1e-10}).x
    variance = images * (2 * second_only + difference * (1 - difference))
    return float((only_first - only_second - images * difference) / np.sqrt(variance))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 100), levels)
def test_the_ends_of_an_interval_are_the_differences_that_are_just_not_refuted(only_first, only_second, rest, confidence) -> None:
    images = only_first + only_second + rest
    low, high = tango(only_first, only_second, images, confidence)
    z = norm.ppf((1 + confidence) / 2)
    assert slow_score(low, only_first, only_second, images) == pytest.approx(z, rel=1e-2)
    assert slow_score(high, only_first, only_second, images) == pytest.approx(-z, rel=1e-2)


@pytest.mark.parametrize("images", [1, 2, 36, 1000, 10_000])
def test_an_interval_stands_even_where_one_is_always_right_and_the_other_never(images) -> None:
    yes, no = np.ones(images, bool), np.zeros(images, bool)
    result = compare(yes, no, 0.95)
    assert (result.difference, result.high) == (1.0, 1.0)
    assert -1 < result.low < 1
    assert compare(no, yes, 0.95).high == pytest.approx(-result.low, abs=1e-6)


def test_no_difference_seen_among_few_images_does_not_show_that_there_is_none() -> None:
    widths = []
    for images in (10, 1000):
        right = np.arange(images) % 3 > 0
        result = compare(right, right, 0.95)
        assert (result.difference, result.p_value) == (0, 1)
        assert result.low == pytest.approx(-result.high, abs=1e-6)
        widths.append(result.high - result.low)
    assert widths[0] > 10 * widths[1] > 0


@pytest.mark.parametrize("count", [6, 7, 10, 25, 100, 201])
@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95])
def test_the_interval_covers_the_median_of_any_distribution_as_often_as_it_says(count, confidence) -> None:
    # Of ordered numbers 0 … n - 1 the interval's ends are their own places, and coverage is a matter of counting heads.
    _, low, high = median_interval(np.arange(count, dtype=float), confidence)
    coverage = binom.cdf(high, count, 0.5) - binom.cdf(low, count, 0.5)
    assert coverage >= confidence
    narrower = binom.cdf(high - 1, count, 0.5) - binom.cdf(low + 1, count, 0.5)
    assert narrower < confidence


def test_the_interval_covers_the_median_of_a_skewed_distribution_in_practice() -> None:
    draws = np.random.default_rng(0).exponential(size=(2000, 25))
    covered = [low <= np.log(2) <= high for _, low, high in (median_interval(row, 0.9) for row in draws)]
    assert 0.885 <= np.mean(covered) <= 0.97


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), levels)
def test_a_median_lies_within_its_interval_and_that_within_the_values(values, confidence) -> None:
    median, low, high = median_interval(np.array(values), confidence)
    assert min(values) <= low <= median <= high <= max(values)
    assert median == np.median(values)
