"""What a tick decides, with a pipeline, a registry and a receiver that do as they are told; tests/e2e/test_rerun.py has the real ones."""

import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slimline.errors import SlimlineError
from slimline.paths import Paths
from slimline.rerun import incoming, tick
from slimline.rerun.settings import Rerun, load
from slimline.rerun.summary import CODES, Summary
from slimline.runtime.locks import held
from slimline.runtime.stopping import Stopped

ROOT = Path(__file__).parents[2]


@dataclass
class World:
    """Around a workspace: stages that are stale, how DVC ends, what the registry says, whom a tick tells."""

    paths: Paths
    stale: list[str] = field(default_factory=list)
    made: int = 0
    ends: list[int] = field(default_factory=list)
    champion: bool | str = True
    version: int | None = None
    judged: int = 0
    remote: str | None = None
    pushed: int = 0
    away: bool = False
    name = "listener"
    heard: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def plan(self, _paths: Paths) -> list[Any]:
        return [SimpleNamespace(stage=stage, reasons=("changed",), after=()) for stage in self.stale]

    def reproduce(self, *_: Any) -> int:
        if code := self.ends.pop(0) if self.ends else 0:
            os.write(1, b"slimline: data/raw/x.png: no image; mend it\n")  # as a process that it starts does
            return code
        self.stale, self.made = [], self.made + 1
        (self.paths.root / "dvc.lock").write_text(f"{self.made}")
        return 0

    def register(self, _paths: Paths, *, why: str) -> Any:
        assert why == "slimline rerun"
        if isinstance(self.champion, str):
            raise SlimlineError(self.champion)
        self.judged += 1
        before = self.champion and self.version == self.made
        self.version = self.made if self.champion else self.version
        return SimpleNamespace(model="slimline", version=self.made, champion=self.champion, reason="because", before=before)

    def push(self, _root: Path) -> None:
        if self.away:
            raise SlimlineError("push: dvc ended with 1: no route")
        self.pushed += 1

    def send(self, notice: Mapping[str, Any]) -> None:
        self.heard.append(notice["summary"]["outcome"])
        self.ids.add(notice["id"])

    def tick(self, **settings: Any) -> Summary:
        return tick.tick(self.paths, lambda: Rerun(**settings), lambda: None)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(Paths(tmp_path))
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.setitem(sys.modules, "slimline.runtime.plan", SimpleNamespace(plan=made.plan))
    monkeypatch.setattr(tick, "reproduce", made.reproduce)
    monkeypatch.setattr(tick, "mended", lambda _: [])
    monkeypatch.setitem(sys.modules, "slimline.runtime.recorded", SimpleNamespace(sync=lambda _: ""))
    monkeypatch.setitem(sys.modules, "slimline.runtime.promotion", SimpleNamespace(register=made.register))
    monkeypatch.setattr(tick, "_remote", lambda _: made.remote)
    monkeypatch.setattr(tick, "_channels", lambda _: [made])
    monkeypatch.setattr(incoming, "push", made.push)
    return made


def test_a_new_model_is_judged_once_and_every_new_one_is_told_of(world: World) -> None:
    outcomes = []
    for champion in (True, False, True):
        world.stale, world.champion = ["prune"], champion
        outcomes += [world.tick(), world.tick()]
    assert [one.outcome for one in outcomes] == ["promoted", "up_to_date", "kept", "up_to_date", "promoted", "up_to_date"]
    assert [one.code for one in outcomes] == [0, 0, 1, 0, 0, 0]
    assert [one.version for one in outcomes] == [1, None, 2, None, 3, None]
    assert (world.judged, world.heard) == (3, ["promoted", "kept", "promoted"])
    assert outcomes[0].stages == {"prune": ["changed"]}


def test_a_champion_that_is_judged_anew_is_no_new_one(world: World) -> None:
    world.stale = ["prune"]
    assert world.tick().outcome == "promoted"
    for passes, outcome in ((True, "reproduced"), (False, "kept")):
        (world.paths.root / "dvc.lock").write_text(f"other gates, {passes}")
        world.paths.gates.parent.mkdir(exist_ok=True)
        world.paths.gates.write_text(json.dumps({"gates": {"size_ratio": {"passed": passes}}}))
        assert world.tick().outcome == outcome
        assert world.tick().outcome == "up_to_date"
    assert world.heard == ["promoted", "reproduced", "kept"]


def test_a_champion_whose_gates_fail_is_no_new_one_though_the_registry_was_away_at_first(world: World) -> None:
    world.stale = ["prune"]
    world.tick()
    (world.paths.root / "dvc.lock").write_text("other gates")
    world.paths.gates.parent.mkdir(exist_ok=True)
    world.paths.gates.write_text(json.dumps({"gates": {"size_ratio": {"passed": False}}}))
    world.champion = "MLflow at http://there does not answer"
    assert world.tick().outcome == "failed"
    world.champion = True
    assert world.tick().outcome == "kept"


def test_what_fails_beside_a_pipeline_that_somebody_runs_by_hand_is_told_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_: Path) -> bool:
        raise SlimlineError("code.pull: nobody answers")

    def at_work(_: Path) -> list[str]:
        raise SlimlineError("somebody is at it")

    world.tick()
    world.heard.clear()
    with monkeypatch.context() as patched:
        patched.setattr(incoming, "pull", away)
        patched.setattr(tick, "mended", at_work)
        for _ in range(3):
            assert world.tick(code={"pull": True}).outcome == "busy"
    assert world.heard == ["busy"]


def test_a_model_that_was_made_and_not_judged_is_judged_by_the_next_tick(world: World) -> None:
    world.stale, world.champion = ["prune"], "MLflow at http://there does not answer"
    first, second = world.tick(), world.tick()
    assert [(one.outcome, one.code, one.reason) for one in (first, second)] == [("failed", 3, world.champion)] * 2
    assert (list(first.stages), second.stages) == (["prune"], {}), "nothing is made twice"
    assert world.heard == ["failed"], "the same trouble is told once"
    world.champion = True
    assert world.tick().outcome == "promoted"
    assert world.heard == ["failed", "promoted"]


def test_a_model_that_somebody_made_by_hand_is_judged_too(world: World) -> None:
    world.reproduce()
    assert world.tick().outcome == "promoted"
    world.stale = ["prune"]
    assert world.tick(promote=False).outcome == "reproduced"
    assert world.judged == 1
    assert world.tick(promote=True).outcome == "promoted"


@pytest.mark.parametrize(
    ("code", "outcome", "exit_code", "told"),
    [
        (2, "refused", 2, "data/raw/x.png: no image; mend it"),
        (255, "failed", 3, "data/raw/x.png: no image; mend it (all of it: "),
        (137, "failed", 3, "signal 9"),
        (143, "stopped", 143, "SIGTERM"),
        (130, "stopped", 130, "SIGINT"),
    ],
)
def test_an_end_of_the_pipeline_is_told_by_code_and_reason_and_the_next_tick_makes_it(
    world: World, code: int, outcome: str, exit_code: int, told: str
) -> None:
    world.stale, world.ends = ["prune"], [code]
    ended = world.tick()
    assert (ended.outcome, ended.code) == (outcome, exit_code)
    assert told in ended.reason
    assert world.tick().outcome == "promoted"
    last = tick.Place(world.paths)
    assert json.loads(last.last.read_text())["outcome"] == "promoted"
    assert last.last_text.read_text().startswith("slimline rerun: a new champion: version 1 of slimline: because\n")


def test_recovery_is_told_of(world: World) -> None:
    world.tick()
    world.heard.clear()
    world.stale, world.ends = ["evaluate"], [2, 2]
    world.tick(), world.tick()
    world.stale = []  # mended as it was
    world.tick(), world.tick()
    assert world.heard == ["refused", "up_to_date"]


def test_what_could_not_be_pushed_is_told_once_and_pushed_later(world: World) -> None:
    world.stale, world.remote, world.away = ["prune"], "store", True
    first = world.tick()
    assert (first.outcome, first.pushed, first.warnings) == ("promoted", False, ["push: dvc ended with 1: no route"])
    second, third = world.tick(), world.tick()
    assert (second.outcome, second.pushed, third.pushed) == ("up_to_date", False, False)
    world.away = False
    assert world.tick().pushed is True
    assert world.tick().pushed is True
    assert world.pushed == 1
    assert world.heard == ["promoted", "up_to_date"]


def test_a_second_tick_says_who_is_at_it_and_leaves_the_summary_to_that(world: World) -> None:
    with held(tick.Place(world.paths).lock, "it"):
        busy = world.tick()
    assert (busy.outcome, busy.code) == ("busy", CODES["busy"])
    assert "process " in busy.reason
    assert not tick.Place(world.paths).last.exists()


def test_no_room_a_bug_and_a_folder_without_a_pipeline_are_outcomes_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "least_free_gb asks for" in world.tick(least_free_gb=1e9).reason
    with monkeypatch.context() as patched:
        patched.setattr(tick, "git_state", lambda _: 1 / 0)
        fault = world.tick()
    assert (fault.code, fault.reason) == (3, "ZeroDivisionError: division by zero")
    (world.paths.root / "dvc.yaml").unlink()
    refused = world.tick()
    assert refused.code == 2
    assert "no dvc.yaml there" in refused.reason


def test_a_state_that_cannot_be_read_costs_work_and_no_result(world: World) -> None:
    world.stale = ["prune"]
    world.tick()
    tick.Place(world.paths).state.write_text("{half")
    assert world.tick().outcome == "reproduced", "that it is the champion the registry knows"
    assert world.tick().outcome == "up_to_date"


class Killed(BaseException):
    """The end of a process that nobody has asked."""


def test_whatever_a_tick_is_killed_at_the_next_ones_make_judge_and_tell(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed before the first thing that it changes, before the second, and so on until it lives."""
    left = 0

    def killable(effect: Callable[..., Any]) -> Callable[..., Any]:
        def attempt(*given: Any, **more: Any) -> Any:
            nonlocal left
            left -= 1
            if left == -1:
                raise Killed
            return effect(*given, **more)

        return attempt

    for place, name in ((Path, "replace"), (Path, "unlink"), (World, "reproduce"), (World, "register"), (World, "send"), (World, "push")):
        monkeypatch.setattr(place, name, killable(getattr(place, name)))
    for where, name in (("reproduce", tick), ("push", incoming)):
        monkeypatch.setattr(name, where, getattr(world, where))
    monkeypatch.setitem(sys.modules, "slimline.runtime.promotion", SimpleNamespace(register=world.register))
    world.remote = "store"
    deaths = 0
    while True:
        world.stale, world.judged, world.pushed = ["prune"], 0, 0
        world.heard.clear(), world.ids.clear()
        left, before = deaths, world.made
        try:
            world.tick()
            break
        except Killed:
            deaths += 1
        left = 1000
        outcomes = [world.tick().outcome for _ in range(3)]
        assert outcomes[-1] == "up_to_date", deaths
        assert world.made == before + 1, deaths
        assert 1 <= world.judged <= 2, deaths
        assert 1 <= world.pushed <= 2, deaths
        assert set(world.heard) == {"promoted"}, deaths
        assert len(world.heard) == 1 or len(world.ids) == 1, "what is told again has its id"
    assert deaths > 10


def test_what_was_found_by_a_tick_that_is_stopped_while_it_pushes_is_told_by_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.stale, world.remote = ["prune"], "store"
    with monkeypatch.context() as patched:
        patched.setattr(incoming, "push", lambda _: (_ for _ in ()).throw(Stopped(signal.SIGTERM)))
        stopped = world.tick()
    assert (stopped.outcome, stopped.code, world.heard) == ("stopped", 143, [])
    assert (world.tick().outcome, world.tick().outcome) == ("promoted", "up_to_date")
    assert (world.heard, world.judged) == (["promoted"], 1)


def test_a_stop_between_two_equal_troubles_or_before_the_end_of_one_says_nothing_of_them(world: World) -> None:
    world.tick()
    world.heard.clear()
    for end in (2, 143, 2, 143, 0):
        world.stale, world.ends = ["prune"], [end]
        if not end:
            world.stale = []
        world.tick()
    assert world.heard == ["refused", "up_to_date"]


def test_on_a_full_disk_and_with_wrong_settings_somebody_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.tick()
    world.heard.clear()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def hashing(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(tick, "write_json", full)
        patched.setattr("slimline.rerun.notices.write_json", full)
        refused = world.tick(least_free_gb=1e9)
    assert (refused.code, world.heard) == (2, ["refused"])
    assert "cannot be written (No space left on device)" in refused.warnings[0]
    with monkeypatch.context() as patched:
        patched.setattr(tick, "held", full)
        locked = world.tick()
    assert (locked.code, locked.reason) == (2, f"{world.paths.root}: No space left on device; mend it, the next tick goes on")
    with monkeypatch.context() as patched:
        patched.setattr(tick, "_work", hashing)
        hashed = world.tick()
    assert (hashed.code, hashed.reason) == (2, "DVC's database of hashes: database or disk is full; mend it, the next tick goes on")
    file = world.paths.root / "rerun.yaml"
    file.write_text("psuh: true")
    wrong = tick.tick(world.paths, lambda: load(file), lambda: None)
    assert (wrong.code, wrong.reason.partition(": ")[2]) == (2, load_refusal(file))
    assert world.heard == ["refused"] * 4


def load_refusal(file: Path) -> str:
    with pytest.raises(SlimlineError) as refused:
        load(file)
    return str(refused.value).partition(": ")[2]


def test_a_bug_does_not_end_with_the_code_of_a_champion_that_is_kept(tmp_path: Path) -> None:
    program = "import slimline.rerun.tick as t; t._tell = lambda *_: 1 / 0; from slimline.cli import main; main(['rerun'])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == CODES["failed"]
    assert "ZeroDivisionError" in done.stderr
