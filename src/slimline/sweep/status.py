"""How far a sweep is, by its study alone: nothing is started and nothing changed."""

from collections import Counter
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from slimline.errors import SlimlineError
from slimline.sweep.driver import Opened, opened
from slimline.sweep.results import front
from slimline.sweep.study import REASON, SCORES, SECONDS, SLOT, Finished


def begun(folder: Path) -> tuple[Opened, dict[str, list[FrozenTrial]]]:
    """The sweep in `folder`, and the trials of those of its rungs that were begun.

    Raises:
        SlimlineError: none was; another was, of other parameters, code, data or student, which is left alone.
    """
    sweep = opened(folder)
    names: list[str] = []
    if sweep.where is not None or sweep.file.exists():
        storage = sweep.storage()
        names = optuna.get_all_study_names(storage)
    found = {
        rung: optuna.load_study(study_name=sweep.study(rung), storage=storage).get_trials(deepcopy=False)
        for rung in sweep.rungs
        if sweep.study(rung) in names
    }
    if not found:
        mine = f"{sweep.folder.name} "
        others = sorted({mine + name.removeprefix(mine).split()[0] for name in names if name.startswith(mine)})
        what = f"there are {', '.join(others)}, of another search space, student or code; they are left as they are" if others else "there is none"
        raise SlimlineError(f"{sweep.folder}: no study of what sweep.yaml says now; {what}. Start one: slimline sweep run {sweep.folder.name}")
    return sweep, found


def status(folder: Path) -> str:
    """A line for each rung, and why trials could not be."""
    sweep, rungs = begun(folder)
    lines = [f"{sweep.name} in {sweep.where or sweep.file}"]
    for rung, trials in rungs.items():
        states = Counter(trial.state for trial in trials)
        of = sweep.definition.budget.trials if rung == "search" else len({trial.user_attrs[SLOT] for trial in trials})
        done = states[TrialState.COMPLETE] + states[TrialState.PRUNED]
        members = len(front(_finished(trials), sweep.definition.objectives))
        lines.append(
            f"{rung}: {done} of {of} trials finished, {states[TrialState.PRUNED]} of them infeasible, front of {members}; "
            f"{states[TrialState.RUNNING]} running, {states[TrialState.FAIL]} cut off"
        )
        reasons = Counter(trial.user_attrs[REASON] for trial in trials if trial.state is TrialState.PRUNED)
        lines += [f"  infeasible {count} times: {reason}" for reason, count in reasons.most_common(3)]
    return "\n".join(lines)


def table(folder: Path) -> str:
    """The front of the last rung that has finished trials."""
    sweep, rungs = begun(folder)
    objectives = sweep.definition.objectives
    rung, trials = next(((rung, found) for rung, found in reversed([*rungs.items()]) if _finished(found)), ("search", []))
    members = front(_finished(trials), objectives)
    if not members:
        raise SlimlineError(f"{sweep.folder}: no trial is finished yet; look again later")
    parameters = list(members[0].drawn)
    rows = [["trial", *parameters, *objectives]]
    for one in sorted(members, key=lambda one: -one.scores[objectives[0]]):
        values = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in one.drawn.values()]
        rows.append([str(one.slot), *values, *(f"{one.scores[name]:,.6g}" for name in objectives)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    told = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([f"front of {len(members)} after {rung}", *told])


def _finished(trials: list[FrozenTrial]) -> list[Finished]:
    return [
        Finished(t.user_attrs[SLOT], t.number, t.params, t.params, t.user_attrs[SCORES], t.user_attrs.get(SECONDS, {}), None)
        for t in trials
        if t.state is TrialState.COMPLETE
    ]
