"""distill_student: the small network under its teacher."""

from torch import nn

from slimline.artifacts import Manifest
from slimline.data.prepared import describe
from slimline.data.transfer import transfer_set
from slimline.distillation.taught import Taught
from slimline.params.distill import Distill
from slimline.paths import Paths
from slimline.runtime.classifier import Classifier
from slimline.runtime.once import repeated
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
    images = transfer_set(paths.prepared, params.transfer.without, unlabelled=params.transfer.unlabelled)
    students = repeated(
        lambda model: DistillStudent(model, params, teacher, data.input_shape),
        manifest, paths.prepared, params.fit, settings, repeats=params.repeats, tracker=tracker, name="student", train_on=images,
    )  # fmt: skip
    first, *again = ((module.model, module.history) for module in students)
    return leave("distill_student", paths, settings, Trained("student", manifest, *first, again=again))
