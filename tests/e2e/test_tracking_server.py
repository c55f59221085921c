"""The whole pipeline recorded by a real MLflow server on PostgreSQL: lost on the way, run by two processes, forced, restored, examined."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from chain import TINY
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from repository import Repository, clone, commit

from runs import counted, runs_of, standing
from servers import PATIENCE, postgresql, started
from slimline.paths import STAGES, Paths
from slimline.runtime.launch import free_port
from slimline.tracking.mlflow import PIPELINE, RUN_TAG, SUPERSEDED_TAG

pytestmark = pytest.mark.slow

ONE, TWO = "hardware: {threads: 2}", "hardware: {threads: 1, devices: 2}"


@dataclass(frozen=True)
class Place:
    """A repository, and the server that its runs are told to."""

    repository: Repository
    port: int
    database: str
    folder: Path

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def server(self) -> Iterator[None]:
        mlflow = str(Path(sys.executable).parent / "mlflow")
        store = ["--backend-store-uri", self.database, "--artifacts-destination", str(self.folder / "artifacts")]
        with started(mlflow, "server", *store, "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1", port=self.port, folder=self.folder):
            yield

    def runs(self) -> list[Run]:
        return runs_of(self.uri)

    def counts(self) -> dict[str, int]:
        return counted(self.runs())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A repository in which the pipeline has run while its server was down, from the middle of the teacher's training to the end.

    Two processes train the teacher. The server is up for the tests: its start costs 15 seconds of a core.
    """
    folder = tmp_path_factory.mktemp("server")
    with postgresql(tmp_path_factory.mktemp("database")) as database:
        made = Place(clone(folder / "slimline"), free_port(), database, folder)
        params = Paths(made.repository.root).params
        text = TINY.replace("sqlite:///mlflow.db", made.uri)
        params.write_text(text.replace(ONE, TWO))
        commit(made.repository, "a server")
        with made.server():
            made.repository.output("dvc", "repro", "prepare")
            assert made.counts() == {"prepare": 1, PIPELINE: 1}
            training = made.repository.start("dvc", "repro", "train_teacher")
            deadline = time.monotonic() + PATIENCE
            while made.counts().get("train_teacher") is None:
                assert time.monotonic() < deadline
                assert training.poll() is None, training.communicate()
                time.sleep(0.1)
        output, _ = training.communicate(timeout=PATIENCE)
        assert training.returncode == 0, output
        assert f"MLflow at {made.uri} does not answer" in output
        params.write_text(text)
        made.repository.output("dvc", "repro")
        with made.server():
            made.repository.output("slimline", "sync")
            commit(made.repository, "the run")
            yield made


def test_a_server_that_was_away_has_everything_once_it_is_back(place: Place) -> None:
    runs, client = place.runs(), MlflowClient(place.uri)
    assert counted(runs) == {PIPELINE: 1, **dict.fromkeys(STAGES, 1)}
    parent = standing(runs, PIPELINE)
    assert parent.info.status == "FINISHED"
    for stage in STAGES:
        run = standing(runs, stage)
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert parent.data.tags[f"{RUN_TAG}{stage}"] == run.info.run_id
        assert run.data.tags["dvc.stage"] == stage
        assert all(run.data.tags[tag] for tag in ("mlflow.source.git.commit", "machine.processor", "version.torch", "slimline.fingerprint"))
        assert any(tag.startswith("output.") for tag in run.data.tags)
        (dataset,) = run.inputs.dataset_inputs
        assert dataset.dataset.digest == run.data.tags["data.digest"][:36]
    teacher = standing(runs, "train_teacher")
    assert teacher.data.tags["ranks"] == "2"
    for metric in ("train/loss", "val/loss"):
        assert [entry.step for entry in client.get_metric_history(teacher.info.run_id, metric)] == list(range(6)), "each epoch once"
    assert not list(Paths(place.repository.root).spool.glob("[0-9r]*"))


def test_a_second_repro_adds_no_run_a_forced_one_supersedes_and_a_restored_one_is_linked(place: Place) -> None:
    repository, params = place.repository, Paths(place.repository.root).params
    text = params.read_text()
    repository.output("slimline", "repro")
    assert place.counts() == {PIPELINE: 1, **dict.fromkeys(STAGES, 1)}
    before = standing(place.runs(), "quantize").info.run_id
    repository.output("dvc", "repro", "--force", "--single-item", "quantize")
    assert place.counts() == {PIPELINE: 1, **dict.fromkeys(STAGES, 1), "quantize": 2}
    runs = place.runs()
    assert {run.info.run_id: run.data.tags.get(SUPERSEDED_TAG) for run in runs}[before] == standing(runs, "quantize").info.run_id
    params.write_text(text.replace("amount: 0.4", "amount: 0.5"))
    repository.output("slimline", "repro", "prune")
    params.write_text(text)
    counts = place.counts()
    repository.output("slimline", "repro", "prune")  # DVC has this one in its cache
    assert place.counts() == counts
    assert counts["prune"] == 2
    runs = place.runs()
    (parent,) = (run for run in runs if run.data.tags["slimline.stage"] == PIPELINE and RUN_TAG + "evaluate" in run.data.tags)
    restored = {run.info.run_id: run for run in runs}[parent.data.tags[f"{RUN_TAG}prune"]]
    assert restored.data.params["prune.target.amount"] == "0.4"


def test_an_experiment_in_a_folder_of_dvc_s_own_is_recorded_where_everything_is(place: Place) -> None:
    before = place.counts()
    place.repository.output("dvc", "exp", "run", "--temp", "--name", "aside", "--set-param", "quantize.calibration=128", "quantize")
    assert place.counts() == {**before, PIPELINE: before[PIPELINE] + 1, "quantize": before["quantize"] + 1}
    (aside,) = (run for run in place.runs() if run.data.tags.get("dvc.experiment") == "aside" and run.data.tags["slimline.stage"] == "quantize")
    assert aside.data.params["quantize.calibration"] == "128"
    assert not list((place.repository.root / ".dvc" / "tmp" / "exps").rglob("mlflow.db"))


def test_the_doctor_finds_what_is_wrong_with_the_server_and_says_what_to_do(place: Place) -> None:
    lines = place.repository.run("slimline", "doctor").stdout.splitlines()
    assert all(line[0] in "✓✗" for line in lines)
    assert [line[0] for line in lines if " server " in line or " tracking " in line] == ["✓", "✓"]
    gone = place.repository.run("slimline", "doctor", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert gone.returncode == 1
    assert "does not answer: start mlflow server there, or mend tracking.uri" in gone.stdout
