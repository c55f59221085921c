"""prune: weights or channels removed from the student, the rest retrained."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor, nn

from slimline import artifacts
from slimline.artifacts import Manifest
from slimline.core.batch import Batch
from slimline.core.cost import measure
from slimline.core.masked import Mask, masked, masked_layers, set_masks, settle
from slimline.data.batches import Ordered
from slimline.data.prepared import Images, load_split
from slimline.errors import SlimlineError
from slimline.params.fit import Fit
from slimline.params.prune import Prune as PruneParams
from slimline.paths import Paths
from slimline.pruning import CRITERIA, GRANULARITIES, SCHEDULES, TARGETS
from slimline.pruning.plan import Cut, Granularity, Plan
from slimline.pruning.schedule import Course, Schedule, Share
from slimline.pruning.sensitivity import Sensitive, limits, sensitivity
from slimline.pruning.target import Scales, Target
from slimline.registry import Spec, build
from slimline.runtime import teacher
from slimline.runtime.classifier import Classifier, Epoch
from slimline.runtime.fit import fit
from slimline.runtime.once import Under, fit_once
from slimline.runtime.outcome import Trained, accuracy, leave
from slimline.runtime.settings import Made, Settings
from slimline.tracking import Tracker
from slimline.tracking.memory import MemoryTracker

CALIBRATION_BATCH = 256


class Prune(Classifier):
    """Retrains what is left of a network, under the teacher where the parameters say so."""

    def __init__(self, model: nn.Module, how: Fit, objective: teacher.Recovery) -> None:
        super().__init__(model, how, objective(model, how))


class GradualPrune(Prune):
    """Masks ever more of the network while it trains.

    Args:
        decide: from the network as it is and the part of the training that is done to its new masks.
        every: steps between two cuts.
        end: part of the training at whose end all is gone.
    """

    def decide_by(self, decide: Callable[[nn.Module, float], dict[str, Mask]], every: int, end: float) -> None:
        self._decide, self._every, self._end = decide, every, end

    @property
    def last_cut(self) -> int:
        """The step after which all is gone."""
        return max(math.ceil(self._end * self.updates.steps), 1)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.counted_from = (self.last_cut - 1) // len(self.train_split)

    def training_step(self, batch: Batch, index: int) -> None:
        super().training_step(batch, index)
        done = self.updates.done
        if done == self.last_cut or (done < self.last_cut and done % self._every == 0):
            world = self.arrangement.world
            # The first process decides: the others' batch norms saw other images, by which scores and accuracies differ.
            masks = world.firsts(self._decide(self.model, done / self.last_cut * self._end) if world.first else None)
            set_masks(self.model, masks)
            set_masks(self.updates.validated, masks)


class Recovery(Course):
    """The course of a stage: it scores, cuts and trains.

    Args:
        student: the network before anything is pruned.
        manifest: its own.
    """

    def __init__(self, params: PruneParams, settings: Settings, paths: Paths, tracker: Tracker, manifest: Manifest, student: nn.Module) -> None:
        self.params, self.settings, self.paths, self.tracker = params, settings, paths, tracker
        self.manifest, self.student = manifest, student
        self.obtained: dict[str, float] = {}
        train = load_split(paths.prepared, "train")
        self._calibration = Ordered(Images(train.pixels[: params.calibration], train.labels[: params.calibration]), CALIBRATION_BATCH)
        validation = load_split(paths.prepared, "validation")
        self.granularity: Granularity = build(GRANULARITIES, self._limited(params, validation), student, manifest.input_shape)
        scales = Scales(student, manifest.input_shape, self._packed_bytes, lambda model: accuracy(model, validation))
        self.target: Target = build(TARGETS, params.target, scales)
        self.accuracy = scales.accuracy
        self.history: list[Epoch] = []
        self._cuts: list[Cut] = []
        self._final: float | None = None
        self._rounds = 0

    def described(self, pruned: nn.Module) -> Manifest:
        """The manifest of what the student has become."""
        return self.manifest.after(self.granularity.form, self.granularity.record(artifacts.fresh(self.manifest), pruned))

    def sensitivity(self, fractions: Sequence[float], validation: Images) -> list[Sensitive]:
        """What each layer of the student costs when it alone is pruned."""
        scores = self._scores(self.student)
        granularity: Spec = self.params.granularity  # type: ignore[assignment]
        return sensitivity(self.student, self.manifest.input_shape, granularity, scores, lambda model: accuracy(model, validation), fractions)

    def _limited(self, params: PruneParams, validation: Images) -> Spec:
        """The granularity, with the limits that layers' sensitivity sets beside its own."""
        granularity: Spec = params.granularity  # type: ignore[assignment]
        if params.sensitivity is None:
            return granularity
        found = limits(self.sensitivity(params.sensitivity.fractions, validation), params.sensitivity.points)
        return {**granularity, "limits": {**found, **granularity["limits"]}}

    def _scores(self, model: nn.Module) -> dict[str, Tensor]:
        return self._first_scores if model is self.student else self._scored(model)

    @cached_property
    def _first_scores(self) -> dict[str, Tensor]:
        """Of the student, which sensitivity, the share in the end and the first cut all ask for."""
        return self._scored(self.student)

    def _scored(self, model: nn.Module) -> dict[str, Tensor]:
        scores: dict[str, Tensor] = build(CRITERIA, self.params.criterion, model, self._calibration)
        return scores

    def _packed_bytes(self, model: nn.Module) -> int:
        return len(artifacts.packed(self.described(model), model))

    def plan(self, model: nn.Module) -> Plan:
        return self.granularity.plan(model, self._scores(model))

    def decided(self, model: nn.Module, share: Share | None) -> tuple[Plan, int]:
        """The units of `model`, and how many of them go."""
        plan = self.plan(model)
        if share is None:
            return plan, self.target.count(plan, model)
        return plan, min(max(math.floor(share(self._in_the_end()) * plan.units), plan.gone), plan.most)

    def _in_the_end(self) -> float:
        """The share of the student's units that the target takes, as far as the student itself can tell."""
        if self._final is None:
            plan = self.plan(self.student)
            self._final = self.target.count(plan, self.student) / plan.units
        return self._final

    def cut(self, model: nn.Module, share: Share | None) -> nn.Module:
        plan, count = self.decided(model, share)
        cut = plan.cut(count)
        pruned = cut(model)
        self._cuts.append(cut)
        if share is None:
            self._note(plan, count, pruned)
            self.obtained["prune/accuracy_cut"] = self.accuracy(pruned)
        return pruned

    def _note(self, plan: Plan, count: int, pruned: nn.Module) -> None:
        shape = self.manifest.input_shape
        before = measure(self.student, shape)
        self.obtained = {
            "prune/asked": self.target.asked,
            "prune/obtained": self.target.obtained(plan, count, pruned),
            "prune/removed": plan.fraction(count),
            "prune/removed_params": 1 - plan.params(count) / before.params,
            "prune/removed_macs": 1 - measure(pruned, shape).macs / before.macs,
            "prune/accuracy_before": self.accuracy(self.student),
        }

    def retrained(self, model: nn.Module, *, epochs: int | None = None) -> nn.Module:
        if self.params.fit is None:
            return model
        how = self.params.fit if epochs is None else self.params.fit.model_copy(update={"epochs": epochs})
        # What a loss has to learn itself starts from the seed, whatever was built before.
        module = self.settings.seeded(Prune, model, how, self._objective())
        return self._trained(module, how, last=epochs is None)

    def rewound(self, model: nn.Module) -> nn.Module:
        early = artifacts.load_early(self.paths.model("student"), self.student)
        for cut in self._cuts:
            early = cut(early)
        return early

    def retrained_while_cut(self, model: nn.Module, share: Callable[[float, float], float], *, every: int, end: float) -> nn.Module:
        hardware, how = self.settings.hardware, self.params.fit
        assert how is not None  # the schema has seen to it
        if self.granularity.form != "masked":
            raise SlimlineError("prune.schedule gradual changes masks within a training; the shapes of channels cannot change there: take iterative")
        if not self.settings.world.alone and (hardware.strategy["name"] != "ddp" or how.synchrony is not None):  # type: ignore[index]
            raise SlimlineError("prune.schedule gradual needs the whole network in each process: make hardware.strategy ddp and fit.synchrony null")
        model = masked(copy.deepcopy(model), self.granularity.record(model, model))

        def decide(now: nn.Module, done: float) -> dict[str, Mask]:
            now = copy.deepcopy(now).cpu().float()
            plan, count = self.decided(now, None if done >= end else lambda final: share(final, done))
            pruned = plan.cut(count)(now)
            return {name: Mask(layer.mask) for name, layer in masked_layers(pruned).items()}

        module = self.settings.seeded(GradualPrune, model, how, self._objective())
        module.decide_by(decide, every, end)
        pruned = self._trained(module, how)
        plan = self.plan(pruned)
        self._note(plan, plan.gone, pruned)
        return pruned

    def _objective(self) -> teacher.Recovery:
        return teacher.recovery(self.params.loss, self.paths, self.manifest)

    def _trained(self, module: Prune, how: Fit, *, last: bool = True) -> nn.Module:
        """The network of `module`, trained; rounds before the last are not repeated when the stage is killed after them."""
        if last:
            fit(module, self.paths.prepared, how, self.settings, tracker=self.tracker, name="pruned")
        else:
            self._rounds += 1
            name = f"pruned_round_{self._rounds}"
            fit_once(module, self.paths.prepared, how, self.settings, tracker=Under(self.tracker, name), name=name)
        settle(module.model)
        epochs, steps = len(self.history), self.history[-1].steps if self.history else 0
        self.history += [replace(row, epoch=row.epoch + epochs, steps=row.steps + steps) for row in module.history]
        return module.model


def sensitivities(params: PruneParams, settings: Settings, paths: Paths, fractions: Sequence[float]) -> list[Sensitive]:
    """What each layer of the student costs when `params` prune it alone, by the validation images."""
    manifest, student = artifacts.load(paths.model("student"))
    course = Recovery(params.model_copy(update={"sensitivity": None}), settings, paths, MemoryTracker(), manifest, student)
    return course.sensitivity(fractions, load_split(paths.prepared, "validation"))


@dataclass(frozen=True)
class Pruned:
    """What the student has become.

    Args:
        history: the epochs of all its retraining.
        obtained: what was asked for and what came of it, by names of metrics.
    """

    manifest: Manifest
    model: nn.Module
    history: Sequence[Epoch]
    obtained: Mapping[str, float]


def pruned(params: PruneParams, settings: Settings, paths: Paths, tracker: Tracker) -> Pruned:
    """The student of `paths`, pruned and retrained as `params` says; nothing is written.

    Raises:
        SlimlineError: no student, or a target that it cannot meet.
    """
    manifest, student = artifacts.load(paths.model("student"))
    course = Recovery(params, settings, paths, tracker, manifest, student)
    schedule: Schedule = build(SCHEDULES, params.schedule)
    model = schedule.run(course, student)
    course.target.check(model)
    return Pruned(course.described(model), model, course.history, course.obtained)


def run(params: PruneParams, settings: Settings, paths: Paths, tracker: Tracker) -> Made:
    """Write `models/pruned/`, its curve and `metrics/prune.json`."""
    made = pruned(params, settings, paths, tracker)
    return leave("prune", paths, settings, Trained("pruned", made.manifest, made.model, made.history, extra=made.obtained))
