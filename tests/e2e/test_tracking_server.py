"""The whole pipeline recorded by a real MLflow server: lost on the way, forced, restored, traced, registered and served."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from chain import TINY
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from repository import Repository, clone, commit

from slimline.export.runtime import OnnxModel
from slimline.paths import STAGES, Paths
from slimline.runtime.launch import free_port
from slimline.tracking.mlflow import PIPELINE, RUN_TAG, STAGE_TAG, SUPERSEDED_TAG

pytestmark = pytest.mark.slow

PATIENCE = 180.0
GATES = {"passed": True, "gates": {}}


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def started(*command: str, port: int, folder: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that listens at `port`, and its end with all that it started."""
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env={**os.environ, **environment}, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + PATIENCE
        while not listening(port):
            assert process.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an empty database."""
    folder = tmp_path_factory.mktemp("database")
    if request.param == "sqlite":
        yield f"sqlite:///{folder / 'server.db'}"
        return
    if "SLIMLINE_POSTGRESQL" not in os.environ:
        pytest.skip("not seen to end yet on PostgreSQL; set SLIMLINE_POSTGRESQL=1 to try")
    initdb, postgres = shutil.which("initdb"), shutil.which("postgres")
    if initdb is None or postgres is None:
        pytest.skip("no PostgreSQL here")
    pytest.importorskip("psycopg")
    other = ["setpriv", "--reuid=65534", "--clear-groups"] if os.getuid() == 0 else []  # root may not run it
    for place in (folder, *takewhile(lambda one: one != Path(tempfile.gettempdir()), folder.parents)):  # as deep as pytest-xdist makes it
        place.chmod(0o755)
    data = folder / "data"
    data.mkdir()
    if other:
        os.chown(data, 65534, -1)
    subprocess.run([*other, initdb, "-D", str(data), "-U", "slimline", "--auth=trust"], check=True, capture_output=True)
    port = free_port()
    with started(*other, postgres, "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", "", port=port, folder=folder):
        yield f"postgresql+psycopg://slimline@127.0.0.1:{port}/postgres"


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
        client = MlflowClient(self.uri)
        return list(client.search_runs([one.experiment_id for one in client.search_experiments() if one.name == "test"]))

    def counts(self) -> dict[str, int]:
        stages = [run.data.tags[STAGE_TAG] for run in self.runs()]
        return {stage: stages.count(stage) for stage in dict.fromkeys(stages)}

    def one(self, stage: str) -> Run:
        """The run of `stage` that no other has superseded."""
        (run,) = (run for run in self.runs() if run.data.tags[STAGE_TAG] == stage and SUPERSEDED_TAG not in run.data.tags)
        return run


@pytest.fixture(scope="module")
def place(database: str, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A repository in which the pipeline has run while its server was down from the teacher's training to the end."""
    folder = tmp_path_factory.mktemp("server")
    made = Place(clone(folder / "slimline"), free_port(), database, folder)
    params = Paths(made.repository.root).params
    params.write_text(TINY.replace("sqlite:///mlflow.db", made.uri))
    commit(made.repository, "a server")
    with made.server():
        made.repository.output("dvc", "repro", "prepare")
        assert made.counts() == {"prepare": 1, PIPELINE: 1}
        training = made.repository.start("dvc", "repro", "train_teacher")
        deadline = time.monotonic() + PATIENCE
        while made.counts().get("train_teacher") is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    output, _ = training.communicate(timeout=600)
    assert training.returncode == 0, output
    assert f"MLflow at {made.uri} does not answer" in output
    made.repository.output("dvc", "repro")
    with made.server():
        made.repository.output("slimline", "sync")
    commit(made.repository, "the run")
    return made


def test_a_server_that_was_away_has_everything_once_it_is_back(place: Place) -> None:
    with place.server():
        assert place.counts() == {PIPELINE: 1, **dict.fromkeys(STAGES, 1)}
        parent = place.one(PIPELINE)
        assert parent.info.status == "FINISHED"
        client = MlflowClient(place.uri)
        for stage in STAGES:
            run = place.one(stage)
            assert run.info.status == "FINISHED"
            assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
            assert parent.data.tags[f"{RUN_TAG}{stage}"] == run.info.run_id
            assert run.data.tags["dvc.stage"] == stage
            assert all(run.data.tags[tag] for tag in ("mlflow.source.git.commit", "machine.processor", "version.torch", "slimline.fingerprint"))
            assert any(tag.startswith("output.") for tag in run.data.tags)
            (dataset,) = run.inputs.dataset_inputs
            assert dataset.dataset.digest == run.data.tags["data.digest"][:36]
        teacher = place.one("train_teacher")
        assert [entry.step for entry in client.get_metric_history(teacher.info.run_id, "train/loss")] == list(range(6))
        assert not list(Paths(place.repository.root).spool.glob("[0-9r]*"))


def test_a_second_repro_adds_no_run_a_forced_one_supersedes_and_a_restored_one_is_linked(place: Place) -> None:
    repository, params = place.repository, Paths(place.repository.root).params
    text = params.read_text()
    with place.server():
        repository.output("slimline", "repro")
        assert place.counts() == {PIPELINE: 1, **dict.fromkeys(STAGES, 1)}
        before = place.one("quantize").info.run_id
        repository.output("dvc", "repro", "--force", "--single-item", "quantize")
        assert place.counts() == {PIPELINE: 1, **dict.fromkeys(STAGES, 1), "quantize": 2}
        assert {run.info.run_id: run.data.tags.get(SUPERSEDED_TAG) for run in place.runs()}[before] == place.one("quantize").info.run_id
        params.write_text(text.replace("amount: 0.4", "amount: 0.5"))
        repository.output("slimline", "repro", "prune")
        params.write_text(text)
        counted = place.counts()
        repository.output("slimline", "repro", "prune")  # DVC has this one in its cache
        assert place.counts() == counted
        assert counted["prune"] == 2
        (parent,) = (run for run in place.runs() if run.data.tags[STAGE_TAG] == PIPELINE and RUN_TAG + "evaluate" in run.data.tags)
        restored = parent.data.tags[f"{RUN_TAG}prune"]
        assert {run.info.run_id: run for run in place.runs()}[restored].data.params["prune.target.amount"] == "0.4"


def test_an_experiment_in_a_folder_of_dvc_s_own_is_recorded_where_everything_is(place: Place) -> None:
    with place.server():
        before = place.counts()
        place.repository.output("dvc", "exp", "run", "--temp", "--name", "aside", "--set-param", "quantize.calibration=128", "quantize")
        assert place.counts() == {**before, PIPELINE: before[PIPELINE] + 1, "quantize": before["quantize"] + 1}
        (aside,) = (run for run in place.runs() if run.data.tags.get("dvc.experiment") == "aside" and run.data.tags[STAGE_TAG] == "quantize")
        assert aside.data.params["quantize.calibration"] == "128"
        assert not list((place.repository.root / ".dvc" / "tmp" / "exps").rglob("mlflow.db"))


def test_the_doctor_finds_what_is_wrong_with_the_server_and_says_what_to_do(place: Place) -> None:
    with place.server():
        lines = place.repository.run("slimline", "doctor").stdout.splitlines()
        assert all(line[0] in "✓✗" for line in lines)
        assert [line[0] for line in lines if " server " in line or " tracking " in line] == ["✓", "✓"]
        named = place.repository.run("slimline", "doctor", MLFLOW_TRACKING_URI=f"http://ip6-localhost.example:{place.port}")
        assert named.returncode == 1
    gone = place.repository.run("slimline", "doctor")
    assert gone.returncode == 1
    assert "does not answer: start mlflow server there, or mend tracking.uri" in gone.stdout


def chain(place: Place, thing: str) -> dict[str, Any]:
    return json.loads(place.repository.output("slimline", "trace", thing, "--json"))


def test_the_chain_is_traced_from_file_md5_run_alias_and_revision(place: Place) -> None:
    repository, paths = place.repository, Paths(place.repository.root)
    shipped = paths.model("quantized").packed
    with place.server():
        done = repository.run("slimline", "register")
        assert done.returncode == 1
        assert "gates.json is not there" in done.stderr or "no gate is set" in done.stderr
        (paths.root / "metrics" / "gates.json").write_text(json.dumps(GATES))
        assert "is champion" in repository.output("slimline", "register", "--why", "the first")
        assert "is champion" in repository.output("slimline", "register"), "against itself nothing speaks"
        copied = place.folder / "found.slim"
        shutil.copyfile(shipped, copied)
        digest = subprocess.run(["md5sum", str(shipped)], capture_output=True, text=True, check=True).stdout.split()[0]
        roles = ["data", "teacher", "student", "student_alone", "pruned", "quantized", "evaluation"]
        for thing in (str(copied), digest, place.one("quantize").info.run_id, "champion", "HEAD"):
            found = chain(place, thing)
            assert [one["role"] for one in found["links"]] == roles, thing
            assert all(one["run"] and one["commit"] for one in found["links"]), thing
            assert found["missing"] == [], thing
            quantized = found["links"][5]
            assert quantized["scores"]["val/accuracy"] > 0.5
            assert quantized["params"]["quantize.calibration"] == "256"
            assert quantized["registered"][0]["aliases"] == ["champion"]
        content = bytearray(shipped.read_bytes())
        content[-1] ^= 1
        copied.write_bytes(content)
        assert repository.run("slimline", "trace", str(copied)).stderr.count("truncated or altered") == 1
        assert repository.run("slimline", "trace", "nothing-of-the-kind").returncode == 2
        assert repository.run("slimline", "rollback").returncode == 2


def test_the_registered_model_is_served_and_answers_as_ours_does(place: Place) -> None:
    paths = Paths(place.repository.root)
    images = np.load(paths.prepared / "test" / "images.npy")[:20].astype(np.float32) / 255
    classes = json.loads((paths.prepared / "dataset.json").read_text())["classes"]
    ours = OnnxModel(paths.model("quantized").onnx, threads=1)(images)
    port = free_port()
    mlflow = str(Path(sys.executable).parent / "mlflow")
    serve = [mlflow, "models", "serve", "-m", "models:/slimline@champion", "--env-manager", "local", "-h", "127.0.0.1", "-p", str(port)]
    with place.server(), started(*serve, port=port, folder=place.folder, MLFLOW_TRACKING_URI=place.uri):
        body = {"inputs": {"images": images.tolist()}}
        answers = requests.post(f"http://127.0.0.1:{port}/invocations", json=body, timeout=60).json()["predictions"]
    assert [one["class"] for one in answers] == [classes[place] for place in ours.argmax(1)]
