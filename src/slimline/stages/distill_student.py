"""distill_student: the small network under its teacher, and beside it the same network, alone, with the same budget."""

import torch
from torch import nn

from slimline.artifacts import Manifest, fresh
from slimline.data.prepared import describe
from slimline.distillation.taught import Taught
from slimline.params.distill import Distill
from slimline.paths import Paths
from slimline.runtime.classifier import Classifier
from slimline.runtime.fit import fit
from slimline.runtime.objectives import LabelsAlone
from slimline.runtime.outcome import Trained, leave
from slimline.runtime.script import Made, Settings
from slimline.runtime.teacher import load_teacher
from slimline.tracking import Tracker


class DistillStudent(Classifier):
    """A student that learns from `teacher`, or, where there is none, from the labels alone."""

    def __init__(self, model: nn.Module, params: Distill, teacher: nn.Module | None) -> None:
        objective = Taught(teacher, params.loss) if teacher is not None else LabelsAlone(params.fit.label_smoothing)
        super().__init__(model, params.fit, objective)


def run(params: Distill, settings: Settings, paths: Paths, tracker: Tracker) -> Made:
    """Write `models/student/`, `models/student_alone/`, their curves and `metrics/distill_student.json`.

    Both start from the same weights and meet the same images in the same order; the teacher is the only difference.
    """
    data = describe(paths.prepared)
    manifest = Manifest(architecture=params.model, input_shape=data.input_shape, mean=data.mean, std=data.std, classes=data.classes)
    trained = []
    for name, teacher in (("student", load_teacher(paths, manifest)), ("student_alone", None)):
        torch.manual_seed(settings.seed)
        module = DistillStudent(fresh(manifest), params, teacher)
        fit(module, paths.prepared, params.fit, settings, tracker=tracker, prefix="" if teacher else f"{name}/")
        trained.append(Trained(name, manifest, module.model, module.history))
    return leave("distill_student", paths, *trained)
