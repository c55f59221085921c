"""How sure: intervals of proportions, and paired comparisons of two classifiers on the same images."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, isfinite
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import brentq
from scipy.stats import binom, binomtest, norm, quantile_test, t


def wilson(successes: int, trials: int, confidence: float) -> tuple[float, float]:
    """Interval of a proportion (Wilson, 1927): well behaved near 0 and 1, where accuracies lie.

    Args:
        trials: at least 1.
        confidence: as 0.95.
    """
    interval = binomtest(successes, trials).proportion_ci(confidence_level=confidence, method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class Comparison:
    """One classifier against another on the same images.

    Args:
        images: how many.
        only_first, only_second: images that this one alone got right.
        difference: accuracy of the first minus that of the second.
        low, high: interval of the difference (`tango`).
        p_value: exact McNemar test of no difference, two-sided.
    """

    images: int
    only_first: int
    only_second: int
    difference: float
    low: float
    high: float
    p_value: float


def compare(first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"], confidence: float) -> Comparison:
    """Compare two classifiers by which of n images each got right (McNemar, 1947; Tango, 1998)."""
    return compared(int((first & ~second).sum()), int((~first & second).sum()), len(first), confidence)


def compared(only_first: int, only_second: int, images: int, confidence: float) -> Comparison:
    """`compare`, from how many of `images` each alone got right."""
    discordant = only_first + only_second
    p_value = float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
    low, high = tango(only_first, only_second, images, confidence)
    return Comparison(images, only_first, only_second, (only_first - only_second) / images, low, high, p_value)


def tango(only_first: int, only_second: int, images: int, confidence: float) -> tuple[float, float]:
    """Score interval of the difference of two paired proportions.

    Source: Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample design",
    Statistics in Medicine 17, 1998. Unlike a bootstrap it keeps its width where the two disagree on few images, or on none:
    that no difference was seen does not show that there is none.
    """
    b, c, n = only_first, only_second, images

    def statistic(difference: float) -> float:
        return score_statistic(difference, b, c, n)

    z, edge = float(norm.ppf((1 + confidence) / 2)), 1 - 1e-9
    low = brentq(lambda d: statistic(d) - z, -edge, (b - c) / n - 1e-12) if b - c > -n else -1.0
    high = brentq(lambda d: statistic(d) + z, (b - c) / n + 1e-12, edge) if b - c < n else 1.0
    return float(low), float(high)


def score_statistic(difference: float, only_first: int, only_second: int, images: int) -> float:
    """How many standard deviations the counts lie above a true `difference` in (-1, 1) (Tango, 1998)."""
    spread = _variance(difference, only_first / images, only_second / images)
    return float((only_first - only_second - images * difference) / np.sqrt(images * spread))


def _variance(difference: float, only_first: float, only_second: float) -> float:
    """Variance of one image's share in the difference, were that `difference`, from the shares that were seen (Tango, 1998)."""
    b, c = only_first, only_second
    linear = -b - c + (2 - b + c) * difference
    constant = -c * difference * (1 - difference)
    second_only = (np.sqrt(max(linear**2 - 8 * constant, 0.0)) - linear) / 4  # its likeliest share, given the difference
    return float(2 * second_only + difference * (1 - difference))


def non_inferiority(comparison: Comparison, margin: float) -> float:
    """p-value of the hypothesis that the first is worse than the second by `margin` or more (Tango's score test, one-sided).

    It is below (1 - confidence) / 2 just where the interval of the difference lies above -margin.
    """
    return float(norm.sf(score_statistic(-margin, comparison.only_first, comparison.only_second, comparison.images)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number: those below a level are wrong, any of them, with no more than that probability (Holm, 1979).

    The k-th smallest of m becomes the largest of (m - j) · p_j over j ≤ k, counted from 0, and at most 1.
    """
    order = np.argsort(p_values, kind="stable")
    raised = np.maximum.accumulate((len(p_values) - np.arange(len(p_values))) * np.asarray(p_values, float)[order])
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(raised, 1.0)
    return [float(p) for p in corrected]


def compare_all(
    pairs: Mapping[str, tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]], confidence: float, margin: float | None
) -> dict[str, dict[str, Any]]:
    """`compare` for each of `pairs`, beside it the p-values that are corrected for the number of pairs (`holm`).

    Args:
        margin: loss of accuracy that would not matter; None asks for no test of it.
    """
    found = {name: compare(first, second, confidence) for name, (first, second) in pairs.items()}
    corrected = holm([one.p_value for one in found.values()])
    rows = {name: asdict(one) | {"p_holm": p} for (name, one), p in zip(found.items(), corrected, strict=True)}
    if margin is not None:
        tests = [non_inferiority(one, margin) for one in found.values()]
        for row, p, raised in zip(rows.values(), tests, holm(tests), strict=True):
            shown = raised < (1 - confidence) / 2
            row |= {"margin": margin, "p_non_inferior": p, "p_non_inferior_holm": raised, "non_inferior": shown}
    return rows


def images_for(margin: float, disagreement: float, confidence: float, power: float = 0.8) -> int:
    """How many test images are needed to show that a model loses less than `margin`, where in truth it loses nothing.

    n  =  ((z₁ · σ₀ + z₂ · √ψ) / margin)²,    z₁ at (1 + confidence) / 2, z₂ at `power`

    where σ₀² is the variance that Tango's test reckons with when a loss of the margin is held against what is expected to be seen (Liu
    et al., "Tests for equivalence or non-inferiority for paired binary data", Statistics in Medicine 21, 2002).

    Args:
        margin: share of images, as 0.02.
        disagreement: ψ, the share of images that one of the two alone gets right.
        power: how probably this many images show it.
    """
    z, more = norm.ppf((1 + confidence) / 2), norm.ppf(power)
    expected = _variance(-margin, disagreement / 2, disagreement / 2)
    return ceil(((z * np.sqrt(expected) + more * np.sqrt(disagreement)) / margin) ** 2)


def crossed_interval(values: Float[np.ndarray, "runs images"], confidence: float) -> tuple[float, float]:
    """Interval of the mean of `values` for other training runs and other images, of which these are a few.

    variance of the mean  =  variance of the runs' means / runs  +  variance of the images' means / images

    with Student's t at Satterthwaite's degrees of freedom (1946), (a + b)² / (a² / (runs - 1) + b² / (images - 1)) of the two terms
    a and b. What a run does to single images is in both terms, so the interval is rather too wide (Owen, "The pigeonhole bootstrap",
    2007). At least two runs and two images.
    """
    by_run, by_image = values.mean(1), values.mean(0)
    a, b = by_run.var(ddof=1) / len(by_run), by_image.var(ddof=1) / len(by_image)
    mean = float(values.mean())
    if a + b == 0:
        return mean, mean
    freedom = (a + b) ** 2 / (a**2 / (len(by_run) - 1) + b**2 / (len(by_image) - 1))
    margin = float(t.ppf((1 + confidence) / 2, freedom) * np.sqrt(a + b))
    return mean - margin, mean + margin


def mean_interval(values: Float[np.ndarray, " n"], confidence: float) -> tuple[float, float, float]:
    """Mean of at least two `values` and its interval by Student's t (1908)."""
    mean = float(values.mean())
    margin = float(t.ppf((1 + confidence) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return mean, mean - margin, mean + margin


def median_interval(values: Float[np.ndarray, " n"], confidence: float) -> tuple[float, float, float]:
    """Median of `values` and its distribution-free interval from order statistics (binomial)."""
    ordered = np.sort(values)
    margin = (1 - confidence) / 2
    # As many values lie below the median as heads fall in n throws; both ends leave out the same number of values.
    high = min(int(binom.ppf(1 - margin, len(values), 0.5)), len(values) - 1)
    return float(np.median(ordered)), float(ordered[len(values) - 1 - high]), float(ordered[high])


def quantile_interval(values: Float[np.ndarray, " n"], share: float, confidence: float) -> tuple[float, float | None, float | None]:
    """The quantile of `values` below which `share` of them lie, and its distribution-free interval (Conover, 1999, by scipy).

    An end that so few values do not give is None.
    """
    interval = quantile_test(values, p=share).confidence_interval(confidence)
    low, high = (float(end) if isfinite(end) else None for end in interval)
    return float(np.quantile(values, share)), low, high
