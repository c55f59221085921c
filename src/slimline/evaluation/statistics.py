"""How sure: intervals of proportions, and paired comparisons of two classifiers on the same images."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import brentq
from scipy.stats import binom, binomtest, norm


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
    images = len(first)
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
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
        linear = -b - c + (2 * n - b + c) * difference
        constant = -c * difference * (1 - difference)
        second_only = (np.sqrt(max(linear**2 - 8 * n * constant, 0.0)) - linear) / (4 * n)  # its likeliest share, given the difference
        return float((b - c - n * difference) / np.sqrt(n * (2 * second_only + difference * (1 - difference))))

    z, edge = float(norm.ppf((1 + confidence) / 2)), 1 - 1e-9
    low = brentq(lambda d: statistic(d) - z, -edge, (b - c) / n - 1e-12) if b - c > -n else -1.0
    high = brentq(lambda d: statistic(d) + z, (b - c) / n + 1e-12, edge) if b - c < n else 1.0
    return float(low), float(high)


def median_interval(values: Float[np.ndarray, " n"], confidence: float) -> tuple[float, float, float]:
    """Median of `values` and its distribution-free interval from order statistics (binomial)."""
    ordered = np.sort(values)
    margin = (1 - confidence) / 2
    # As many values lie below the median as heads fall in n throws; both ends leave out the same number of values.
    high = min(int(binom.ppf(1 - margin, len(values), 0.5)), len(values) - 1)
    return float(np.median(ordered)), float(ordered[len(values) - 1 - high]), float(ordered[high])
