"""Recording runs: in a real MLflow store, and where there is none."""

import getpass
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import mlflow
import numpy as np
import psutil
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from recording import Open, network, recording
from slimline.errors import SlimlineError
from slimline.tracking import flattened
from slimline.tracking.journal import LOCK, Journal, Opening, delivered, journals, link, md5, resolved_uri
from slimline.tracking.lineage import Archive
from slimline.tracking.memory import MemoryTracker
from slimline.tracking.registry import Registry
from slimline.tracking.sender import serve


def test_nested_settings_become_dotted_names() -> None:
    nested = {"fit": {"epochs": 3, "optimizer": {"name": "adamw"}}, "seed": 0, "list": [1, {"a": 2}], "empty": {}}
    assert flattened(nested) == {"fit.epochs": 3, "fit.optimizer.name": "adamw", "seed": 0, "list": [1, {"a": 2}]}


def test_the_memory_tracker_keeps_what_it_was_given(tmp_path) -> None:
    tracker = MemoryTracker()
    tracker.params({"fit": {"epochs": 3}})
    tracker.metrics({"loss": 1.0}, step=0)
    tracker.metrics({"loss": 0.5}, step=1)
    tracker.tags({"a": "b"})
    tracker.artifact(tmp_path)
    tracker.dataset("digits", "d1", {"train": 3})
    tracker.model("teacher", tmp_path / "model.onnx", tmp_path / "example.npy")
    tracker.beside("prune", "print", {"test/accuracy": 0.9})
    tracker.beside("prune", "print", {"test/ece": 0.1})
    tracker.finish("FINISHED", last=False)
    assert tracker.recorded_beside == {"prune": {"test/accuracy": 0.9, "test/ece": 0.1}}
    assert tracker.recorded_params == {"fit.epochs": 3}
    assert tracker.recorded_metrics == [("loss", 1.0, 0), ("loss", 0.5, 1)]
    assert (tracker.recorded_tags, tracker.recorded_artifacts, tracker.status) == ({"a": "b"}, [tmp_path], "FINISHED")
    assert (tracker.recorded_datasets, tracker.recorded_models) == ({"digits": "d1"}, {"teacher": tmp_path / "model.onnx"})


@pytest.mark.parametrize(
    ("uri", "resolved"),
    [
        ("sqlite:///mlflow.db", "sqlite:////repo/mlflow.db"),
        ("sqlite:////else/mlflow.db", "sqlite:////else/mlflow.db"),
        ("http://server:5000", "http://server:5000"),
    ],
)
def test_a_relative_store_lies_in_the_repository(uri, resolved, monkeypatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert resolved_uri(uri, Path("/repo")) == resolved
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    assert resolved_uri(uri, Path("/repo")) == "sqlite:////repo/other.db"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def start(root) -> Iterator[Open]:
    with recording(root) as start:
        yield start


@pytest.fixture
def runs(root) -> Callable[[str], list[Run]]:
    """The runs of one execution, the pipeline's first."""

    def runs(execution: str) -> list[Run]:
        client = MlflowClient(tracking_uri=f"sqlite:///{root / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("tests")
        found = client.search_runs([experiment.experiment_id], f"tags.`slimline.execution` = '{execution}'")
        return sorted(found, key=lambda run: (run.data.tags["slimline.stage"] != "pipeline", run.info.start_time))

    return runs


def test_the_stages_of_one_execution_are_children_of_one_parent(start, runs) -> None:
    for stage in ("prepare", "train_teacher"):
        start(stage, "one", tags={"dvc.stage": stage, "image": "some"}).finish("FINISHED", last=False)
    parent, *children = runs("one")
    assert ("dvc.stage" in parent.data.tags, parent.data.tags["image"]) == (False, "some")
    assert [child.data.tags["dvc.stage"] for child in children] == ["prepare", "train_teacher"]
    assert [child.data.tags["slimline.stage"] for child in children] == ["prepare", "train_teacher"]
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}
    assert [child.info.status for child in children] == ["FINISHED", "FINISHED"]
    assert parent.info.status == "RUNNING"
    assert children[0].data.tags["slimline.fingerprint"] == "prepare of one"
    assert children[0].data.tags["mlflow.source.git.commit"] == "abc123"
    assert children[0].info.run_name == "prepare"


def test_another_execution_has_a_parent_of_its_own(start, runs) -> None:
    start("prepare", "two").finish("FINISHED", last=False)
    start("prepare", "three").finish("FINISHED", last=False)
    assert len(runs("two")) == len(runs("three")) == 2
    assert runs("two")[0].info.run_id != runs("three")[0].info.run_id


def test_the_last_stage_closes_the_parent(start, runs) -> None:
    start("prepare", "four").finish("FINISHED", last=False)
    start("evaluate", "four").finish("FINISHED", last=True)
    assert [run.info.status for run in runs("four")] == ["FINISHED"] * 3


def test_figures_of_what_another_stage_made_stand_on_its_own_run(start, runs) -> None:
    start("prune", "ten").finish("FINISHED", last=False)
    later = start("evaluate", "eleven")
    later.beside("prune", "prune of ten", {"test/accuracy": 0.25})
    later.beside("prune", "prune of ten", {"test/accuracy": 0.5})
    later.beside("prune", "of none", {"test/accuracy": 0.0})
    later.finish("FINISHED", last=True)
    assert not later.broken
    assert runs("ten")[1].data.metrics == {"test/accuracy": 0.5}
    assert runs("ten")[1].info.status == "FINISHED"


def test_a_stage_that_failed_is_told_and_a_new_attempt_goes_on_in_its_run_and_its_parent(start, runs) -> None:
    start("prepare", "five").finish("FAILED", last=False)
    assert [run.info.status for run in runs("five")] == ["FAILED", "FAILED"]
    again = start("prepare", "five")
    deadline = time.monotonic() + 60
    while [run.info.status for run in runs("five")] != ["RUNNING", "RUNNING"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    again.finish("FINISHED", last=False)
    assert [run.info.status for run in runs("five")] == ["RUNNING", "FINISHED"]


def test_a_stage_that_is_done_again_or_with_other_inputs_has_a_run_of_its_own(start, runs) -> None:
    start("prune", "eight").finish("FINISHED", last=False)
    start("prune", "eight").finish("FINISHED", last=False)
    start("prune", "eight", fingerprint="another").finish("FINISHED", last=False)
    assert len(runs("eight")) == 4


def test_settings_metrics_of_each_epoch_tags_and_files_are_recorded(start, runs, root, tmp_path) -> None:
    (tmp_path / "note.txt").write_text("a file")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inner.txt").write_text("in a folder")
    tracker = start("train_teacher", "six")
    tracker.params({"fit": {"epochs": 2}, "long": "x" * 9000})
    for epoch, loss in enumerate((1.5, 0.5)):
        tracker.metrics({"val/loss": loss, "val/accuracy": 1 - loss}, step=epoch)
    tracker.tags({"data.digest": "d1"})
    tracker.artifact(tmp_path / "note.txt")
    tracker.artifact(tmp_path / "folder")
    tracker.finish("FINISHED", last=False)
    assert not tracker.broken
    _, run = runs("six")
    client = MlflowClient(tracking_uri=f"sqlite:///{root / 'mlflow.db'}")
    assert run.data.params["fit.epochs"] == "2"
    assert len(run.data.params["long"]) == 6000
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "val/loss")] == [(0, 1.5), (1, 0.5)]
    assert run.data.tags["data.digest"] == "d1"
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"note.txt", "folder", "long_parameters.json"}
    assert [file.path for file in client.list_artifacts(run.info.run_id, "folder")] == ["folder/inner.txt"]
    assert {path.name for path in (root / "mlartifacts").rglob("*.txt")} == {"note.txt", "inner.txt"}


def test_a_file_that_is_not_there_is_told_once_and_costs_nothing_else(start, runs, capfd, tmp_path) -> None:
    tracker = start("train_teacher", "seven")
    capfd.readouterr()
    tracker.artifact(tmp_path / "no such file")
    tracker.metrics({"loss": 1.0}, step=0)
    tracker.finish("FINISHED", last=True)
    assert runs("seven")[1].info.status == "FINISHED"
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("slimline: what is to go to MLflow cannot be kept")
    assert line.endswith("the stage goes on unrecorded")


def recorded_in_vain(uri: str, spool: Path) -> None:
    """Record a stage in a store that cannot be told; its journal is kept."""
    spool.mkdir()
    sender = threading.Thread(target=serve, args=(spool,))
    sender.start()
    while not (spool / LOCK).exists():
        time.sleep(0.01)
    tracker = Journal(spool, Opening(uri, "tests", stage="prune", execution="e", fingerprint="f"), largest_artifact=1000)
    tracker.metrics({"loss": 1.0}, step=0)
    tracker.finish("FINISHED", last=False)
    sender.join(60)
    assert not sender.is_alive(), "nobody is at work, so nobody is waited for"
    assert len(journals(spool)) == 1


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("http://127.0.0.1:9", "does not answer: start it"),
        ("nonsense://store", "is no address of a store"),
        ("sqlite:///{folder}", "cannot be opened"),
    ],
)
def test_a_store_that_cannot_be_told_costs_a_line_with_its_remedy(uri, words, tmp_path, capfd) -> None:
    uri = uri.format(folder=tmp_path)
    recorded_in_vain(uri, tmp_path / "spool")
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"slimline: MLflow at {uri} {words}")
    assert line.endswith("the record of prune is kept, and sent by the next stage or slimline sync")


def test_what_a_database_of_an_older_mlflow_did_not_take_is_sent_once_it_is_mended(start, root, tmp_path, capfd) -> None:
    start("prepare", "older").finish("FINISHED", last=False)
    shutil.copy(root / "mlflow.db", tmp_path / "older.db")
    with closing(sqlite3.connect(tmp_path / "older.db")) as database:
        ((today,),) = database.execute("select version_num from alembic_version")
        database.execute("update alembic_version set version_num = '451aebb31d03'")
        database.commit()
    uri, spool = f"sqlite:///{tmp_path / 'older.db'}", tmp_path / "spool"
    recorded_in_vain(uri, spool)
    (line,) = capfd.readouterr().err.splitlines()
    assert f"MLflow at {uri} has the database of another version of MLflow: make a copy of it, then mlflow db upgrade" in line
    with closing(sqlite3.connect(tmp_path / "older.db")) as database:
        database.execute("update alembic_version set version_num = ?", (today,))
        database.commit()
    sender = threading.Thread(target=serve, args=(spool,))
    sender.start()
    assert delivered(spool, journals(spool), 60) == ""
    shutil.rmtree(spool.rename(tmp_path / "over"), ignore_errors=True)
    client = MlflowClient(uri)
    # The copy has runs of the tests before; the latest comes first.
    run, *_ = client.search_runs([client.get_experiment_by_name("tests").experiment_id], "tags.`slimline.stage` = 'prune'")
    assert (run.info.status, run.data.metrics["loss"]) == ("FINISHED", 1.0)


CHAIN = {
    "prepare": ((), "data/prepared"),
    "train_teacher": (("data/prepared",), "models/teacher"),
    "distill_student": (("data/prepared", "models/teacher"), "models/student"),
    "prune": (("data/prepared", "models/teacher", "models/student"), "models/pruned"),
    "quantize": (("data/prepared", "models/pruned"), "models/quantized"),
}
"""What each stage reads, and what it makes."""


@pytest.fixture
def chain(start, root, tmp_path) -> Callable[[str], str]:
    """Record a whole execution; the quantized model's fingerprint comes back."""

    def chain(execution: str) -> str:
        model, example = tmp_path / f"{execution}.onnx", tmp_path / "example.npy"
        network(model, len(execution))
        np.save(example, np.float32([[[[0.0, 1.0, 0.5]]]]))
        for stage, (reads, _) in CHAIN.items():
            tracker = start(stage, execution, commit="c0ffee" * 6 + "dead")
            tracker.tags({f"input.{path}": f"{path} of {execution}" for path in reads})
            tracker.params({"seed": 7, "quantize": {"calibration": 512}})
            if stage == "quantize":
                tracker.artifact(model)
                tracker.model("quantized", model, example)
            tracker.finish("FINISHED", last=stage == "quantize")
        stages = [
            {"stage": stage, "fingerprint": f"{stage} of {execution}", "outputs": {made: f"{made} of {execution}"}}
            for stage, (_, made) in CHAIN.items()
        ]
        assert delivered(root / "spool", [link(root / "spool", f"sqlite:///{root / 'mlflow.db'}", "tests", execution, stages)], 60) == ""
        return f"quantize of {execution}"

    return chain


def test_the_chain_is_found_from_a_run_an_md5_a_fingerprint_and_an_alias_which_only_moves_with_a_note(chain, runs, root, tmp_path, request) -> None:
    uri = f"sqlite:///{root / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    request.addfinalizer(lambda: mlflow.set_tracking_uri(None))  # it is kept in the environment too, where other tests would find it
    fingerprints = [chain(execution) for execution in ("ninth", "tenth one")]
    archive, registry = Archive(uri, "tiny"), Registry(uri, "tests", "tiny")
    files = [tmp_path / "ninth.onnx", tmp_path / "tenth one.onnx"]
    first, second = (
        registry.register(fingerprint, "quantized", file, file, {"accuracy": 1.0}, "a test")
        for fingerprint, file in zip(fingerprints, files, strict=True)
    )
    assert [registry.holder(alias) and registry.holder(alias).version for alias in ("challenger", "champion")] == [second.version, None]
    registry.promote(first, "the first")
    registry.promote(second, "better")
    assert [registry.holder(alias) and registry.holder(alias).version for alias in ("champion", "previous")] == [second.version, first.version]
    registry.rollback("worse after all")
    assert [registry.holder(alias) and registry.holder(alias).version for alias in ("champion", "previous")] == [first.version, second.version]
    with pytest.raises(SlimlineError, match="no run at"):
        registry.register("unknown", "quantized", files[0], files[0], {}, "a test")
    with pytest.raises(SlimlineError, match=r"tenth one\.onnx is not the file that run \w+ logged"):
        registry.register(fingerprints[0], "quantized", files[0], files[1], {}, "a test")

    quantized = runs("ninth")[-1]
    starts = {
        "id": archive.by_id(quantized.info.run_id),
        "parent": archive.by_id(runs("ninth")[0].info.run_id),
        "md5": archive.by_md5(md5(tmp_path / "ninth.onnx")),
        "folder": archive.by_md5("models/quantized of ninth"),
        "fingerprint": archive.by_fingerprint("quantize of nin"),
        "alias": archive.by_alias("champion"),
        "name and alias": archive.by_alias("models:/tiny@champion"),
    }
    assert {name: run and run.info.run_id for name, run in starts.items()} == dict.fromkeys(starts, quantized.info.run_id)
    assert archive.by_alias("nobody") is None
    before, missing = archive.before(quantized, {})
    assert [run.data.tags["slimline.stage"] for run in before] == list(CHAIN)
    assert {run.data.tags["slimline.execution"] for run in before} == {"ninth"}
    assert missing == []
    teacher = before[1]
    assert [run.data.tags["slimline.stage"] for run in archive.after(teacher)] == ["distill_student", "prune", "quantize"]
    last = archive.link(quantized)
    assert (last.role, last.commit, last.params["seed"]) == ("quantized", "c0ffee" * 6 + "dead", "7")
    (version,) = last.registered
    assert (version["model"], version["aliases"]) == ("tiny", ["champion"])
    moves = [value for name, value in sorted(version["tags"].items()) if name.startswith("slimline.move.")]
    assert all(getpass.getuser() in move for move in moves)
    assert [move.rpartition(": ")[2] for move in moves][-1] == "worse after all"

    served = mlflow.pyfunc.load_model(f"models:/tiny/{first.version}")
    answers = served.predict({"images": np.float32([[[[0.0, 1.0, 0.5]]]])})
    assert answers["class"].tolist() == ["fish"], "the second pixel is brightest, and stands for class (1 - 5) mod 3"
    assert served.metadata.signature.inputs.to_dict()[0]["tensor-spec"]["shape"] == (-1, 1, 1, 3)
    assert [node.op_type for node in mlflow.onnx.load_model(f"models:/tiny/{first.version}").graph.node] == ["Flatten", "MatMul"]
    requirements = Path(mlflow.artifacts.download_artifacts(f"models:/tiny/{first.version}/requirements.txt")).read_text()
    assert all("==" in line for line in requirements.splitlines())


OPENING = """
import sys
from pathlib import Path
from slimline.tracking.journal import Journal, Opening
opening = Opening(f"sqlite:///{sys.argv[1]}", "tests", stage=sys.argv[2], execution="one", fingerprint="f")
tracker = Journal(Path(sys.argv[1]).parent / sys.argv[2], opening, largest_artifact=1)
tracker.finish("FINISHED", last=True)
sys.exit(tracker.broken)
"""


def opening(database: Path, stage: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", OPENING, str(database), stage], stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_kill_while_the_store_is_made_costs_no_later_run_its_record_and_two_may_make_it_at_once(tmp_path) -> None:
    database, aside = tmp_path / "mlflow.db", tmp_path / "mlflow.db.part"
    stage = opening(database, "killed")
    while not aside.exists() or aside.stat().st_size < 50_000:
        assert stage.poll() is None, stage.communicate()
        time.sleep(0.005)
    stage.kill()  # else it would start another sender
    stage.communicate()
    (sender,) = (one for one in psutil.process_iter(["cmdline"]) if (one.info["cmdline"] or [])[-2:-1] == [str(tmp_path / "killed")])
    sender.kill()
    sender.wait()
    assert aside.exists()
    assert not database.exists()
    both = [opening(database, stage) for stage in ("prepare", "train_teacher")]
    texts = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], texts
    assert texts == ["", ""]
    client = MlflowClient(f"sqlite:///{database}")
    found = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    assert {"prepare", "train_teacher"} < {run.data.tags["slimline.stage"] for run in found}
    assert not list(tmp_path.glob("*.part*"))
