"""Whether anything of a run is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import slimline
from slimline.runtime import lockfiles
from slimline.runtime.refusal import BAD_INPUT
from slimline.runtime.reproduction import LEAST, _lives, _room, mended


def test_a_process_that_has_ended_and_that_nobody_asks_for_is_not_waited_for() -> None:
    """As the first process of a container does not: what others have left behind is its own, and stays a zombie."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    assert _lives(process.pid)
    process.kill()
    deadline = time.monotonic() + 10
    while _lives(process.pid):
        assert time.monotonic() < deadline
    os.killpg(process.pid, 0)  # it is still there to be asked for
    process.communicate()
    assert not _lives(process.pid)


DVC = """
import os, signal, subprocess, sys, time
stage = subprocess.Popen([sys.executable, "-c", '''
import pathlib, signal, sys, time
def hear(*_):
    time.sleep(1)
    pathlib.Path("checkpoint").touch()
    sys.exit(130)
signal.signal(signal.SIGINT, hear)
pathlib.Path("up").touch()
time.sleep(60)
'''])
while not os.path.exists("up"):
    time.sleep(0.05)
os.kill(os.getpid(), signal.SIGKILL)
"""
"""Stands for DVC that is killed while a stage of it is at work."""


def reproduced(folder: Path, dvc: str) -> int:
    """The exit code of `reproduce` in `folder` where `dvc` is the program of that name."""
    (folder / "dvc").mkdir(exist_ok=True)
    (folder / "dvc" / "__init__.py").touch()
    (folder / "dvc" / "__main__.py").write_text(dvc)
    program = "import sys, pathlib; from slimline.runtime.reproduction import reproduce; sys.exit(reproduce(pathlib.Path.cwd(), []))"
    path = os.pathsep.join([str(folder), str(Path(slimline.__file__).parents[1])])
    return subprocess.run([sys.executable, "-c", program], cwd=folder, env={**os.environ, "PYTHONPATH": path}, check=False, timeout=60).returncode


def test_a_stage_whose_dvc_was_killed_gets_the_time_for_a_checkpoint(tmp_path: Path) -> None:
    assert reproduced(tmp_path, DVC) == 128 + signal.SIGKILL
    assert (tmp_path / "checkpoint").exists()


LOCKED = "schema: '2.0'\nstages:\n  a:\n    cmd: echo a\n"


@pytest.mark.parametrize("half", ["", "schema: '2.0'\nstages:\n  a:\n    cmd", "schema: '2.0'\nstages: [", "\xff"])
@pytest.mark.parametrize("place", ["dvc.lock", "experiments/dvc.lock"])
def test_half_a_dvc_lock_is_what_it_was_before_and_none_where_there_was_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, half: str
) -> None:
    monkeypatch.setattr(lockfiles, "PAUSE", 0.0)
    lock = tmp_path / place
    lock.parent.mkdir(exist_ok=True)
    assert mended(tmp_path) == []
    lock.write_text(half, encoding="latin-1")
    (told,) = mended(tmp_path)
    assert told.startswith(f"{lock}: cannot be read, as where DVC was ended while it wrote that")
    assert not lock.exists()
    assert (tmp_path / ".slimline/locks" / f"{place}.half").read_text(encoding="latin-1") == half
    lock.write_text(LOCKED)
    assert mended(tmp_path) == []
    lock.write_text(half, encoding="latin-1")
    assert len(mended(tmp_path)) == 1
    assert lock.read_text() == LOCKED
    assert mended(tmp_path) == []


def test_a_dvc_lock_with_both_sides_of_a_merge_is_left_to_people(tmp_path: Path) -> None:
    lock = tmp_path / "dvc.lock"
    lock.write_text(LOCKED)
    assert mended(tmp_path) == []
    both = LOCKED.replace("    cmd: echo a\n", "<<<<<<< HEAD\n    cmd: echo a\n=======\n    cmd: echo b\n>>>>>>> other\n")
    lock.write_text(both)
    assert mended(tmp_path) == []
    assert lock.read_text() == both


STAGE = "from slimline.errors import SlimlineError; from slimline.runtime.refusal import refusing\nwith refusing(): {}"


@pytest.mark.parametrize(("ends", "code"), [("raise SlimlineError('no')", BAD_INPUT), ("raise ValueError", 255), ("pass", 0)])
def test_a_refusal_of_a_stage_keeps_its_exit_code_and_a_fault_that_of_dvc(tmp_path: Path, ends: str, code: int) -> None:
    stage = STAGE.format(ends)
    assert (
        reproduced(tmp_path, f"import subprocess, sys\nsys.exit(255 if subprocess.run([sys.executable, '-c', {stage!r}]).returncode else 0)") == code
    )
    assert reproduced(tmp_path, "import sys; sys.exit(255)") == 255, "a refusal of an earlier run is not this one's"


STUBBORN = """
import os, pathlib, signal, threading, time
from slimline.runtime import reproduction
reproduction.GRACE, reproduction.LAST = 0.5, 2.0
def stop():
    while not os.path.exists("asks"):
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=stop, daemon=True).start()
assert reproduction.reproduce(pathlib.Path.cwd(), []) == 143
pathlib.Path("over").touch()
time.sleep(60)
"""


def test_after_a_signal_the_program_ends_in_time_whatever_it_does_after_the_pipeline(tmp_path: Path) -> None:
    (tmp_path / "dvc").mkdir()
    (tmp_path / "dvc/__init__.py").touch()
    (tmp_path / "dvc/__main__.py").write_text("import pathlib, time; pathlib.Path('asks').touch(); time.sleep(60)")
    path = os.pathsep.join([str(tmp_path), str(Path(slimline.__file__).parents[1])])
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", STUBBORN], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, check=False, timeout=60)
    assert done.returncode == 128 + signal.SIGTERM
    assert (tmp_path / "over").exists()
    assert time.monotonic() - start < 30


def test_dvc_that_waits_for_room_on_a_full_disk_is_ended_and_one_line_says_so(tmp_path: Path) -> None:
    program = """
import pathlib
from slimline.runtime import reproduction
reproduction.PATIENCE, reproduction._room = 0.5, lambda place: 1024
try:
    reproduction.reproduce(pathlib.Path.cwd(), [])
except reproduction.FullError as error:
    print(error)
"""
    (tmp_path / "dvc").mkdir()
    (tmp_path / "dvc/__init__.py").touch()
    (tmp_path / "dvc/__main__.py").write_text("import time; time.sleep(60)")
    path = os.pathsep.join([str(tmp_path), str(Path(slimline.__file__).parents[1])])
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{tmp_path}: no room is left on this disk; make some (dvc gc --workspace), and the next run goes on\n"
    assert time.monotonic() - start < 30


@pytest.mark.parametrize(("blocks", "full"), [(1000, True), (0, False)])
def test_a_disk_is_full_where_its_file_system_counts_and_has_none_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, blocks: int, full: bool
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_blocks=blocks, f_frsize=4096, f_bavail=0, f_bfree=0))
    assert (_room(tmp_path) < LEAST) is full
