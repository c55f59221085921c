"""distill_student: the small network under its teacher."""

from torch import nn

from slimline.artifacts import Manifest, fresh
from slimline.data.prepared import describe
from slimline.distillation.taught import Taught
from slimline.params.distill import Distill
from slimline.paths import Paths
from slimline.runtime.classifier import Classifier
from slimline.runtime.fit import fit
from slimline.runtime.outcome import Trained, leave
from slimline.runtime.settings import Made, Settings
from slimline.runtime.teacher import load_teacher
from slimline.tracking import Tracker


class DistillStudent(Classifier):
    """A student that learns from `teacher`."""

    def __init__(self, model: nn.Module, params: Distill, teacher: nn.Module, input_shape: tuple[int, int, int]) -> None:
        super().__init__(model, params.fit, Taught(model, teacher, params.loss, input_shape))


def run(params: Distill, settings: Settings, paths: Paths, tracker: Tracker) -> Made:
    """Write `models/student/`, its curve and `metrics/distill_student.json`."""
    data = describe(paths.prepared)
    manifest = Manifest(architecture=params.model, input_shape=data.input_shape, mean=data.mean, std=data.std, classes=data.classes)
    teacher = load_teacher(paths, manifest)
    module = DistillStudent(settings.seeded(fresh, manifest), params, teacher, data.input_shape)
    fit(module, paths.prepared, params.fit, settings, tracker=tracker, name="student")
    return leave("distill_student", paths, settings, Trained("student", manifest, module.model, module.history))
