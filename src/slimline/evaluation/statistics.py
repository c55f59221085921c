"""How sure: intervals of proportions, and paired comparisons of two classifiers on the same images."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import binom, binomtest

RESAMPLES = 10_000
SEED = 20_161_114
"""Of the bootstrap alone: the same counts always give the same interval."""


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
        low, high: bootstrap interval of the difference.
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
    """Compare two classifiers by which of n images each got right (McNemar, 1947; percentile bootstrap over images)."""
    images = len(first)
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    discordant = only_first + only_second
    p_value = float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
    # Resampling images with replacement draws the three outcomes from a multinomial; no image need be touched.
    shares = np.array([only_first, only_second, images - discordant]) / images
    counts = np.random.default_rng(SEED).multinomial(images, shares, size=RESAMPLES)
    low, high = np.quantile((counts[:, 0] - counts[:, 1]) / images, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Comparison(images, only_first, only_second, (only_first - only_second) / images, float(low), float(high), p_value)


def median_interval(values: Float[np.ndarray, " n"], confidence: float) -> tuple[float, float, float]:
    """Median of `values` and its distribution-free interval from order statistics (binomial)."""
    ordered = np.sort(values)
    margin = (1 - confidence) / 2
    low, high = _binomial_quantile(margin, len(values)), _binomial_quantile(1 - margin, len(values))
    return float(np.median(ordered)), float(ordered[low]), float(ordered[min(high, len(values) - 1)])


def _binomial_quantile(share: float, trials: int) -> int:
    return int(binom.ppf(share, trials, 0.5))
