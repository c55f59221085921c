"""The teacher, as the stages that learn from it load and heed it."""

from collections.abc import Callable

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

Recovery = Callable[[nn.Module, Fit], Objective]
"""From a network and how it is trained to what its training minimizes."""


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


def recovery(loss: Spec | None, paths: Paths, student: artifacts.Manifest) -> Recovery:
    """How a compressed network recovers: by `loss` under the teacher, which is loaded here; where it is None, on labels alone and without one.

    Raises:
        SlimlineError: as `load_teacher`.
    """
    if loss is None:
        return lambda _, fit: LabelsAlone(fit.label_smoothing)
    teacher = load_teacher(paths, student)
    return lambda model, _: Taught(model, teacher, loss, student.input_shape)
