"""A real MLflow server on PostgreSQL, lost in the middle of a training of two processes: nothing is missing, and nothing is double.

The pipeline is a real one, run by `dvc repro` and by the script that surrounds every stage; its stages themselves do next to nothing
(`test_recorded_runs` has the true ones).
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from repository import Repository, commit

from runs import counted, runs_of, standing
from servers import PATIENCE, postgresql, started
from slimline.paths import Paths
from slimline.runtime.launch import free_port
from slimline.runtime.trace import SHIPPED
from slimline.tracking.mlflow import PIPELINE, RUN_TAG, SUPERSEDED_TAG

pytestmark = pytest.mark.slow

EPOCHS = 6

STAGE = f"""
import time
from pathlib import Path
from slimline.params.data import Data
from slimline.params.evaluate import Evaluate
from slimline.params.teacher import Teacher
from slimline.runtime.script import main
from slimline.runtime.settings import Made

BLOCKS = {{
    "prepare": ("data", Data, "data/prepared"),
    "train_teacher": ("teacher", Teacher, "models/teacher"),
    "evaluate": ("evaluate", Evaluate, "plots"),
}}
stage = Path(__file__).stem
block, schema, made = BLOCKS[stage]

def run(params, settings, paths, tracker):
    target = paths.root / made / "made.txt"
    for epoch in range({EPOCHS} if stage == "train_teacher" else 0):
        while epoch == 3 and (paths.root / "wait").exists():
            time.sleep(0.05)
        tracker.metrics({{"train/loss": 1 / (1 + epoch), "val/accuracy": epoch / 10}}, step=epoch)
    if not settings.world.first:
        return Made((), {{}}, {{}})
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f"{{stage}} {{params}}")
    return Made((target.parent,), {{"val/accuracy": 0.5}}, {{"data.digest": "d" * 64}}, {{"name": "none", "digest": "d" * 64}})

main(stage, block, schema, run, last=stage == "evaluate", together=stage == "train_teacher")
"""

PIPELINE_FILE = """
stages:
  prepare: {cmd: python prepare.py, deps: [prepare.py], params: [seed, data], outs: [data/prepared]}
  train_teacher: {cmd: python train_teacher.py, deps: [train_teacher.py, data/prepared], params: [seed, teacher], outs: [models/teacher]}
  evaluate: {cmd: python evaluate.py, deps: [evaluate.py, models/teacher], params: [seed, evaluate], outs: [plots]}
"""
STAGES = ("prepare", "train_teacher", "evaluate")


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
        store = ["--backend-store-uri", self.database, "--artifacts-destination", str(self.folder / "artifacts")]
        options = [*store, "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        path = self.repository.environment["PATH"]  # where uvicorn is
        with started(sys.executable, "-m", "mlflow", "server", *options, port=self.port, folder=self.folder, PATH=path):
            yield

    def runs(self) -> list[Run]:
        return runs_of(self.uri)

    def counts(self) -> dict[str, int]:
        return counted(self.runs())

    def waiting(self) -> list[str]:
        return [one.name for one in Paths(self.repository.root).spool.glob("[0-9r]*")]


class OwnCode(Repository):
    """A repository whose stages find slimline where these tests do."""

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A repository in which the pipeline has run while its server was down from the middle of the training to the end.

    The server stays up for the tests: its start costs 15 seconds of a core.
    """
    folder = tmp_path_factory.mktemp("server")
    with postgresql(tmp_path_factory.mktemp("database")) as database:
        root = folder / "repository"
        root.mkdir()
        made = Place(OwnCode(root), free_port(), database, folder)
        shipped = SHIPPED.read_text()
        own = f"hardware: {{threads: 1, devices: 2}}\ntracking: {{uri: {made.uri}, experiment: test}}\n"
        (root / "params.yaml").write_text(shipped[: shipped.index("\nhardware:") + 1] + own)
        for stage in STAGES:
            (root / f"{stage}.py").write_text(STAGE)
        (root / "dvc.yaml").write_text(PIPELINE_FILE)
        (root / ".gitignore").write_text("/.slimline\n/wait\n")
        (root / "wait").touch()
        for command in ("git init -q", "git config user.email tests@example.org", "git config user.name tests", "dvc init -q"):
            made.repository.output(*command.split())
        commit(made.repository, "as it is")
        with made.server():
            training = made.repository.start("dvc", "repro", "train_teacher")
            deadline = time.monotonic() + PATIENCE
            while not any(run.data.metrics.get("train/loss") for run in made.runs()):
                assert time.monotonic() < deadline
                assert training.poll() is None, training.communicate()
                time.sleep(0.5)
            assert made.counts() == {"prepare": 1, "train_teacher": 1, PIPELINE: 1}
        (root / "wait").unlink()
        output, _ = training.communicate(timeout=PATIENCE)
        assert training.returncode == 0, output
        assert f"MLflow at {made.uri} does not answer" in output
        made.repository.output("dvc", "repro")
        assert len(made.waiting()) == 2, "the training's record, and the evaluation's"
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
    assert [entry.step for entry in client.get_metric_history(teacher.info.run_id, "train/loss")] == list(range(EPOCHS)), "each epoch once"
    assert [entry.step for entry in client.get_metric_history(teacher.info.run_id, "val/accuracy")] == list(range(EPOCHS + 1)), "and the last"
    assert place.waiting() == []


def test_a_second_repro_adds_no_run_a_forced_one_supersedes_and_a_restored_one_is_linked(place: Place) -> None:
    repository, params = place.repository, Paths(place.repository.root).params
    text, counts, before = params.read_text(), place.counts(), place.runs()
    repository.output("slimline", "repro")
    assert place.counts() == counts
    repository.output("dvc", "repro", "--force", "--single-item", "prepare")
    runs = {run.info.run_id: run for run in place.runs()}
    assert counted(list(runs.values())) == {**counts, "prepare": 2}
    assert runs[standing(before, "prepare").info.run_id].data.tags[SUPERSEDED_TAG] == standing(list(runs.values()), "prepare").info.run_id
    assert "margin: 0.03" in text
    params.write_text(text.replace("margin: 0.03", "margin: 0.04"))
    repository.output("slimline", "repro")
    params.write_text(text)
    counts = place.counts()
    assert (counts["evaluate"], counts[PIPELINE]) == (2, 2)
    repository.output("slimline", "repro")  # DVC has this one in its cache
    runs = {run.info.run_id: run for run in place.runs()}
    assert counted(list(runs.values())) == counts
    first = runs[standing(before, PIPELINE).info.run_id]
    assert first.data.tags[f"{RUN_TAG}evaluate"] == standing(before, "evaluate").info.run_id
    assert first.data.tags[f"{RUN_TAG}prepare"] == standing(list(runs.values()), "prepare").info.run_id


def test_an_experiment_in_a_folder_of_dvc_s_own_is_recorded_where_everything_is(place: Place) -> None:
    before = place.counts()
    place.repository.output("dvc", "exp", "run", "--temp", "--name", "aside", "--set-param", "evaluate.margin=0.07")
    assert place.counts() == {**before, PIPELINE: before[PIPELINE] + 1, "evaluate": before["evaluate"] + 1}
    (aside,) = (run for run in place.runs() if run.data.tags.get("dvc.experiment") == "aside" and run.data.tags["slimline.stage"] == "evaluate")
    assert aside.data.params["evaluate.margin"] == "0.07"
    assert not list((place.repository.root / ".dvc" / "tmp" / "exps").rglob("mlflow.db"))


def test_the_doctor_and_trace_ask_the_server_and_say_so_where_it_is_gone(place: Place) -> None:
    lines = place.repository.run("slimline", "doctor").stdout.splitlines()
    assert all(line[0] in "✓✗" for line in lines)
    assert [line[0] for line in lines if " server " in line or " tracking " in line] == ["✓", "✓"]
    traced = json.loads(place.repository.output("slimline", "trace", "HEAD", "--json"))
    assert [one["role"] for one in traced["links"]] == ["data", "teacher", "evaluation"]
    assert all(one["url"].startswith(f"{place.uri}/#/experiments/") for one in traced["links"])
    gone = place.repository.run("slimline", "doctor", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert gone.returncode == 1
    assert "does not answer: start mlflow server there, or mend tracking.uri" in gone.stdout
