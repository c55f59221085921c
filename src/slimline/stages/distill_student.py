"""distill_student: the small network under its teacher, or under assistants between the two."""

from dataclasses import replace
from typing import Any

from torch import nn

from slimline.artifacts import Manifest, fresh
from slimline.data.prepared import Description, Images, describe, load_split
from slimline.data.transfer import transfer_set
from slimline.distillation.taught import Taught
from slimline.errors import SlimlineError
from slimline.params.distill import Distill
from slimline.params.fit import Fit
from slimline.paths import Paths
from slimline.registry import Spec
from slimline.runtime.classifier import Classifier
from slimline.runtime.once import Under, fit_once, following, repeated
from slimline.runtime.outcome import Trained, leave, told_of
from slimline.runtime.settings import Made, Settings
from slimline.runtime.teacher import load_teacher
from slimline.tracking import Tracker


class DistillStudent(Classifier):
    """A network that learns from `teacher`."""

    def __init__(
        self, model: nn.Module, fit: Fit, loss: Spec, teacher: nn.Module, input_shape: tuple[int, int, int], early: int | None = None
    ) -> None:
        super().__init__(model, fit, Taught(model, teacher, loss, input_shape))
        self.keep_step = early

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.keep_step is not None and self.keep_step > self.updates.steps:
            raise SlimlineError(f"distill.early is {self.keep_step}, but the training has {self.updates.steps} steps; name an earlier one")


def run(params: Distill, settings: Settings, paths: Paths, tracker: Tracker) -> Made:
    """Write `models/student/`, its curve and `metrics/distill_student.json`."""
    data = describe(paths.prepared)
    manifest = Manifest.of(params.model, data)
    images = transfer_set(paths.prepared, params.transfer.without, unlabelled=params.transfer.unlabelled)
    teacher, told = _assisted(load_teacher(paths, manifest), params, data, images, settings, paths, tracker)
    students = repeated(
        lambda model: DistillStudent(model, params.fit, params.loss, teacher, data.input_shape, params.early),
        manifest, paths.prepared, params.fit, settings, repeats=params.repeats, tracker=tracker, name="student", train_on=images,
    )  # fmt: skip
    early = students[0].kept
    if params.early is not None and early is None and settings.world.first:
        raise SlimlineError(f"distill.early is {params.early}, but the training ended before that step; name an earlier one")
    first, *again = ((module.model, module.history) for module in students)
    return leave(
        "distill_student",
        paths,
        settings,
        Trained("student", manifest, *first, again=again, early=early),
        beside={"assistants": told} if told else {},
    )


def _assisted(
    teacher: nn.Module, params: Distill, data: Description, images: Images, settings: Settings, paths: Paths, tracker: Tracker
) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Who teaches the student: the last of the assistants, each trained under the one before, or `teacher` where there are none.

    Also what is to be told of each of them. (Mirzadeh et al., "Improved Knowledge Distillation via Teacher Assistant", 2020; where they
    are networks like the teacher, Furlanello et al., "Born-Again Neural Networks", 2018.)
    """
    told: list[dict[str, Any]] = []
    for place, one in enumerate(params.assistants):
        own = replace(settings, seed=following(settings.seed, place + 1) if one.seed is None else one.seed)
        spec, loss, fit, name = one.model or params.model, one.loss or params.loss, one.fit or params.fit, f"assistant_{place}"
        module = DistillStudent(own.seeded(fresh, Manifest.of(spec, data)), fit, loss, teacher, data.input_shape)
        fit_once(module, paths.prepared, fit, own, tracker=Under(tracker, name), name=name, train_on=images)
        teacher = module.model
        told.append({"seed": own.seed, "model": spec, **told_of(module, load_split(paths.prepared, "validation"))})
    return teacher, told
