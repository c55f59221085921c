"""The table that shows a sweep while it runs: on a terminal redrawn in place, elsewhere a line now and then."""

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from slimline.sweep.objectives import OBJECTIVES
from slimline.sweep.results import front
from slimline.sweep.study import Finished

LINE = 20.0
"""Seconds between two lines where there is no terminal."""


class Progress:
    """Rungs of a sweep and how far they are."""

    def __init__(self, objectives: Sequence[str], to: TextIO = sys.stderr) -> None:
        self._objectives, self._to = objectives, to
        self._console = Console(file=to)
        self._live = Live(console=self._console, auto_refresh=False) if to.isatty() else None
        self._begun = self._told = time.monotonic()
        self._rows: dict[str, tuple[int, int, list[Finished], int]] = {}
        self._before = 0

    def __enter__(self) -> "Progress":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def begin(self, rung: str, of: int, finished: Sequence[Finished]) -> None:
        """A rung of `of` trials begins, of which some were finished before."""
        self._begun, self._told, self._before = time.monotonic(), 0.0, len(finished)
        self.show(rung, of, finished, 0)

    def show(self, rung: str, of: int, finished: Sequence[Finished], workers: int) -> None:
        """How far a rung is; `workers` are at it."""
        self._rows[rung] = (len(finished), of, list(finished), workers)
        if self._live:
            self._live.update(self._table(), refresh=True)
        elif len(finished) == of or time.monotonic() - self._told > LINE:
            self._told = time.monotonic()
            print(f"sweep: {self._line(rung)}", file=self._to, flush=True)

    def left(self, rung: str) -> float | None:
        """Seconds until the rung is done, if its trials go on taking as long as they did; None while that is not known."""
        done, of, _, _ = self._rows[rung]
        made = done - self._before
        return (of - done) * (time.monotonic() - self._begun) / made if made > 0 else None

    def _line(self, rung: str) -> str:
        done, of, finished, workers = self._rows[rung]
        best = ", ".join(f"{name} {value}" for name, value in _best(finished, self._objectives).items())
        members = len(front(finished, self._objectives))
        left = self.left(rung)
        time_left = "" if left is None or done == of else f", {_duration(left)} left"
        return f"{rung} {done}/{of}, front of {members}{f'; best: {best}' if best else ''}; {workers} at work{time_left}"

    def _table(self) -> Table:
        table = Table("rung", "trials", "infeasible", "front", *self._objectives, "at work", "left")
        for rung, (done, of, finished, workers) in self._rows.items():
            best, left = _best(finished, self._objectives), self.left(rung) if done < of else None
            counts = (f"{done}/{of}", str(sum(not one.scores for one in finished)), str(len(front(finished, self._objectives))))
            scores = [best.get(name, "") for name in self._objectives]
            table.add_row(rung, *counts, *scores, str(workers), "" if left is None else _duration(left))
        return table


def _best(finished: Sequence[Finished], objectives: Sequence[str]) -> dict[str, str]:
    """The best value of each objective, whichever trial has it."""
    measured = [one for one in finished if one.scores]
    pick = {"minimize": min, "maximize": max}
    return {name: f"{pick[OBJECTIVES[name].direction](one.scores[name] for one in measured):,.6g}" for name in objectives} if measured else {}


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"
