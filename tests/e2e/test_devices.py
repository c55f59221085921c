"""Every stage in two processes: what the pipeline leaves is whole, written and recorded once, and counted as one process counts."""

import shutil
from pathlib import Path

import pytest
from chain import TINY
from mlflow.tracking import MlflowClient
from repository import Repository, alive, clone

from slimline.paths import MODELS, STAGES, Paths
from slimline.tracking.mlflow import STAGE_TAG

pytestmark = pytest.mark.slow

ONE, TWO = "hardware: {threads: 1}", "hardware: {threads: 1, devices: 2}"

MUTE = """
import os, resource
if os.environ.get("RANK", "0") != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
"""
"""What Python runs at its start: no process of a stage but the first can write more than 64 bytes to a file (tempfile tries four)."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """One in which two processes have run the pipeline, of which the second one could write no file."""
    made = clone(tmp_path_factory.mktemp("two") / "slimline")
    Paths(made.root).params.write_text(TINY.replace("hardware: {threads: 2}", TWO))
    (made.root / "src" / "sitecustomize.py").write_text(MUTE)
    made.output("slimline", "repro")
    return made


def test_two_processes_finish_the_pipeline_though_the_first_alone_can_write(repository: Repository) -> None:
    paths = Paths(repository.root)
    for name in MODELS:
        files = paths.model(name)
        assert all(file.stat().st_size for file in (files.manifest, files.weights, files.onnx, files.packed)), name
    assert not list(repository.root.rglob("*.part"))
    assert not list(paths.scratch.rglob("*.checkpoint"))
    assert alive(repository.root) == []


def test_each_stage_has_one_run_which_is_finished(repository: Repository) -> None:
    client = MlflowClient(f"sqlite:///{repository.root / 'mlflow.db'}")
    (experiment,) = [e.experiment_id for e in client.search_experiments() if e.name == "test"]
    found = sorted((run.data.tags[STAGE_TAG], run.info.status, run.data.tags.get("ranks")) for run in client.search_runs([experiment]))
    expected = [(stage, "FINISHED", "1" if stage == "prepare" else "2") for stage in STAGES]
    assert found == sorted([("pipeline", "FINISHED", None), *expected])


def test_one_process_counts_the_same_right_answers_of_the_same_models(repository: Repository, tmp_path: Path) -> None:
    alone = Repository(tmp_path / "alone")
    shutil.copytree(repository.root, alone.root, ignore=shutil.ignore_patterns(".git", ".dvc", "mlartifacts", "sitecustomize.py"))
    paths = Paths(alone.root)
    paths.params.write_text(paths.params.read_text().replace(TWO, ONE))
    paths.scorecard.unlink()
    alone.output("python", "pipelines/evaluate.py")
    assert paths.scorecard.read_bytes() == Paths(repository.root).scorecard.read_bytes()
