"""What the teacher brought: students that learned from it against the same networks with the same budget on labels alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev

import numpy as np

from slimline.evaluation.scorecard import Answers
from slimline.evaluation.statistics import compare, crossed_interval


@dataclass(frozen=True)
class Effect:
    """Accuracies with the teacher minus those without, seed by seed on the same images.

    Args:
        images: of the split.
        student, student_alone: an accuracy a seed.
        difference: their mean difference.
        deviation: its standard deviation over the seeds; None of a single one.
        low, high: interval of the difference; of one seed for other images (Tango), of several for other seeds and other images.
    """

    images: int
    student: tuple[float, ...]
    student_alone: tuple[float, ...]
    difference: float
    deviation: float | None
    low: float
    high: float


def effect(taught: Sequence[Answers], alone: Sequence[Answers], confidence: float) -> Effect:
    """The teacher's effect on one split.

    Args:
        taught, alone: answers of the students and of their controls, pairs of one seed.
    """
    pairs = list(zip(taught, alone, strict=True))
    images = len(pairs[0][0].labels)
    accuracies = tuple(one.accuracy for one in taught), tuple(one.accuracy for one in alone)
    if len(pairs) == 1:
        single = compare(taught[0].right, alone[0].right, confidence)
        return Effect(images, *accuracies, single.difference, None, single.low, single.high)
    differences = np.stack([first.right.astype(float) - second.right.astype(float) for first, second in pairs])
    low, high = crossed_interval(differences, confidence) if images > 1 else (-1.0, 1.0)  # one image tells nothing of others
    return Effect(images, *accuracies, float(differences.mean()), stdev(map(float, differences.mean(1))), low, high)
