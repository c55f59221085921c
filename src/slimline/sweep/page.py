"""A sweep on one page that needs nothing beside itself: front, importance, parallel coordinates and history, drawn by Optuna."""

import base64
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Any

import matplotlib
import optuna
from jinja2 import Environment, PackageLoader, StrictUndefined
from optuna.study import Study
from optuna.visualization import matplotlib as drawn

from slimline.sweep.driver import Ended
from slimline.sweep.objectives import ACCURACY, OBJECTIVES
from slimline.sweep.study import Finished

DPI = 110
FEWEST = 4
"""Trials below which importance says nothing."""


def page(ended: Ended, members: Sequence[Finished], milliseconds: Mapping[str, float], best: Mapping[str, Any] | None, refused: str | None) -> str:
    """The page as HTML."""
    matplotlib.use("Agg")
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # that no trial keeps to the constraints is said in our own words
    environment = Environment(loader=PackageLoader("slimline", "sweep"), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template("page.html").render(
        name=ended.sweep.folder.name,
        objectives={name: OBJECTIVES[name] for name in ended.sweep.definition.objectives},
        rungs={name: (len(found), sum(not one.scores for one in found)) for name, found in ended.rungs.items()},
        parameters=list(dict.fromkeys(name for one in members for name in one.values)),
        members=sorted(members, key=lambda one: -one.scores[ended.sweep.definition.objectives[0]]),
        milliseconds=milliseconds,
        student=ended.reference,
        best=best,
        refused=refused,
        pictures=_pictures(ended),
        score=_score,
        value=_value,
    )


def _score(name: str, value: float) -> str:
    return f"{100 * value:.2f}\u202f%" if name == ACCURACY else f"{round(value):,}"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def _pictures(ended: Ended) -> list[tuple[str, str]]:
    """Title and PNG (base64) of each picture that can be drawn."""
    storage = ended.sweep.storage()
    found = []
    for rung, trials in ended.rungs.items():
        if sum(bool(one.scores) for one in trials) > 1:
            study = optuna.load_study(study_name=ended.sweep.study(rung), storage=storage)
            found += _of_study(study, rung, list(ended.sweep.definition.objectives))
    return found


def _of_study(study: Study, rung: str, objectives: list[str]) -> list[tuple[str, str]]:
    measured = [trial for trial in study.get_trials(deepcopy=False) if trial.state is optuna.trial.TrialState.COMPLETE]
    pairs = [(first, second) for place, first in enumerate(objectives) for second in objectives[place + 1 :]]
    pictures: list[tuple[str, Callable[[], Any]]] = []
    for first, second in pairs:
        one, other = objectives.index(first), objectives.index(second)
        pictures.append((
            f"{rung}: {first} and {second}",
            lambda one=one, other=other, names=[first, second]: drawn.plot_pareto_front(  # type: ignore[misc]
                study, targets=lambda trial: (trial.values[one], trial.values[other]), target_names=names
            ),
        ))  # fmt: skip
    if rung == "search":
        for place, name in enumerate(objectives):
            how: dict[str, Any] = {"target": lambda trial, place=place: trial.values[place], "target_name": name}
            pictures.append((f"History of {name}", lambda how=how: drawn.plot_optimization_history(study, **how)))  # type: ignore[misc]
            pictures.append((f"{name} by parameters", lambda how=how: drawn.plot_parallel_coordinate(study, **how)))  # type: ignore[misc]
            if len(measured) >= FEWEST and len({trial.values[place] for trial in measured}) > 1:
                pictures.append((f"What {name} depends on", lambda how=how: drawn.plot_param_importances(study, **how)))  # type: ignore[misc]
    return [(title, _png(draw)) for title, draw in pictures]


def _png(draw: Callable[[], Any]) -> str:
    from matplotlib import pyplot

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        draw()
    figure = pyplot.gcf()
    content = BytesIO()
    figure.savefig(content, format="png", dpi=DPI, bbox_inches="tight", metadata={"Software": None})
    pyplot.close(figure)
    return base64.b64encode(content.getvalue()).decode()
