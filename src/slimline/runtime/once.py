"""Several trainings in one stage, of which a kill costs none that had ended."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from slimline.artifacts import Manifest, fresh
from slimline.data.prepared import Images
from slimline.params.fit import Fit
from slimline.runtime.classifier import Classifier, Epoch
from slimline.runtime.fit import fit
from slimline.runtime.settings import Settings
from slimline.tracking import Tracker

ENDED = "ended"
"""Behind a training's name: what it left."""


def fit_once(
    module: Classifier, prepared: Path, params: Fit, settings: Settings, *, tracker: Tracker, name: str, train_on: Images | None = None
) -> None:
    """`fit`; but a training of this stage that had ended before the stage was killed is not repeated.

    Args:
        module: keeps the network's layout in memory, too, whichever way it comes to its weights.
        name: tells the stage's trainings apart.
    """
    world = settings.world
    ended = None if settings.place is None else settings.place.training(f"{name}-{ENDED}")
    known = world.firsts(ended.load() if ended is not None and world.first else None)
    network = copy.deepcopy(module.model)
    if known is None:
        fit(module, prepared, params, settings, tracker=tracker, name=name, train_on=train_on)
        known = {"model": module.model.state_dict(), "history": [list(astuple(row)) for row in module.history], "kept": module.kept}
        if ended is not None and world.first:
            ended.save(0, 0, known)
    network.load_state_dict(known["model"])
    module.model, module.history, module.kept = network, [Epoch(*row) for row in known["history"]], known["kept"]


def repeated(
    make: Callable[[nn.Module], Classifier],
    manifest: Manifest,
    prepared: Path,
    params: Fit,
    settings: Settings,
    *,
    repeats: int,
    tracker: Tracker,
    name: str,
    train_on: Images | None = None,
) -> list[Classifier]:
    """The network that `manifest` describes, trained `repeats` times, each time from the next seed; the first one's epochs are the stage's own.

    Args:
        make: a fresh network to its training.
    """
    train, modules = fit if repeats == 1 else fit_once, []
    for place in range(repeats):
        own = replace(settings, seed=following(settings.seed, place))
        module = make(own.seeded(fresh, manifest))
        told = f"{name}_{place}" if place else name
        train(module, prepared, params, own, tracker=Under(tracker, told) if place else tracker, name=told, train_on=train_on)
        modules.append(module)
    return modules


def following(seed: int, place: int) -> int:
    """The seed that comes `place` after `seed`."""
    return (seed + place) % 2**32


@dataclass(frozen=True)
class Under:
    """A tracker whose metrics stand under a name of their own: the stage's own training has the plain ones."""

    tracker: Tracker
    name: str

    def params(self, values: Mapping[str, Any]) -> None:
        self.tracker.params({self.name: values})

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        self.tracker.metrics({f"{self.name}/{key}": value for key, value in values.items()}, step)

    def beside(self, stage: str, fingerprint: str, values: Mapping[str, float]) -> None:
        self.tracker.beside(stage, fingerprint, values)

    def tags(self, values: Mapping[str, str]) -> None:
        self.tracker.tags({f"{self.name}.{key}": value for key, value in values.items()})

    def artifact(self, path: Path) -> None:
        self.tracker.artifact(path)
