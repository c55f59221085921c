"""Whether anything of a run is left."""

import os
import subprocess
import sys
import time

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
