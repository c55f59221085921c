"""Every network of the zoo, and a user's own function, from params.yaml to a trained and exported model."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from chain import TINY, Chain, workspace
from ruamel.yaml import YAML

import tiny
from slimline import artifacts
from slimline.data.batches import scaled
from slimline.data.prepared import load_split
from slimline.export.runtime import OnnxModel
from slimline.models import MODELS
from slimline.paths import ModelFolder, Paths

ROOT = Path(__file__).parents[2]
FIT = {"epochs": 1, "batch_size": 540, "optimizer": {"name": "adamw", "lr": 0.01}, "schedule": {"name": "constant"}}
"""Two steps on the digits."""

OWN = """
from typing import Annotated

from pydantic import Field
from torch import nn


def two_layers(input_shape, classes, *, hidden: Annotated[int, Field(ge=1)] = 7):
    channels, height, width = input_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, hidden), nn.ReLU(), nn.Linear(hidden, classes))
"""


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return workspace(tmp_path_factory.mktemp("prepared")).run("prepare")


@pytest.fixture
def digits(prepared: Chain, tmp_path: Path) -> Paths:
    """A workspace with the prepared digits in it."""
    return Paths(Path(shutil.copytree(prepared.paths.root, tmp_path / "digits")))


def exported_as_trained(paths: Paths, folder: ModelFolder) -> None:
    model = artifacts.load(folder)[1]
    images = scaled(load_split(paths.prepared, "test").pixels)
    with torch.no_grad():
        assert np.abs(OnnxModel(folder.onnx, threads=1)(images.numpy()) - model(images).numpy()).max() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_network_of_the_zoo_is_trained_for_two_batches_and_exported(name: str, digits: Paths) -> None:
    assert 540 < len(load_split(digits.prepared, "train").pixels) <= 1080
    chain = Chain(digits).run("train_teacher", teacher={"model": tiny.model_spec(name), "fit": FIT})
    losses = [value for metric, value, _ in chain.trackers["train_teacher"].recorded_metrics if metric == "train/loss"]
    assert len(losses) == 1
    assert np.isfinite(losses[0])
    exported_as_trained(digits, digits.model("teacher"))


@pytest.mark.slow
def test_a_users_function_beside_params_yaml_is_trained_and_exported_by_its_import_path(digits: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    yaml = YAML(typ="safe")
    params = yaml.load(TINY)
    params["teacher"] = {"model": {"name": "own_net:two_layers", "hidden": 9}, "fit": FIT}
    with digits.params.open("w") as file:
        yaml.dump(params, file)
    (digits.root / "own_net.py").write_text(OWN)
    command = [sys.executable, ROOT / "pipelines" / "train_teacher.py", "--workspace", digits.root]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, cwd=digits.root, env=environment, text=True, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    monkeypatch.syspath_prepend(digits.root)
    manifest, model = artifacts.load(digits.model("teacher"))
    assert manifest.architecture == {"name": "own_net:two_layers", "hidden": 9}
    assert model.network[1].out_features == 9
    exported_as_trained(digits, digits.model("teacher"))
