"""The tables of experiments/parallelism are those of its results.json."""

import importlib.util
import json
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "experiments" / "parallelism"


def test_the_tables_say_what_the_record_says() -> None:
    spec = importlib.util.spec_from_file_location("parallelism_tables", FOLDER / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    readme = (FOLDER / "README.md").read_text()
    assert tables.renewed(readme, json.loads((FOLDER / "results.json").read_text())) == readme
