"""What a model's logits on a split say about it, and where several models part."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import log_softmax

from slimline.evaluation.statistics import wilson

ECE_BINS = 15
TOP = 5
FEW_CLASSES = 10
"""With as many, the first five answers are right of anything that has learned at all, so nothing is said of them."""

SHOWN = 200
"""Images on which models disagree, in the scorecard; beyond them it says how many there are."""


@dataclass(frozen=True)
class Answers:
    """A model's logits on one split, beside the labels."""

    logits: Float[np.ndarray, "n classes"]
    labels: Int[np.ndarray, " n"]

    @property
    def predicted(self) -> Int[np.ndarray, " n"]:
        return self.logits.argmax(1)

    @property
    def right(self) -> Bool[np.ndarray, " n"]:
        return self.predicted == self.labels

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())

    @property
    def log_probabilities(self) -> Float[np.ndarray, "n classes"]:
        return log_softmax(self.logits.astype(np.float64), axis=1)

    @property
    def sureness(self) -> Float[np.ndarray, " n"]:
        """The probability that the model gives its own answer."""
        return np.exp(self.log_probabilities.max(1))


@dataclass(frozen=True)
class Bin:
    """Images that a model answered about equally surely.

    Args:
        low, high: between them lies the probability of the answer; `high` is within the last bin alone.
        images: how many.
        confidence: their mean probability.
        accuracy: share of them that is right.
    """

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


def score(validation: Answers, test: Answers, confidence: float) -> dict[str, Any]:
    """Accuracy on both splits; of the test split intervals, errors, classes, confusion, calibration and likelihood."""
    low, high = wilson(int(test.right.sum()), len(test.right), confidence)
    bins = reliability(test)
    return {
        "validation_accuracy": validation.accuracy,
        "accuracy": test.accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "errors": int((~test.right).sum()),
        "top5_accuracy": top_accuracy(test, TOP) if test.logits.shape[1] > FEW_CLASSES else None,
        "nll": negative_log_likelihood(test),
        "ece": calibration_error(bins),
        "reliability": [asdict(one) for one in bins],
        "per_class": per_class(test, confidence),
        "confusion": [[int(a), int(p), int(n)] for (a, p), n in np.ndenumerate(confusion(test)) if n],
    }


def top_accuracy(answers: Answers, top: int) -> float:
    """Share of images whose class is among the `top` largest logits; equal logits count in the order of classes, as for the first answer."""
    own = np.take_along_axis(answers.logits, answers.labels[:, None], 1)
    before = np.arange(answers.logits.shape[1]) < answers.labels[:, None]
    rank = (answers.logits > own).sum(1) + ((answers.logits == own) & before).sum(1)
    return float((rank < top).mean())


def negative_log_likelihood(answers: Answers) -> float:
    """Mean of -ln of the probability given to the right class, in nats."""
    return float(-np.take_along_axis(answers.log_probabilities, answers.labels[:, None], 1).mean())


def reliability(answers: Answers, bins: int = ECE_BINS) -> list[Bin]:
    """The reliability diagram's bins of equal width (DeGroot and Fienberg, 1983), without empty ones."""
    edges = np.linspace(0, 1, bins + 1)
    sure, right = answers.sureness, answers.right
    # As exact as the edges themselves; a probability of 1 belongs into the last bin, not into one of its own.
    place = np.minimum(np.searchsorted(edges, sure, side="right") - 1, bins - 1)
    return [
        Bin(float(edges[k]), float(edges[k + 1]), int(there.sum()), float(sure[there].mean()), float(right[there].mean()))
        for k in range(bins)
        if (there := place == k).any()
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: mean over images of their bin's |accuracy - confidence| (Guo et al., 2017).

    Chance alone makes it positive, the more so the fewer images (Kumar et al., "Verified uncertainty calibration", 2019).
    """
    return sum(one.images * abs(one.accuracy - one.confidence) for one in bins) / sum(one.images for one in bins)


def per_class(answers: Answers, confidence: float) -> list[dict[str, Any]]:
    """Of each class, in their order: its images, those that are right, the share with its interval; None for a class without images."""
    rows = []
    for number in range(answers.logits.shape[1]):
        there = answers.labels == number
        images, right = int(there.sum()), int(answers.right[there].sum())
        low, high = wilson(right, images, confidence) if images else (None, None)
        accuracy = right / images if images else None
        rows.append({"images": images, "right": right, "accuracy": accuracy, "accuracy_low": low, "accuracy_high": high})
    return rows


def confusion(answers: Answers) -> Int[np.ndarray, "actual predicted"]:
    """Counts of images by actual class (rows) and predicted class (columns)."""
    classes = answers.logits.shape[1]
    return np.bincount(answers.labels * classes + answers.predicted, minlength=classes**2).reshape(classes, classes)


def agreement(answers: Answers, reference: Answers, confidence: float) -> dict[str, float]:
    """On what share of images a model answers as `reference` does, right or wrong, with its interval."""
    same = answers.predicted == reference.predicted
    low, high = wilson(int(same.sum()), len(same), confidence)
    return {"agreement": float(same.mean()), "agreement_low": low, "agreement_high": high}


def disagreements(models: Mapping[str, Answers], first: str, last: str, shown: int = SHOWN) -> dict[str, Any]:
    """The images on which not all models answer the same.

    Args:
        models: answers to the same images.
        first, last: two of the models; what the first has right and the last has not is told before all else, then the reverse.

    Returns:
        `images`, how many there are, and `shown` of them: the image's number in the split, its class, and of each model its answer
        and how probable it holds that.
    """
    predicted = {name: one.predicted for name, one in models.items()}
    sureness = {name: one.sureness for name, one in models.items()}
    labels = models[first].labels
    apart = np.flatnonzero(np.any([one != predicted[first] for one in predicted.values()], axis=0))
    lost = models[first].right & ~models[last].right
    won = ~models[first].right & models[last].right
    kinds = np.where(lost, 0, np.where(won, 1, 2))[apart]
    rows = [
        {
            "image": int(image),
            "actual": int(labels[image]),
            "answers": {name: {"predicted": int(predicted[name][image]), "probability": round(float(sureness[name][image]), 4)} for name in models},
        }
        for image in apart[np.argsort(kinds, kind="stable")][:shown]
    ]
    return {"images": len(apart), "shown": rows}
