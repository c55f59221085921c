"""Prepared data of a git revision come out of DVC's cache, or it is said why not."""

import json
import shutil
from pathlib import Path

import pytest
from repository import Repository, commit

from slimline.data.diff import diff
from slimline.errors import SlimlineError
from slimline.paths import Paths
from slimline.runtime.revision import model_at, prepared_at

SCRIPT = """
import json, pathlib
import numpy as np
count = int(pathlib.Path("count.txt").read_text())
target = pathlib.Path("data/prepared")
for split in ("train", "validation", "test"):
    (target / split).mkdir(parents=True)
    np.save(target / split / "images.npy", np.random.default_rng(0).integers(0, 256, (count, 1, 8, 8), np.uint8))
    np.save(target / split / "labels.npy", np.arange(count) % 2)
counts = {split: count for split in ("train", "validation", "test")}
facts = {"classes": ["a", "b"], "input_shape": [1, 8, 8], "counts": counts, "mean": [0.5], "std": [0.5], "digest": str(count)}
(target / "dataset.json").write_text(json.dumps(facts))
model = pathlib.Path("models/quantized")
model.mkdir(parents=True)
(model / "model.json").write_text(str(count))
"""
STAGE = "stages:\n  prepare:\n    cmd: python make.py\n    deps: [make.py, count.txt]\n    outs: [data/prepared, models/quantized]\n"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Commits: empty (tag `empty`), 10 images a split (tag `ten`), 20 images a split; an experiment's workspace is there from the second."""
    made = Repository(tmp_path_factory.mktemp("revisions") / "repository")
    made.root.mkdir()
    made.output("git", "init", "--quiet", "--initial-branch=main")
    made.output("git", "config", "user.email", "tests@example.org")
    made.output("git", "config", "user.name", "tests")
    made.output("dvc", "init", "--quiet")
    commit(made, "empty")
    made.output("git", "tag", "empty")
    places = made.root, made.root / "experiments" / "small"
    for count in (10, 20):
        for divisor, place in enumerate(places, start=1):
            place.mkdir(parents=True, exist_ok=True)
            (place / "make.py").write_text(SCRIPT)
            (place / "count.txt").write_text(str(count // divisor))
            (place / "dvc.yaml").write_text(STAGE)
        made.output("dvc", "repro", "--quiet", "--all-pipelines")
        commit(made, str(count))
        made.output("git", "tag", {10: "ten", 20: "twenty"}[count])
    return made


@pytest.fixture(autouse=True)
def site(repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", repository.environment["DVC_SITE_CACHE_DIR"])
    monkeypatch.chdir(tmp_path)


def digest_at(what: str, root: Path) -> str:
    with prepared_at(what, Paths(root)) as folder:
        return str(json.loads((folder / "dataset.json").read_text())["digest"])


@pytest.mark.parametrize(("what", "digest"), [(".", "20"), ("HEAD", "20"), ("HEAD~1", "10"), ("ten", "10"), ("main", "20")])
def test_a_revision_or_the_workspace_gives_its_prepared_data(what, digest, repository) -> None:
    assert digest_at(what, repository.root) == digest


def test_an_experiments_workspace_gives_its_own(repository) -> None:
    assert digest_at("ten", repository.root / "experiments" / "small") == "5"


def test_a_folder_is_taken_as_it_is_be_it_prepared_or_a_workspace(repository) -> None:
    assert digest_at(str(repository.root / "data" / "prepared"), repository.root) == "20"
    assert digest_at(str(repository.root / "experiments" / "small"), repository.root) == "10"


def test_a_revision_the_workspace_or_a_folder_gives_its_model(repository, tmp_path) -> None:
    folder = repository.root / "models" / "quantized"
    for what, count in ((".", "20"), ("ten", "10"), (str(folder), "20"), (str(repository.root), "20")):
        with model_at(what, Paths(repository.root), "quantized") as found:
            assert (found / "model.json").read_text() == count
    for what, told in ((str(tmp_path), "no model there"), ("empty", "this revision has no models/quantized"), ("nowhere", "no such folder")):
        with pytest.raises(SlimlineError, match=told), model_at(what, Paths(repository.root), "quantized"):
            pass


def test_what_was_fetched_is_deleted_afterwards_and_the_workspace_is_left_alone(repository) -> None:
    with prepared_at("ten", Paths(repository.root)) as folder:
        assert folder.is_dir()
    assert not folder.exists()
    assert digest_at(".", repository.root) == "20"
    assert repository.output("git", "status", "--porcelain") == ""


def test_two_revisions_can_be_compared(repository) -> None:
    with prepared_at("ten", Paths(repository.root)) as before, prepared_at("twenty", Paths(repository.root)) as after:
        found = diff(before, after)
    assert found.counts["train"] == (10, 20)
    assert found.images is not None
    assert (found.images.kept, found.images.added, found.images.removed) == (30, 30, 0)


def test_an_unknown_revision_is_refused(repository) -> None:
    with pytest.raises(SlimlineError, match="nowhere: no such folder and no git revision"):
        digest_at("nowhere", repository.root)


def test_a_revision_without_prepared_data_is_refused(repository) -> None:
    with pytest.raises(SlimlineError, match="empty: this revision has no data/prepared"):
        digest_at("empty", repository.root)


def test_what_was_fetched_lies_beside_the_repository_and_not_in_the_systems_temporary_folder(repository) -> None:
    left = repository.root / ".dvc" / "tmp" / "slimline-99999999-killed"
    left.mkdir(parents=True)
    with prepared_at("ten", Paths(repository.root)) as before, prepared_at("ten", Paths(repository.root)) as after:
        assert before.parents[1] == after.parents[1] == left.parent
        assert before.is_dir()
    assert not list(left.parent.glob("slimline-*"))


def test_data_that_are_a_link_to_another_disk_have_revisions_too(repository, tmp_path) -> None:
    shutil.copytree(repository.root, tmp_path / "copy", symlinks=True)
    (tmp_path / "copy" / "data").rename(tmp_path / "disk")
    (tmp_path / "copy" / "data").symlink_to(tmp_path / "disk")
    assert digest_at("ten", tmp_path / "copy") == "10"


def test_a_revision_whose_pipeline_dvc_cannot_read_is_refused(repository, tmp_path) -> None:
    old = Repository(tmp_path / "copy")
    shutil.copytree(repository.root, old.root, symlinks=True)
    for tag, pipeline in (("unknown", "stages:\n  prepare:\n    command: python make.py\n"), ("broken", "stages: [\n")):
        (old.root / "dvc.yaml").write_text(pipeline)
        commit(old, tag)
        old.output("git", "tag", tag)
        with pytest.raises(SlimlineError, match=f"{tag}: DVC cannot read the pipeline of this revision") as error:
            digest_at(tag, old.root)
        assert "\n" not in str(error.value)


def test_data_that_left_the_cache_are_refused_with_what_to_do(repository, tmp_path) -> None:
    shutil.copytree(repository.root, tmp_path / "copy", symlinks=True)
    shutil.rmtree(tmp_path / "copy" / ".dvc" / "cache")
    with pytest.raises(SlimlineError, match=r"ten: DVC's cache has no data/prepared .* dvc fetch"):
        digest_at("ten", tmp_path / "copy")


def test_outside_of_a_dvc_repository_a_revision_is_refused(tmp_path) -> None:
    with pytest.raises(SlimlineError, match="no DVC repository"):
        digest_at("HEAD", tmp_path)
