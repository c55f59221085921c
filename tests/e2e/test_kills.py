"""Whatever ends a run, the next one goes on, and the results are those of a run that nothing disturbed, to the byte."""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from chain import TINY
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from repository import Repository, alive, clone
from ruamel.yaml import YAML

from slimline.paths import STAGES, Paths
from slimline.runtime.checkpoints import SUFFIX
from slimline.tracking.mlflow import STAGE_TAG, SUPERSEDED_TAG, SUPERSEDES_TAG

SEED = int(os.environ.get("SLIMLINE_KILLS_SEED", "20261124"))
KILLS = int(os.environ.get("SLIMLINE_KILLS", "30"))
TRAININGS = STAGES[1:6]
GONE = 12.0
"""Seconds after which nothing of a run may be left: ten, and two for a machine that has more to do than processors."""
PATIENCE = 240.0
"""Seconds in which a run has to come to what a test waits for."""

# Small batches, so that there is something to kill; a checkpoint every few steps, so that kills meet their writing too.
LONGER = TINY.replace("batch_size: 64", "batch_size: 16").replace("test: 0.2}", "test: 0.2, label_noise: false}")
PARAMS = LONGER.replace("hardware: {threads: 2}", "hardware: {threads: 1, checkpoint_seconds: 0.1}")
TWO = LONGER.replace("hardware: {threads: 2}", "hardware: {threads: 1, devices: 2, checkpoint_seconds: 0.3}")

Position = tuple[int, int]
"""Epoch and step of a checkpoint."""


def workspace(folder: Path, params: str = PARAMS) -> Repository:
    repository = clone(folder / "slimline")
    Paths(repository.root).params.write_text(params)
    return repository


def positions(root: Path, stage: str) -> list[Position]:
    """Where the checkpoints of `stage` stand, sorted."""
    found = []
    for file in (root / ".slimline" / "checkpoints" / stage).glob(f"*/*/*{SUFFIX}"):
        epoch, _, step = file.name.removesuffix(SUFFIX).partition("-")
        found.append((int(epoch), int(step)))
    return sorted(found)


def keys(root: Path, stage: str) -> set[str]:
    """Under which there are checkpoints of `stage`."""
    return {file.parts[-3] for file in (root / ".slimline" / "checkpoints" / stage).glob(f"*/*/*{SUFFIX}")}


def models(root: Path) -> dict[str, str]:
    """md5 of each model in dvc.lock."""
    stages = YAML(typ="safe").load((root / "dvc.lock").read_text())["stages"]
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"] if out["path"].startswith("models/")}


def commands(processes: list[psutil.Process]) -> str:
    """What `processes` are, for a failing test's message."""
    lines = []
    for process in processes:
        try:
            lines.append(f"{process.pid} {' '.join(process.cmdline())}")
        except psutil.Error:
            continue
    return "\n".join(lines)


@dataclass
class Attempt:
    """One command at work in a repository, its output in a file (a pipe would wait for orphans)."""

    repository: Repository
    command: tuple[str, ...]
    log: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                self.command, cwd=self.root, env=self.repository.environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def root(self) -> Path:
        return self.repository.root

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def said(self) -> list[str]:
        """The lines that slimline itself printed."""
        return [line for line in self.text.splitlines() if line.startswith("slimline: ")]

    def trainers(self) -> dict[str, list[psutil.Process]]:
        """The Python processes of each stage at work, the oldest first: of several, that is the one that started the others."""
        found: dict[str, list[psutil.Process]] = {}
        for process in sorted(alive(self.root), key=lambda process: process.pid):
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            if len(words) > 1 and words[1].startswith("pipelines/"):
                found.setdefault(Path(words[1]).stem, []).append(process)
        return found

    def dvc(self) -> list[psutil.Process]:
        """The process that is `dvc repro`, of a `slimline repro` too."""
        return [process for process in alive(self.root) if any(Path(word).name == "dvc" for word in process.cmdline()[:3])]

    def until(self, condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
        """Wait for `condition`; False where the command ended before, or time did."""
        deadline = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def gone(self) -> float:
        """Seconds until nothing of it is left.

        Raises:
            AssertionError: something is, after `GONE`.
        """
        start = time.monotonic()
        while left := alive(self.root):
            self.process.poll()
            assert time.monotonic() - start < GONE, f"left:\n{commands(left)}\n{self.text}"
            time.sleep(0.05)
        self.process.wait()
        return time.monotonic() - start


def send(signum: int, processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.send_signal(signum)
        except psutil.NoSuchProcess:
            continue


def groups(attempt: Attempt) -> list[psutil.Process]:
    """All that is at work: what a terminal, or a container that is stopped, sends a signal to."""
    return alive(attempt.root)


def trainers(attempt: Attempt) -> list[psutil.Process]:
    return [process for processes in attempt.trainers().values() for process in processes]


def starter(attempt: Attempt) -> list[psutil.Process]:
    return [] if attempt.process.poll() is not None else [psutil.Process(attempt.process.pid)]


WAYS: dict[str, tuple[str, int, Callable[[Attempt], list[psutil.Process]]]] = {
    "kill -9 of the trainer": ("dvc", signal.SIGKILL, trainers),
    "SIGTERM to the trainer": ("dvc", signal.SIGTERM, trainers),
    "kill -9 of dvc": ("dvc", signal.SIGKILL, starter),
    "SIGTERM to dvc": ("dvc", signal.SIGTERM, starter),
    "kill -9 of all": ("dvc", signal.SIGKILL, groups),
    "SIGTERM to all": ("dvc", signal.SIGTERM, groups),
    "SIGINT to all": ("dvc", signal.SIGINT, groups),
    "SIGTERM to slimline repro": ("slimline", signal.SIGTERM, starter),
    "SIGINT to slimline repro": ("slimline", signal.SIGINT, starter),
    "kill -9 of slimline repro": ("slimline", signal.SIGKILL, starter),
}


@dataclass
class Campaign:
    """Kills, and what is known of them."""

    random: random.Random
    by_way: Counter[str] = field(default_factory=Counter)
    by_stage: Counter[str] = field(default_factory=Counter)
    interrupted: Counter[str] = field(default_factory=Counter)
    """Kills that left a checkpoint, by stage."""
    resumed: Counter[str] = field(default_factory=Counter)
    """Runs of a stage that were seen to go on from a checkpoint."""

    def way(self) -> str:
        """One of those that were tried least."""
        least = min(self.by_way[name] for name in WAYS)
        return self.random.choice([name for name in WAYS if self.by_way[name] == least])


def chain(repository: Repository, campaign: Campaign) -> None:
    """Run the pipeline to its end, killing each stage one to three times."""
    root = repository.root
    limits = {stage: campaign.random.randint(1, 3) for stage in STAGES}
    kills: Counter[str] = Counter()
    for number in range(100):
        way = campaign.way()
        program, signum, victims = WAYS[way]
        before = {stage: positions(root, stage) for stage in TRAININGS}
        attempt = Attempt(repository, (program, "repro"), root.parent / f"{number}.log")

        def spared() -> str | None:
            """The stage at work, if it is still to be killed."""
            return next((stage for stage in attempt.trainers() if kills[stage] < limits[stage]), None)  # noqa: B023

        if not attempt.until(lambda: spared() is not None):
            assert attempt.process.wait() == 0, attempt.text
            attempt.gone()
            return
        stage = spared()
        assert stage is not None
        in_training = stage in TRAININGS and campaign.random.random() < 0.7
        if in_training:
            earlier = before[stage]
            there = attempt.until(lambda: bool(set(positions(root, stage)) - set(earlier)))  # noqa: B023
            if there and earlier:
                first = min(set(positions(root, stage)) - set(earlier))
                assert first > earlier[-1], f"{stage} had been at {earlier[-1]}, and started again at {first}"
                campaign.resumed[stage] += 1
            time.sleep(campaign.random.uniform(0.0, 1.5))
        else:
            time.sleep(campaign.random.uniform(0.0, 9.0))
        chosen = victims(attempt)
        if not chosen or attempt.process.poll() is not None:
            continue
        stages = list(attempt.trainers())
        send(signum, chosen)
        seconds = attempt.gone()
        for name in stages:
            kills[name] += 1
            campaign.by_stage[name] += 1
            campaign.interrupted[name] += bool(positions(root, name))
        campaign.by_way[way] += 1
        assert all(len(positions(root, name)) <= 2 for name in TRAININGS)
        print(
            f"{way} at {', '.join(stages) or 'no stage'}: gone after {seconds:.1f} s, checkpoints {[positions(root, name)[-1:] for name in stages]}"
        )
        assert "Traceback" not in attempt.text or signum == signal.SIGINT or not in_training, attempt.text
    raise AssertionError("a hundred attempts did not finish the pipeline")


def runs(root: Path, stage: str) -> list[Run]:
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    return list(client.search_runs([e.experiment_id for e in client.search_experiments()], f"tags.`{STAGE_TAG}` = '{stage}'"))


def assert_one_run_stands(root: Path, stage: str) -> None:
    """MLflow shows one run of `stage`, finished; others are named by the one that took their place."""
    found = runs(root, stage)
    assert all(run.info.status == "FINISHED" for run in found), [(run.info.status, run.data.tags) for run in found]
    standing = [run for run in found if SUPERSEDED_TAG not in run.data.tags]
    assert len(standing) == 1, f"{stage}: {len(standing)} runs stand"
    assert sum(SUPERSEDES_TAG in run.data.tags for run in found) == len(found) - 1


@pytest.mark.slow
def test_a_pipeline_killed_anywhere_in_any_way_ends_with_the_bytes_of_an_undisturbed_one(tmp_path: Path) -> None:
    print(f"SLIMLINE_KILLS_SEED={SEED} SLIMLINE_KILLS={KILLS}")
    undisturbed = workspace(tmp_path / "undisturbed")
    undisturbed.output("dvc", "repro")
    expected = models(undisturbed.root)
    assert len(expected) == 5
    campaign = Campaign(random.Random(SEED))
    chains = 0
    while campaign.by_way.total() < KILLS:
        repository = workspace(tmp_path / f"killed {chains}")
        chain(repository, campaign)
        chains += 1
        assert models(repository.root) == expected
        assert not any(positions(repository.root, stage) for stage in STAGES), "after success there is nothing to go on from"
        for stage in STAGES:
            assert_one_run_stands(repository.root, stage)
    print(f"{campaign.by_way.total()} kills, {chains} pipelines: {campaign}")
    assert set(campaign.by_stage) == set(STAGES)
    assert set(campaign.interrupted) >= set(TRAININGS), "a stage that was never killed in training shows nothing"
    assert campaign.resumed.total() >= KILLS / 6


def reaches_training(attempt: Attempt, stage: str) -> list[Position]:
    """Wait until `attempt` has written two checkpoints of `stage` itself; where the earlier ones stood."""
    earlier = positions(attempt.root, stage)
    assert attempt.until(lambda: len(set(positions(attempt.root, stage)) - set(earlier)) > 1), attempt.text
    return earlier


def one_rank(attempt: Attempt, rank: int) -> list[psutil.Process]:
    return [process for process in attempt.trainers()["train_teacher"] if process.environ().get("RANK") == str(rank)]


TOGETHER: dict[str, tuple[str, int, Callable[[Attempt], list[psutil.Process]]]] = {
    "SIGTERM to slimline repro": ("slimline", signal.SIGTERM, starter),
    "SIGTERM to all": ("dvc", signal.SIGTERM, groups),
    "SIGTERM to the first process": ("dvc", signal.SIGTERM, lambda attempt: one_rank(attempt, 0)),
    "SIGTERM to the second process": ("dvc", signal.SIGTERM, lambda attempt: one_rank(attempt, 1)),
    "kill -9 of the first process": ("dvc", signal.SIGKILL, lambda attempt: one_rank(attempt, 0)),
    "kill -9 of the second process": ("dvc", signal.SIGKILL, lambda attempt: one_rank(attempt, 1)),
}


@pytest.mark.slow
def test_two_processes_end_together_with_a_checkpoint_and_go_on_to_the_bytes_of_an_undisturbed_run(tmp_path: Path) -> None:
    repository = workspace(tmp_path, TWO)
    root = repository.root
    repository.output("dvc", "repro", "train_teacher")
    expected = models(root)
    assert len(expected) == 1
    again = ("repro", "--force", "--single-item", "train_teacher")
    for number, (way, (program, signum, victims)) in enumerate(TOGETHER.items(), start=1):
        attempt = Attempt(repository, (program, *again), tmp_path / f"{number}.log")
        reaches_training(attempt, "train_teacher")
        chosen = victims(attempt)
        assert chosen, way
        send(signum, chosen)
        seconds = attempt.gone()
        kept = positions(root, "train_teacher")
        statuses = sorted(run.info.status for run in runs(root, "train_teacher"))
        print(f"{way}: gone after {seconds:.1f} s, {kept}, {statuses}, {attempt.said}")
        assert kept, "no checkpoint"
        assert attempt.process.returncode != 0
        assert "Traceback" not in attempt.text, attempt.text
        (line,) = attempt.said
        if signum == signal.SIGTERM:
            assert "stopped by SIG" in line
            assert statuses == ["FINISHED"] * number + ["KILLED"]
        else:
            assert "was killed by SIGKILL" in line
        resumed = Attempt(repository, ("dvc", *again), tmp_path / f"{number} resumed.log")
        reaches_training(resumed, "train_teacher")
        assert min(positions(root, "train_teacher")) >= kept[-1], "it started again"
        assert resumed.process.wait(timeout=PATIENCE) == 0, resumed.text
        assert models(root) == expected
        found = runs(root, "train_teacher")
        assert [run.info.status for run in found] == ["FINISHED"] * (number + 1), "the interrupted run is the one that was finished"
    assert_one_run_stands(root, "train_teacher")
    print(f"{len(TOGETHER)} ways")


@pytest.mark.slow
def test_code_that_is_edited_while_a_stage_runs_is_noticed_at_its_end_and_other_settings_never_go_on_from_its_checkpoints(tmp_path: Path) -> None:
    repository = workspace(tmp_path)
    root = repository.root
    repository.output("dvc", "repro", "prepare")
    edited = root / "src" / "slimline" / "errors.py"
    attempt = Attempt(repository, ("dvc", "repro", "train_teacher"), tmp_path / "edited.log")
    reaches_training(attempt, "train_teacher")
    edited.write_text(edited.read_text() + "# edited while it ran\n")
    assert attempt.process.wait(timeout=PATIENCE) != 0
    assert "exited with 2" in attempt.text, attempt.text
    (line,) = attempt.said
    assert "src/slimline/errors.py changed while train_teacher ran" in line
    assert "run it again" in line
    assert "train_teacher" not in (root / "dvc.lock").read_text()
    kept, own = positions(root, "train_teacher"), keys(root, "train_teacher")
    assert kept
    assert len(own) == 1

    # What was changed and what was not: another key, and the old one once more.
    params = Paths(root).params
    for old, new in (("threads: 1", "threads: 2"), ("seed: 0", "seed: 1"), ("# edited while it ran\n", "")):
        file = edited if new == "" else params
        before = file.read_text()
        file.write_text(before.replace(old, new))
        other = Attempt(repository, ("dvc", "repro", "train_teacher"), tmp_path / f"{new}.log")
        if new:
            assert other.until(lambda: positions(root, "train_teacher")[:1] < kept[:1]), "it went on from the checkpoint of another run"
        else:
            assert other.process.wait(timeout=PATIENCE) == 0, other.text
            assert not own & keys(root, "train_teacher"), "a stage that has succeeded leaves none of its own checkpoints"
            continue
        send(signal.SIGKILL, groups(other))
        other.gone()
        file.write_text(before)


@pytest.mark.slow
def test_a_disk_that_is_full_when_a_checkpoint_is_due_costs_one_line_and_the_next_run_goes_on(tmp_path: Path) -> None:
    """A limit on the size of a file stands for the full disk: four MiB are less than a checkpoint and more than the run store."""
    wide = PARAMS.replace("depth: 8, width: 8", "depth: 8, width: 48")
    undisturbed = workspace(tmp_path / "undisturbed", wide)
    undisturbed.output("dvc", "repro", "train_teacher")
    repository = workspace(tmp_path / "full", wide)
    root = repository.root
    repository.output("dvc", "repro", "prepare")
    attempt = Attempt(repository, ("dvc", "repro", "train_teacher"), tmp_path / "full.log")
    reaches_training(attempt, "train_teacher")
    (trainer,) = attempt.trainers()["train_teacher"]
    trainer.rlimit(psutil.RLIMIT_FSIZE, (2**22, 2**22))
    assert attempt.process.wait(timeout=PATIENCE) != 0
    assert "exited with 2" in attempt.text, attempt.text
    assert [line for line in attempt.said if "MLflow" not in line and "File too large" in line], attempt.text
    assert "Traceback" not in attempt.text
    kept = positions(root, "train_teacher")
    assert kept
    resumed = Attempt(repository, ("dvc", "repro", "train_teacher"), tmp_path / "resumed.log")
    reaches_training(resumed, "train_teacher")
    assert min(positions(root, "train_teacher")) >= kept[-1], "it started again"
    assert resumed.process.wait(timeout=PATIENCE) == 0, resumed.text
    assert models(root) == models(undisturbed.root)
    assert_one_run_stands(root, "train_teacher")
