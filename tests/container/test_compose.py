"""The composition as it is deployed: its services healthy, a schedule that takes in new images, sweep workers on PostgreSQL.

Its tests go on from each other, as days of one deployment.
"""

import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from engine import COMPOSE, IMAGE, NEEDED, QUICK, ROOT, TAG, Volume, container, docker, run, state, until

from slimline.paths import STAGES
from slimline.runtime.launch import free_port

pytestmark = NEEDED

(DIGITS,) = re.findall(r"data: .*", QUICK)
PHOTOS = QUICK.replace(
    DIGITS, "data: {source: {name: images, path: data/raw/photos}, size: 8, channels: 1, validation: 0.2, test: 0.2, label_noise: false}"
)

DROP = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
known = load_digits(n_class=4)
for number in range(*map(int, sys.argv[1:])):
    place = Path(f"data/raw/photos/class{known.target[number]}/{number}.png")
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((known.images[number] * 15).astype(np.uint8)).save(place)
"""
"""Puts some of the digits 0 to 3 into the folder of images, as somebody's photographs."""

RECEIVER = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        print(self.rfile.read(int(self.headers["Content-Length"])).decode(), flush=True)
        self.send_response(200)
        self.end_headers()
HTTPServer(("", 8000), Handler).serve_forever()
"""

RUNS = """
import mlflow
found = mlflow.search_runs(search_all_experiments=True, output_format="list")
print(*(f"{run.data.tags['mlflow.runName']} {run.info.status}" for run in found), mlflow.get_tracking_uri(), sep="\\n")
"""

SWEEP = """
base: ../..
seed: 0
objectives: [validation_accuracy, packed_bytes]
constraints: {packed_bytes: {at_most: 100000}}
choose: packed_bytes
fixed: {prune.criterion: {name: threshold}, prune.granularity: {name: weights}, prune.target: {name: threshold}}
space:
  prune.criterion.value: {low: 0.01, high: 0.5, log: true}
  quantize.weights.bits: {low: 2, high: 8}
sampler: {name: tpe, startup: 4}
budget: {trials: 40, short: 0, full: false}
workers: 1
"""

TRIALS = """
import json, os
import optuna
(study,) = optuna.get_all_study_names(storage=(where := os.environ["SLIMLINE_SWEEP_STORAGE"]))
trials = optuna.load_study(study_name=study, storage=where).trials
print(json.dumps([[trial.state.name, trial.user_attrs["slot"], trial.user_attrs["driver"]["host"]] for trial in trials]))
"""


@dataclass(frozen=True)
class Deployment:
    """compose.yaml under a name of its own; `settings` is its .env."""

    name: str
    settings: Path

    def compose(self, *words: str, code: int | None = 0, text: str | None = None) -> str:
        return run([*COMPOSE, "--project-name", self.name, "--env-file", str(self.settings), *words], code, text)

    def once(self, *words: str, code: int = 0, text: str | None = None) -> str:
        """What `words` print in a container of the service `pipeline`; its own command without any."""
        return self.compose("run", "--rm", "-T", "pipeline", *words, code=code, text=text)

    def params(self, text: str) -> None:
        self.once("sh", "-c", "cat > params.yaml", text=text)

    def drop(self, first: int, last: int) -> None:
        Volume(f"{self.name}_workspace", IMAGE).run("python", "-c", DROP, str(first), str(last))

    def containers(self, service: str) -> list[str]:
        return self.compose("--profile", "sweep", "ps", "-q", service).split()

    def logs(self, service: str) -> str:
        return "".join(docker("logs", one) for one in self.containers(service))

    def await_health(self, **number: int) -> None:
        """Wait until each service has so many containers, all healthy."""
        for service, count in number.items():
            until(
                lambda service=service, count=count: [state(one)["Health"]["Status"] for one in self.containers(service)] == ["healthy"] * count,
                lambda service=service: f"{service}: {[state(one) for one in self.containers(service)]}\n{self.logs(service)}",
                patience=600,
            )

    @property
    def receiver(self) -> str:
        return f"{self.name}-receiver"

    def heard(self) -> list[dict[str, Any]]:
        """What the webhook was told."""
        return [json.loads(line)["summary"] for line in docker("logs", self.receiver).splitlines() if line.startswith("{")]

    @contextmanager
    def listening(self) -> Iterator[None]:
        words = ["--network", f"{self.name}_default", "--network-alias", "receiver", "--entrypoint", "python", IMAGE, "-c", RECEIVER]
        with container(self.receiver, *words):
            yield

    def await_notice(self, count: int) -> dict[str, Any]:
        """The summary that is the `count`-th."""
        until(lambda: len(self.heard()) >= count, lambda: f"{self.heard()}\n{self.logs('scheduler')}", patience=900)
        return self.heard()[count - 1]

    def await_ticks(self, count: int, said: str) -> None:
        """Wait until so many more ticks of the schedulers have said this."""
        before = self.logs("scheduler").count(said)
        until(lambda: self.logs("scheduler").count(said) >= before + count, lambda: self.logs("scheduler"), patience=900)


@pytest.fixture(scope="module")
def deployment(services: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One whose .env is the template, filled in; nothing is up yet."""
    text = (ROOT / ".env.example").read_text()
    for name in ("POSTGRES_PASSWORD", "MLFLOW_ADMIN_PASSWORD", "MLFLOW_SECRET_KEY"):
        text = text.replace(f"{name}=\n", f"{name}={token_hex(12)}\n")
    for name, value in {"SCHEDULE": "* * * * *", "SLIMLINE_WEBHOOK_URL": "http://receiver:8000/a-secret", "SWEEP": "tiny"}.items():
        text = re.sub(f"^{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
    settings = tmp_path_factory.mktemp("deployment") / "env"
    settings.write_text(f"{text}\nTAG={TAG}\nMLFLOW_PORT={free_port()}\nDASHBOARD_PORT={free_port()}\n")
    made = Deployment(f"slimline-test-{uuid.uuid4().hex[:8]}", settings)
    try:
        yield made
    finally:
        made.compose("--profile", "sweep", "--profile", "once", "down", "--volumes", "--remove-orphans", "--timeout", "5")


@pytest.fixture(scope="module")
def told(deployment: Deployment) -> Iterator[Deployment]:
    """One that runs, where somebody listens to what it tells."""
    with deployment.listening():
        yield deployment


def test_without_secrets_it_refuses_and_says_which_one_is_missing(tmp_path: Path) -> None:
    deployment = Deployment("slimline-test-nothing", tmp_path / "env")
    deployment.settings.write_text("POSTGRES_PASSWORD=given\n")
    said = deployment.compose("up", "--detach", code=None)
    assert len(said.strip().splitlines()) == 1
    assert "MLFLOW_" in said
    assert "set it in .env" in said


def test_a_run_by_hand_is_recorded_by_mlflow_and_a_webhook_that_is_down_costs_a_line(deployment: Deployment) -> None:
    deployment.params(PHOTOS)
    deployment.drop(0, 240)
    said = deployment.once()
    assert "slimline rerun: a new champion: version 1 of slimline" in said
    assert "the webhook at receiver does not answer (ConnectionError); 1 notice kept for the next tick" in said
    assert "a-secret" not in said
    runs = deployment.once("python", "-c", RUNS).splitlines()
    assert "http://mlflow:5000" in runs
    assert {f"{stage} FINISHED" for stage in STAGES} <= set(runs)
    refused = deployment.compose("run", "--rm", "-T", "-e", "MLFLOW_TRACKING_PASSWORD=guessed", "pipeline", "python", "-c", RUNS, code=1)
    assert "401" in refused


def test_mlflow_refuses_a_name_that_it_was_not_told_and_its_health_check_would_notice(deployment: Deployment) -> None:
    (server,) = deployment.containers("mlflow")
    for path, answer in (("health", "200"), ("api/2.0/mlflow/experiments/search?max_results=1", "403")):
        address = f"http://{server[:12]}:5000/{path}"
        said = docker("exec", "--env", f"SLIMLINE_HEALTH_URL={address}", server, "python", "/opt/mlflow/healthy.py", code=int(answer != "200"))
        assert ("Invalid Host header" in said) == (answer == "403")


def test_all_services_come_up_healthy_and_the_schedule_tells_what_nobody_has_heard(told: Deployment) -> None:
    told.compose("up", "--detach")
    first = told.await_notice(1)
    assert (first["outcome"], first["version"], list(first["stages"])) == ("promoted", 1, list(STAGES))
    told.await_health(postgres=1, mlflow=1, scheduler=1)


def test_new_images_are_taken_in_by_one_run_and_the_better_model_is_champion(told: Deployment) -> None:
    before = len(told.heard())
    told.drop(240, 260)
    second = told.await_notice(before + 1)
    assert (second["outcome"], second["version"], second["images"]) == ("promoted", 2, [240, 260])
    assert second["stages"]["prepare"] == ["data/raw/photos: modified"]
    print(f"a tick that made all stages: {second['seconds']} s")
    told.await_ticks(2, "nothing to do")
    assert len(told.heard()) == before + 1


def test_of_two_schedulers_one_runs_what_is_stale_alone_and_a_gate_that_fails_keeps_the_champion(told: Deployment) -> None:
    told.compose("up", "--detach", "--scale", "scheduler=2")
    told.await_health(scheduler=2)
    before = len(told.heard())
    told.params(PHOTOS.replace("size_ratio: 0.5", "size_ratio: 900.0"))
    third = told.await_notice(before + 1)
    assert (third["outcome"], list(third["stages"]), third["gates"]) == ("kept", ["evaluate"], {"size_ratio": False})
    told.await_ticks(2, "nothing to do")
    assert len(told.heard()) == before + 1
    assert "another one is at it" in told.logs("scheduler")
    assert "champion" in told.once("slimline", "trace", "champion")


def test_three_workers_finish_as_many_trials_as_asked_for(told: Deployment) -> None:
    told.params(PHOTOS)
    told.once("sh", "-c", "mkdir -p experiments/tiny && cat > experiments/tiny/sweep.yaml", text=SWEEP)
    told.compose("stop", "scheduler")
    told.compose("--profile", "sweep", "up", "--detach", "--scale", "worker=3", "dashboard", "worker")
    workers = told.containers("worker")
    assert len(workers) == 3
    until(lambda: all(state(one)["Status"] == "exited" for one in workers), lambda: told.logs("worker"))
    assert [state(one)["ExitCode"] for one in workers] == [0, 0, 0], told.logs("worker")
    (line,) = (one for one in told.once("python", "-c", TRIALS).splitlines() if one.startswith("[["))  # beside what compose says
    found = json.loads(line)
    assert {one for one, _, _ in found} <= {"COMPLETE", "PRUNED", "FAIL"}
    finished = [(slot, host) for one, slot, host in found if one != "FAIL"]  # of two that claimed one slot the later one is let go
    assert sorted(slot for slot, _ in finished) == list(range(40)), found
    hosts = [host for _, host in finished]
    print(f"trials of each worker: {[hosts.count(host) for host in sorted(set(hosts))]}")
    assert len(set(hosts)) > 1, found
    told.once("slimline", "sweep", "run", "tiny")
    assert "search: 40 of 40 trials finished" in told.once("slimline", "sweep", "status", "tiny")
    told.await_health(dashboard=1)
