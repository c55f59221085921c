"""Two hosts, each with a network and an address of its own, train what one process would."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chain import TINY
from repository import Repository, clone

import tiny
import together
from slimline.paths import Paths

pytestmark = pytest.mark.slow

PORT = 29511


@dataclass(frozen=True)
class Host:
    """A network namespace with one address."""

    name: str
    link: str
    address: str

    def torchrun(self, rank: int, meeting: str, *program: str, **settings: Any) -> subprocess.Popen[str]:
        nodes = ["--nnodes=2", f"--node-rank={rank}", "--nproc-per-node=1", f"--master-addr={meeting}", f"--master-port={PORT}"]
        common = {"env": os.environ, **settings}
        environment = {**common["env"], "GLOO_SOCKET_IFNAME": self.link, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        command = ["ip", "netns", "exec", self.name, "torchrun", *nodes, *program]
        return subprocess.Popen(command, **{**common, "env": environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, Host]]:
    """Two of them, joined by a cable, on addresses that no other network of this machine sees."""
    number = os.getpid() % 1000
    pair = tuple(Host(f"slimline-{number}-{end}", f"slv{number}{end}", f"10.77.0.{end}") for end in (1, 2))
    try:
        ip("netns", "add", pair[0].name)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here ({error}): they need root and iproute2")
    try:
        ip("netns", "add", pair[1].name)
        ip("link", "add", pair[0].link, "netns", pair[0].name, "type", "veth", "peer", "name", pair[1].link, "netns", pair[1].name)
        for host in pair:
            ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", host.link)
            ip("-n", host.name, "link", "set", host.link, "up")
            ip("-n", host.name, "link", "set", "lo", "up")
        yield pair[0], pair[1]
    finally:
        for host in pair:
            subprocess.run(["ip", "netns", "del", host.name], check=False, capture_output=True)


@pytest.fixture(scope="module")
def prepared() -> Iterator[Path]:
    with tiny.prepared(tiny.items(150, classes=3)) as made:
        yield made.folder


@pytest.mark.parametrize("changes", [{}, {"hardware": {"strategy": {"name": "pipeline"}}}], ids=["ddp", "pipeline"])
def test_two_hosts_by_torchrun_follow_the_curve_of_one_process(hosts: tuple[Host, Host], prepared: Path, tmp_path: Path, changes: Any) -> None:
    alone = together.train(tmp_path / "alone", prepared, 1, model=together.PLAIN, fit=together.STEADY)
    folder = tmp_path / "together"
    together.task(folder, prepared, model=together.PLAIN, fit=together.STEADY, **changes)
    both = [host.torchrun(rank, hosts[0].address, together.__file__, str(folder)) for rank, host in enumerate(hosts)]
    texts = [process.communicate(timeout=300)[0] for process in both]
    assert all(process.returncode == 0 for process in both), "\n".join(texts)
    two = together.results(folder, 2)
    for curve, state in zip(two.curves, two.states, strict=True):
        np.testing.assert_allclose(curve, alone.curves[0], rtol=1e-9)
        assert [row[2] for row in curve] == [row[2] for row in alone.curves[0]], "counts of right answers are exact"
        for name, tensor in state.items():
            torch.testing.assert_close(tensor, alone.states[0][name], rtol=1e-5, atol=1e-7)


def test_a_parameter_server_serves_two_hosts(hosts: tuple[Host, Host], prepared: Path, tmp_path: Path) -> None:
    together.task(tmp_path, prepared, model=together.PLAIN, fit={**together.STEADY, "synchrony": {"name": "asynchronous"}})
    both = [host.torchrun(rank, hosts[0].address, together.__file__, str(tmp_path)) for rank, host in enumerate(hosts)]
    texts = [process.communicate(timeout=300)[0] for process in both]
    assert all(process.returncode == 0 for process in both), "\n".join(texts)
    two = together.results(tmp_path, 2)
    assert two.curves[0] == two.curves[1]
    assert len(two.curves[0]) == together.STEADY["epochs"]


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> tuple[Repository, Repository]:
    """One on each host: the same commit, the same prepared data."""
    one, other = (Repository(tmp_path_factory.mktemp(name) / "slimline") for name in ("one", "other"))
    clone(one.root)
    Paths(one.root).params.write_text(TINY.replace("hardware: {threads: 2}", "hardware: {threads: 1, nodes: 2}"))
    one.output("python", "pipelines/prepare.py")
    shutil.copytree(one.root, other.root)
    return one, other


def trained(hosts: tuple[Host, Host], repositories: tuple[Repository, Repository]) -> list[tuple[int, str]]:
    """Exit code and output of the teacher's stage on each host."""
    both = [
        host.torchrun(rank, hosts[0].address, "pipelines/train_teacher.py", cwd=repository.root, env=repository.environment)
        for rank, (host, repository) in enumerate(zip(hosts, repositories, strict=True))
    ]
    texts = [process.communicate(timeout=300)[0] for process in both]
    return [(process.returncode, text) for process, text in zip(both, texts, strict=True)]


def test_a_stage_of_two_hosts_leaves_its_files_and_its_run_on_the_first(
    hosts: tuple[Host, Host], repositories: tuple[Repository, Repository]
) -> None:
    done = trained(hosts, repositories)
    assert all(code == 0 for code, _ in done), done
    first, second = (Paths(repository.root) for repository in repositories)
    assert first.stage_metrics("train_teacher").exists()
    assert first.model("teacher").weights.exists()
    assert not second.model("teacher").folder.exists()
    assert not list(second.scratch.rglob("*.checkpoint"))


def test_hosts_with_other_code_parameters_or_data_do_not_train_together(
    hosts: tuple[Host, Host], repositories: tuple[Repository, Repository]
) -> None:
    params = Paths(repositories[1].root).params
    text = params.read_text()
    params.write_text(text.replace("depth: 8", "depth: 14"))
    try:
        for code, said in trained(hosts, repositories):
            assert code != 0
            assert "differs between the machine of process 0 and that of process 1; bring both to the same commit and data" in said
    finally:
        params.write_text(text)
