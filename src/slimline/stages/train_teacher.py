"""train_teacher: the large network, or several that answer together, on labels alone."""

import sys
from dataclasses import dataclass, replace
from statistics import fmean

import torch
from torch import nn

from slimline.artifacts import Manifest, fresh
from slimline.data.batches import Ordered
from slimline.data.prepared import Description, describe, load_split
from slimline.errors import SlimlineError
from slimline.models.ensemble import NAME
from slimline.params.fit import Fit
from slimline.params.teacher import Ensemble, Teacher
from slimline.paths import Paths
from slimline.registry import Spec
from slimline.runtime.classifier import Classifier, Epoch
from slimline.runtime.fit import fit
from slimline.runtime.objectives import LabelsAlone
from slimline.runtime.once import Under, fit_once, following
from slimline.runtime.outcome import BATCH, Trained, leave, told_of
from slimline.runtime.settings import Made, Settings
from slimline.runtime.weighing import WEIGHINGS
from slimline.tracking import Tracker


class TrainTeacher(Classifier):
    """Cross-entropy with the labels, smoothed where asked."""

    def __init__(self, model: nn.Module, params: Fit) -> None:
        super().__init__(model, params, LabelsAlone(params.label_smoothing))


def run(params: Teacher, settings: Settings, paths: Paths, tracker: Tracker) -> Made:
    """Write `models/teacher/`, its curve and `metrics/train_teacher.json`."""
    data = describe(paths.prepared)
    if params.ensemble is not None:
        return _together(_members(params, params.ensemble, settings.seed), params.ensemble, data, settings, paths, tracker)
    manifest = Manifest.of(params.model, data)
    module = TrainTeacher(settings.seeded(fresh, manifest), params.fit)
    fit(module, paths.prepared, params.fit, settings, tracker=tracker, name="teacher")
    return leave("train_teacher", paths, settings, Trained("teacher", manifest, module.model, module.history))


@dataclass(frozen=True)
class Member:
    """One network of an ensemble, its own words and the teacher's put together."""

    model: Spec
    fit: Fit
    seed: int


def _members(params: Teacher, ensemble: Ensemble, seed: int) -> list[Member]:
    """
    Raises:
        SlimlineError: two that would become the same network.
    """
    members = [
        Member(one.model or params.model, one.fit or params.fit, following(seed, place) if one.seed is None else one.seed)
        for place, one in enumerate(ensemble.members)
    ]
    for place, one in enumerate(members):
        if one in members[:place]:
            raise SlimlineError(
                f"teacher.ensemble.members.{place} is member {members.index(one)} once more (seed {one.seed}), which would count it twice; "
                "give it another seed, model or fit"
            )
    return members


def _together(members: list[Member], ensemble: Ensemble, data: Description, settings: Settings, paths: Paths, tracker: Tracker) -> Made:
    """Train each member, weigh them on the validation split, put those that count into one network."""
    modules = []
    for place, one in enumerate(members):
        own, name = replace(settings, seed=one.seed), f"member_{place}"
        module = TrainTeacher(own.seeded(fresh, Manifest.of(one.model, data)), one.fit)
        fit_once(module, paths.prepared, one.fit, own, tracker=Under(tracker, name), name=name)
        modules.append(module)
    validation = load_split(paths.prepared, "validation")
    with torch.no_grad():
        answers = [torch.cat([module.model.eval()(batch.images) for batch in Ordered(validation, BATCH)]) for module in modules]
    weights = WEIGHINGS[ensemble.weights](torch.stack(answers).double(), validation.labels, ensemble.average)
    counting = [place for place, weight in enumerate(weights) if weight > 0]
    if len(counting) == 1 and settings.world.first:
        line = (
            f"slimline: by the validation labels member {counting[0]} alone counts, so the ensemble is that network; take equal weights to keep all"
        )
        print(line, file=sys.stderr, flush=True)
    spec = {
        "name": NAME,
        "members": [dict(members[place].model) for place in counting],
        "average": ensemble.average,
        "weights": [weights[place] for place in counting],
    }
    manifest = Manifest.of(spec, data)
    whole = fresh(manifest)
    for member, place in zip(whole.get_submodule("network.members").children(), counting, strict=True):
        member.load_state_dict(modules[place].model.get_submodule("network").state_dict())
    told = [
        {"seed": one.seed, "model": one.model, "weight": weight, **told_of(module, validation)}
        for one, weight, module in zip(members, weights, modules, strict=True)
    ]
    made = Trained("teacher", manifest, whole.eval(), _mean_curve([module.history for module in modules]))
    return leave("train_teacher", paths, settings, made, beside={"members": told})


def _mean_curve(histories: list[list[Epoch]]) -> list[Epoch]:
    """What a member did on average, over the epochs that all of them trained; the steps are the first one's."""
    curve = []
    for epoch in zip(*histories, strict=False):
        losses = fmean(row.train_loss for row in epoch), fmean(row.val_loss for row in epoch)
        curve.append(Epoch(epoch[0].epoch, *losses, fmean(row.val_accuracy for row in epoch), epoch[0].steps))
    return curve
