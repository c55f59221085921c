"""train_alone: the student's control, the same network with the same budget on the labels alone.

A stage of its own, so that another loss or another teacher does not train it anew: it depends on neither.
"""

from torch import nn

from slimline.artifacts import Manifest
from slimline.data.prepared import UNLABELLED, describe, load_split
from slimline.data.transfer import transfer_set
from slimline.params.distill import Distill
from slimline.params.fit import Fit
from slimline.paths import Paths
from slimline.runtime.classifier import Classifier
from slimline.runtime.objectives import LabelsAlone
from slimline.runtime.once import repeated
from slimline.runtime.outcome import Trained, leave
from slimline.runtime.settings import Made, Settings
from slimline.tracking import Tracker


class TrainAlone(Classifier):
    """Cross-entropy with the labels."""

    def __init__(self, model: nn.Module, params: Fit) -> None:
        super().__init__(model, params, LabelsAlone(params.label_smoothing))


def run(params: Distill, settings: Settings, paths: Paths, tracker: Tracker) -> Made:
    """Write `models/student_alone/`, its curve and `metrics/train_alone.json`.

    It starts from the weights that the student starts from and meets the same images in the same order; the teacher is the only
    difference. Unlabelled images can teach it nothing: it meets the labelled ones so many times more often that it makes as many steps.
    Of `params` only `model`, `fit`, `transfer` and `repeats` may be used: DVC watches no others for this stage.
    """
    data = describe(paths.prepared)
    manifest = Manifest.of(params.model, data)
    images = transfer_set(paths.prepared, params.transfer.without, unlabelled=False)
    fit = params.fit
    if params.transfer.unlabelled:
        further = len(load_split(paths.prepared, UNLABELLED))
        fit = fit.model_copy(update={"epochs": round(fit.epochs * (len(images) + further) / len(images))})
    controls = repeated(
        lambda model: TrainAlone(model, fit),
        manifest, paths.prepared, fit, settings, repeats=params.repeats, tracker=tracker, name="student_alone", train_on=images,
    )  # fmt: skip
    first, *again = ((module.model, module.history) for module in controls)
    return leave("train_alone", paths, settings, Trained("student_alone", manifest, *first, again=again))
