"""Programs that listen at a port, for as long as a test needs them: MLflow, PostgreSQL."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

import pytest

from slimline.runtime.launch import free_port

PATIENCE = 300.0
"""Seconds for a server to come up: MLflow's takes 15 of a core, and the machine may be busy."""

NOBODY = 65534


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def started(*command: str, port: int, folder: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that listens at `port`, and its end with all that it started. What it says goes to `folder`/server.log."""
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env={**os.environ, **environment}, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + PATIENCE
        while not listening(port):
            assert process.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline, (folder / "server.log").read_text()
            time.sleep(0.2)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """The address of an empty database of a server in `folder`; without PostgreSQL the test is skipped."""
    initdb, postgres = shutil.which("initdb"), shutil.which("postgres")
    if initdb is None or postgres is None:
        pytest.skip("no PostgreSQL here: initdb and postgres are not on the PATH (Debian: apt-get install postgresql, /usr/lib/postgresql/*/bin)")
    pytest.importorskip("psycopg", reason="no psycopg here: pip install slimline[postgresql]")
    other = ["setpriv", f"--reuid={NOBODY}", "--clear-groups"] if os.getuid() == 0 else []  # root may not run it
    for place in (folder, *takewhile(lambda one: one != Path(tempfile.gettempdir()), folder.parents)):  # as deep as pytest-xdist makes it
        place.chmod(0o755)
    data = folder / "data"
    data.mkdir()
    if other:
        os.chown(data, NOBODY, -1)
    subprocess.run([*other, initdb, "-D", str(data), "-U", "slimline", "--auth=trust", "--no-sync"], check=True, capture_output=True)
    port = free_port()
    options = ["-p", str(port), "-h", "127.0.0.1", "-k", "", "-c", "fsync=off"]
    with started(*other, postgres, "-D", str(data), *options, port=port, folder=folder):
        yield f"postgresql+psycopg://slimline@127.0.0.1:{port}/postgres"
