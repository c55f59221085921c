"""What the store knows of a finished pipeline: counted, traced from every end, registered, served and shown."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow.onnx
import numpy as np
import onnxruntime
import pytest
import requests
from mlflow.tracking import MlflowClient
from PIL import Image
from repository import Repository, refused

from runs import counted, runs_of, standing
from servers import started
from slimline.evaluation.predict import probabilities, shipped
from slimline.export.runtime import OnnxModel
from slimline.paths import STAGES, Paths
from slimline.runtime import promotion
from slimline.runtime.launch import free_port
from slimline.runtime.trace import told, trace
from slimline.tracking.lineage import Archive
from slimline.tracking.mlflow import PIPELINE, RUN_TAG, SUPERSEDED_TAG

pytestmark = pytest.mark.slow

ROLES = ["data", "teacher", "student", "student_alone", "pruned", "quantized", "evaluation"]


def uri(repository: Repository) -> str:
    return f"sqlite:///{repository.root / 'mlflow.db'}"


@pytest.fixture(scope="module")
def champion(finished: Repository) -> promotion.Decision:
    """The finished pipeline's model, registered; sync has told MLflow which run made what, as make repro does."""
    finished.output("slimline", "sync")
    return promotion.register(Paths(finished.root), why="the first")


def test_the_pipeline_s_run_has_the_numbers_of_what_is_shipped_and_every_run_leads_to_the_report(
    champion: promotion.Decision, finished: Repository
) -> None:
    runs = runs_of(uri(finished))
    parent, quantized, judge = (standing(runs, stage) for stage in (PIPELINE, "quantize", "evaluate"))
    shared = ("test/accuracy", "val/accuracy", "size/packed_bytes", "size/params", "cost/macs")
    assert {name: parent.data.metrics[name] for name in shared} == {name: quantized.data.metrics[name] for name in shared}
    assert parent.data.params["prune.target.amount"] == "0.4"
    assert parent.data.params["quantize.calibration"] == "256"
    where = f"#/experiments/{judge.info.experiment_id}/runs/{judge.info.run_id}/artifacts/index.html"
    for run in runs:
        assert run.data.tags["mlflow.note.content"].endswith(f"[Report]({where})"), run.info.run_name
    assert "index.html" in {one.path for one in MlflowClient(uri(finished)).list_artifacts(judge.info.run_id)}


def test_the_chain_is_traced_from_file_md5_run_alias_and_revision(champion: promotion.Decision, finished: Repository, tmp_path: Path) -> None:
    assert champion.champion, champion.reason
    paths = Paths(finished.root)
    packed = paths.model("quantized").packed
    copied = tmp_path / "found.slim"
    shutil.copyfile(packed, copied)
    digest = subprocess.run(["md5sum", str(packed)], capture_output=True, text=True, check=True).stdout.split()[0]
    run = standing(runs_of(uri(finished)), "quantize").info.run_id
    archive = Archive(uri(finished), "slimline")
    for thing in (str(copied), digest, run, "champion", "HEAD"):
        found = trace(thing, paths, archive)
        assert [one.role for one in found.links] == ROLES, thing
        assert all(one.run and one.commit for one in found.links), thing
        assert found.missing == (), thing
        quantized = found.links[5]
        assert quantized.scores["val/accuracy"] > 0
        assert quantized.params["quantize.calibration"] == "256", "it differs from the shipped value"
        assert "quantize.weights.bits" not in quantized.params, "it does not"
        assert quantized.registered[0]["aliases"] == ["champion"]
    text = told(trace("champion", paths, archive))
    assert all(words in text for words in ("quantize.calibration = 256 (shipped: 512)", "registry: slimline version 1 (champion)", "the first"))
    printed = json.loads(finished.output("slimline", "trace", str(copied), "--json"))
    assert [one["role"] for one in printed["links"]] == ROLES
    content = bytearray(packed.read_bytes())
    content[-1] ^= 1
    copied.write_bytes(content)
    refused(finished.run("slimline", "trace", str(copied)), "found.slim", "truncated or altered")
    refused(finished.run("slimline", "trace", "nothing-of-the-kind"), "no file, md5, MLflow run, alias of a registered model or git revision")


@pytest.fixture
def pictures(champion: promotion.Decision, finished: Repository, tmp_path: Path) -> tuple[list[Path], np.ndarray]:
    """Test images as PNG files, and their labels."""
    test = Paths(finished.root).prepared / "test"
    files = [tmp_path / f"{number}.png" for number in range(20)]
    for file, pixels in zip(files, np.load(test / "images.npy"), strict=False):
        Image.fromarray(pixels[0]).save(file)
    return files, np.load(test / "labels.npy")[: len(files)]


def test_the_served_champion_answers_pictures_as_ours_does(
    pictures: tuple[list[Path], np.ndarray], finished: Repository, request: pytest.FixtureRequest
) -> None:
    files, labels = pictures
    model = shipped(Paths(finished.root).model("quantized").folder, threads=1)
    ours = probabilities(model, files)
    images = np.stack([np.asarray(Image.open(file), dtype=np.float32)[None] / 255 for file in files])
    port = free_port()
    serve = ["-m", "mlflow", "models", "serve", "-m", "models:/slimline@champion", "--env-manager", "local", "-h", "127.0.0.1", "-p", str(port)]
    path = finished.environment["PATH"]  # where uvicorn is
    with started(sys.executable, *serve, port=port, folder=files[0].parent, MLFLOW_TRACKING_URI=uri(finished), PATH=path):
        body = {"inputs": {"images": images.tolist()}}
        answers = requests.post(f"http://127.0.0.1:{port}/invocations", json=body, timeout=120).json()["predictions"]
    assert [one["class"] for one in answers] == [model.classes[place] for place in ours.argmax(1)]
    served = np.array([[one[f"p({name})"] for name in model.classes] for one in answers])
    assert np.abs(served - ours).max() < 1e-6
    right = ours.argmax(1) == labels
    assert right.any()
    assert all(answers[place]["class"] == model.classes[labels[place]] for place in np.flatnonzero(right))

    mlflow.set_tracking_uri(uri(finished))
    request.addfinalizer(lambda: mlflow.set_tracking_uri(None))
    network = mlflow.onnx.load_model("models:/slimline@champion")
    session = onnxruntime.InferenceSession(
        network.SerializeToString(), providers=["CPUExecutionProvider"], disabled_optimizers=["WeightBiasQuantization"]
    )
    (logits,) = session.run(None, {"images": images})
    assert np.array_equal(logits.argmax(1), OnnxModel(Paths(finished.root).model("quantized").onnx, threads=1)(images).argmax(1))


def test_a_second_repro_adds_no_run_a_forced_one_supersedes_and_a_restored_one_is_linked(champion: promotion.Decision, finished: Repository) -> None:
    params = Paths(finished.root).params
    text, store = params.read_text(), uri(finished)
    before = runs_of(store)
    counts = counted(before)
    assert counts == {PIPELINE: 1, **dict.fromkeys(STAGES, 1)}
    finished.output("slimline", "repro")
    assert counted(runs_of(store)) == counts
    finished.output("dvc", "repro", "--force", "--single-item", "quantize")
    runs = {run.info.run_id: run for run in runs_of(store)}
    assert counted(list(runs.values())) == {**counts, "quantize": 2}
    replaced = standing(before, "quantize").info.run_id
    assert runs[replaced].data.tags[SUPERSEDED_TAG] == standing(list(runs.values()), "quantize").info.run_id
    params.write_text(text.replace("amount: 0.4", "amount: 0.5"))
    finished.output("slimline", "repro", "prune")
    params.write_text(text)
    counts = counted(runs_of(store))
    assert counts["prune"] == 2
    finished.output("slimline", "repro", "prune")  # DVC has this one in its cache
    runs = {run.info.run_id: run for run in runs_of(store)}
    assert counted(list(runs.values())) == counts
    parent = runs[standing(before, PIPELINE).info.run_id]  # that of another amount knows the stages that it did not change
    assert parent.data.tags[f"{RUN_TAG}prune"] == standing(before, "prune").info.run_id
