"""A real container engine, as the tests here use it.

DOCKER names the client, COMPOSE its compose (`docker compose` where it is not set), SLIMLINE_BUILD further words for `docker build`: a
secret for pip, another index of torch, `--network host`. Images are built with these first, under the names that compose.yaml gives them
with the tag `test`, so that `up` finds them and builds nothing.
"""

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from chain import TINY

Found = TypeVar("Found")

ROOT = Path(__file__).parents[2]
DOCKER = os.environ.get("DOCKER", "docker")
COMPOSE = shlex.split(os.environ.get("COMPOSE", f"{DOCKER} compose"))
TAG = "test"
IMAGE, SERVICES, BASE = f"slimline:{TAG}", f"slimline-services:{TAG}", "python:3.11-slim-bookworm"
SEALED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
PATIENCE = 3000.0

NEEDED = [
    pytest.mark.slow,
    pytest.mark.skipif("SLIMLINE_CONTAINERS" not in os.environ, reason="builds images and needs a container engine: make test-containers"),
]
"""Marks of whoever uses this."""

QUICK = re.sub(r"epochs: \d+", "epochs: 1", TINY).replace("{name: resnet, depth: 8, width: 8}", "{name: mlp, hidden: [64, 32]}")
QUICK = QUICK.replace("{name: mobilenet, width: 8, stages: [2, 4]}", "{name: mlp, hidden: [32, 16]}").replace("parity: 0.98", "parity: 0.5")
QUICK = QUICK.replace("{threads: 2}", "{threads: 1, checkpoint_seconds: 0.2}").replace("test: 0.2}", "test: 0.2, label_noise: false}")
QUICK = re.sub(r"gates: {.*}", "gates: {size_ratio: 0.5}", QUICK).replace("margin: 0.05", "margin: 0.9")

TEACHER = "hidden: [64, 32]}, fit: {epochs: 1"
"""Of QUICK: the training that is made longer where one has to be caught at work."""


def run(command: list[str], code: int | None, text: str | None = None) -> str:
    """What `command` prints; it ends with `code`, None: with another one than 0."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=PATIENCE, cwd=ROOT)
    well = done.returncode == code if code is not None else done.returncode != 0
    assert well, f"{shlex.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def docker(*words: str, code: int = 0, text: str | None = None) -> str:
    """What `docker words` prints; it ends with `code`."""
    return run([DOCKER, *words], code, text)


def build(target: str, tag: str) -> None:
    """Build `target` of the Dockerfile, as `docker build` alone does it, but for SLIMLINE_BUILD's words."""
    words = shlex.split(os.environ.get("SLIMLINE_BUILD", ""))
    command = [DOCKER, "build", *words, "--build-arg", f"REVISION={TAG}", "--target", target, "--tag", tag, "."]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "DOCKER_BUILDKIT": "1"}, check=True, timeout=PATIENCE)


def state(container: str) -> dict[str, Any]:
    """What the engine knows of a container's life."""
    known: dict[str, Any] = json.loads(docker("inspect", container))[0]["State"]
    return known


def until(look: Callable[[], Found], told: Callable[[], str], patience: float = PATIENCE) -> Found:
    """What `look` finds, as soon as that is something; else `told`."""
    deadline = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < deadline, told()
        time.sleep(0.5)
    return found


@contextmanager
def container(name: str, *words: str) -> Iterator[str]:
    """One at work, started by `docker run --name name words`, and its end."""
    docker("run", "--detach", "--name", name, *words)
    try:
        yield name
    finally:
        docker("rm", "--force", "--volumes", name)


@dataclass(frozen=True)
class Volume:
    """A workspace."""

    name: str
    image: str

    @contextmanager
    def another(self, name: str, *options: str) -> Iterator["Volume"]:
        """One more, as long as it is needed."""
        other = Volume(f"{self.name}-{name}", self.image)
        docker("volume", "create", *options, other.name)
        try:
            yield other
        finally:
            docker("volume", "rm", "--force", other.name)

    def sealed(self, *words: str) -> list[str]:
        """The words of `docker run` for a sealed container on this volume."""
        return [*SEALED, *words, "-v", f"{self.name}:/workspace", self.image]

    def run(self, *command: str, code: int = 0, words: tuple[str, ...] = (), text: str | None = None) -> str:
        """What `command` prints in a sealed container on this volume."""
        return docker("run", "--rm", *self.sealed(*words, *(["--interactive"] if text else [])), *command, code=code, text=text)

    def params(self, text: str) -> None:
        self.run("sh", "-c", "cat > params.yaml", text=text)

    def read(self, file: str) -> str:
        return self.run("cat", file)

    def digests(self, *folders: str) -> str:
        return self.run("sh", "-c", f"find {' '.join(folders)} -type f | sort | xargs sha256sum")
