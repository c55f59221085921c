"""What changed between two sets of prepared data, and whether more than the choice of samples explains it."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int32, Int64, Shaped, UInt8
from scipy.stats import chi2

from slimline.data.prepared import describe, load_split
from slimline.data.sources.item import SPLITS
from slimline.errors import SlimlineError

CHUNK = 2**21
"""Bytes of pixels that are read and measured at once; as float32 they take four times that."""

BINS = 10
"""Bins of a histogram that is compared: tenths, as is usual for this index."""

SHIFT, LARGE = 0.1, 0.25
"""Population stability index, without unit: from the first on a shift, above the second a large one (Siddiqi's rule of thumb; `psi`)."""

CHANCE = 0.01
"""Probability with which two samples of one distribution exceed what sampling is said to bring."""

DIGEST = 16
"""Bytes of an image's digest: of a million images two that differ have the same with a probability of 10⁻²⁷."""

Counts = Int64[np.ndarray, " bins"]


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
class _Rows:
    """Images as this comparison knows them, in columns.

    Args:
        image: digest of its pixels, or a number that stands for it.
        split, label: numbers of `SPLITS` and of classes.
    """

    image: Shaped[np.ndarray, " n"]
    split: Int8[np.ndarray, " n"]
    label: Int32[np.ndarray, " n"]

    def at(self, chosen: Int64[np.ndarray, " chosen"]) -> "_Rows":
        return _Rows(self.image[chosen], self.split[chosen], self.label[chosen])

    def but(self, chosen: Int64[np.ndarray, " chosen"]) -> "_Rows":
        return self.at(np.delete(np.arange(len(self.split)), chosen))

    def key(self, classes: int, *, split: bool, label: bool) -> Int64[np.ndarray, " n"]:
        """One number for the image, and for its split and class where these are asked for; `image` must be numbers."""
        key = self.image.astype(np.int64)
        if split:
            key = key * len(SPLITS) + self.split
        return key * classes + self.label if label else key


@dataclass(frozen=True)
class _Content:
    """One prepared folder, read once; `rows` number `SPLITS` and `classes`."""

    digest: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    rows: _Rows
    levels: Int64[np.ndarray, "channels 256"]
    features: dict[str, Float64[np.ndarray, " n"]]

    def renumbered(self, classes: Sequence[str]) -> _Rows:
        """`rows` with numbers of `classes`, which hold all of its own."""
        number = {name: index for index, name in enumerate(classes)}
        own = np.array([number[name] for name in self.classes], np.int32)
        return replace(self.rows, label=own[self.rows.label])


def diff(before: Path, after: Path) -> Difference:
    """Compare two prepared folders.

    Stability is of the class balance, of pixel values (all channels together), and of each image's brightness (mean), contrast
    (standard deviation) and sharpness (mean difference of neighbouring pixels). Bins are tenths of `before`. Where sizes differ,
    sharpness is left out, since it depends on the size, and so are the images; all else is compared.

    Raises:
        SlimlineError: no prepared data there, none at all, or damaged.
    """
    old, new = _content(before), _content(after)
    classes = sorted({*old.classes, *new.classes})
    rows = old.renumbered(classes), new.renumbered(classes)
    sizes = len(rows[0].split), len(rows[1].split)
    if not all(sizes):
        empty = after if sizes[0] else before
        raise SlimlineError(f"{empty}: no image in it to compare; run the prepare stage again (dvc repro --force prepare)")
    tallies = [_tally(one, len(classes)) for one in rows]
    counts = {split: _pair([int(tally[number].sum()) for tally in tallies]) for number, split in enumerate(SPLITS)}
    balance = {
        split: {
            label: _pair([int(tally[number, index]) / max(total, 1) for tally, total in zip(tallies, counts[split], strict=True)])
            for index, label in enumerate(classes)
        }
        for number, split in enumerate(SPLITS)
    }
    by_class = [tally.sum(0) for tally in tallies]
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
        images=_matched(*rows, classes) if old.shape == new.shape else None,
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


def _content(folder: Path) -> _Content:
    description = describe(folder)
    splits = [load_split(folder, split) for split in SPLITS]
    count = sum(map(len, splits))
    # Columns, not an object an image: of a million images these take 45 MB, and lists of tuples half a gigabyte.
    digest = np.empty(count, f"S{DIGEST}")
    features = {name: np.empty(count) for name in ("brightness", "contrast", "sharpness")}
    levels = np.zeros((description.input_shape[0], 256), np.int64)
    start = 0
    for images in splits:
        for part in _parts(images.pixels.numpy()):
            rows = slice(start, start + len(part))
            digest[rows] = [hashlib.blake2b(image.tobytes(), digest_size=DIGEST).digest() for image in part]
            for channel, tally in enumerate(levels):
                tally += np.bincount(part[:, channel].reshape(-1), minlength=256)
            for name, values in _features(part).items():
                features[name][rows] = values
            start = rows.stop
    split = np.repeat(np.arange(len(SPLITS), dtype=np.int8), [len(images) for images in splits])
    label = np.concatenate([images.labels.numpy().astype(np.int32) for images in splits])
    return _Content(description.digest, description.input_shape, description.classes, _Rows(digest, split, label), levels, features)


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


def _tally(rows: _Rows, classes: int) -> Int64[np.ndarray, "splits classes"]:
    """Images of each split and class."""
    return np.bincount(rows.split.astype(np.int64) * classes + rows.label, minlength=len(SPLITS) * classes).reshape(len(SPLITS), classes)


def _matched(before: _Rows, after: _Rows, classes: Sequence[str]) -> Images:
    """Pair every image of `before` with an equal one of `after`, the least changed first; copies are paired one by one."""
    ranks = np.unique(np.concatenate([before.image, after.image]), return_inverse=True)[1].astype(np.int32)
    left = replace(before, image=ranks[: len(before.image)]), replace(after, image=ranks[len(before.image) :])
    pairs = []
    for same_split, same_label in ((True, True), (False, True), (True, False), (False, False)):
        keys = [rows.key(len(classes), split=same_split, label=same_label) for rows in left]
        chosen = _paired(keys[0], keys[1])
        pairs.append([rows.at(which) for rows, which in zip(left, chosen, strict=True)])
        left = left[0].but(chosen[0]), left[1].but(chosen[1])
    kept, moved, in_place, elsewhere = pairs
    moves = _routes(moved[0].split, moved[1].split, SPLITS)
    labels = [np.concatenate([one.label, other.label]) for one, other in zip(in_place, elsewhere, strict=True)]
    relabels = _routes(labels[0], labels[1], classes)
    return Images(len(kept[0].split), sum(moves.values()), sum(relabels.values()), len(left[1].split), len(left[0].split), moves, relabels)


def _paired(before: Int64[np.ndarray, " n"], after: Int64[np.ndarray, " m"]) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """Positions of equal keys, as many of a key as either has; the first of one belongs to the first of the other, and so on."""
    orders = np.argsort(before, kind="stable"), np.argsort(after, kind="stable")
    old, new = before[orders[0]], after[orders[1]]
    return orders[0][_has_partner(old, new)], orders[1][_has_partner(new, old)]


def _has_partner(keys: Int64[np.ndarray, " n"], others: Int64[np.ndarray, " m"]) -> Bool[np.ndarray, " n"]:
    """Of ascending keys: whether fewer equal ones stand before it than `others`, ascending too, hold."""
    before = np.arange(len(keys)) - np.searchsorted(keys, keys)
    return before < np.searchsorted(others, keys, "right") - np.searchsorted(others, keys)


def _routes(before: Shaped[np.ndarray, " n"], after: Shaped[np.ndarray, " n"], names: Sequence[str]) -> dict[str, int]:
    """How often each change from one of `names` to another occurs, the most frequent first."""
    routes, counts = np.unique(before.astype(np.int64) * len(names) + after, return_counts=True)
    pairs = zip(routes.tolist(), counts.tolist(), strict=True)
    named = {f"{names[route // len(names)]} → {names[route % len(names)]}": count for route, count in pairs}
    return dict(Counter(named).most_common())


def _pair(values: Sequence[Any]) -> tuple[Any, Any]:
    first, second = values
    return first, second
