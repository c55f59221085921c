"""Whether anything of a run is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import slimline
from slimline.runtime.reproduction import _lives


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


def test_a_stage_whose_dvc_was_killed_gets_the_time_for_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "dvc").mkdir()
    (tmp_path / "dvc" / "__init__.py").touch()
    (tmp_path / "dvc" / "__main__.py").write_text(DVC)
    program = "import sys, pathlib; from slimline.runtime.reproduction import reproduce; sys.exit(reproduce(pathlib.Path.cwd(), []))"
    path = os.pathsep.join([str(tmp_path), str(Path(slimline.__file__).parents[1])])
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, check=False, timeout=60)
    assert (tmp_path / "checkpoint").exists()
    assert done.returncode == 128 + signal.SIGKILL
