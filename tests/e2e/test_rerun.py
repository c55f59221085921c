"""The pipeline reruns by itself: ticks as real processes, on a folder that images are dropped into, beside a webhook that listens or not."""

import json
import re
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chain import TINY
from PIL import Image
from repository import Repository, alive, clone, commit
from ruamel.yaml import YAML
from sklearn.datasets import load_digits

import slimline
from slimline.paths import STAGES, Paths
from slimline.rerun.incoming import settle
from slimline.rerun.settings import Data
from slimline.rerun.tick import Place
from slimline.runtime import promotion

pytestmark = pytest.mark.slow

OURS = "data: {source: {name: images, path: data/raw/photos}, size: 8, channels: 1, validation: 0.2, test: 0.2, label_noise: false}"
PARAMS = "\n".join(OURS if line.startswith("data:") else line for line in TINY.splitlines()).replace("threads: 2", "threads: 1")
PATIENCE = 900.0

PIPELINE = """
stages:
  prepare:
    cmd: python prepare.py
    deps: [prepare.py, data/raw/photos]
    params: [data]
    outs: [data/prepared.txt]
    metrics: [metrics/prepare.json: {cache: false}]
  alone:
    cmd: echo alone > alone.txt
    deps: [note.txt]
    outs: [alone.txt]
  train_teacher:
    cmd: python train.py
    deps: [train.py, data/prepared.txt]
    params: [teacher]
    outs: [teacher.txt]
"""
"""A pipeline of no weight: what is tried here is what goes on around one."""

PREPARE = """
import json, pathlib, sys
sys.path.insert(0, "src")
from slimline.errors import SlimlineError
from slimline.runtime.refusal import refusing
files = sorted(map(str, pathlib.Path("data/raw/photos").rglob("*.png")))
with refusing():
    if any("broken" in file for file in files):
        raise SlimlineError("data/raw/photos/broken.png: no image; mend it")
pathlib.Path("data/prepared.txt").write_text("\\n".join(files))
pathlib.Path("metrics").mkdir(exist_ok=True)
pathlib.Path("metrics/prepare.json").write_text(json.dumps({"images": {"found": len(files), "train": len(files), "validation": 0, "test": 0}}))
"""
TRAIN = """
import pathlib, signal, sys, time
left = pathlib.Path(".slimline/left.txt")
def hear(*_):
    left.write_text(str(step))
    sys.exit(130)
signal.signal(signal.SIGINT, hear)
for step in range(int(left.read_text()) if left.exists() else 0, 1200 if pathlib.Path("long").exists() else 1):
    pathlib.Path(".slimline/at").write_text(str(step))
    time.sleep(0.05)
    assert not pathlib.Path("fault").exists(), "a fault"
    if not pathlib.Path("long").exists():
        break
pathlib.Path("teacher.txt").write_text(pathlib.Path("data/prepared.txt").read_text())
"""


@dataclass
class Receiver:
    """A webhook on a port of its own; `heard` is what it was told. It answers with `status`."""

    heard: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    port: int = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                notice = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if receiver.status == 200:
                    receiver.heard.append(notice)
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        with HTTPServer(("127.0.0.1", self.port), Handler) as server:
            self.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()

    @property
    def outcomes(self) -> list[str]:
        return [one["summary"]["outcome"] for one in self.heard]


@dataclass
class Bench:
    """A repository with a folder of images, and who is told of its ticks."""

    repository: Repository
    receiver: Receiver

    @property
    def root(self) -> Path:
        return self.repository.root

    @property
    def paths(self) -> Paths:
        return Paths(self.root)

    @property
    def photos(self) -> Path:
        return self.root / "data/raw/photos"

    @property
    def secrets(self) -> dict[str, str]:
        return {"SLIMLINE_WEBHOOK_URL": f"http://127.0.0.1:{self.receiver.port}/a-secret", "DVC_NO_ANALYTICS": "1"}

    def tick(self, code: int) -> dict[str, Any]:
        """The summary of a tick that ends with `code`."""
        done = self.repository.run("slimline", "rerun", "--json", **self.secrets)
        assert done.returncode == code, done.stdout + done.stderr
        assert "a-secret" not in done.stdout + done.stderr
        return {**json.loads(done.stdout), "stderr": done.stderr}

    def start(self, *command: str) -> subprocess.Popen[str]:
        environment = {**self.repository.environment, **self.secrets}
        return subprocess.Popen(
            ["slimline", *(command or ["rerun"])], cwd=self.root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def drop(self, *names: str) -> None:
        for name in names:
            (self.photos / name).write_text(name)

    def images(self) -> int:
        return len(list(self.photos.iterdir()))

    def train_long(self, *command: str) -> subprocess.Popen[str]:
        """`command`, a tick where there is none, in the midst of a training that takes a minute."""
        (self.root / "long").touch()
        self.drop(f"{time.time_ns()}.png")
        at = self.paths.scratch / "at"
        at.unlink()
        started, deadline = self.start(*command), time.monotonic() + PATIENCE
        while not at.exists() or at.read_text() in ("", "0"):
            assert time.monotonic() < deadline
            assert started.poll() is None
            time.sleep(0.05)
        return started

    def settings(self, text: str = "promote: false") -> None:
        (self.root / "rerun.yaml").write_text(f"data: {{quiet_seconds: 0.3}}\n{text}")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One in which the first tick has run, nobody listening."""
    made = Bench(Repository(tmp_path_factory.mktemp("rerun") / "repository"), Receiver())
    made.photos.mkdir(parents=True)
    (made.root / "src").symlink_to(Path(slimline.__file__).parents[1])
    for name, text in {
        "dvc.yaml": PIPELINE,
        "prepare.py": PREPARE,
        "train.py": TRAIN,
        "params.yaml": PARAMS,
        "note.txt": "a note",
        ".gitignore": ".slimline\n",
    }.items():
        (made.root / name).write_text(text)
    made.drop("1.png", "2.png")
    made.settings()
    for words in (["git", "init", "--quiet", "--initial-branch=main"], ["git", "config", "user.email", "tests@example.org"]):
        made.repository.output(*words)
    made.repository.output("git", "config", "user.name", "tests")
    made.repository.output("dvc", "init", "--quiet")
    commit(made.repository, "our photos")
    with made.receiver.listening():
        pass  # a port that is ours, and closed
    first = made.tick(0)
    assert first["outcome"] == "reproduced", first
    assert set(first["stages"]) == {"prepare", "alone", "train_teacher"}
    assert first["images"] == [None, 2]
    assert "the webhook at 127.0.0.1 does not answer" in first["stderr"]
    return made


@pytest.fixture
def bench(made: Bench) -> Bench:
    """The one that all tests share, as the first tick left it but for its images: nothing faulty, nobody told, nothing waiting to be told."""
    for left in (made.root / "fault", made.root / "long", made.photos / "broken.png"):
        left.unlink(missing_ok=True)
    for waiting in Place(made.paths).box.glob("*"):
        waiting.unlink()
    (made.root / ".dvc/config").write_text("")
    made.settings()
    made.receiver.heard.clear()
    return made


def test_a_webhook_that_was_down_is_told_by_the_next_tick_which_has_nothing_else_to_do(bench: Bench) -> None:
    bench.drop("down.png")
    assert "the webhook at 127.0.0.1 does not answer" in bench.tick(0)["stderr"]
    with bench.receiver.listening():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        second = bench.tick(0)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert (second["outcome"], second["stages"]) == ("up_to_date", {})
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 15, "seconds of a processor, whatever else it has to do"
        assert bench.receiver.outcomes == ["reproduced"]
        assert f"→ {bench.images():,}" in bench.receiver.heard[0]["text"]


def test_new_images_rerun_what_is_stale_once_and_one_of_two_ticks_does_it(bench: Bench) -> None:
    before = bench.images()
    bench.drop("3.png")
    with bench.receiver.listening():
        ticks = [bench.start() for _ in range(2)]
        ended = {tick.communicate(timeout=PATIENCE)[0]: tick for tick in ticks}
        assert sorted(tick.returncode for tick in ticks) == [0, 4], ended
        busy = next(text for text, tick in ended.items() if tick.returncode == 4)
        other = next(tick for tick in ticks if tick.returncode == 0)
        # Whoever comes in the instant between the other one's taking of the lock and its writing who it is, is told of another process.
        assert f"process {other.pid} on " in busy or "another process is at it" in busy
        assert bench.receiver.outcomes == ["reproduced"]
    summary = bench.receiver.heard[0]["summary"]
    assert summary["stages"] == {"prepare": ["data/raw/photos: modified"], "train_teacher": ["after prepare"]}
    assert summary["images"] == [before, before + 1]
    place = Place(bench.paths)
    assert json.loads(place.last.read_text())["images"] == [before, before + 1]
    assert f"{before} → {before + 1}" in place.last_text.read_text()
    assert "Running stage 'train_teacher'" in place.output.read_text()


def test_a_refusal_is_told_once_and_so_is_its_end(bench: Bench) -> None:
    with bench.receiver.listening():
        bench.drop("broken.png")
        for _ in range(2):
            assert bench.tick(2)["reason"] == "data/raw/photos/broken.png: no image; mend it"
        (bench.photos / "broken.png").unlink()
        assert bench.tick(0)["outcome"] == "up_to_date"
    assert bench.receiver.outcomes == ["refused", "up_to_date"]


def test_a_stage_that_breaks_fails_the_tick_and_the_next_one_makes_it(bench: Bench) -> None:
    (bench.root / "fault").touch()
    bench.drop("4.png")
    failed = bench.tick(3)
    assert "failed to reproduce 'train_teacher'" in failed["reason"]
    assert "AssertionError: a fault" in Place(bench.paths).output.read_text()
    (bench.root / "fault").unlink()
    assert list(bench.tick(0)["stages"]) == ["train_teacher"]


@pytest.mark.parametrize(
    ("command", "number"),
    [
        (("rerun",), signal.SIGTERM),
        (("rerun",), signal.SIGHUP),
        (("schedule", "0 3 1 1 *", "--now"), signal.SIGTERM),
        (("schedule", "0 3 1 1 *", "--now"), signal.SIGINT),
    ],
)
def test_what_is_stopped_ends_in_time_and_the_next_tick_goes_on(bench: Bench, command: tuple[str, ...], number: signal.Signals) -> None:
    (bench.paths.scratch / "left.txt").unlink(missing_ok=True)
    started = bench.train_long(*command)
    started.send_signal(number)
    told = time.monotonic()
    text, _ = started.communicate(timeout=PATIENCE)
    assert time.monotonic() - told < 10, text
    assert started.returncode == 128 + (signal.SIGTERM if number == signal.SIGHUP else number), text
    assert "stopped, the next tick goes on" in text
    assert json.loads(Place(bench.paths).last.read_text())["outcome"] == "stopped"
    assert [one.pid for one in alive(bench.root) if "slimline.tracking.sender" not in one.cmdline()] == []
    (bench.root / "long").unlink()
    assert (bench.paths.scratch / "left.txt").exists()
    assert list(bench.tick(0)["stages"]) == ["train_teacher"]


SLOW_DISK = """
import os, pathlib, time
def late(descriptor, flush=os.fsync):
    if pathlib.Path(".slimline/left.txt").exists():
        time.sleep(30)
    flush(descriptor)
os.fsync = late
"""


def test_a_stop_is_in_time_where_the_disk_is_not(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file that is flushed takes half a minute, as on a disk to which others write gigabytes."""
    (tmp_path / "sitecustomize.py").write_text(SLOW_DISK)
    (bench.paths.scratch / "left.txt").unlink(missing_ok=True)
    monkeypatch.setattr(Bench, "secrets", {**bench.secrets, "PYTHONPATH": f"{bench.root / 'src'}:{tmp_path}"})
    started = bench.train_long()
    started.send_signal(signal.SIGTERM)
    told = time.monotonic()
    text, _ = started.communicate(timeout=PATIENCE)
    assert time.monotonic() - told < 10, text
    assert started.returncode == 128 + signal.SIGTERM, text
    monkeypatch.undo()
    (bench.root / "long").unlink()
    assert list(bench.tick(0)["stages"]) == ["train_teacher"]


def test_half_a_dvc_lock_that_a_kill_has_left_is_put_right_and_told(bench: Bench) -> None:
    lock = bench.root / "dvc.lock"
    whole = lock.read_bytes()
    lock.write_bytes(whole[:300])
    with bench.receiver.listening():
        tick = bench.tick(0)
    assert (tick["outcome"], bench.receiver.outcomes) == ("up_to_date", ["up_to_date"])
    assert "DVC was ended while it wrote that" in tick["warnings"][0]
    assert lock.read_bytes() == whole


def test_images_that_are_still_being_written_are_waited_for_or_left(bench: Bench) -> None:
    settings = Data(quiet_seconds=0.3, patience_seconds=0.9)
    assert settle(bench.photos, settings)
    over = threading.Event()

    def write() -> None:
        with (bench.photos / "large.part").open("w") as file:
            while not over.wait(0.1):
                file.write("more")
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    time.sleep(0.2)
    try:
        assert not settle(bench.photos, settings)
    finally:
        over.set()
        writer.join()
        (bench.photos / "large.part").unlink()
    assert settle(bench.photos, settings)


def test_what_was_made_is_pushed_and_a_remote_that_refuses_costs_a_line_until_it_takes_it(bench: Bench, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    remote.write_text("no folder")
    bench.repository.output("dvc", "remote", "add", "--default", "store", str(remote))
    refused = bench.tick(0)
    assert refused["outcome"] == "up_to_date"
    assert refused["pushed"] is False
    assert any(line.startswith("push: dvc ended with") for line in refused["warnings"]), refused
    remote.unlink()
    with bench.receiver.listening():
        assert bench.tick(0)["pushed"] is True
    assert bench.receiver.outcomes == ["up_to_date"], "what could not be pushed was told"
    lock = YAML(typ="safe").load((bench.root / "dvc.lock").read_text())
    made = {out["md5"] for stage in lock["stages"].values() for out in stage["outs"] if out["path"] != "metrics/prepare.json"}
    assert made == {file.parent.name + file.name for file in remote.rglob("*") if file.is_file()}
    assert bench.tick(0)["warnings"] == []


def test_code_that_was_pulled_is_what_the_tick_goes_on_with(bench: Bench, tmp_path: Path) -> None:
    origin, other = tmp_path / "origin.git", Repository(tmp_path / "other")
    commit(bench.repository, "so far")
    for words in (
        ["clone", "--quiet", "--bare", ".", str(origin)],
        ["remote", "add", "origin", str(origin)],
        ["fetch", "--quiet", "origin"],
        ["branch", "--quiet", "--set-upstream-to=origin/main"],
        ["clone", "--quiet", str(origin), str(other.root)],
    ):
        bench.repository.output("git", *words)
    (other.root / "train.py").write_text(TRAIN + "# another line\n")
    for words in (
        ["config", "user.name", "tests"],
        ["config", "user.email", "t@example.org"],
        ["commit", "--quiet", "-am", "news"],
        ["push", "--quiet"],
    ):
        other.output("git", *words)
    bench.settings("promote: false\ncode: {pull: true}")
    pulled = bench.tick(0)
    assert list(pulled["stages"]) == ["train_teacher"]
    assert pulled["commit"] == other.output("git", "rev-parse", "HEAD").strip()
    origin.rename(tmp_path / "gone.git")
    assert any(line.startswith("code.pull: git ended with") for line in bench.tick(0)["warnings"])


def test_a_real_pipeline_is_promoted_kept_and_told_of(tmp_path: Path) -> None:
    """The stages themselves, on real digits that somebody drops into a folder."""
    made = Bench(clone(tmp_path / "slimline"), Receiver())
    digits(made.photos, 0, 240)
    quick = re.sub(r"epochs: \d+", "epochs: 1", PARAMS).replace("{name: resnet, depth: 8, width: 8}", "{name: mlp, hidden: [64, 32]}")
    quick = quick.replace("{name: mobilenet, width: 8, stages: [2, 4]}", "{name: mlp, hidden: [32, 16]}").replace("parity: 0.98", "parity: 0.5")
    quick = re.sub(r"gates: {.*}", "gates: {size_ratio: 0.5}", quick).replace("margin: 0.05", "margin: 0.9")
    made.paths.params.write_text(quick)
    made.settings("")
    commit(made.repository, "our photos")
    with made.receiver.listening():
        first = made.tick(0)
        assert (first["outcome"], first["version"]) == ("promoted", 1), first
        assert list(first["stages"]) == list(STAGES)
        digits(made.photos, 240, 260)
        second = made.tick(0)
        assert (second["outcome"], second["version"], second["images"]) == ("promoted", 2, [240, 260]), second
        digits(made.photos, 260, 280)
        made.paths.params.write_text(quick.replace("size_ratio: 0.5", "size_ratio: 900.0"))
        third = made.tick(1)
        assert (third["outcome"], third["version"], third["gates"]) == ("kept", 3, {"size_ratio": False}), third
        idle = made.tick(0)
        assert (idle["outcome"], idle["stages"]) == ("up_to_date", {}), "what was judged is not judged again"
        print(f"nothing to do took {idle['seconds']} s")
    assert made.receiver.outcomes == ["promoted", "promoted", "kept"]
    registry = promotion.registry_of(made.paths)
    held = {alias: registry.holder(alias) for alias in ("champion", "previous", "challenger")}
    assert {alias: version and int(version.version) for alias, version in held.items()} == {"champion": 2, "previous": 1, "challenger": 3}


def digits(folder: Path, first: int, last: int) -> None:
    """Put the digits 0 to 3 from the `first` to before the `last` into `folder`, as somebody's photographs."""
    known = load_digits(n_class=4)
    for number in range(first, last):
        place = folder / f"class{known.target[number]}" / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((known.images[number] * 15).astype(np.uint8)).save(place)
