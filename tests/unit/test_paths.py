"""File names, and the folder that experiments share."""

from pathlib import Path

import pytest

from slimline.cli import main
from slimline.paths import MODELS, ModelFolder, Paths, repository_root, store_root


def test_no_two_files_of_a_workspace_have_the_same_name() -> None:
    paths = Paths(Path("/w"))
    single = [paths.params, paths.prepared, paths.summary, paths.scorecard, paths.latency, paths.tradeoff, paths.confusion, paths.report]
    models = [paths.model(name) for name in MODELS]
    files = [file for model in models for file in (model.manifest, model.weights, model.onnx, model.packed)]
    every = [*single, *files, *(paths.curve(name) for name in MODELS), paths.stage_metrics("prune")]
    assert len(set(every)) == len(every)
    assert all(path.is_relative_to("/w") for path in every)
    assert ModelFolder(Path("/w/models/teacher")) == paths.model("teacher")


def test_an_experiment_finds_the_repository_above_it(tmp_path) -> None:
    (tmp_path / ".dvc").mkdir()
    inner = tmp_path / "experiments" / "mnist"
    inner.mkdir(parents=True)
    assert repository_root(inner) == repository_root(tmp_path) == tmp_path.resolve()


def test_where_dvc_manages_nothing_a_folder_is_its_own_repository(tmp_path) -> None:
    assert repository_root(tmp_path) == tmp_path.resolve()


def test_runs_of_a_copy_that_dvc_makes_for_an_experiment_belong_to_the_repository_itself(tmp_path) -> None:
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "tmpabc"
    (copy / ".dvc").mkdir(parents=True)
    assert repository_root(copy) == copy.resolve()
    assert store_root(copy) == store_root(tmp_path) == tmp_path.resolve()


@pytest.mark.parametrize("command", [["rerun"], ["repro"], ["plan"], ["schedule", "@daily"]])
def test_a_workspace_that_is_not_there_is_refused_in_one_line_and_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--workspace", str(tmp_path / "typo"), *command])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"slimline: {tmp_path / 'typo'}: no such folder; name a workspace by --workspace\n"
    assert not (tmp_path / "typo").exists()
