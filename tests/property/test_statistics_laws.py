"""Intervals and paired comparisons, held against their definitions."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binom, bootstrap, norm

from slimline.evaluation.statistics import (
    Comparison,
    compare,
    compare_all,
    compared,
    holm,
    images_for,
    median_interval,
    non_inferiority,
    quantile_interval,
    tango,
    wilson,
)

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


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 400), levels, st.floats(0.005, 0.5))
def test_a_model_is_shown_not_to_be_worse_by_a_margin_just_where_its_interval_says_so(only_first, only_second, rest, confidence, margin) -> None:
    pair = compared(only_first, only_second, only_first + only_second + rest, confidence)
    assume(abs(pair.low + margin) > 1e-6)
    assert (non_inferiority(pair, margin) < (1 - confidence) / 2) == (pair.low > -margin)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(0.001, 0.999))
def test_holms_correction_rejects_what_the_closed_tests_of_bonferroni_reject(p_values, level) -> None:
    # Marcus, Peritz & Gabriel (1976): a hypothesis falls where every set of hypotheses around it does, each set by its smallest p times its size.
    corrected = holm(p_values)
    assume(all(abs(p - level) > 1e-9 for p in corrected))
    places = range(len(p_values))
    sets = [one for size in range(1, len(p_values) + 1) for one in combinations(places, size)]
    fallen = {one for one in sets if len(one) * min(p_values[place] for place in one) <= level}
    assert [p <= level for p in corrected] == [all(one in fallen for one in sets if place in one) for place in places]


def test_comparisons_are_corrected_together_and_stand_as_they_are_without_a_margin() -> None:
    right = np.random.default_rng(0).random((3, 400)) < np.array([[0.95], [0.9], [0.7]])
    pairs = {"a": (right[0], right[1]), "b": (right[0], right[2])}
    rows = compare_all(pairs, 0.95, None)
    assert [row["p_holm"] for row in rows.values()] == holm([row["p_value"] for row in rows.values()])
    assert "non_inferior" not in rows["a"]
    told = compare_all({"same": (right[0], right[0]), "worse": (right[2], right[0])}, 0.95, 0.05)
    assert (told["same"]["non_inferior"], told["worse"]["non_inferior"]) == (True, False)


@pytest.mark.parametrize(("only_first", "only_second"), [(60, 90), (45, 40), (0, 0)])
def test_a_bootstrap_finds_tangos_interval_of_many_pairs_and_nothing_where_there_are_none(only_first, only_second) -> None:
    images = 2000
    differences = np.repeat([1.0, -1.0, 0.0], [only_first, only_second, images - only_first - only_second])
    low, high = tango(only_first, only_second, images, 0.95)
    drawn = bootstrap((differences,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(0)).confidence_interval
    if only_first + only_second:
        assert (drawn.low, drawn.high) == pytest.approx((low, high), abs=0.1 * (high - low))
    else:  # and here lies why there is none in the scorecard
        assert (drawn.low, drawn.high) == (0, 0)
        assert high - low > 0.003


@pytest.mark.parametrize(("margin", "disagreement"), [(0.02, 0.02), (0.05, 0.1), (0.03, 0.001)])
def test_as_many_images_as_a_margin_takes_show_it_as_often_as_was_asked(margin, disagreement) -> None:
    images = images_for(margin, disagreement, 0.95, power=0.8)
    tables = np.random.default_rng(0).multinomial(images, [disagreement / 2, disagreement / 2, 1 - disagreement], size=1500)
    pairs = [Comparison(images, one, other, (one - other) / images, -1.0, 1.0, 1.0) for one, other, _ in tables.tolist()]
    power = np.mean([non_inferiority(pair, margin) < 0.025 for pair in pairs])
    assert power >= 0.72, power
    assert images_for(margin, disagreement, 0.95, power=0.9) >= images


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_the_interval_of_a_quantile_covers_it_in_practice_and_an_end_that_is_not_given_is_none(share) -> None:
    draws, truth = np.random.default_rng(0).exponential(size=(250, 200)), -np.log(1 - share)
    covered = [low <= truth <= high for _, low, high in (quantile_interval(row, share, 0.9) for row in draws)]
    assert 0.86 <= np.mean(covered) <= 0.97
    assert quantile_interval(np.arange(10.0), 0.95, 0.95)[2] is None
