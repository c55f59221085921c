"""Tables in READMEs are those of their results.json."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from slimline.cli import main
from slimline.errors import SlimlineError
from slimline.paths import Paths
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


@pytest.mark.parametrize(
    ("scorecard", "told"),
    [
        ([], "was not written by evaluate"),
        ({"models": {}, "refused": {"teacher": "models/teacher: truncated"}}, r"could not evaluate the teacher \(models/teacher: truncated\)"),
    ],
)
def test_a_run_without_all_models_is_no_table(scorecard: Any, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = Paths(tmp_path)
    paths.params.write_text(Path(__file__).with_name("shipped_params.yaml").read_text())
    paths.scorecard.parent.mkdir()
    paths.scorecard.write_text(json.dumps(scorecard))
    paths.latency.write_text(json.dumps(json.loads(RECORDS[0].read_text())["latency"]))
    with pytest.raises(SystemExit):
        main(["--workspace", str(tmp_path), "show"])
    assert re.search(told, capsys.readouterr().err)


def test_a_readme_without_marks_is_refused() -> None:
    with pytest.raises(SlimlineError, match="no place for results"):
        renewed("nothing here\n", json.loads(RECORDS[0].read_text()))
