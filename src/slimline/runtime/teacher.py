"""The teacher, as the stages that learn from it load and heed it."""

from torch import nn

from slimline import artifacts
from slimline.core.objective import Objective
from slimline.distillation.taught import Taught
from slimline.errors import SlimlineError
from slimline.params.fit import Fit
from slimline.paths import Paths
from slimline.registry import Spec
from slimline.runtime.objectives import LabelsAlone


def load_teacher(paths: Paths, student: artifacts.Manifest) -> nn.Module:
    """The network in `models/teacher`.

    Raises:
        SlimlineError: it sees other images or names other classes than the student.
    """
    teacher, model = artifacts.load(paths.model("teacher"))
    for fact in ("classes", "input_shape", "mean", "std"):
        ours, theirs = getattr(student, fact), getattr(teacher, fact)
        if ours != theirs:
            raise SlimlineError(f"models/teacher has {fact} {theirs}, the student {ours}; train both on the same prepared data")
    return model


def recovery(model: nn.Module, fit: Fit, loss: Spec | None, teacher: nn.Module, input_shape: tuple[int, int, int]) -> Objective:
    """How a compressed network recovers: under `teacher` where a `loss` is given, else on labels alone."""
    return LabelsAlone(fit.label_smoothing) if loss is None else Taught(model, teacher, loss, input_shape)
