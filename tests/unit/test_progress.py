"""How far a training is, as a log and as a terminal show it."""

import io
import time

import pytest

from slimline.runtime import progress as module
from slimline.runtime.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def worked(to: io.StringIO, *, shown: bool = True) -> str:
    bar = progress("train_teacher", 10, 40, shown=shown, to=to)
    for _ in range(3):
        time.sleep(0.02)
        bar.update(10)
        bar.set_postfix_str("epoch 1, validation 50.00%", refresh=False)
    bar.close()
    return to.getvalue()


def test_a_log_gets_whole_lines_at_intervals_and_nothing_of_what_is_over_before(monkeypatch: pytest.MonkeyPatch) -> None:
    assert worked(io.StringIO()) == ""
    monkeypatch.setattr(module, "LINE", 0.01)
    told = worked(io.StringIO())
    assert "\r" not in told
    first, second, third = told.splitlines()
    assert first == "train_teacher: step 20 of 40, 00:00 gone, 00:00 left"
    assert second == "train_teacher: step 30 of 40, 00:00 gone, 00:00 left, epoch 1, validation 50.00%"
    assert third.startswith("train_teacher: step 40 of 40")
    assert worked(io.StringIO(), shown=False) == "", "other processes of a training are silent"


def test_a_terminal_gets_a_bar_but_not_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    assert "\r" in worked(Terminal())
    monkeypatch.setenv("CI", "true")
    assert worked(Terminal()) == ""
