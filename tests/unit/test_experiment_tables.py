"""The tables of experiments that use `experiments.lab` are those of their results.json."""

import importlib
from pathlib import Path

import pytest

FOLDERS = sorted(path.parent for path in (Path(__file__).parents[2] / "experiments").glob("*/tables.py") if "experiments.lab" in path.read_text())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_tables_say_what_the_record_says(folder: Path) -> None:
    tables = importlib.import_module(f"experiments.{folder.name}.tables")
    assert tables.renewed() == (folder / "README.md").read_text()


def test_there_are_such_experiments() -> None:
    assert FOLDERS
