"""Whether a model may take the champion's place: its gates, and both on the same test images."""

from pathlib import Path

import numpy as np

from slimline.data.batches import Ordered
from slimline.data.prepared import load_split
from slimline.errors import SlimlineError
from slimline.evaluation.predict import shipped
from slimline.evaluation.statistics import Comparison, compare
from slimline.paths import Paths

BATCH = 512


def against(model: Path, champion: Path, paths: Paths, *, threads: int, confidence: float) -> Comparison:
    """`model` against `champion`, files to run, on the test images as they are now.

    Raises:
        SlimlineError: they do not know the same classes in the same order, or take images of different shapes.
    """
    sides = [shipped(file, threads=threads) for file in (model, champion)]
    for what in ("classes", "shape"):
        first, second = (getattr(side, what) for side in sides)
        if first != second:
            raise SlimlineError(
                f"the champion's {what} are {second}, this model's {first}: no test compares them; register this one under another tracking.model"
            )
    answers: list[list[np.ndarray]] = [[], []]
    for batch in Ordered(load_split(paths.prepared, "test"), BATCH):
        for right, side in zip(answers, sides, strict=True):
            right.append(side.run(batch.images.numpy()).argmax(1) == batch.labels.numpy())
    first, second = (np.concatenate(right) for right in answers)
    return compare(first, second, confidence)
