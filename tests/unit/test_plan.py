"""What would run is what DVC would run, also of stages that are not like the pipeline's."""

from pathlib import Path

import pytest
from dvc.repo import Repo

from slimline.paths import Paths
from slimline.runtime.plan import plan

ODD = """
stages:
  once: {cmd: echo a > a.txt, outs: [a.txt]}
  later: {cmd: cat a.txt > c.txt, deps: [a.txt], outs: [c.txt]}
  spoken: {cmd: echo spoken}
  marked: {cmd: cat note.txt > b.txt, deps: [note.txt], outs: [b.txt], always_changed: true}
"""
EVERY_TIME = "always changed: DVC runs it every time"


def planned(folder: Path) -> dict[str, tuple[str, ...]]:
    """The plan, whose stages are those of `dvc status`."""
    found = {one.stage: one.reasons for one in plan(Paths(folder))}
    with Repo(str(folder)) as repo:
        assert set(found) == set(repo.status())
    return found


def test_a_stage_without_inputs_has_run_where_dvc_says_so_and_one_that_always_runs_is_no_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site-cache"))
    (tmp_path / "dvc.yaml").write_text(ODD)
    (tmp_path / "note.txt").write_text("a note")
    Repo.init(str(tmp_path), no_scm=True).close()
    new = planned(tmp_path)
    assert {name for name, reasons in new.items() if reasons == ("has never run here",)} == {"once", "later", "marked"}
    assert new["spoken"] == (EVERY_TIME,), "of a stage that reads and makes nothing DVC does not say whether it ever ran"
    with Repo(str(tmp_path)) as repo:
        repo.reproduce()
    assert planned(tmp_path) == {"spoken": (EVERY_TIME,), "marked": (EVERY_TIME,)}
    (tmp_path / "a.txt").unlink()
    assert planned(tmp_path)["once"] == ("output a.txt: deleted",)
    (tmp_path / "dvc.yaml").write_text(ODD.replace("echo a >", "echo A >"))
    assert planned(tmp_path)["once"] == ("its command in dvc.yaml changed", "output a.txt: deleted")
