"""The teacher, as the stages that learn from it load and heed it."""

from scipy.stats import binomtest
from torch import nn

from slimline import artifacts
from slimline.core.objective import Objective
from slimline.data.prepared import Images, load_split
from slimline.distillation.taught import Taught
from slimline.errors import SlimlineError
from slimline.params.fit import Fit
from slimline.paths import Paths
from slimline.registry import Spec
from slimline.runtime.objectives import LabelsAlone
from slimline.runtime.outcome import accuracy

ASKED = 1000
"""Validation images by which a teacher is judged: their order is that of digests, so the first ones are a sample."""
MANY = 100
"""From so many on an interval that reaches down to chance is held against the teacher; of fewer images even a good one's may."""
CONFIDENCE = 0.95


def load_teacher(paths: Paths, student: artifacts.Manifest) -> nn.Module:
    """The network in `models/teacher`.

    Raises:
        SlimlineError: it sees other images or names other classes than the student, or it knows no more than chance does.
    """
    teacher, model = artifacts.load(paths.model("teacher"))
    for fact in ("classes", "input_shape", "mean", "std"):
        ours, theirs = getattr(student, fact), getattr(teacher, fact)
        if ours != theirs:
            raise SlimlineError(f"models/teacher has {fact} {theirs}, the student {ours}; train both on the same prepared data")
    _refuse_the_ignorant(model, load_split(paths.prepared, "validation"), len(teacher.classes))
    return model


def _refuse_the_ignorant(teacher: nn.Module, validation: Images, classes: int) -> None:
    """
    Raises:
        SlimlineError: validation images do not show the teacher to be better than chance, 1 / classes.
    """
    images = Images(validation.pixels[:ASKED], validation.labels[:ASKED])
    right, chance = accuracy(teacher, images), 1 / classes
    interval = binomtest(round(right * len(images)), len(images)).proportion_ci(CONFIDENCE, method="wilson")
    if right <= chance or (interval.low <= chance and len(images) >= MANY):
        raise SlimlineError(
            f"models/teacher names the right class of {right:.1%} of {len(images):,} validation images (95 % interval {interval.low:.1%} to "
            f"{interval.high:.1%}), where chance names that of {chance:.1%}; train it longer or otherwise (block teacher)"
        )


def recovery(model: nn.Module, fit: Fit, loss: Spec | None, teacher: nn.Module, input_shape: tuple[int, int, int]) -> Objective:
    """How a compressed network recovers: under `teacher` where a `loss` is given, else on labels alone."""
    return LabelsAlone(fit.label_smoothing) if loss is None else Taught(model, teacher, loss, input_shape)
