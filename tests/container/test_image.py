"""The image itself: what is in it, and the pipeline run by it, on a real engine, as somebody who is not root and on a root that is read-only.

`make test-containers` builds the image and runs this.
"""

import json
import os
import re
import subprocess
import time
from pathlib import Path

from engine import BASE, NEEDED, QUICK, ROOT, SEALED, TEACHER, Volume, container, docker, state, until

pytestmark = NEEDED


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


def test_a_stop_in_the_middle_of_a_training_ends_in_time_and_the_next_start_comes_to_the_same_bytes(volume: Volume) -> None:
    long = QUICK.replace(TEACHER, TEACHER.replace("epochs: 1", "epochs: 150"))
    assert long != QUICK
    with volume.another("undisturbed") as undisturbed:
        for one in (volume, undisturbed):
            one.params(long)
            one.run("slimline", "repro", "prepare")
        with container(f"{volume.name}-training", *volume.sealed(), "slimline", "repro", "train_teacher") as name:
            look = ["exec", name, "sh", "-c", "find .slimline/checkpoints -name '*.checkpoint' 2>/dev/null; true"]
            until(lambda: "checkpoint" in docker(*look), lambda: docker("logs", name))
            start = time.monotonic()
            docker("stop", "--time", "10", name)
            seconds = time.monotonic() - start
            assert state(name)["ExitCode"] == 143, docker("logs", name)
        print(f"stopped in {seconds:.1f} s")
        assert seconds < 11
        volume.run("slimline", "repro", "train_teacher")
        undisturbed.run("slimline", "repro", "train_teacher")
        assert volume.digests("models/teacher", "plots/curves/teacher.csv") == undisturbed.digests("models/teacher", "plots/curves/teacher.csv")


def test_a_clone_of_somebodys_own_runs_its_own_code_and_names_its_commit(image: str, tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(tmp_path / "clone")], check=True)
    place = tmp_path / "clone"
    (place / "params.yaml").write_text(QUICK)
    owner = f"{os.getuid()}:{os.getgid()}"
    said = docker("run", "--rm", *SEALED, "--user", owner, "-v", f"{place}:/workspace", image, "slimline", "repro", "prepare")
    assert "Running stage 'prepare'" in said
    assert "the workspace has the code of this image" not in said
    assert (place / "data/prepared/dataset.json").exists()


def test_a_schedule_is_healthy_in_its_container_and_ends_when_it_is_told_to(volume: Volume) -> None:
    with container(f"{volume.name}-schedule", *volume.sealed(), "slimline", "schedule", "0 3 1 1 *") as name:
        until(lambda: "next run" in docker("logs", name), lambda: docker("logs", name))
        assert "next run" in docker("exec", name, "slimline", "healthy", "--schedule")
        start = time.monotonic()
        docker("stop", "--time", "10", name)
        assert time.monotonic() - start < 10
        assert state(name)["ExitCode"] == 143
