"""The table of README.md, from results.json."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import t

from experiments.lab import Records, said
from slimline.report.record import between, markdown

HERE = Path(__file__).resolve().parent
BEGIN = "<!-- results: made by `python -m experiments.sweep_samplers.measure record` from results.json -->"
END = "<!-- end of results -->"
SAMPLERS = {"tpe": {"name": "tpe"}, "random": {"name": "random"}}
CHANCE = "random"
OBJECTIVES = ("validation_accuracy", "packed_bytes", "bops")
WORST = (0.9, 65_536.0, 64 * 1_278_336.0)
BEST = (1.0, 0.0, 0.0)
"""The corners of the box within which volume is counted, set before any search was run: 90 % of the images, a byte a weight, 8 × 8 bits a
product of the student."""
CONFIDENCE = 0.95

Points = Sequence[Sequence[float]]


def renewed() -> str:
    """README.md with what results.json says."""
    return between((HERE / "README.md").read_text(), BEGIN, END, said(HERE / "results.json", parts))


def parts(records: Records, _images: int) -> list[str]:
    volumes = {name: {seed: hypervolume(gains(record["scores"])) for seed, record in of.items()} for name, of in records.items()}
    rows, told = [], []
    for name, of in volumes.items():
        values = np.array(list(of.values()))
        rows.append([name, str(next(iter(records[name].values()))["trials"]), *(f"{value:.4f}" for value in values), f"{values.mean():.4f}"])
        if name != CHANCE:
            pairs = np.array([of[seed] - volumes[CHANCE][seed] for seed in of if seed in volumes[CHANCE]])
            half = t.ppf(0.5 + CONFIDENCE / 2, len(pairs) - 1) * pairs.std(ddof=1) / np.sqrt(len(pairs))
            told.append(
                f"{name} against {CHANCE}, paired by seed: {pairs.mean():+.4f} ({CONFIDENCE:.0%} interval {pairs.mean() - half:+.4f} to "
                f"{pairs.mean() + half:+.4f}, Student's t), larger in {int((pairs > 0).sum())} of {len(pairs)} seeds."
            )
    seeds = [f"seed {seed}" for seed in next(iter(volumes.values()))]
    return [markdown(["sampler", "trials", *seeds, "mean"], rows), " ".join(told)]


def gains(scores: Points) -> Points:
    """Where each trial lies between the corners of the box, by objective: 0 the worst, 1 the best; without those outside of it."""
    found = [[(value - worst) / (best - worst) for value, worst, best in zip(row, WORST, BEST, strict=True)] for row in scores]
    return [row for row in found if min(row) > 0]


def hypervolume(points: Points) -> float:
    """The volume of what some point, in [0, 1]^3, is at least as good in as: slices between two points' last coordinates."""
    found, below = 0.0, 0.0
    for height in sorted({point[2] for point in points}):
        found += (height - below) * _area([point[:2] for point in points if point[2] >= height])
        below = height
    return found


def _area(points: Points) -> float:
    found, highest = 0.0, 0.0
    for x, y in sorted(points, reverse=True):  # to the left of x, what is higher than all before
        found += x * max(y - highest, 0.0)
        highest = max(highest, y)
    return found
