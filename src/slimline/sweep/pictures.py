"""Pictures of a sweep: its fronts with limits and choice by us, what objectives depend on by Optuna."""

import base64
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO
from itertools import combinations
from typing import Any

import matplotlib
import optuna
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter
from optuna.importance import FanovaImportanceEvaluator
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial
from optuna.visualization import matplotlib as drawn

from slimline.report.drawing import color, marker, svg
from slimline.sweep.driver import Ended
from slimline.sweep.objectives import ACCURACY
from slimline.sweep.results import front
from slimline.sweep.study import Finished

HEIGHT, DPI = 3.0, 110
FEWEST = 4
"""Trials below which importance says nothing."""
ROOM = 0.15
"""Of the last rung's range of accuracies, left free above and below; what search drew far below would press the rest into a line."""


def fronts(ended: Ended, chosen: int | None, limits: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Title and SVG of each pair of objectives: all rungs' trials, the front of the last one, the limits, and the trial that is recommended."""
    for number, (first, second) in enumerate(combinations(ended.sweep.definition.objectives, 2)):
        yield (
            f"{first} and {second}",
            svg(lambda figure, pair=(first, second): _front(figure, ended, pair, chosen, limits), name=f"front{number}", height=HEIGHT),
        )


def _front(figure: Figure, ended: Ended, pair: tuple[str, str], chosen: int | None, limits: Mapping[str, float]) -> None:
    axes = figure.subplots()
    up, across = pair
    for number, (rung, trials) in enumerate(ended.rungs.items()):
        axes.plot(*_points(trials, pair), marker(number), color=color(number), fillstyle="none", markersize=4, label=rung)
        if trials is ended.last:
            line = sorted(zip(*_points(front(trials, pair), pair), strict=True))
            axes.plot(*zip(*line, strict=True), color=color(number), linewidth=0.8)
    recommended = [one for one in ended.last if one.slot == chosen]
    if recommended:
        axes.plot(*_points(recommended, pair), "*", color="#d4485c", markersize=11, label="recommended")
    for name, draw in ((up, axes.axhline), (across, axes.axvline)):
        if name in limits:
            draw(limits[name], color="0.5", linestyle="--", linewidth=0.8)
    for name, axis in ((up, axes.yaxis), (across, axes.xaxis)):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0) if name == ACCURACY else EngFormatter(sep=""))
    if up == ACCURACY:
        known = [*_points(ended.last, pair)[1], limits.get(up, 1.0)]
        room = ROOM * (max(known) - min(known)) or 0.01
        axes.set_ylim(min(known) - room, max(known) + room)
    axes.set(xlabel=across, ylabel=up)
    axes.legend(fontsize=7)


def _points(trials: Sequence[Finished], pair: tuple[str, str]) -> tuple[list[float], list[float]]:
    """Horizontal and vertical places of those that have scores."""
    measured = [one.scores for one in trials if one.scores]
    return [one[pair[1]] for one in measured], [one[pair[0]] for one in measured]


def searched(ended: Ended) -> Iterator[tuple[str, str]]:
    """Title and PNG (base64) of history, parallel coordinates and importances of the first rung, of each objective."""
    rung, trials = next(iter(ended.rungs.items()))
    if sum(bool(one.scores) for one in trials) < 2:
        return
    study = _unbound(optuna.load_study(study_name=ended.sweep.study(rung), storage=ended.sweep.storage()))
    measured = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    for place, name in enumerate(ended.sweep.definition.objectives):
        how: dict[str, Any] = {"target": lambda trial, place=place: trial.values[place], "target_name": name}
        yield f"History of {name}", _png(lambda how=how: drawn.plot_optimization_history(study, **how))
        yield f"{name} by parameters", _png(lambda how=how: drawn.plot_parallel_coordinate(study, **how))
        if len(measured) >= FEWEST and len({trial.values[place] for trial in measured}) > 1:
            # Not Optuna's default, which asks what makes a number low.
            yield (
                f"What {name} depends on",
                _png(lambda how=how: drawn.plot_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0), **how)),
            )


def _unbound(study: Study) -> Study:
    """A copy without constraints: before any retraining most trials break one, and Optuna would grey them all."""
    copy = optuna.create_study(directions=study.directions)
    copy.add_trials([_free(trial) for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()])
    return copy


def _free(trial: FrozenTrial) -> FrozenTrial:
    return create_trial(state=trial.state, values=trial.values, params=trial.params, distributions=trial.distributions)


def _png(draw: Callable[[], Any]) -> str:
    matplotlib.use("Agg")
    from matplotlib import pyplot

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        draw()
    figure = pyplot.gcf()
    for axes in figure.axes:
        axes.set_title("")  # the caption says it
        axes.set_title("", loc="left")
    content = BytesIO()
    figure.savefig(content, format="png", dpi=DPI, bbox_inches="tight", metadata={"Software": None})
    pyplot.close(figure)
    return base64.b64encode(content.getvalue()).decode()
