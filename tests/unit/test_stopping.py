"""How a process is stopped: at once, or at the end of its step; by a signal, or because nobody waits for it any more."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

PROGRAM = """
import os, signal, sys, time
from contextlib import suppress
from pathlib import Path
from slimline.runtime import stopping
from slimline.runtime.stopping import STOP, Stopped, end_with, starters

def me(number): os.kill(os.getpid(), number)
def say(*words): os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # one write: several processes share the pipe
"""


def run(body: str) -> subprocess.CompletedProcess[str]:
    """What a process of its own does: signals are the process's."""
    return subprocess.run([sys.executable, "-c", PROGRAM + body], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_stops_at_once_what_is_no_step(name: str) -> None:
    done = run(f"""
STOP.listen()
try:
    me(signal.{name})
    say("went on")
except Exception:
    say("forgiven")
except Stopped as stopped:
    say(stopped, int(stopped.signum))
""")
    assert done.stdout.strip() == f"stopped by {name} {int(signal.Signals[name])}", done.stderr


def test_a_signal_that_comes_while_nothing_can_be_raised_stops_soon_after() -> None:
    done = run("""
import weakref
class Thing: pass
def callback(_reference): me(signal.SIGTERM); say("in the callback")
class Finalized:
    def __del__(self): me(signal.SIGTERM); say("in the finalizer")
STOP.listen()
try:
    thing = Thing()
    reference = weakref.ref(thing, callback)
    del thing
    for _ in range(500): time.sleep(0.01)
    say("went on")
except Stopped as stopped:
    say(stopped)
STOP.signum = None
try:
    Finalized()
    for _ in range(500): time.sleep(0.01)
    say("went on")
except Stopped as stopped:
    say(stopped)
""")
    assert done.stdout.split("\n")[:-1] == ["stopped by SIGTERM", "stopped by SIGTERM"], done.stderr
    assert done.stderr == ""


def test_within_a_step_a_signal_waits_for_whoever_looks_and_else_for_the_end() -> None:
    done = run("""
STOP.listen()
try:
    with STOP.deferred():
        with STOP.deferred():
            me(signal.SIGTERM)
            say("step", STOP.signum == signal.SIGTERM)
        say("outer step")
    say("after")
except Stopped:
    say("stopped")
""")
    assert done.stdout.split("\n")[:-1] == ["step True", "outer step", "stopped"], done.stderr


def test_an_error_within_a_step_is_not_hidden_by_a_signal() -> None:
    done = run("""
STOP.listen()
with suppress(KeyError), STOP.deferred():
    me(signal.SIGTERM)
    raise KeyError("the step's own")
say("the error came through")
""")
    assert done.stdout.strip() == "the error came through", done.stderr


def test_a_second_signal_does_not_break_off_the_end_that_the_first_began() -> None:
    done = run("""
STOP.listen()
try:
    try:
        me(signal.SIGINT)
    finally:
        me(signal.SIGINT)
        me(signal.SIGTERM)
        say("recorded")
except Stopped as stopped:
    say("once, by", signal.Signals(stopped.signum).name)
""")
    assert done.stdout.split("\n")[:-1] == ["recorded", "once, by SIGINT"], done.stderr


def test_whatever_the_process_is_at_it_is_gone_after_its_grace() -> None:
    start = time.monotonic()
    done = run("""
stopping.GRACE = 1.0
STOP.listen()
with STOP.deferred():
    me(signal.SIGTERM)
    while True:
        time.sleep(0.1)
""")
    assert done.returncode == 128 + signal.SIGTERM
    assert time.monotonic() - start < 10


def test_signals_taken_by_a_library_are_taken_back_and_only_by_whoever_listened() -> None:
    done = run("""
def other(*_): say("the library's")
signal.signal(signal.SIGTERM, other)
STOP.listen_again()
me(signal.SIGTERM)
STOP.listen()
signal.signal(signal.SIGTERM, other)
STOP.listen_again()
try:
    me(signal.SIGTERM)
except Stopped:
    say("ours")
""")
    assert done.stdout.split("\n")[:-1] == ["the library's", "ours"], done.stderr


def test_a_process_to_be_watched_that_has_ended_already_ends_this_one() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    done = run(f"""
STOP.listen()
try:
    end_with([{gone.pid}])
    time.sleep(20)
except Stopped:
    say("ended")
""")
    assert done.stdout.strip() == "ended", done.stderr


STAGE = """
import sys
Path(sys.argv[1]).write_text(f"{os.getpid()}")
time.sleep(float(sys.argv[2]))
try:
    STOP.listen()
    watched = starters()
    Path(sys.argv[1] + ".watched").write_text(" ".join(map(str, watched)))
    end_with(watched)
    time.sleep(60)
except Stopped:
    Path(sys.argv[1] + ".stopped").touch()
"""
"""A stage's process; for so many seconds it is busy with starting."""

DVC = "import os, subprocess, sys; subprocess.run(sys.argv[1], shell=True, env={**os.environ, 'DVC_STAGE': 'a'})"
LAUNCHER = "import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]], start_new_session=True)"
"""As torchrun starts its processes: in a session of their own."""


@pytest.mark.parametrize("launched", [False, True], ids=["by DVC", "by a launcher that DVC started"])
@pytest.mark.parametrize("starting", [0.0, 2.0], ids=["at work", "still starting"])
def test_a_stage_whose_dvc_was_killed_ends_itself(starting: float, launched: bool, tmp_path: Path) -> None:
    (tmp_path / "stage.py").write_text(PROGRAM + STAGE)
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    said = tmp_path / "said"
    command = f"{sys.executable} {tmp_path / 'launcher.py' if launched else ''} {tmp_path / 'stage.py'} {said} {starting}"
    environment = {name: value for name, value in os.environ.items() if name != "DVC_STAGE"}
    dvc = subprocess.Popen([sys.executable, "-c", DVC, command], env=environment, start_new_session=True)
    try:
        awaited = said if starting else tmp_path / "said.watched"
        _await(lambda: awaited.exists() and bool(awaited.read_text()))
        stage = psutil.Process(int(said.read_text()))
        if not starting:
            assert int(awaited.read_text().split()[-1]) == dvc.pid
            time.sleep(1.0)
            assert stage.is_running(), "it ended although DVC lives"
        dvc.kill()
        dvc.wait()
        _await(lambda: not stage.is_running() or stage.status() == psutil.STATUS_ZOMBIE)
        assert (tmp_path / "said.stopped").exists(), "it ended otherwise"
    finally:
        dvc.kill()
        dvc.wait()


def _await(condition, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
