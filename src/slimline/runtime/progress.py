"""How far a training is and how long it will still take: a bar on a terminal, elsewhere a line now and then."""

import io
import os
import sys
from typing import Any, TextIO

from tqdm import tqdm

LINE = 60.0
"""Seconds between two lines where there is no terminal; what ends before the first one says nothing."""


class _Lines(io.TextIOBase):
    """Makes lines of what tqdm would draw over what it drew before."""

    def __init__(self, to: TextIO) -> None:
        self._to = to

    def write(self, drawn: str) -> int:
        if text := drawn.strip():
            self._to.write(f"{text}\n")
            self._to.flush()
        return len(drawn)


def progress(name: str, done: int, total: int, *, shown: bool, to: TextIO | None = None) -> Any:
    """A tqdm bar.

    Args:
        name: of what is trained.
        done: steps that were made before, of `total`.
        shown: whether this process is the one that tells.
        to: where; the standard error stream by default.
    """
    to = sys.stderr if to is None else to
    settings: dict[str, Any] = {"desc": name, "initial": done, "total": total, "unit": "step", "disable": not shown}
    if to.isatty() and "CI" not in os.environ:
        return tqdm(file=to, dynamic_ncols=True, **settings)
    line = "{desc}: step {n} of {total}, {elapsed} gone, {remaining} left{postfix}"
    # miniters: else tqdm asks for the time only after as many steps as once filled an interval, and a training that slows down falls silent.
    return tqdm(file=_Lines(to), bar_format=line, delay=LINE, mininterval=LINE, miniters=1, leave=False, **settings)
