"""Bad input ends in one clear line and exit code 2, with nothing half-written and nothing lost."""

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from repository import Repository, refused, snapshot

pytestmark = pytest.mark.slow


@pytest.fixture
def workspace(finished: Repository, tmp_path: Path) -> Repository:
    """A copy of the finished repository, to spoil; its runs go to a store elsewhere."""
    folder = tmp_path / "spoilt"
    shutil.copytree(finished.root, folder, ignore=shutil.ignore_patterns(".git", ".dvc", "mlartifacts", "mlflow.db", "tests"))
    shutil.copy(finished.root / "mlflow.db", tmp_path / "runs.db")  # a new one takes seconds to make
    return Repository(folder)


def stage(repository: Repository, name: str, prepare: Callable[[], None] | None = None, runs: str | None = None) -> subprocess.CompletedProcess[str]:
    """The script of a stage, its runs recorded beside the workspace or in the store `runs`; `prepare` is called in its process first."""
    return subprocess.run(
        ["python", f"pipelines/{name}.py"],
        cwd=repository.root,
        env={**repository.environment, "MLFLOW_TRACKING_URI": runs or f"sqlite:///{repository.root.parent}/runs.db"},
        text=True,
        capture_output=True,
        check=False,
        preexec_fn=prepare,
    )


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("amount: 0.4", "amuont: 0.4", ("prune.target.amuont", "did you mean amount?")),
        ("amount: 0.4", "amount: '0.4'", ("prune.target.amount", 'found "0.4"', "number")),
        ("epochs: 2", "epochs: -2", ("fit.epochs", "-2", "greater than or equal to 1")),
        ("alpha: 0.9", "alpha: 1.5", ("loss", "alpha", "1.5", "less than or equal to 1")),
    ],
)
def test_an_impossible_parameter_of_any_stage_is_refused_by_the_first(workspace: Repository, old: str, new: str, parts: tuple[str, ...]) -> None:
    params = workspace.root / "params.yaml"
    assert old in params.read_text()
    params.write_text(params.read_text().replace(old, new))
    before = snapshot(workspace.root)
    refused(stage(workspace, "prepare"), "params.yaml", *parts)
    assert snapshot(workspace.root) == before


def test_a_missing_data_set_is_refused(workspace: Repository) -> None:
    params = workspace.root / "params.yaml"
    params.write_text(params.read_text().replace("{name: digits, path: data/raw/digits.md}", "{name: images, path: data/raw/photos}"))
    before = snapshot(workspace.root)
    refused(stage(workspace, "prepare"), "data.source.path", "data/raw/photos", "does not exist")
    assert snapshot(workspace.root) == before


@pytest.mark.parametrize(
    ("file", "spoil"),
    [
        ("model.safetensors", lambda content: content[: len(content) // 2]),
        ("model.json", lambda content: b'{"format": 1}'),
    ],
)
def test_a_truncated_or_foreign_model_is_refused(workspace: Repository, file: str, spoil: Callable[[bytes], bytes]) -> None:
    path = workspace.root / "models/student" / file
    path.write_bytes(spoil(path.read_bytes()))
    before = snapshot(workspace.root)
    refused(stage(workspace, "prune"), "models/student")
    assert snapshot(workspace.root) == before


def test_a_missing_model_is_refused_by_name(workspace: Repository) -> None:
    shutil.rmtree(workspace.root / "models/teacher")
    refused(stage(workspace, "prune"), "models/teacher", "run the stage that makes it")


def test_a_full_disk_is_told_and_leaves_nothing_half_written(workspace: Repository) -> None:
    """Files of more than 50 kB cannot be written, as on a disk that has no more room."""
    before = snapshot(workspace.root)
    limit = (50_000, 50_000)
    done = stage(workspace, "train_teacher", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit), runs="http://127.0.0.1:9")
    assert done.returncode == 2, done.stderr
    refusal = [line for line in done.stderr.splitlines() if "the record of train_teacher" not in line]
    assert len(refusal) == 1
    assert "File too large" in refusal[0]
    assert snapshot(workspace.root) == before


@pytest.fixture
def sealed(workspace: Repository) -> Iterator[Repository]:
    """The workspace without permission to write; for root, who needs none, on a file system mounted read-only."""
    if os.geteuid() != 0:
        folders = [workspace.root, *(p for p in workspace.root.rglob("*") if p.is_dir())]
        for folder in folders:
            folder.chmod(0o555)
        yield workspace
        for folder in folders:
            folder.chmod(0o755)
        return
    where = str(workspace.root)
    if subprocess.run(["mount", "--bind", where, where], capture_output=True, check=False).returncode != 0:
        pytest.skip("running as root, and this machine does not let root mount anything: nothing is unwritable here")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", where], check=True)
        yield workspace
    finally:
        subprocess.run(["umount", where], check=True)


def test_no_permission_to_write_is_told(sealed: Repository) -> None:
    refused(stage(sealed, "prepare"), str(sealed.root), "mend it and run the command again")


def test_a_tracking_server_that_is_down_costs_one_line_and_no_training(workspace: Repository) -> None:
    done = workspace.run("python", "pipelines/prune.py", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("MLflow at http://127.0.0.1:9 does not answer") == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert (workspace.root / "models/pruned/model.slim").exists()


def test_an_unknown_workspace_and_a_run_that_never_was_are_refused(workspace: Repository) -> None:
    refused(workspace.run("slimline", "--workspace", "nowhere", "check"), "nowhere: no such folder")
    (workspace.root / "metrics/scorecard.json").unlink()
    refused(workspace.run("slimline", "show"), "scorecard.json", "run make repro first")
