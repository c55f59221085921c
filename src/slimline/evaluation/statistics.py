"""How sure: intervals of proportions, and paired comparisons of two classifiers on the same images."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import brentq
from scipy.stats import binom, binomtest, norm, t


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
        linear = -b - c + (2 * n - b + c) * difference
        constant = -c * difference * (1 - difference)
        second_only = (np.sqrt(max(linear**2 - 8 * n * constant, 0.0)) - linear) / (4 * n)  # its likeliest share, given the difference
        return float((b - c - n * difference) / np.sqrt(n * (2 * second_only + difference * (1 - difference))))

    z, edge = float(norm.ppf((1 + confidence) / 2)), 1 - 1e-9
    low = brentq(lambda d: statistic(d) - z, -edge, (b - c) / n - 1e-12) if b - c > -n else -1.0
    high = brentq(lambda d: statistic(d) + z, (b - c) / n + 1e-12, edge) if b - c < n else 1.0
    return float(low), float(high)


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
