"""Several trainings in one stage, of which a kill costs none that had ended."""

import copy
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

from slimline.params.fit import Fit
from slimline.runtime.classifier import Classifier, Epoch
from slimline.runtime.fit import fit
from slimline.runtime.settings import Settings
from slimline.tracking import Status, Tracker

ENDED = "ended"
"""Behind a training's name: what it left."""


def fit_once(module: Classifier, prepared: Path, params: Fit, settings: Settings, *, seed: int, tracker: Tracker, name: str) -> None:
    """`fit`, its epochs recorded under `name`; a training of this stage that had ended before the stage was killed is not repeated.

    Args:
        module: keeps the network's layout in memory, too, whichever way it comes to its weights.
        seed: of this training.
        name: tells the stage's trainings apart.
    """
    world = settings.world
    ended = None if settings.place is None else settings.place.training(f"{name}-{ENDED}")
    known = world.firsts(ended.load() if ended is not None and world.first else None)
    network = copy.deepcopy(module.model)
    if known is None:
        fit(module, prepared, params, replace(settings, seed=seed), tracker=Under(tracker, name), name=name)
        known = {"model": module.model.state_dict(), "history": [list(astuple(row)) for row in module.history]}
        if ended is not None and world.first:
            ended.save(0, 0, known)
    network.load_state_dict(known["model"])
    module.model, module.history = network, [Epoch(*row) for row in known["history"]]


@dataclass(frozen=True)
class Under:
    """A tracker whose metrics stand under a name of their own: the stage's own training has the plain ones."""

    tracker: Tracker
    name: str

    def params(self, values: Mapping[str, Any]) -> None:
        self.tracker.params({self.name: values})

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        self.tracker.metrics({f"{self.name}/{key}": value for key, value in values.items()}, step)

    def tags(self, values: Mapping[str, str]) -> None:
        self.tracker.tags({f"{self.name}.{key}": value for key, value in values.items()})

    def artifact(self, path: Path) -> None:
        self.tracker.artifact(path)

    def finish(self, status: Status, *, last: bool) -> None:
        self.tracker.finish(status, last=last)
