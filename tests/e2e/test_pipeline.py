"""The real commands on a real repository: DVC, MLflow and the stages together."""

import csv
import io
import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from repository import Repository, refused

from slimline.paths import MODELS, STAGES


@contextmanager
def appended(path: Path, text: str) -> Iterator[None]:
    """`path` with `text` at its end, for the length of the block."""
    before = path.read_bytes() if path.exists() else None
    path.write_bytes((before or b"") + text.encode())
    try:
        yield
    finally:
        path.unlink() if before is None else path.write_bytes(before)


def stale(repository: Repository) -> set[str]:
    return set(json.loads(repository.output("dvc", "status", "--json", *STAGES)))


def test_a_second_repro_does_nothing(finished: Repository) -> None:
    assert "Data and pipelines are up to date." in finished.output("dvc", "repro")
    assert stale(finished) == set()


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("src/slimline/pruning/magnitude.py", {"prune"}),
        ("src/slimline/stages/quantize.py", {"quantize"}),
        ("src/slimline/distillation/soft_hard.py", {"distill_student", "prune", "quantize"}),
        ("src/slimline/report/page.py", {"evaluate"}),
        ("src/slimline/models/resnet.py", set(STAGES) - {"prepare"}),
        ("src/slimline/cli.py", set()),
    ],
)
def test_edited_code_makes_stale_what_uses_it_and_nothing_else(finished: Repository, file: str, expected: set[str]) -> None:
    with appended(finished.root / file, "\n# edited\n"):
        assert stale(finished) == expected


def test_the_plan_names_what_changed_what_waits_and_how_long_it_took(finished: Repository) -> None:
    assert "Nothing to do" in finished.output("slimline", "plan")
    before = sorted(finished.root.rglob("*.lock"))
    params = (finished.root / "params.yaml").read_text()
    assert "amount: 0.4" in params
    with appended(finished.root / "src/slimline/quantization/mse.py", "\n# edited\n"):
        (finished.root / "params.yaml").write_text(params.replace("amount: 0.4", "amount: 0.5"))
        try:
            plan = {one["stage"]: one for one in json.loads(finished.output("slimline", "plan", "--json"))}
            text = finished.output("slimline", "plan")
        finally:
            (finished.root / "params.yaml").write_text(params)
    assert list(plan) == ["prune", "quantize", "evaluate"]
    assert plan["prune"]["reasons"] == ["prune.target.amount: 0.4 → 0.5"]
    assert plan["prune"]["after"] == []
    assert plan["quantize"]["reasons"] == ["src/slimline/quantization: modified (mse.py)"]
    assert plan["quantize"]["after"] == ["prune"]
    assert plan["evaluate"]["reasons"] == plan["quantize"]["reasons"], "it reads that folder too"
    assert plan["evaluate"]["after"] == ["prune", "quantize"]
    assert all(0 < one["last_seconds"] < 600 for one in plan.values())
    assert "prune.target.amount: 0.4 → 0.5" in text
    assert "3 stages; at most" in text
    assert sorted(finished.root.rglob("*.lock")) == before


def test_another_data_set_beside_the_digits_makes_nothing_stale(finished: Repository) -> None:
    with appended(finished.root / "data/raw/photos.csv", "not the digits"):
        assert stale(finished) == set()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [("amount: 0.4", "amount: 0.5", {"prune"}), ("threads: 2}", "threads: 1}", set()), ("experiment: test", "experiment: other", set())],
)
def test_a_changed_parameter_makes_its_own_stage_stale(finished: Repository, old: str, new: str, expected: set[str]) -> None:
    path = finished.root / "params.yaml"
    text = path.read_text()
    assert old in text
    try:
        path.write_text(text.replace(old, new))
        assert stale(finished) == expected
    finally:
        path.write_text(text)


def test_a_run_leaves_one_parent_and_one_child_a_stage_with_all_that_was_made(finished: Repository) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{finished.root / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "test"]
    tags = "tags.`slimline.stage`"
    (parent,) = client.search_runs([experiment.experiment_id], f"{tags} = 'pipeline'")
    assert parent.info.status == "FINISHED"
    for stage in STAGES:
        (run,) = client.search_runs([experiment.experiment_id], f"{tags} = '{stage}'")
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert len(run.data.tags["mlflow.source.git.commit"]) == 40
        assert len(run.data.tags["data.digest"]) == 64
        assert run.data.params["seed"] == "0"
        artifacts = {entry.path for entry in client.list_artifacts(run.info.run_id)}
        assert {"params.yaml", f"{stage}.json" if stage != "evaluate" else "scorecard.json"} <= artifacts
        assert ("dvc.lock" in artifacts) == (stage != "prepare")
    (teacher,) = client.search_runs([experiment.experiment_id], f"{tags} = 'train_teacher'")
    assert len(client.get_metric_history(teacher.info.run_id, "val/accuracy")) == 6 + 1  # an epoch each, and the final one
    assert {"teacher", "teacher.csv"} <= {entry.path for entry in client.list_artifacts(teacher.info.run_id)}


def identity(repository: Repository, stage: str, workspace: str = ".") -> tuple[str, str]:
    code = (
        "import sys; from pathlib import Path; from slimline.paths import Paths; from slimline.runtime.fingerprint import identify; "
        "one = identify(sys.argv[1], Paths(Path(sys.argv[2]).resolve())); print(one.fingerprint, one.execution)"
    )
    fingerprint, execution = repository.output("python", "-c", code, stage, workspace).split()
    return fingerprint, execution


def test_a_stage_is_known_by_what_it_depends_on_and_its_pipeline_by_what_none_of_them_made(finished: Repository) -> None:
    prune, execution = identity(finished, "prune")
    teacher, same_execution = identity(finished, "train_teacher")
    assert prune != teacher
    assert execution == same_execution
    with appended(finished.root / "src/slimline/pruning/magnitude.py", "\n# edited\n"):
        assert identity(finished, "prune") != (prune, execution)
        edited_teacher, edited_execution = identity(finished, "train_teacher")
        assert edited_teacher == teacher
        assert edited_execution != execution


def test_an_experiment_s_stage_has_an_identity_of_its_own(finished: Repository) -> None:
    archive = finished.root / "data/raw/mnist.tar.xz"
    with appended(archive, "some images"):
        ours, theirs = identity(finished, "prepare"), identity(finished, "prepare", "experiments/mnist")
        assert ours[0] != theirs[0]
        assert ours[1] != theirs[1]
        archive.write_text("other images")
        assert identity(finished, "prepare", "experiments/mnist")[0] != theirs[0]
        assert identity(finished, "prepare") == ours


DRAWN = (
    "Validation accuracy of teacher",
    "Test accuracy against packed bytes",
    "Test accuracy against median latency",
    "Median latency of a call",
    "Weights left of each layer of the student",
    "Bits of each layer",
    "Reliability of quantized",
    "Right answers against the probability of the answer",
    "confusion",
)
"""Titles of plots of `dvc plots show`."""


@pytest.mark.slow
def test_an_experiment_with_another_parameter_compares_with_the_first(finished: Repository) -> None:
    finished.output("dvc", "exp", "run", "--set-param", "prune.target.amount=0.6", "--name", "harder")
    try:
        rows = list(csv.DictReader(io.StringIO(finished.output("dvc", "exp", "show", "--csv"))))
        harder = next(row for row in rows if row["Experiment"] == "harder")
        first = next(row for row in rows if row["rev"] == "main")
        share = next(column for column in first if column.endswith("pruned_share_of_student_params") and "experiments" not in column)
        assert float(harder[share]) <= 0.4 < float(first[share]) <= 0.6
        assert "0.6" in finished.output("dvc", "params", "diff")
        changes = json.loads(finished.output("dvc", "metrics", "diff", "--json"))["metrics/summary.json"]
        assert changes["quantized_packed_bytes"]["diff"] < 0
        # The later one is smaller, so it passes; the first one against it does not, but keeps its own distance from its own teacher.
        assert "passed  size_growth" in finished.output("slimline", "compare", "main", ".")
        back = finished.run("slimline", "compare", ".", "main", "--json")
        judged = json.loads(back.stdout)
        assert (back.returncode, judged["regression"]["gates"]["size_growth"]["passed"], judged["gates"]["passed"]) == (1, False, True)
        refused(finished.run("slimline", "compare", "main", "nowhere"), "nowhere: no such folder and no git revision")
        finished.output("dvc", "plots", "show", "--out", str(finished.root.parent / "plots"))
        page = (finished.root.parent / "plots" / "index.html").read_text()
        assert all(name in page for name in DRAWN)
    finally:
        finished.output("git", "reset", "--quiet", "--hard")
        finished.output("dvc", "checkout", "dvc.yaml")


def test_a_second_repro_at_the_same_time_says_so_and_ends(finished: Repository) -> None:
    first = finished.start("dvc", "repro", "--force", "--single-item", "prepare")
    try:
        deadline = time.monotonic() + 60
        while f'"pid": {first.pid}' not in (finished.root / ".dvc/tmp/rwlock").read_text():  # which the fixture's run has left, empty
            assert time.monotonic() < deadline, "the first never began"
            time.sleep(0.05)
        first.send_signal(signal.SIGSTOP)  # or it might be done before the second has begun
        second = finished.run("dvc", "repro", "--force", "--single-item", "prepare")
        assert second.returncode != 0
        assert "busy" in second.stderr or "lock" in second.stderr
    finally:
        first.send_signal(signal.SIGCONT)
        output, _ = first.communicate(timeout=120)
    assert first.returncode == 0, output
    assert stale(finished) == set()


def test_the_table_shows_every_model_and_where_to_look(finished: Repository) -> None:
    table = finished.output("slimline", "show")
    assert all(f"\n{name} " in table for name in MODELS)
    assert "reports/index.html" in table
    assert "make ui" in table
