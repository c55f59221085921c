"""Images whose label is perhaps wrong, and how far such a list can be believed on these images.

Every image is judged by a linear classifier of gradient directions that has seen neither it nor a copy of it; the label is doubtful
where that classifier finds another class likelier. How well this works on the images at hand is measured: a known share of labels is
changed at random, everything is scored again, and it is counted how many of the changed labels are named.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8, UInt32
from scipy.linalg import solve
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
from threadpoolctl import threadpool_limits

from slimline.data.prepare.features import Features, parts, read

FOLDS = 5
"""Parts of the images; each is scored by a classifier fitted on the others, four fifths. Time grows with their number."""

RIDGE = (1e-4, 1e-3, 1e-2, 1e-1)
"""Strengths of the ridge that are tried, in units of the mean diagonal element of FᵀF: decades, from almost none."""

SHARE = 0.05
"""Share of labels changed for the measurement; with few, little would be measured, with many, the classifier would be another."""

ENOUGH = 20
"""Changed labels, at least, in each of the two measurements: of fewer, a share is known to no better than ±22 points (95 %)."""

MOST = 70_000
"""Images that are scored, at most: all of MNIST, in seconds."""

MOST_PIXELS = 2**32
"""Bytes of pixels that are read, at most (4 GiB), which bounds time where images are large."""

MOST_PREDICTIONS = 10_000_000
"""Predictions, one an image and class, in memory at once: 40 MB of float32."""

Scores = Float64[np.ndarray, " n"]
Predictions = Float32[np.ndarray, "n classes"]


@dataclass(frozen=True)
class Planted:
    """How well changed labels are found on these images.

    Args:
        images: how many were scored.
        planted: how many of their labels were changed, each to any other class alike.
        named: how many were named then.
        found: how many of `planted` were among the named.
        roc_auc: chance that a changed label has a higher score than an unchanged one.
        average_precision: area under precision over recall; `planted / images` is what guessing gives.
    """

    images: int
    planted: int
    named: int
    found: int
    roc_auc: float
    average_precision: float

    @property
    def precision(self) -> float:
        """Share of changed labels among the named; 0 where none is named."""
        return self.found / max(self.named, 1)

    @property
    def recall(self) -> float:
        """Share of named ones among the changed labels."""
        return self.found / self.planted

    @property
    def false_alarms(self) -> float:
        """Share of named ones among the unchanged labels, of which some may be wrong indeed."""
        return (self.named - self.found) / (self.images - self.planted)

    @property
    def believable(self) -> bool:
        """Whether surely (95 %, one-sided) more than half of what is named had been changed."""
        return self.named > 0 and float(binomtest(self.found, self.named).proportion_ci(0.9, method="wilson").low) > 0.5


@dataclass(frozen=True)
class Noise:
    """Doubt about labels.

    Args:
        positions: the images scored, ascending: all, or a random part of a large set.
        scores: of each of these, in [0, 1], six digits; above 0.5 where another class is likelier than the label.
        named: positions whose score reaches `threshold`, the most doubtful first.
        likelier: for each of `named` the class it is more like.
        threshold: the score from which an image is named.
        check: how well this finds changed labels; None where there are too few images to tell, and none is named then.
    """

    positions: Int64[np.ndarray, " n"]
    scores: Scores
    named: Int64[np.ndarray, " candidates"]
    likelier: Int64[np.ndarray, " candidates"]
    threshold: float
    check: Planted | None

    @property
    def worth_telling(self) -> bool:
        """Whether there is a list, and it can be believed."""
        return self.check is not None and self.check.believable and len(self.named) > 0

    def sentence(self) -> str:
        """What the list is worth, for a reader."""
        if self.check is None:
            return f"cannot tell which labels are wrong: {len(self.positions)} images are too few to try it on; none is named"
        tested = (
            f"tried on {self.check.planted:,} labels changed at random among {self.check.images:,}: it found {self.check.recall:.0%} of these, "
            f"and {self.check.precision:.0%} of what it named had been changed"
        )
        if not self.check.believable:
            return f"cannot tell which labels are wrong on these images ({tested}); believe no single one of the {len(self.named):,} named"
        return f"doubtful labels: {len(self.named):,} ({tested})"


# One thread is as fast here, and ten times as fast where other processes compete: BLAS's threads wait for each other spinning.
@threadpool_limits.wrap(limits=1, user_api="blas")
def label_noise(
    images: UInt8[np.ndarray, "rows c h w"], labels: Int64[np.ndarray, " n"], *, seed: int, rows: Int64[np.ndarray, " n"] | None = None
) -> Noise:
    """Score every label by how much likelier another class is (`margin_scores`), and measure how well that works.

    Labels are changed twice: the threshold that is best (F1) on the first change is measured on the second. An image whose class has
    no image in another fold cannot be judged: its score is 0. Odd images (equal, constant, few) are no error.

    Args:
        images: of any size, may be a memory map; read once, in parts of 16 MiB.
        labels: any integers.
        rows: the image of each label; None: they are in one order.
        seed: decides folds and changed labels, together with each image's pixels; and which images are scored of more than can be.
    """
    classes, given = np.unique(labels, return_inverse=True)
    rows = np.arange(len(labels)) if rows is None else rows
    positions = _chosen(len(labels), int(np.prod(images.shape[1:])), len(classes), seed)
    given = given[positions]
    words, features = read(images, rows[positions], seed)
    fold = (words[:, 0] % FOLDS).astype(np.int64)
    model = OutOfFold(features, fold, given, len(classes))
    changes = [injected(given, model.scorable(given), words[:, column], words[:, column + 1], len(classes)) for column in (1, 3)]
    scores, other = model.scores(given)
    check, threshold = None, 1.0
    if min(int((changed != given).sum()) for changed in changes) >= ENOUGH:
        first, second = (model.scores(changed)[0] for changed in changes)
        threshold = best_threshold(changes[0] != given, first)
        check = measured(changes[1] != given, second, threshold)
    doubtful = np.flatnonzero(scores >= threshold) if check else np.zeros(0, np.int64)
    doubtful = doubtful[np.argsort(-scores[doubtful], kind="stable")]
    return Noise(positions, scores, positions[doubtful], classes[other[doubtful]].astype(np.int64), threshold, check)


def _chosen(count: int, size: int, classes: int, seed: int) -> Int64[np.ndarray, " chosen"]:
    """All of `count` positions, or as many at random as time (pixels) and memory (predictions) allow; `size` values an image."""
    limit = max(2, min(MOST, MOST_PIXELS // max(size, 1), MOST_PREDICTIONS // max(classes, 1)))
    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))


class OutOfFold:
    """Ridge regressions onto one-hot labels (regularised linear discriminants), one a fold, which share their sums.

    The one that judges fold k is made from the sums FᵀF and FᵀY of all other folds; the strength of the ridge is the one, of four,
    with the least squared error on the folds left out. An image's fold follows from its pixels, so no copy vouches for its label.
    """

    def __init__(self, features: Features, fold: Int64[np.ndarray, " n"], labels: Int64[np.ndarray, " n"], classes: int) -> None:
        self.features, self.fold, self.classes = features, fold, classes
        size = features.shape[1]
        self.products = np.zeros((FOLDS, size, size))
        for part in parts(len(features)):
            for number in range(FOLDS):
                chosen = features[part][fold[part] == number].astype(np.float32)
                self.products[number] += chosen.T @ chosen
        self.total = self.products.sum(0)
        targets = self._targets(labels)
        scale = np.trace(self.total) / size
        self.ridge = min((value * scale for value in RIDGE), key=lambda ridge: self._loss(ridge, targets))

    def scorable(self, labels: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Whether another fold holds an image of the same class."""
        counts = self._counts(labels)
        return counts.sum(0)[labels] > counts[self.fold, labels]

    def scores(self, labels: Int64[np.ndarray, " n"]) -> tuple[Scores, Int64[np.ndarray, " n"]]:
        """Doubt about each label, and the likeliest other class."""
        targets = self._targets(labels)
        predictions = np.zeros((len(labels), self.classes), np.float32)
        for number in range(FOLDS):
            weights = self._weights(number, self.ridge, targets)
            members = np.flatnonzero(self.fold == number)
            for part in parts(len(members)):
                predictions[members[part]] = self.features[members[part]].astype(np.float64) @ weights
        scores, other = margin_scores(predictions, labels)
        return np.where(self.scorable(labels), scores, 0.0), other

    def _counts(self, labels: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, "folds classes"]:
        return np.bincount(self.fold * self.classes + labels, minlength=FOLDS * self.classes).reshape(FOLDS, self.classes)

    def _targets(self, labels: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, "folds features classes"]:
        """Sum of the features of each fold and class."""
        sums = np.zeros((FOLDS, self.features.shape[1], self.classes))
        group = self.fold * self.classes + labels
        for value in np.unique(group):
            number, label = divmod(int(value), self.classes)
            sums[number, :, label] = self.features[group == value].sum(0, dtype=np.int64)
        return sums

    def _weights(self, number: int, ridge: float, targets: Float64[np.ndarray, "folds features classes"]) -> Float64[np.ndarray, "features classes"]:
        matrix = self.total - self.products[number]
        matrix[np.diag_indices_from(matrix)] += ridge
        return solve(matrix, targets.sum(0) - targets[number], assume_a="pos", overwrite_a=True)

    def _loss(self, ridge: float, targets: Float64[np.ndarray, "folds features classes"]) -> float:
        """Squared error on the images left out, less what does not depend on `ridge`: ‖Y − FW‖² = ‖Y‖² − 2 tr WᵀFᵀY + tr WᵀFᵀFW."""
        loss = 0.0
        for number in range(FOLDS):
            weights = self._weights(number, ridge, targets)
            loss += float((weights * (self.products[number] @ weights - 2 * targets[number])).sum())
        return loss


def margin_scores(predictions: Predictions, labels: Int64[np.ndarray, " n"]) -> tuple[Scores, Int64[np.ndarray, " n"]]:
    """From out-of-fold predictions f to doubt in [0, 1], six digits, and the likeliest other class.

        score = 1 / (1 + exp(−4 m)),   m = max_{k≠y} (f_k − t_k) − (f_y − t_y)

    t_k: mean f_k of the images labelled k, which evens out frequent and rare classes.

    Source: Northcutt, Jiang & Chuang, "Confident learning: estimating uncertainty in dataset labels", JAIR 70, 2021 (normalised
    margin, per-class thresholds).
    """
    everyone, counts = np.arange(len(labels)), np.bincount(labels, minlength=predictions.shape[1])
    thresholds = np.bincount(labels, predictions[everyone, labels], predictions.shape[1]) / np.maximum(counts, 1)
    adjusted = predictions - thresholds.astype(np.float32)
    own = adjusted[everyone, labels]
    adjusted[everyone, labels] = -np.inf
    other = adjusted.argmax(1)
    margin = np.clip(adjusted[everyone, other] - own, -8, 8).astype(np.float64)
    return np.round(1 / (1 + np.exp(-4 * margin)), 6), other


def injected(
    labels: Int64[np.ndarray, " n"], scorable: Bool[np.ndarray, " n"], draw: UInt32[np.ndarray, " n"], turn: UInt32[np.ndarray, " n"], classes: int
) -> Int64[np.ndarray, " n"]:
    """`labels` with about one in twenty changed to another class, any alike."""
    others = max(classes - 1, 1)
    return np.where((draw < SHARE * 2**32) & scorable, (labels + 1 + turn % others) % classes, labels)


def best_threshold(changed: Bool[np.ndarray, " n"], scores: Scores) -> float:
    """The score, at least 0.5, from which naming finds changed labels best: highest F1."""
    precision, recall, thresholds = precision_recall_curve(changed, scores)
    best = np.argmax((precision * recall / np.maximum(precision + recall, 1e-12))[:-1])
    return max(float(thresholds[best]), 0.5)


def measured(changed: Bool[np.ndarray, " n"], scores: Scores, threshold: float) -> Planted:
    """Count what naming all from `threshold` on finds of the labels `changed`."""
    named = scores >= threshold
    return Planted(
        images=len(scores),
        planted=int(changed.sum()),
        named=int(named.sum()),
        found=int((named & changed).sum()),
        roc_auc=float(roc_auc_score(changed, scores)),
        average_precision=float(average_precision_score(changed, scores)),
    )
