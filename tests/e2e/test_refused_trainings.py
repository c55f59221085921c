"""What a training cannot do ends in one clear line and exit code 2: nothing is half-written, and no process is left."""

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from chain import TINY
from PIL import Image
from repository import Repository, alive, clone, refused, snapshot

pytestmark = pytest.mark.slow

NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}
PAIR = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
"""What a launcher of two processes tells the first one."""
TEACHER = "depth: 8, width: 8}, fit: {epochs: 6, batch_size: 64, optimizer: {name: adamw, lr: 0.01}"
ENORMOUS = TEACHER.replace("{name: adamw, lr: 0.01}", "{name: sgd, lr: 1.0e+30}")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A workspace without git and DVC in which the images are prepared and nothing is trained."""
    repository = clone(tmp_path_factory.mktemp("prepared") / "slimline")
    for folder in (".git", ".dvc"):
        shutil.rmtree(repository.root / folder)
    assert stage(repository, "prepare").returncode == 0
    return repository


def stage(repository: Repository, name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The script of a stage, its runs recorded beside the workspace."""
    runs = f"sqlite:///{repository.root.parent / 'runs.db'}"
    return repository.run("python", f"pipelines/{name}.py", MLFLOW_TRACKING_URI=runs, **NO_GPU, **environment)


HARDWARE = "hardware: {threads: 2}"


def changed(params: dict[str, str]) -> str:
    """params.yaml with each of the given texts replaced."""
    text = TINY
    for old, new in params.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text


@contextmanager
def unchanged(repository: Repository, params: dict[str, str]) -> Iterator[None]:
    """Within the block params.yaml says what `params` replaces; at its end all files are as before, and no process is at work."""
    path = repository.root / "params.yaml"
    path.write_text(changed(params))
    before = snapshot(repository.root)
    try:
        yield
        assert snapshot(repository.root) == before
        assert alive(repository.root) == []
    finally:
        path.write_text(TINY)


@pytest.mark.parametrize(
    ("hardware", "environment", "parts"),
    [
        ("devices: 1000", {}, ("hardware.devices is 1000", "processors", "lower it")),
        ("accelerator: cuda", {}, ("hardware.accelerator is cuda", "no CUDA device", "make it auto or cpu")),
        ("nodes: 2", {}, ("hardware.nodes is 2", "SLIMLINE_LAUNCH='torchrun --nnodes=2 --nproc-per-node=1")),
        ("nodes: 2", {"RANK": "0", "WORLD_SIZE": "3"}, ("1 devices on 2 nodes", "started 3 processes", "make them equal")),
        ("devices: 1", {"RANK": "2", "WORLD_SIZE": "2"}, ("2 of 2 (RANK, WORLD_SIZE)", "cannot be")),
        ("devices: 1", {"RANK": "0", "WORLD_SIZE": "two"}, ("WORLD_SIZE", "0, two, 0, two", "a whole number")),
    ],
)
def test_processes_that_are_not_there_or_contradict_params_yaml_are_refused(
    hardware: str, environment: dict[str, str], parts: tuple[str, ...], prepared: Repository
) -> None:
    with unchanged(prepared, {HARDWARE: f"hardware: {{threads: 1, {hardware}}}"}):
        refused(stage(prepared, "train_teacher", **environment), *parts)


def test_a_port_that_is_taken_is_named(prepared: Repository) -> None:
    with unchanged(prepared, {HARDWARE: "hardware: {threads: 1}"}), socket.create_server(("", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused(stage(prepared, "train_teacher", **PAIR, MASTER_PORT=port), f"127.0.0.1:{port}", "free the port or set another MASTER_PORT")


@pytest.mark.parametrize(
    ("size", "hardware", "parts"),
    [
        (5000, "devices: 1", ("fit.batch_size is 5000", "lower it")),
        (3, "devices: 2", ("fit.batch_size is 3, over 2 devices", "raise fit.batch_size to at least 4")),
    ],
)
def test_a_batch_that_the_data_or_the_devices_do_not_fit_is_refused(size: int, hardware: str, parts: tuple[str, ...], prepared: Repository) -> None:
    params = {TEACHER: TEACHER.replace("batch_size: 64", f"batch_size: {size}"), HARDWARE: f"hardware: {{threads: 1, {hardware}}}"}
    with unchanged(prepared, params):
        refused(stage(prepared, "train_teacher"), *parts)


@pytest.mark.parametrize(("folders", "parts"), [((), ("no image found",)), (("cats",), ("found 1 class (cats)", "at least 2"))])
def test_images_of_no_class_or_of_one_are_refused(folders: tuple[str, ...], parts: tuple[str, ...], prepared: Repository, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 8, 8), dtype=np.uint8)
    for folder in folders:
        (tmp_path / folder).mkdir()
        for number, pixels in enumerate(noise):
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    with unchanged(prepared, {"{name: digits, path: data/raw/digits.md}": f"{{name: images, path: {tmp_path}}}"}):
        refused(stage(prepared, "prepare"), *parts)


@pytest.mark.parametrize(("hardware", "kept"), [("checkpoint_seconds: 0", "000000-00000001.checkpoint"), ("devices: 2", "no checkpoint was due yet")])
def test_a_loss_that_is_no_number_is_told_with_step_rate_and_checkpoint_and_leaves_no_model(hardware: str, kept: str, prepared: Repository) -> None:
    checkpoints = prepared.root / ".slimline" / "checkpoints"
    with unchanged(prepared, {TEACHER: ENORMOUS, HARDWARE: f"hardware: {{threads: 1, {hardware}}}"}):
        done = stage(prepared, "train_teacher")
        left = [file.name for file in checkpoints.rglob("*.checkpoint")]
        shutil.rmtree(checkpoints, ignore_errors=True)
    refused(done, kept, "nothing of it was saved", "lower fit.optimizer.lr")
    assert re.search(r"the loss became (nan|inf) in epoch 1 at step \d+, at a learning rate of \d\.?\d*e\+\d\d;", done.stderr)
    assert left == [kept] * kept.endswith(".checkpoint")
