"""The tables of docs/binary-inference.md say what the benchmark has measured."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "xnor.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("xnor_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(ms: dict[str, float], steps: dict[str, float], **further: Any) -> dict[str, Any]:
    """A measurement whose ratios are known to 5 %."""
    ours = [way for way in ms if way.startswith("xnor")]
    ratios = {(one, other): ms[other] / ms[one] for one in ours for other in ms if other not in ours}
    speed_up = {f"{one}_to_{other}": {"speed_up": r, "low": 0.95 * r, "high": 1.05 * r} for (one, other), r in ratios.items()}
    return {"ms": ms, "speed_up": speed_up, "steps_ms": steps, **further}


def test_tables_tell_ratios_the_share_of_the_limit_what_was_reached_and_where_time_goes(benchmark: ModuleType) -> None:
    product = row(
        {"fp32": 24.0, "int8": 6.0, "xnor_packed": 2.0, "xnor_inputs_packed": 1.5, "xnor_bits": 1.0},
        {"packing the first": 0.5, "packing the second": 0.5, "the product": 1.0},
        share_of_limit={"xnor_bits": 0.9},
        reading_ms=0.4,
    )
    network = row({"fp32": 10.0, "int8": 1.6, "xnor": 1.0}, {f"step {n}": 1.0 for n in range(8)})
    found = {"products 512×512×4096": product, "binarynet_conv, batch 1": network}
    machine = {"processor": "made up", "cores": 2}
    about = {"ghz": 3.0, "commit": None, "dirty": False, "date": "2026-01-01", "rounds": 5, "torch": "2", "onnxruntime": "1"}
    told = "\n".join(benchmark.tables({"machine": machine, **about, "threads_1": found, "threads_2": {"products 512×512×4096": product}}))
    for line in (
        "| 512×512×4096 | 12.0 | 16.0 | 24.0 | 6.0 | 0.90 |",
        "| binarynet_conv, batch 1 | 10 | 1.6 | 1 | 10.0 | 1.6 |",
        "| products 512×512×4096 | packed to fp32 | 15 | 12.0 (11.4 to 12.6) | no |",
        "| binarynet_conv, batch 1 | to fp32 | 4 | 10.0 (9.5 to 10.5) | yes |",
        "| binarynet_conv, batch 1 | to int8 | 1.5 | 1.6 (1.5 to 1.7) | yes |",
        "the product 50%, packing the first 25%, packing the second 25%; reading both matrices once, by torch's sum, takes 0.4 ms |",
        "step 5 12%, 2 others |",
        "| products 512×512×4096 | 1 | 1.00 | 1.00 | 1.00 |",
    ):
        assert line in told, line


def test_the_page_has_a_place_for_them(benchmark: ModuleType) -> None:
    text = benchmark.PAGE.read_text()
    assert text.count(benchmark.BEGIN) == text.count(benchmark.END) == 1
