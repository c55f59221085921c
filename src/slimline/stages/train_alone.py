"""train_alone: the student's control, the same network with the same budget on the labels alone.

A stage of its own, so that another loss or another teacher does not train it anew: it depends on neither.
"""

from torch import nn

from slimline.artifacts import Manifest, fresh
from slimline.data.prepared import describe
from slimline.params.distill import Distill
from slimline.paths import Paths
from slimline.runtime.classifier import Classifier
from slimline.runtime.fit import fit
from slimline.runtime.objectives import LabelsAlone
from slimline.runtime.outcome import Trained, leave
from slimline.runtime.settings import Made, Settings
from slimline.tracking import Tracker


class TrainAlone(Classifier):
    """Cross-entropy with the labels."""

    def __init__(self, model: nn.Module, params: Distill) -> None:
        super().__init__(model, params.fit, LabelsAlone(params.fit.label_smoothing))


def run(params: Distill, settings: Settings, paths: Paths, tracker: Tracker) -> Made:
    """Write `models/student_alone/`, its curve and `metrics/train_alone.json`.

    It starts from the weights that the student starts from and meets the same images in the same order; the teacher is the only
    difference. Of `params` only `model` and `fit` may be used: DVC watches no others for this stage.
    """
    data = describe(paths.prepared)
    manifest = Manifest(architecture=params.model, input_shape=data.input_shape, mean=data.mean, std=data.std, classes=data.classes)
    module = TrainAlone(settings.seeded(fresh, manifest), params)
    fit(module, paths.prepared, params.fit, settings, tracker=tracker, name="student_alone")
    return leave("train_alone", paths, settings, Trained("student_alone", manifest, module.model, module.history))
