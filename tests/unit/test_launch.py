"""Several processes of one command, started and ended together."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

LAUNCH = """
import sys
from slimline.errors import SlimlineError
from slimline.runtime.launch import run_together
try:
    sys.exit(run_together([sys.executable, "-c", sys.argv[2]], int(sys.argv[1])))
except SlimlineError as error:
    print("refused:", error, flush=True)
    sys.exit(2)
"""

PROGRAM = """
import os, signal, sys, time
rank = os.environ["RANK"]
def say(*words): os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # one write: several processes share the pipe
"""

WAITING = """
def hear(*_):
    say("stopped", rank)
    sys.exit(143)
signal.signal(signal.SIGTERM, hear)
signal.signal(signal.SIGINT, hear)
say("up", os.getpid())
time.sleep(60)
"""


def start(ranks: int, body: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", LAUNCH, str(ranks), PROGRAM + body], stdout=subprocess.PIPE, text=True, start_new_session=True)


def run(ranks: int, body: str) -> tuple[int, list[str], float]:
    """Exit code, what was said, and how long it took."""
    begun = time.monotonic()
    process = start(ranks, body)
    output, _ = process.communicate(timeout=60)
    return process.returncode, sorted(output.splitlines()), time.monotonic() - begun


def up(process: subprocess.Popen[str], ranks: int) -> list[psutil.Process]:
    """The processes that say they are up."""
    assert process.stdout is not None
    return [psutil.Process(int(process.stdout.readline().split()[1])) for _ in range(ranks)]


def test_each_process_knows_its_number_and_all_meet_at_one_place() -> None:
    code, said, _ = run(
        3, 'say(*(os.environ[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")))'
    )
    assert code == 0
    assert [line.split()[:5] for line in said] == [[str(rank), str(rank), "3", "3", "127.0.0.1"] for rank in range(3)]
    assert len({line.split()[5] for line in said}) == 1


def test_they_are_not_ended_because_one_is_done_before_the_others() -> None:
    code, said, _ = run(2, 'time.sleep(3.0 * (rank == "1")); say("done", rank)')
    assert code == 0
    assert said == ["done 0", "done 1"]


def test_where_one_fails_the_others_are_ended_soon_and_its_code_is_the_answer() -> None:
    code, _, seconds = run(2, 'time.sleep(60) if rank == "0" else sys.exit(7)')
    assert code == 7
    assert seconds < 10


def test_others_may_say_what_they_found_before_they_are_ended() -> None:
    code, said, _ = run(2, 'sys.exit(2) if rank == "1" else (time.sleep(1), say("noticed"), sys.exit(2))')
    assert code == 2
    assert said == ["noticed"]


def test_what_all_of_them_refuse_is_told_once_however_long_they_take_to_end() -> None:
    body = """
from slimline.errors import SlimlineError
from slimline.runtime.refusal import refusing
try:
    with refusing():
        raise SlimlineError(f"no such thing, says {rank}")
finally:
    time.sleep(1.0 if rank == "0" else 0.0)
"""
    code, said, _ = run(2, body)
    assert code == 2
    (line,) = said
    assert line in ("refused: no such thing, says 0", "refused: no such thing, says 1")


def test_one_that_was_killed_cannot_say_so_and_one_line_does() -> None:
    process = start(2, WAITING)
    processes = up(process, 2)
    processes[0].kill()
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    (line,) = [line for line in output.splitlines() if line.startswith("refused")]
    assert "of 2 was killed by SIGKILL" in line
    assert "run again" in line
    assert not any(one.is_running() for one in processes)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_all_of_them(number: signal.Signals) -> None:
    process = start(2, WAITING)
    processes = up(process, 2)
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert sorted(output.splitlines()) == ["stopped 0", "stopped 1"]
    assert not any(one.is_running() for one in processes)


def test_a_signal_to_one_of_them_leaves_the_others_the_time_to_end_in_an_orderly_way() -> None:
    body = 'time.sleep(0.5) or sys.exit(143) if rank == "1" else (time.sleep(4), say("kept"), sys.exit(143))'
    code, said, _ = run(2, body)
    assert (code, said) == (143, ["kept"])


def test_what_one_of_them_refuses_while_all_are_asked_to_end_is_told_too() -> None:
    body = """
from slimline.errors import SlimlineError
from slimline.runtime.refusal import refusing
def hear(*_):
    with refusing():
        raise SlimlineError("no space for the checkpoint")
signal.signal(signal.SIGTERM, hear)
say("up", os.getpid())
time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, "1", PROGRAM + body], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    up(process, 1)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=30)
    assert (process.returncode, told.splitlines()) == (143, ["slimline: no space for the checkpoint"])


def test_one_that_does_not_heed_a_signal_is_killed() -> None:
    process = start(2, "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nsay('up', os.getpid())\ntime.sleep(60)")
    processes = up(process, 2)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert time.monotonic() - begun < 10.0
    assert process.returncode == 128 + signal.SIGTERM
    assert not any(one.is_running() for one in processes)


def test_their_supervisor_is_known_to_them_so_that_they_can_end_with_it(tmp_path: Path) -> None:
    body = """
from slimline.runtime.launch import SUPERVISOR
from slimline.runtime.stopping import STOP, Stopped, end_with
STOP.listen()
say("up", os.getpid())
try:
    end_with([int(os.environ[SUPERVISOR])])
    time.sleep(60)
except Stopped:
    say("ended", rank)
"""
    process = start(2, body)
    processes = up(process, 2)
    os.kill(process.pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=10)
    assert sorted(output.splitlines()) == ["ended 0", "ended 1"]
    deadline = time.monotonic() + 10
    while any(one.is_running() for one in processes):
        assert time.monotonic() < deadline
        time.sleep(0.05)
