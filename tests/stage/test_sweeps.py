"""Sweeps with real processes, which are killed; on a file and on PostgreSQL."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from chain import GENTLE, LOSS, TINY
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from repository import alive
from safetensors.torch import save_file

from slimline import artifacts
from slimline.artifacts import Manifest, fresh
from slimline.data.prepared import describe
from slimline.errors import SlimlineError
from slimline.params.evaluate import Evaluate
from slimline.params.file import load
from slimline.params.prune import Prune
from slimline.paths import Paths
from slimline.runtime.launch import free_port
from slimline.sweep.adopt import adopt
from slimline.sweep.asked import Place
from slimline.sweep.status import begun, status, table
from slimline.sweep.study import database, journal
from slimline.sweep.trial import Trials

SWEEP = """
base: ..
seed: 0
objectives: [validation_accuracy, packed_bytes]
constraints: {packed_bytes: {at_most: 100000}}
choose: packed_bytes
fixed: {prune.criterion: {name: threshold}, prune.granularity: {name: weights}, prune.target: {name: threshold}}
space:
  prune.criterion.value: {low: 0.01, high: 0.5, log: true}
  quantize.weights.bits: {low: 2, high: 8}
  quantize.activations.bits: {choices: [8, 4]}
sampler: {name: tpe, startup: 4}
budget: {trials: TRIALS, short: 0, full: false}
"""
MODEL = {"name": "mlp", "hidden": [8]}
PATIENCE = 3600
"""Seconds; on a machine that does other things besides it has taken half of them."""
POSTGRESQL = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def base(folder: Path) -> Paths:
    """A workspace with a student, and data that it can see something in."""
    paths = Paths(folder)
    torch.manual_seed(0)
    levels = np.random.default_rng(0).integers(0, 256, (80, 1, 8, 8)).astype(np.uint8)
    labels = (levels[:, 0, :4].mean((1, 2)) > levels[:, 0, 4:].mean((1, 2))).astype(np.int64)
    for split, part in (("train", slice(0, 40)), ("validation", slice(40, 80)), ("test", slice(0, 8))):
        (paths.prepared / split).mkdir(parents=True)
        np.save(paths.prepared / split / "images.npy", levels[part])
        np.save(paths.prepared / split / "labels.npy", labels[part])
    counts = {"train": 40, "validation": 40, "test": 8}
    described = {"classes": ["a", "b"], "input_shape": [1, 8, 8], "counts": counts, "mean": [0.5], "std": [0.3], "digest": "0" * 64}
    (paths.prepared / "dataset.json").write_text(json.dumps(described))
    manifest = Manifest.of(MODEL, describe(paths.prepared))
    paths.model("student").folder.mkdir(parents=True)
    paths.model("student").manifest.write_text(manifest.model_dump_json())
    save_file({name: tensor.contiguous() for name, tensor in fresh(manifest).state_dict().items()}, paths.model("student").weights)
    (folder / "params.yaml").write_text(TINY)
    return paths


def sweep(paths: Paths, name: str, trials: int) -> Path:
    folder = paths.root / name
    folder.mkdir()
    (folder / "sweep.yaml").write_text(SWEEP.replace("TRIALS", str(trials)))
    return folder


def started(folder: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from slimline.cli import main; main()", "sweep", *words, str(folder)]
    own = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder.parent}/mlflow.db"} | environment
    with (folder.parent / f"{folder.name}.log").open("a") as log:
        return subprocess.Popen(command, cwd=folder.parent, text=True, stdout=log, stderr=log, env=own)


def ended(folder: Path, *words: str, **environment: str) -> None:
    assert started(folder, *words, **environment).wait(PATIENCE) == 0, (folder.parent / f"{folder.name}.log").read_text()


def rows(folder: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((folder / "trials.json").read_text())["rungs"]["search"]
    return found


def killed(folder: Path, draw: random.Random, *, itself: bool) -> bool:
    """Kill the driver of the sweep in `folder` `itself`, or one of its workers, or what they are forked from; whether it had any.

    Workers whose parent is dead go on, and are no child of the driver's any more; so they are known by where they work.
    """
    found: dict[bool, list[psutil.Process]] = {True: [], False: []}
    for process in alive(folder.parent):
        with suppress(psutil.NoSuchProcess):
            words = " ".join(process.cmdline())
            if "forkserver" in words or "sweep run" in words:
                found["sweep run" in words].append(process)
    with suppress(psutil.NoSuchProcess, IndexError):
        draw.choice(found[itself and found[False] != []]).send_signal(signal.SIGKILL)
        return True
    return False


def driven_through(folder: Path, kills: int, storage: BaseStorage, *words: str, **environment: str) -> int:
    """Run a sweep to its end, killing something of it `kills` times, at random trials; how often the driver was started."""
    draw, driver, starts = random.Random(0), started(folder, *words, **environment), 1
    # Later than at three quarters, the sweep might be over before the last.
    for number, moment in enumerate(sorted(draw.choices(range(TRIALS * 3 // 4), k=kills))):
        done = False
        while not done:
            assert driver.poll() in (None, -signal.SIGKILL), (folder.parent / f"{folder.name}.log").read_text()
            if driver.poll() is not None:
                driver, starts = started(folder, *words, **environment), starts + 1
            time.sleep(draw.uniform(0.0, 0.05))
            done = finished(storage) >= moment and killed(folder, draw, itself=number % 5 == 2)
    if driver.wait(PATIENCE):
        ended(folder, *words, **environment)
        starts += 1
    return starts


def finished(storage: BaseStorage) -> int:
    """How many trials of all studies are."""
    ends = (TrialState.COMPLETE, TrialState.PRUNED)
    return sum(len(storage.get_all_trials(study._study_id, deepcopy=False, states=ends)) for study in storage.get_all_studies())


@pytest.fixture
def postgresql(tmp_path: Path) -> Iterator[str]:
    """The address of a database of a server that lives for one test."""
    path = os.pathsep.join([os.environ["PATH"], *map(str, POSTGRESQL)])
    initdb, postgres = (shutil.which(name, path=path) for name in ("initdb", "postgres"))
    if initdb is None or postgres is None:
        pytest.skip("no PostgreSQL server here (apt-get install postgresql)")
    psycopg = pytest.importorskip("psycopg")
    nobody = 65534 if os.geteuid() == 0 else None  # root may not run it
    folder = Path(tempfile.mkdtemp(prefix="slimline-postgresql-"))
    if nobody is not None:
        os.chown(folder, nobody, -1)
    command = [initdb, "-D", str(folder / "data"), "-U", "slimline", "--auth=trust"]
    subprocess.run(command, check=True, user=nobody, cwd=folder, capture_output=True)
    port = free_port()
    options = ["-D", str(folder / "data"), "-p", str(port), "-h", "127.0.0.1", "-k", "", "-c", "fsync=off"]
    server = subprocess.Popen([postgres, *options], user=nobody, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"postgresql://slimline@127.0.0.1:{port}/postgres"
    try:
        for _ in range(600):
            with suppress(psycopg.OperationalError), psycopg.connect(address):
                break
            assert server.poll() is None
            time.sleep(0.2)
        yield address
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


SEEN = """
import os, time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from slimline.pruning.threshold import threshold

def watched(model, batches, *, value: float = 1.0):
    with (Path(__file__).parent / f"seen {os.environ.get('RANK')}").open("a") as file:
        file.write(f"{os.getpid()} {value!r}\\n")
    return threshold(model, batches, value=value)
"""


def test_losses_of_accuracy_give_a_search_its_start_but_not_those_that_no_widths_keep_to(tmp_path: Path) -> None:
    paths = base(tmp_path)
    validation = paths.prepared / "validation"
    student = artifacts.load(paths.model("student"))[1]
    np.save(validation / "labels.npy", student(torch.from_numpy(np.load(validation / "images.npy")) / 255).argmax(1).numpy())  # it is always right
    trials = Trials(Place(paths.root, {}, paths.root, paths.root, tmp_path / "cache", 1))
    mild, wild = trials.allocated((8, 2), (0.1, 0.9))
    assert list(mild) == list(wild) == trials.names()["layer"]
    assert set(wild.values()) == {2}, "the smallest, where accuracy may go"
    assert trials.allocated((2,), (0.0, 0.9)) == [wild]


@pytest.mark.slow
def test_trials_that_two_processes_train_are_one_set_of_values_for_both_and_survive_the_kill_of_one(tmp_path: Path) -> None:
    paths = base(tmp_path)
    paths.params.write_text(
        TINY.replace(f"loss: {LOSS}, fit: {GENTLE}", f"loss: null, fit: {GENTLE}")
        .replace(f"loss: {LOSS}\n  fit: {GENTLE}", f"loss: null\n  fit: {GENTLE}")
        .replace("batch_size: 64", "batch_size: 16")
        .replace("hardware: {threads: 2}", "hardware: {threads: 1, devices: 2}")
    )
    (tmp_path / "seen.py").write_text(SEEN)
    folder = sweep(paths, "ranks", 3)
    text = (folder / "sweep.yaml").read_text().replace("{name: threshold}, prune.gran", '{name: "seen:watched"}, prune.gran')
    (folder / "sweep.yaml").write_text(text.replace("high: 0.5", "high: 0.08").replace("budget: {", "budget: {epochs: 1, "))
    driver, first = started(folder, "run"), tmp_path / "seen 1"
    while not first.exists():
        assert driver.poll() is None, (tmp_path / "ranks.log").read_text()
        time.sleep(0.1)
    os.kill(int(first.read_text().split()[0]), signal.SIGKILL)
    assert driver.wait(PATIENCE) == 0, (tmp_path / "ranks.log").read_text()
    assert [row["trial"] for row in rows(folder)] == [0, 1, 2]
    values = {row["values"]["prune.criterion.value"] for row in rows(folder)}
    seen = [{line.split()[1] for line in (tmp_path / f"seen {rank}").read_text().splitlines()} for rank in range(2)]
    assert seen == [{repr(value) for value in values}] * 2
    assert not list(tmp_path.glob("seen None")), "none of them was trained by the worker alone"


TRIALS, KILLS = int(os.environ.get("SWEEP_TRIALS", "60")), int(os.environ.get("SWEEP_KILLS", "20"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep that nobody disturbed."""
    folder = sweep(base(tmp_path_factory.mktemp("whole")), "some", TRIALS)
    ended(folder, "run")
    return folder


def same(one: Path, other: Path) -> None:
    """Whether two sweeps finished the same trials, each once."""
    assert rows(one) == rows(other)
    assert [row["trial"] for row in rows(other)] == list(range(TRIALS))
    assert (one / "best.yaml").read_text() == (other / "best.yaml").read_text()


def once(storage: BaseStorage, trials: int) -> None:
    """Whether each of so many slots has one finished trial, and none is left."""
    (study,) = storage.get_all_studies()
    found = storage.get_all_trials(study._study_id)
    assert not [trial for trial in found if trial.state.name in ("RUNNING", "WAITING")]
    assert sorted(trial.user_attrs["slot"] for trial in found if trial.state.name in ("COMPLETE", "PRUNED")) == list(range(trials))


@pytest.mark.slow
def test_a_sweep_on_a_file_whose_processes_are_killed_at_random_has_the_same_trials(whole: Path, tmp_path: Path) -> None:
    paths = base(tmp_path)
    other = sweep(paths, "some", TRIALS)
    storage = journal(other / ".slimline" / "study.journal")
    assert driven_through(other, KILLS, storage, "run") > 1
    same(whole, other)
    once(storage, TRIALS)

    assert f"search: {TRIALS} of {TRIALS} trials finished" in status(other)
    assert table(other).startswith("front of ")
    before = paths.params.read_text()
    told = adopt(other, None)
    assert "\n+" in told
    assert "expected: " in told
    assert load(paths.params).block("prune", Prune).target == {"name": "threshold", "below": 1.0}
    promise = load(paths.params).block("evaluate", Evaluate).promise
    assert promise is not None
    assert promise.sweep == "some"
    with pytest.raises(SlimlineError, match="has no such trial; there are"):
        adopt(other, TRIALS)
    assert before != paths.params.read_text()
    assert status(other), "what is fixed or varied may stand in params.yaml with another value"
    definition = other / "sweep.yaml"
    definition.write_text(definition.read_text().replace("high: 8", "high: 7"))
    with pytest.raises(SlimlineError, match=r"no study of what sweep.yaml says now; there are some [0-9a-f]{12}, of another search space"):
        begun(other)


@pytest.mark.slow
def test_a_sweep_on_postgresql_whose_processes_are_killed_at_random_has_the_same_trials(whole: Path, postgresql: str, tmp_path: Path) -> None:
    other = sweep(base(tmp_path), "some", TRIALS)
    storage = database(postgresql)
    assert driven_through(other, KILLS, storage, "run", SLIMLINE_SWEEP_STORAGE=postgresql) > 1
    same(whole, other)
    once(storage, TRIALS)


@pytest.mark.slow
def test_two_drivers_on_postgresql_finish_each_trial_once_though_one_of_them_is_killed(postgresql: str, tmp_path: Path) -> None:
    few = max(TRIALS // 5, 4)
    folders = [sweep(base(tmp_path / name), "shared", few) for name in ("first", "second")]
    storage = database(postgresql)
    one, other = (started(folder, "run", SLIMLINE_SWEEP_STORAGE=postgresql) for folder in folders)
    while finished(storage) < few // 3:
        time.sleep(0.1)
    one.kill()
    one.wait()
    ended(folders[0], "run", SLIMLINE_SWEEP_STORAGE=postgresql)
    assert other.wait(PATIENCE) == 0, (tmp_path / "second" / "shared.log").read_text()
    once(storage, few)
    assert rows(folders[0]) == rows(folders[1])


def made(url: str, ready: Barrier) -> None:
    ready.wait()
    database(url)


@pytest.mark.slow
def test_drivers_that_come_to_an_empty_database_at_once_all_find_its_tables(postgresql: str) -> None:
    spawning = multiprocessing.get_context("spawn")
    ready = spawning.Barrier(4)
    drivers = [spawning.Process(target=made, args=(postgresql, ready)) for _ in range(4)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    assert [driver.exitcode for driver in drivers] == [0] * 4
