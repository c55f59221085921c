"""Tables in READMEs are those of their results.json."""

import json
from pathlib import Path

import pytest

from slimline.errors import SlimlineError
from slimline.report.record import BEGIN, END, renewed, table

ROOT = Path(__file__).parents[2]
RECORDS = sorted(path.parent / "results.json" for path in ROOT.glob("experiments/*/params.yaml") if not (path.parent / "measure.py").exists())


def test_there_are_records() -> None:
    assert RECORDS


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.parent.name)
def test_an_experiment_s_table_says_what_its_record_says(path: Path) -> None:
    readme = (path.parent / "README.md").read_text()
    values = json.loads(path.read_text())
    assert renewed(readme, values) == readme
    assert values["machine"]["processor"] in readme
    assert len(values["commit"]) >= 40


def test_a_table_is_put_between_its_marks_and_nothing_else_changes() -> None:
    values = json.loads(RECORDS[0].read_text())
    text = renewed(f"before\n{BEGIN}\nold\n{END}\nafter\n", values)
    assert text == f"before\n{BEGIN}\n\n{table(values)}\n\n{END}\nafter\n"


def test_a_readme_without_marks_is_refused() -> None:
    with pytest.raises(SlimlineError, match="no place for results"):
        renewed("nothing here\n", json.loads(RECORDS[0].read_text()))
