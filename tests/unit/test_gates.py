"""Gates: which limits hold, by the worse end of each interval."""

import json
from pathlib import Path
from typing import Any

import pytest

from slimline import cli
from slimline.evaluation.gates import GATES, Sides, judge, table
from slimline.evaluation.statistics import compared
from slimline.evaluation.versus import of_its_run
from slimline.files import write_json
from slimline.params.evaluate import Gates, Regression
from slimline.paths import Paths

SLOWER = {"batch_64": {"speed_up": 0.8, "low": 0.625, "high": 0.9, "verdict": "slower"}}


def sides(*, only_quantized: int = 2, only_teacher: int = 4, images: int = 1000, slower: dict[str, Any] = SLOWER, **changes: Any) -> Sides:
    pair = vars(compared(only_quantized, only_teacher, images, 0.95))
    scorecard = {
        "models": {"teacher": {"packed_bytes": 300, "ece": 0.01}, "quantized": {"packed_bytes": 100, "ece": 0.02}},
        "comparisons": {"quantized_vs_teacher": pair},
        "robustness": [{"first": "quantized", "second": "teacher", "difference": d, "low": d - 0.05} for d in (0.0, -0.1)],
    }
    timed = {"p50_ms": 1.0, "p50_low_ms": 0.9, "p50_high_ms": 1.1}
    ratios = {"batch_1": {"speed_up": 2.0, "low": 1.8, "high": 2.2, "verdict": "faster"}, **slower}
    latency = {"models": {"quantized": {"batch_1": timed}}, "ratios_to_teacher": {"quantized": ratios}}
    return Sides(scorecard | changes, latency, "quantized", "teacher")


def test_every_gate_of_the_parameters_is_judged_and_no_other() -> None:
    assert set(GATES) == set(Gates.model_fields) | set(Regression.model_fields)


@pytest.mark.parametrize(
    ("gate", "passes", "fails"),
    [
        ("accuracy_drop", 0.02, 0.005),
        ("size_ratio", 3.0, 3.1),
        ("latency_ms", 1.1, 1.05),
        ("speed_up", 1.8, 1.9),
        ("ece", 0.02, 0.015),
        ("robustness_drop", 0.151, 0.149),
        ("size_growth", -0.66, -0.67),
        ("slow_down", 0.61, 0.59),
        ("ece_rise", 0.011, 0.009),
    ],
)
def test_a_limit_holds_where_the_worse_end_of_the_interval_keeps_it(gate, passes, fails) -> None:
    for limit, holds in ((passes, True), (fails, False)):
        judged = judge({gate: limit}, sides(), 0.95)
        assert (judged["passed"], judged["gates"][gate]["passed"]) == (holds, holds)
        assert table(judged).startswith("passed" if holds else "FAILED")


def test_a_slow_down_that_noise_explains_passes_and_one_at_another_batch_size_does_not() -> None:
    noisy = {"batch_64": SLOWER["batch_64"] | {"verdict": "no difference shown"}}
    judged = judge({"slow_down": 0.1}, sides(slower=noisy), 0.95)
    assert table(judged) == "passed  slow_down       25.00 % (at worst 60.00 %); limit ≤ 10.00 %: no more than the machine's noise"
    slower = {"batch_2": {"speed_up": 0.9, "low": 0.85, "high": 0.95, "verdict": "slower"}}
    judged = judge({"slow_down": 0.1}, sides(slower=noisy | slower), 0.95)
    assert table(judged) == "FAILED  slow_down       11.11 % (at worst 17.65 %); limit ≤ 10.00 %: beyond the limit"


def test_a_margin_that_too_few_images_cannot_show_says_how_many_would() -> None:
    why = judge({"accuracy_drop": 0.005}, sides(), 0.95)["gates"]["accuracy_drop"]["why"]
    assert why == "not shown: at 95 % confidence it may be 0.85 %; a limit of 0.50 % takes about 2,480 test images, here are 1,000"
    why = judge({"accuracy_drop": 0.02}, sides(only_teacher=40), 0.95)["gates"]["accuracy_drop"]["why"]
    assert why == "beyond the limit"


def test_what_was_not_measured_passes_no_gate_and_without_gates_nothing_passed() -> None:
    judged = judge({"robustness_drop": 0.9, "size_ratio": 1.0}, sides(robustness=[]), 0.95)
    assert (judged["passed"], judged["gates"]["robustness_drop"]["why"]) == (False, "not measured")
    assert not judge({"size_ratio": 1.0}, sides(models={"teacher": {}}), 0.95)["passed"]
    assert judge({}, sides(), 0.95)["passed"] is None


@pytest.mark.parametrize(("change", "judged"), [({}, True), ({"packed_bytes": 101}, False), ({"errors": 8}, False)])
def test_limits_against_the_teacher_are_judged_by_a_run_that_was_about_the_same_files(change, judged) -> None:
    run = sides(data={"digest": "same"}).scorecard
    run["models"]["quantized"] |= {"errors": 7, "onnx_bytes": 200}
    found = {"models": {"B": run["models"]["quantized"] | change}, "data": run["data"]}
    record = {"scorecard": run, "latency": None}
    told = of_its_run(record, found, {"size_ratio": 3.0, "speed_up": 1.0}, 0.95, model="quantized", reference="teacher")
    assert (told is not None) == judged
    assert not judged or [told["gates"][name]["why"] for name in ("size_ratio", "speed_up")] == ["", "not measured"]
    other = found | {"data": {"digest": "other"}}  # errors on other images say nothing
    told = of_its_run(record, other, {"size_ratio": 3.0}, 0.95, model="quantized", reference="teacher")
    assert (told is not None) == ("packed_bytes" not in change)


def gate(folder: Path, limit: float | None, judged: dict[str, Any] | None, *arguments: str) -> int:
    """The exit code of `slimline gate` where params.yaml asks for a size ratio of `limit`, and `judged` is what the last run left."""
    text = Path(__file__).with_name("shipped_params.yaml").read_text()
    gates = "" if limit is None else f"  gates: {{size_ratio: {limit}}}\n"
    (folder / "params.yaml").write_text(text.replace("    warm_up: 20\n", f"    warm_up: 20\n{gates}"))
    if judged is not None:
        write_json(Paths(folder).gates, judged)
    try:
        cli.main(["--workspace", str(folder), "gate", *arguments])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_the_command_says_what_passed_and_ends_with_0_1_or_2(tmp_path, capsys) -> None:
    assert gate(tmp_path, 2.0, judge({"size_ratio": 2.0}, sides(), 0.95)) == 0
    assert capsys.readouterr().out == "passed  size_ratio      3; limit ≥ 2\n"
    assert gate(tmp_path, 4.0, judge({"size_ratio": 4.0}, sides(), 0.95), "--json") == 1
    assert json.loads(capsys.readouterr().out)["gates"]["size_ratio"]["passed"] is False


def test_what_was_edited_to_pass_as_a_whole_does_not_while_one_gate_fails(tmp_path) -> None:
    judged = judge({"size_ratio": 4.0}, sides(), 0.95)
    assert gate(tmp_path, 4.0, judged | {"passed": True}) == 1
    assert gate(tmp_path, 2.0, judge({"size_ratio": 2.0}, sides(), 0.95) | {"passed": "no"}) == 1


@pytest.mark.parametrize(
    ("limit", "judged", "told"),
    [
        (None, None, "evaluate.gates sets no limit; put one there: accuracy_drop"),
        (2.0, None, "gates.json: no such file; run make repro first"),
        (2.0, {"gates": {"size_ratio": {"limit": 3.0}}}, "was made with other limits than evaluate.gates has now; run dvc repro"),
        (2.0, {"models": 1}, "was not written by evaluate"),
        (2.0, {"gates": {"size_ratio": {"limit": 2.0}}}, "was not written by evaluate"),
        (2.0, {"passed": True, "gates": {"size_ratio": {"limit": 2.0, "value": "x", "worst": 1, "passed": True, "why": ""}}}, "was not written by"),
    ],
)
def test_what_cannot_be_judged_is_refused(limit, judged, told, tmp_path, capsys) -> None:
    assert gate(tmp_path, limit, judged) == 2
    assert told in capsys.readouterr().err
