"""Two containers as two hosts, by the commands of docs/scale-out.md."""

import csv
import io
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from engine import NEEDED, QUICK, Volume, container, docker, state, until

pytestmark = NEEDED

STEADY = "fit: {epochs: 60, batch_size: 256, precision: 64, optimizer: {name: sgd, lr: 0.05}, schedule: {name: cosine}}"
(TEACHER,) = re.findall(r"teacher: .*", QUICK)
PARAMS = QUICK.replace(TEACHER, f"teacher: {{model: {{name: mlp, hidden: [64, 32]}}, {STEADY}}}")
"""A training whose course does not hang on last bits, so that one process and two are compared by its curve."""

NODES = "--nnodes=2 --nproc-per-node=1 --master-addr=first --master-port=29500"
LEFT = ("sh", "-c", "find .slimline -name '*.checkpoint' 2>/dev/null; true")


@pytest.fixture
def hosts(volume: Volume) -> Iterator[tuple[Volume, Volume]]:
    """Two workspaces with the same prepared images."""
    volume.params(PARAMS.replace("hardware: {", "hardware: {nodes: 2, "))
    volume.run("slimline", "repro", "prepare")
    with volume.another("two") as other:
        docker("run", "--rm", "--entrypoint", "cp", "-v", f"{volume.name}:/one:ro", *other.sealed(), "-a", "/one/.", "/workspace")
        yield volume, other


@contextmanager
def network(name: str) -> Iterator[str]:
    docker("network", "create", name)
    try:
        yield name
    finally:
        docker("network", "rm", name)


@contextmanager
def training(hosts: tuple[Volume, Volume], network: str) -> Iterator[list[str]]:
    """The containers of both, at work."""
    launch = ("-e", f"SLIMLINE_LAUNCH=torchrun {NODES} --node-rank=0")
    second = ["torchrun", *NODES.split(), "--node-rank=1", "pipelines/train_teacher.py"]
    works = [(hosts[0], "first", launch, ["slimline", "repro", "--single-item", "train_teacher"]), (hosts[1], "second", (), second)]
    with ExitStack() as stack:
        yield [
            stack.enter_context(container(f"{network}-{alias}", "--network", network, "--network-alias", alias, *volume.sealed(*words), *command))
            for volume, alias, words, command in works
        ]


def ended(name: str) -> int:
    """A container's exit code, once it has one."""
    until(lambda: state(name)["Status"] == "exited", lambda: docker("logs", name), patience=900)
    code: int = state(name)["ExitCode"]
    return code


def curve(volume: Volume) -> np.ndarray:
    """What the teacher's training left of each epoch."""
    rows = list(csv.reader(io.StringIO(volume.read("plots/curves/teacher.csv"))))
    return np.array(rows[1:], dtype=np.float64)


def test_two_containers_follow_the_curve_of_one_process_though_one_of_them_was_killed_on_the_way(hosts: tuple[Volume, Volume]) -> None:
    with hosts[0].another("alone") as alone, network(hosts[0].name) as joined:
        alone.params(PARAMS)
        alone.run("slimline", "repro", "train_teacher")
        with training(hosts, joined) as (first, second):
            until(lambda: ".checkpoint" in docker("exec", first, *LEFT), lambda: docker("logs", first) + docker("logs", second), patience=900)
            docker("kill", second)
            assert ended(first) not in (0, 137)
            said = docker("logs", first)
        (line,) = {one for one in said.splitlines() if one.startswith("slimline: ")}
        assert "lost touch with" in line
        assert "goes on from its last checkpoint" in line
        assert ".checkpoint" in hosts[0].run(*LEFT)
        with training(hosts, joined) as (first, second):
            assert (ended(first), ended(second)) == (0, 0), docker("logs", first) + docker("logs", second)
        assert ".checkpoint" not in hosts[0].run(*LEFT), "what is done needs none"
        assert len(curve(alone)) == 60
        np.testing.assert_allclose(curve(hosts[0]), curve(alone), rtol=1e-9)
        assert "no such file" in hosts[1].run("cat", "plots/curves/teacher.csv", code=1).lower(), "process 0 alone writes"
