"""The image itself: what is in it, and the pipeline run by it, on a real engine, as somebody who is not root and on a root that is read-only.

`make test-containers` builds the image and runs this. SLIMLINE_BUILD holds further words for `docker build`, DOCKER names the client.
"""

import json
import os
import re
import shlex
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from chain import TINY

ROOT = Path(__file__).parents[2]
DOCKER = os.environ.get("DOCKER", "docker")
TAG, BASE = "slimline:test", "python:3.11-slim-bookworm"
SEALED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
PATIENCE = 3000.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("SLIMLINE_CONTAINERS" not in os.environ, reason="builds an image and needs a container engine: make test-containers"),
]

QUICK = re.sub(r"epochs: \d+", "epochs: 1", TINY).replace("{name: resnet, depth: 8, width: 8}", "{name: mlp, hidden: [64, 32]}")
QUICK = QUICK.replace("{name: mobilenet, width: 8, stages: [2, 4]}", "{name: mlp, hidden: [32, 16]}").replace("parity: 0.98", "parity: 0.5")
QUICK = QUICK.replace("{threads: 2}", "{threads: 1, checkpoint_seconds: 0.2}").replace("test: 0.2}", "test: 0.2, label_noise: false}")


def docker(*words: str, code: int = 0, text: str | None = None) -> str:
    """What `docker words` prints; it ends with `code`."""
    done = subprocess.run([DOCKER, *words], input=text, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == code, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def image() -> str:
    if "SLIMLINE_BUILT" not in os.environ:
        words = shlex.split(os.environ.get("SLIMLINE_BUILD", ""))
        command = [DOCKER, "build", *words, "--build-arg", "REVISION=test", "--target", "pipeline", "--tag", TAG, "."]
        subprocess.run(command, cwd=ROOT, env={**os.environ, "DOCKER_BUILDKIT": "1"}, check=True, timeout=PATIENCE)
    return TAG


@dataclass(frozen=True)
class Volume:
    name: str
    image: str

    def run(self, *command: str, code: int = 0, words: tuple[str, ...] = (), text: str | None = None) -> str:
        """What `command` prints in a sealed container on this volume."""
        words = (*words, *(["--interactive"] if text else []), "-v", f"{self.name}:/workspace")
        return docker("run", "--rm", *SEALED, *words, self.image, *command, code=code, text=text)

    def params(self, text: str) -> None:
        self.run("sh", "-c", "cat > params.yaml", text=text)

    def digests(self, *folders: str) -> str:
        return self.run("sh", "-c", f"find {' '.join(folders)} -type f | sort | xargs sha256sum")


@pytest.fixture
def volume(image: str) -> Iterator[Volume]:
    name = f"slimline-test-{uuid.uuid4().hex[:8]}"
    docker("volume", "create", name)
    yield Volume(name, image)
    docker("volume", "rm", "--force", name)


def test_the_image_holds_no_secret_nothing_that_anyone_may_change_and_no_new_way_to_root(image: str) -> None:
    facts = json.loads(docker("image", "inspect", image))[0]
    print(f"{image}: {facts['Size'] / 1e6:,.0f} MB")
    assert facts["Config"]["User"] == "1000:1000"
    assert facts["Config"]["Healthcheck"]["Test"] == ["CMD", "slimline", "healthy"]
    history = docker("history", "--no-trunc", image)
    assert not re.search(r"://[^/\s]+:[^/\s]+@|password=|token=", history + json.dumps(facts["Config"]), re.IGNORECASE)
    look = ["run", "--rm", "--user", "root", "--entrypoint", "find", image]
    quiet = ["-xdev", "(", "-path", "/proc", "-o", "-path", "/sys", ")", "-prune", "-o"]
    privileged = ["/", *quiet, "-perm", "/6000", "-type", "f", "-print"]
    base = docker("run", "--rm", BASE, "find", *privileged)
    assert set(docker(*look, *privileged).split()) <= set(base.split())
    assert docker(*look, "/opt", "/usr", "/etc", "-perm", "-0002", "!", "-type", "l", "-print").split() == []
    secrets = ["(", "-name", ".env*", "-o", "-name", "pip.conf", "-o", "-name", "*.pem", "-o", "-name", "id_rsa*", "-o", "-name", "config.local", ")"]
    found = docker(*look, "/opt/slimline", "/etc", "/root", "/tmp", "/workspace", *secrets, "-not", "-path", "/etc/ssl/*", "-print").split()
    assert [one for one in found if not one.endswith(("cacert.pem", ".env.example"))] == []


def test_the_pipeline_runs_sealed_and_a_second_time_does_nothing(volume: Volume) -> None:
    volume.params(QUICK)
    assert volume.run("id", "-u").strip() == "1000"
    first = volume.run("slimline", "repro")
    assert first.count("Running stage") == 7
    assert volume.run("sh", "-c", "ls models/quantized/model.slim reports/index.html mlflow.db").count("\n") == 3
    before = volume.digests("models", "metrics", "dvc.lock")
    second = volume.run("slimline", "repro")
    assert "Running stage" not in second
    assert "up to date" in second
    assert volume.digests("models", "metrics", "dvc.lock") == before
    ticked = volume.run("slimline", "rerun")
    assert "version 1 of slimline" in ticked
    assert "nothing to do" in volume.run("slimline", "rerun")


def test_a_stop_in_the_middle_of_a_training_ends_in_time_and_the_next_start_comes_to_the_same_bytes(volume: Volume, image: str) -> None:
    long = QUICK.replace("hidden: [64, 32]}, fit: {epochs: 1", "hidden: [64, 32]}, fit: {epochs: 150")
    assert long != QUICK
    undisturbed = Volume(f"{volume.name}-undisturbed", image)
    docker("volume", "create", undisturbed.name)
    try:
        for one in (volume, undisturbed):
            one.params(long)
            one.run("slimline", "repro", "prepare")
        name = f"{volume.name}-training"
        docker("run", "--detach", "--name", name, *SEALED, "-v", f"{volume.name}:/workspace", image, "slimline", "repro", "train_teacher")
        deadline = time.monotonic() + PATIENCE
        while "checkpoint" not in docker("exec", name, "sh", "-c", "find .slimline/checkpoints -name '*.checkpoint' 2>/dev/null; true"):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        start = time.monotonic()
        docker("stop", "--time", "10", name)
        assert time.monotonic() - start < 11
        assert json.loads(docker("inspect", name))[0]["State"]["ExitCode"] == 143, docker("logs", name)
        docker("rm", name)
        volume.run("slimline", "repro", "train_teacher")
        undisturbed.run("slimline", "repro", "train_teacher")
        assert volume.digests("models/teacher", "plots/curves/teacher.csv") == undisturbed.digests("models/teacher", "plots/curves/teacher.csv")
    finally:
        docker("volume", "rm", "--force", undisturbed.name)


def test_a_volume_of_somebody_else_is_refused_in_one_line(image: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    said = docker("run", "--rm", *SEALED, "-v", f"{tmp_path}:/workspace", image, code=2)
    assert len(said.splitlines()) == 1
    assert "give the volume to user 1000" in said


def test_a_clone_of_somebodys_own_runs_its_own_code_and_names_its_commit(image: str, tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(tmp_path / "clone")], check=True)
    place = tmp_path / "clone"
    (place / "params.yaml").write_text(QUICK)
    owner = f"{os.getuid()}:{os.getgid()}"
    said = docker("run", "--rm", *SEALED, "--user", owner, "-v", f"{place}:/workspace", image, "slimline", "repro", "prepare")
    assert "Running stage 'prepare'" in said
    assert "the workspace has the code of this image" not in said
    assert (place / "data/prepared/dataset.json").exists()


def test_a_schedule_is_healthy_in_its_container_and_ends_when_it_is_told_to(volume: Volume, image: str) -> None:
    name = f"{volume.name}-schedule"
    docker("run", "--detach", "--name", name, *SEALED, "-v", f"{volume.name}:/workspace", image, "slimline", "schedule", "0 3 1 1 *")
    try:
        deadline = time.monotonic() + PATIENCE
        while "next run" not in docker("logs", name):
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert "next run" in docker("exec", name, "slimline", "healthy", "--schedule")
        start = time.monotonic()
        docker("stop", "--time", "10", name)
        assert time.monotonic() - start < 10
        assert json.loads(docker("inspect", name))[0]["State"]["ExitCode"] == 143
    finally:
        docker("rm", "--force", name)
