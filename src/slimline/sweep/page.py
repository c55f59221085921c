"""A sweep on one page that needs nothing beside itself: front, importance, parallel coordinates and history."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from jinja2 import Environment, PackageLoader, StrictUndefined

from slimline.sweep.driver import Ended
from slimline.sweep.objectives import ACCURACY, OBJECTIVES
from slimline.sweep.pictures import fronts, searched
from slimline.sweep.results import limits
from slimline.sweep.study import Finished


def page(ended: Ended, members: Sequence[Finished], milliseconds: Mapping[str, float], best: Mapping[str, Any] | None, refused: str | None) -> str:
    """The page as HTML."""
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
        fronts=list(fronts(ended, best["trial"] if best else None, limits(ended.sweep.definition, ended.reference))),
        searched=list(searched(ended)),
        score=_score,
        value=_value,
        words=_words,
    )


def _score(name: str, value: float) -> str:
    return f"{100 * value:.2f}\u202f%" if name == ACCURACY else f"{round(value):,}"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def _words(name: str) -> str:
    """`name`, which may be broken behind its dots and underscores."""
    return name.replace(".", ".\u200b").replace("_", "_\u200b")
