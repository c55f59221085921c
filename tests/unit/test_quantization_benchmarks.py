"""The benchmarks of quantization run, and their bars can be missed."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from slimline.models import MODELS

ROOT = Path(__file__).parents[2]


def told(script: str) -> dict:
    """The last line of a benchmark's short run, one thread."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, f"benchmarks/{script}.py"], cwd=ROOT, env=environment, text=True, capture_output=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_every_network_of_the_zoo_has_a_line_in_the_benchmark_of_parity(monkeypatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    assert set(importlib.import_module("parity").PARAMETERS) == set(MODELS)


@pytest.mark.slow
def test_two_networks_name_the_same_classes_in_every_way_of_computing_them() -> None:
    result = told("parity")
    assert {row["network"] for row in result["rows"]} == {"lenet5", "mobilenet"}
    assert {row["bits"] for row in result["rows"]} == {8, 2}
    for row in result["rows"]:
        for way in ("deployed", "unoptimized", "integers"):
            assert row[way]["agreement"] >= result["bar"], row
    assert max(row["accuracy"] for row in result["rows"]) > 0.8, "networks that guess would agree on anything"


def test_the_benchmark_of_8_bits_says_what_its_intervals_contradict(monkeypatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    missed = importlib.import_module("int8").missed

    def row(least: float, most: float, *, accurate: bool) -> dict:
        batch = {"ours_to_fp32": {"low": least, "high": most}, "ours_to_quantize_static": {"low": least, "high": most}}
        return {"as_accurate": accurate, "batch_1": batch, "batch_64": {key: {"low": 1.1, "high": 1.2} for key in batch}}

    assert missed({"good": row(1.01, 1.1, accurate=True)}) == []
    assert missed({"level": row(0.99, 1.01, accurate=True)}) == ["level, batch_1: not faster than fp32"]
    assert len(missed({"bad": row(0.8, 0.9, accurate=False)})) == 3


def test_the_packing_table_is_within_three_hundredths_of_what_codes_are_worth() -> None:
    text = (ROOT / "docs" / "packed-format.md").read_text()
    rows = re.findall(r"^\| \d bits, \d+% zero \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|", text, re.M)
    assert len(rows) == 15
    for entropy, ours, limit in ([int(cell.replace(",", "")) for cell in row] for row in rows):
        assert entropy < ours <= limit <= 1.03 * (entropy + 1024 + 3 * 2 * 4) + 1


def test_a_comparison_without_its_other_side_says_so_in_one_line(monkeypatch, capsys) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setitem(sys.modules, "torchao", None)
    monkeypatch.setattr(sys, "argv", ["pt2e"])
    monkeypatch.delitem(sys.modules, "pt2e", raising=False)
    assert importlib.import_module("pt2e").main() == 2
    assert capsys.readouterr().err.splitlines() == [
        "pt2e: torchao is not installed, so there is nothing to compare with; pip install torchao==0.18.0"
    ]
