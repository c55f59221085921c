"""train_teacher: the large network, on labels alone."""

from torch import nn

from slimline.artifacts import Manifest, fresh
from slimline.data.prepared import describe
from slimline.params.teacher import Teacher
from slimline.paths import Paths
from slimline.runtime.classifier import Classifier
from slimline.runtime.fit import fit
from slimline.runtime.objectives import LabelsAlone
from slimline.runtime.outcome import Trained, leave
from slimline.runtime.settings import Made, Settings
from slimline.tracking import Tracker


class TrainTeacher(Classifier):
    """Cross-entropy with the labels, smoothed where asked."""

    def __init__(self, model: nn.Module, params: Teacher) -> None:
        super().__init__(model, params.fit, LabelsAlone(params.fit.label_smoothing))


def run(params: Teacher, settings: Settings, paths: Paths, tracker: Tracker) -> Made:
    """Write `models/teacher/`, its curve and `metrics/train_teacher.json`."""
    data = describe(paths.prepared)
    manifest = Manifest(architecture=params.model, input_shape=data.input_shape, mean=data.mean, std=data.std, classes=data.classes)
    module = TrainTeacher(settings.seeded(fresh, manifest), params)
    fit(module, paths.prepared, params.fit, settings, tracker=tracker, name="teacher")
    return leave("train_teacher", paths, settings, Trained("teacher", manifest, module.model, module.history))
