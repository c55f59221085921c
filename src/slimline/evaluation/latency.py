"""How fast: models measured side by side, in turn, in random order, so that a busy moment of the machine hits all alike."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import onnxruntime
from jaxtyping import Float

from slimline.evaluation.statistics import mean_interval, median_interval, quantile_interval
from slimline.runtime.surroundings import machine

Model = Callable[[np.ndarray], np.ndarray]
Seconds = Float[np.ndarray, " rounds"]
Verdict = Literal["faster", "slower", "no difference shown"]

AGAIN = "reference again"
"""The reference once more among the models that are measured, to see what noise does."""


def measure(models: Mapping[str, Model], images: np.ndarray, *, rounds: int, warm_up: int) -> dict[str, Seconds]:
    """Seconds of each call: `rounds` times, every model once on `images`, in a new random order each time.

    Args:
        warm_up: calls of every model before the first that counts.
    """
    names = list(models)
    for _ in range(warm_up):
        for name in names:
            models[name](images)
    order = np.random.default_rng(0)
    seconds = {name: np.zeros(rounds) for name in names}
    for turn in range(rounds):
        for name in order.permutation(names):
            start = time.perf_counter()
            models[name](images)
            seconds[name][turn] = time.perf_counter() - start
    return seconds


def summarize(seconds: Seconds) -> dict[str, float]:
    """Median and 95th percentile, in milliseconds."""
    p50, p95 = np.quantile(seconds, [0.5, 0.95]) * 1000
    return {"p50_ms": float(p50), "p95_ms": float(p95)}


def spread(seconds: Seconds, images: int, confidence: float) -> dict[str, float | None]:
    """Intervals of what `summarize` gives, in milliseconds; and images a second over all calls of `images` each, with its interval.

    An end that so few rounds do not give is None.
    """
    found: dict[str, float | None] = {}
    for name, share in (("p50", 0.5), ("p95", 0.95)):
        _, low, high = quantile_interval(seconds * 1000, share, confidence)
        found |= {f"{name}_low_ms": low, f"{name}_high_ms": high}
    mean, low, high = mean_interval(seconds, confidence)
    return {
        **found,
        "images_per_second": images / mean,
        "images_per_second_low": images / high,
        "images_per_second_high": images / low if low > 0 else None,
    }


def speed_up(reference: Seconds, seconds: Seconds, confidence: float) -> dict[str, float]:
    """How many times faster than `reference`: median of the ratios within each round, with an interval of that median."""
    ratio, low, high = median_interval(reference / seconds, confidence)
    return {"speed_up": ratio, "low": low, "high": high}


def verdict(ratio: Mapping[str, float], noise: Mapping[str, float]) -> Verdict:
    """Whether a speed-up is one.

    The interval of the ratio must lie on one side of 1, and beyond that of `noise`, which is the reference against itself in the same
    rounds: what the machine does to two calls of the same model shows no difference between two models.
    """
    if ratio["low"] > max(1.0, noise["high"]):
        return "faster"
    return "slower" if ratio["high"] < min(1.0, noise["low"]) else "no difference shown"


def latency(
    models: Mapping[str, Model],
    images: np.ndarray,
    *,
    reference: str,
    batch_sizes: Sequence[int],
    rounds: int,
    warm_up: int,
    threads: int,
    confidence: float,
    further: Sequence[str] = (),
) -> dict[str, Any]:
    """`metrics/latency.json`: every model at every batch size, ratios to `reference`, and that of the reference to itself.

    Args:
        models: by name, taking float32 images in [0, 1].
        images: at least one; repeated where a batch needs more.
        further: models that have ratios to them too, of the same rounds.
    """
    by_model: dict[str, Any] = {name: {} for name in models}
    ratios: dict[str, Any] = {f"ratios_to_{one}": {name: {} for name in models if name != one} for one in (reference, *further)}
    noise: dict[str, dict[str, float]] = {}
    for size in batch_sizes:
        key, batch = f"batch_{size}", np.resize(images, (size, *images.shape[1:]))
        seconds = measure({**models, AGAIN: models[reference]}, batch, rounds=rounds, warm_up=warm_up)
        noise[key] = speed_up(seconds[reference], seconds[AGAIN], confidence)
        for name in models:
            by_model[name][key] = summarize(seconds[name]) | spread(seconds[name], size, confidence)
        for one in (reference, *further):
            for name, found in ratios[f"ratios_to_{one}"].items():
                ratio = speed_up(seconds[one], seconds[name], confidence)
                found[key] = ratio | {"verdict": verdict(ratio, noise[key])}
    return {
        "machine": machine(),
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "threads": threads,
        "rounds": rounds,
        "models": by_model,
        **ratios,
        "noise": noise,
    }
