"""What a model's logits on a split say about it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torchmetrics.functional.classification import multiclass_calibration_error

from slimline.evaluation.statistics import wilson

ECE_BINS = 15


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


def score(validation: Answers, test: Answers, confidence: float) -> dict[str, Any]:
    """Accuracy on both splits, interval and errors on the test split, and expected calibration error (Guo et al., 2017, 15 bins)."""
    low, high = wilson(int(test.right.sum()), len(test.right), confidence)
    probabilities = torch.from_numpy(test.logits).softmax(1)
    ece = multiclass_calibration_error(probabilities, torch.from_numpy(test.labels), num_classes=test.logits.shape[1], n_bins=ECE_BINS)
    return {
        "validation_accuracy": validation.accuracy,
        "accuracy": test.accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "errors": int((~test.right).sum()),
        "ece": float(ece),
    }


def confusion(answers: Answers) -> Int[np.ndarray, "actual predicted"]:
    """Counts of images by actual class (rows) and predicted class (columns)."""
    classes = answers.logits.shape[1]
    return np.bincount(answers.labels * classes + answers.predicted, minlength=classes**2).reshape(classes, classes)
