"""What changed between two sets of prepared data, and whether more than the choice of samples explains it."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, UInt8
from scipy.stats import chi2

from slimline.data.prepared import describe, load_split
from slimline.data.sources.item import SPLITS

CHUNK = 2**21
BINS = 10
SHIFT, LARGE = 0.1, 0.25
CHANCE = 0.01

Counts = Int64[np.ndarray, " bins"]
Row = tuple[bytes, str, str]
"""An image as this comparison knows it: digest of its pixels, split, class."""


@dataclass(frozen=True)
class Stability:
    """How far a distribution moved.

    Args:
        psi: population stability index (`psi`).
        expected: what two samples of one distribution have on average: (bins − 1)(1/n + 1/m).
        sampling: what they exceed once in a hundred times; a smaller `psi` shows no drift, whatever its size.
        bins: how many bins hold an image of either.
        verdict: "stable" below 0.1 or `sampling`, "shift" up to 0.25, "large" above.
    """

    psi: float
    expected: float
    sampling: float
    bins: int
    verdict: str


@dataclass(frozen=True)
class Images:
    """Images by the digest of their pixels.

    Args:
        kept: the same split and class in both.
        moved: the same class, another split; `moves` counts them by "from → to".
        relabelled: another class, whatever the split; `relabels` counts them by "from → to".
        added, removed: in one of the two only.
    """

    kept: int
    moved: int
    relabelled: int
    added: int
    removed: int
    moves: dict[str, int]
    relabels: dict[str, int]


@dataclass(frozen=True)
class Difference:
    """All that `diff` compares; every pair is (before, after).

    Args:
        digests, shapes: of the two data sets (`dataset.json`); a shape is channels, height, width.
        classes_added, classes_removed: by name.
        counts: images of each split.
        balance: split → class → share of its images, of 1.
        images: None where shapes differ, since the pixels of no image are equal then.
        mean, std: of the pixels in [0, 1], a number a channel; of all splits together.
        stability: of the whole sets, by what is compared; what cannot be is missing (`diff`).
    """

    digests: tuple[str, str]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    classes_added: tuple[str, ...]
    classes_removed: tuple[str, ...]
    counts: dict[str, tuple[int, int]]
    balance: dict[str, dict[str, tuple[float, float]]]
    images: Images | None
    mean: tuple[tuple[float, ...], tuple[float, ...]]
    std: tuple[tuple[float, ...], tuple[float, ...]]
    stability: dict[str, Stability]


@dataclass(frozen=True)
class _Content:
    """One prepared folder, read once."""

    digest: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    rows: list[Row]
    levels: Int64[np.ndarray, "channels 256"]
    features: dict[str, Float64[np.ndarray, " n"]]


def diff(before: Path, after: Path) -> Difference:
    """Compare two prepared folders.

    Stability is of the class balance, of pixel values (all channels together), and of each image's brightness (mean), contrast
    (standard deviation) and sharpness (mean difference of neighbouring pixels). Bins are tenths of `before`. Where sizes differ,
    sharpness is left out, since it depends on the size, and so are the images; all else is compared.

    Raises:
        SlimlineError: no prepared data there, or damaged.
    """
    old, new = _content(before), _content(after)
    sizes = len(old.rows), len(new.rows)
    classes = sorted({*old.classes, *new.classes})
    in_split = [Counter((split, label) for _, split, label in content.rows) for content in (old, new)]
    counts = {split: _pair([sum(tally[split, label] for label in classes) for tally in in_split]) for split in SPLITS}
    balance = {
        split: {
            label: _pair([tally[split, label] / max(total, 1) for tally, total in zip(in_split, counts[split], strict=True)]) for label in classes
        }
        for split in SPLITS
    }
    by_class = [np.array([sum(tally[split, label] for split in SPLITS) for label in classes]) for tally in in_split]
    levels, pixels = np.arange(256.0), [content.levels.sum(0) for content in (old, new)]
    cuts = tenths(levels, pixels[0])
    stability = {"class balance": judge(by_class[0], by_class[1], sizes)}
    stability["pixel values"] = judge(binned(levels, cuts, pixels[0]), binned(levels, cuts, pixels[1]), sizes)
    same_size = old.shape[1:] == new.shape[1:]
    for name in old.features if same_size else ("brightness", "contrast"):
        values, others = old.features[name], new.features[name]
        cuts = tenths(*np.unique(values, return_counts=True))
        stability[name] = judge(binned(values, cuts), binned(others, cuts), sizes)
    (old_mean, old_std), (new_mean, new_std) = _moments(old.levels), _moments(new.levels)
    return Difference(
        digests=(old.digest, new.digest),
        shapes=(old.shape, new.shape),
        classes_added=tuple(label for label in classes if label not in old.classes),
        classes_removed=tuple(label for label in classes if label not in new.classes),
        counts=counts,
        balance=balance,
        images=_matched(old.rows, new.rows) if old.shape == new.shape else None,
        mean=(old_mean, new_mean),
        std=(old_std, new_std),
        stability=stability,
    )


def psi(before: Counts, after: Counts) -> float:
    """Population stability index of two histograms over the same bins; symmetric, and 0 for equal ones.

        PSI = Σ_i (a_i − b_i) · ln(a_i / b_i),   a_i = (count_i + ½) / (n + B/2)

    Half an image is added to each of the B bins that either fills (Jeffreys' prior), so a bin that one leaves empty counts much but
    not without bound. Bins that both leave empty say nothing and are left out.

    Source: Siddiqi, "Credit Risk Scorecards", Wiley 2006, whose rule of thumb is 0.1 and 0.25. It is the symmetric Kullback-Leibler
    divergence (Jeffreys, 1946).
    """
    filled = (before + after) > 0
    b, a = before[filled] + 0.5, after[filled] + 0.5
    b, a = b / max(b.sum(), 0.5), a / max(a.sum(), 0.5)
    return float(((a - b) * np.log(a / b)).sum())


def judge(before: Counts, after: Counts, images: tuple[int, int]) -> Stability:
    """`psi`, beside what samples of this size have by chance.

    For two samples of n and m of one distribution, PSI / (1/n + 1/m) follows about χ² with one degree of freedom less than bins
    (Yurdakul & Naranjo, "Statistical properties of the population stability index", Journal of Risk Model Validation 14(4), 2020).

    Args:
        images: n and m. Not the pixels: those of one image are no independent samples.
    """
    value, bins = psi(before, after), int(((before + after) > 0).sum())
    spread = sum(1 / max(count, 1) for count in images)
    expected, sampling = (bins - 1) * spread, float(chi2.ppf(1 - CHANCE, max(bins - 1, 1))) * spread
    verdict = "stable" if value < max(SHIFT, sampling) else "shift" if value <= LARGE else "large"
    return Stability(value, expected, sampling, bins, verdict)


def tenths(values: Float64[np.ndarray, " values"], counts: Int64[np.ndarray, " values"]) -> Float64[np.ndarray, " cuts"]:
    """Cuts of the ascending `values`, each there `counts` times, into ten bins (−∞, c₁], (c₁, c₂], … as equally filled as can be.

    A value that fills a tenth by itself gets a bin of its own, so values below it are seen as such: of a constant, three bins come.
    """
    filled = np.cumsum(counts)
    quantiles = values[np.searchsorted(filled, filled[-1] * np.arange(1, BINS) / BINS)]
    alone, often = np.unique(quantiles, return_counts=True)
    return np.union1d(alone, np.nextafter(alone[often > 1], -np.inf))


def binned(values: Float64[np.ndarray, " values"], cuts: Float64[np.ndarray, " cuts"], counts: Int64[np.ndarray, " values"] | None = None) -> Counts:
    """How many of `values`, each there once or `counts` times, lie in each bin of `tenths`."""
    return np.rint(np.bincount(np.searchsorted(cuts, values), counts, len(cuts) + 1)).astype(np.int64)


def worst(difference: Difference) -> float:
    """The largest stability index that sampling does not explain; 0 where it explains all."""
    return max((entry.psi for entry in difference.stability.values() if entry.psi > entry.sampling), default=0.0)


def as_json(difference: Difference) -> dict[str, Any]:
    """`difference` for a program: its own fields, and `worst`."""
    return {**asdict(difference), "worst": worst(difference)}


def as_text(difference: Difference) -> str:
    """`difference` for a reader at a terminal."""
    d = difference
    sides = [f"{'×'.join(map(str, shape))}, digest {digest[:12]}" for shape, digest in zip(d.shapes, d.digests, strict=True)]
    parts = [f"Before: {sides[0]}; after: {sides[1]}"]
    changes = [("added", d.classes_added), ("removed", d.classes_removed)]
    parts += [f"Classes {word}: {', '.join(classes)}" for word, classes in changes if classes]
    parts.append(_table([["images", "before", "after"], *([split, f"{old:,}", f"{new:,}"] for split, (old, new) in d.counts.items())]))
    if d.images is None:
        parts.append("Images of different shapes cannot be matched with each other; sharpness is compared between equal sizes alone.")
    else:
        kinds = [[kind, f"{getattr(d.images, kind):,}"] for kind in ("kept", "moved", "relabelled", "added", "removed")]
        parts.append(_table([["same pixels", "images"], *kinds]))
        routes = [[f"{kind}: {route}", f"{count:,}"] for kind in ("moves", "relabels") for route, count in getattr(d.images, kind).items()]
        if routes:
            parts.append(_table([["from → to", "images"], *routes]))
    header = ["share of class", *(f"{split} {when}" for split in SPLITS for when in ("before", "after"))]
    labels = list(d.balance[SPLITS[0]])
    parts.append(_table([header, *([label, *(f"{share:.1%}" for split in SPLITS for share in d.balance[split][label])] for label in labels)]))
    moments = [[name, *(" ".join(f"{value:.3f}" for value in side) for side in sides)] for name, sides in (("mean", d.mean), ("std", d.std))]
    parts.append(_table([["pixels in [0, 1]", "before", "after"], *moments]))
    rows = [[name, f"{s.psi:.3f}", f"{s.expected:.3f}", f"{s.sampling:.3f}", s.verdict] for name, s in d.stability.items()]
    parts.append(_table([["stability index", "PSI", "by chance", "at most (99 %)", "verdict"], *rows]))
    parts.append("PSI below 0.1: stable; to 0.25: shift; above: large. What sampling alone brings in 99 of 100 cases is no drift.")
    return "\n\n".join(parts)


def difference_command(before: Path, after: Path, *, as_program: bool, limit: float | None) -> bool:
    """Print the difference, as JSON for a program; say whether it stays within `limit`, where one is given."""
    difference = diff(before, after)
    print(json.dumps(as_json(difference), indent=2) if as_program else as_text(difference))
    return limit is None or worst(difference) <= limit


def _content(folder: Path) -> _Content:
    description = describe(folder)
    rows: list[Row] = []
    levels = np.zeros((description.input_shape[0], 256), np.int64)
    features: dict[str, list[np.ndarray]] = {"brightness": [], "contrast": [], "sharpness": []}
    for split in SPLITS:
        images = load_split(folder, split)
        names = (description.classes[label] for label in images.labels.tolist())
        for part in _parts(images.pixels.numpy()):
            rows += [(hashlib.blake2b(image.tobytes(), digest_size=16).digest(), split, next(names)) for image in part]
            for channel, tally in enumerate(levels):
                tally += np.bincount(part[:, channel].reshape(-1), minlength=256)
            for name, values in _features(part).items():
                features[name].append(values)
    joined = {name: np.concatenate(values) if values else np.zeros(0) for name, values in features.items()}
    return _Content(description.digest, description.input_shape, description.classes, rows, levels, joined)


def _parts(pixels: UInt8[np.ndarray, "n channels height width"]) -> Iterator[UInt8[np.ndarray, "part channels height width"]]:
    size = max(1, CHUNK // int(np.prod(pixels.shape[1:])))
    return (pixels[start : start + size] for start in range(0, len(pixels), size))


def _features(images: UInt8[np.ndarray, "n channels height width"]) -> dict[str, Float64[np.ndarray, " n"]]:
    """A number an image: mean and standard deviation of its pixels, mean absolute difference of its neighbours, all in [0, 1]."""
    pixels = images.astype(np.float32)
    steps = [np.abs(np.diff(pixels, axis=axis)).mean((1, 2, 3), dtype=np.float64) for axis in (2, 3) if images.shape[axis] > 1]
    return {
        "brightness": pixels.mean((1, 2, 3), dtype=np.float64) / 255,
        "contrast": pixels.std((1, 2, 3), dtype=np.float64) / 255,
        "sharpness": sum(steps, np.zeros(len(images))) / max(len(steps), 1) / 255,
    }


def _moments(levels: Int64[np.ndarray, "channels 256"]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of pixels in [0, 1]."""
    values, share = np.arange(256) / 255, levels / np.maximum(levels.sum(1, keepdims=True), 1)
    mean = share @ values
    return tuple(mean.tolist()), tuple(np.sqrt((share * (values - mean[:, None]) ** 2).sum(1)).tolist())


def _matched(before: Sequence[Row], after: Sequence[Row]) -> Images:
    """Pair every image of `before` with an equal one of `after`, the least changed first; copies are paired one by one."""
    kept, before, after = _paired(before, after, lambda row: row)
    moved, before, after = _paired(before, after, lambda row: (row[0], row[2]))
    in_place, before, after = _paired(before, after, lambda row: row[:2])
    elsewhere, before, after = _paired(before, after, lambda row: row[0])
    relabelled = in_place + elsewhere
    moves = Counter(f"{old[1]} → {new[1]}" for old, new in moved)
    relabels = Counter(f"{old[2]} → {new[2]}" for old, new in relabelled)
    return Images(len(kept), len(moved), len(relabelled), len(after), len(before), dict(moves.most_common()), dict(relabels.most_common()))


def _paired(before: Sequence[Row], after: Sequence[Row], key: Callable[[Row], Any]) -> tuple[list[tuple[Row, Row]], list[Row], list[Row]]:
    """Pairs of rows with equal `key`, and what is left of either."""
    waiting: Mapping[Any, list[Row]] = defaultdict(list)
    for row in before:
        waiting[key(row)].append(row)
    pairs, left = [], []
    for row in after:
        if same := waiting.get(key(row)):
            pairs.append((same.pop(), row))
        else:
            left.append(row)
    return pairs, [row for rows in waiting.values() for row in rows], left


def _pair(values: Sequence[Any]) -> tuple[Any, Any]:
    first, second = values
    return first, second


def _table(rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows)
