"""Measuring side by side: functions of known duration, in mixed order."""

import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from slimline.errors import SlimlineError
from slimline.evaluation.cold import cold
from slimline.evaluation.latency import latency, machine, measure, speed_up, spread, summarize, verdict

IMAGES = np.zeros((3, 1, 2, 2), np.float32)


def sleeping(milliseconds: float):
    def model(images: np.ndarray) -> np.ndarray:
        time.sleep(milliseconds / 1000)
        return images

    return model


def test_a_function_three_times_as_slow_is_measured_as_such() -> None:
    seconds = measure({"slow": sleeping(6), "fast": sleeping(2)}, IMAGES, rounds=25, warm_up=1)
    assert seconds["slow"].shape == seconds["fast"].shape == (25,)
    assert seconds["fast"].min() >= 0.002
    assert seconds["slow"].min() >= 0.006
    assert 2.0 < speed_up(seconds["slow"], seconds["fast"], 0.95)["speed_up"] < 4.0


def test_every_model_runs_once_a_round_in_an_order_that_changes() -> None:
    calls: list[str] = []
    names = ("a", "b", "c")
    models = {name: lambda images, name=name: calls.append(name) or images for name in names}
    measure(models, IMAGES, rounds=30, warm_up=4)
    assert calls[:12] == list(names) * 4
    rounds = [tuple(calls[start : start + 3]) for start in range(12, len(calls), 3)]
    assert len(rounds) == 30
    assert all(sorted(turn) == list(names) for turn in rounds)
    assert len(set(rounds)) >= 5


def test_warm_up_is_not_counted() -> None:
    count = iter(range(100))

    def slow_at_first(images: np.ndarray) -> np.ndarray:
        time.sleep(0.3 if next(count) < 3 else 0)
        return images

    assert measure({"x": slow_at_first}, IMAGES, rounds=10, warm_up=3)["x"].max() < 0.25


def test_median_and_tail_are_told_in_milliseconds() -> None:
    assert summarize(np.arange(101) / 1000) == pytest.approx({"p50_ms": 50, "p95_ms": 95})


def test_a_speed_up_is_the_median_of_the_ratios_within_each_round() -> None:
    reference, seconds = np.array([10.0, 100.0, 40.0] * 5), np.array([5.0, 50.0, 10.0] * 5)
    result = speed_up(reference, seconds, 0.95)
    assert result["speed_up"] == 2.0
    assert result["low"] <= 2.0 <= result["high"] <= 4.0


def test_the_record_holds_every_model_at_every_batch_size_and_ratios_to_the_reference() -> None:
    seen: list[tuple[int, ...]] = []
    models = {"teacher": lambda images: seen.append(images.shape) or images, "student": lambda images: images}
    record = latency(models, IMAGES, reference="teacher", batch_sizes=(1, 5), rounds=10, warm_up=1, threads=1, confidence=0.9)
    assert set(record["models"]) == {"teacher", "student"}
    assert set(record["models"]["student"]) == {"batch_1", "batch_5"}
    assert set(record["ratios_to_teacher"]) == {"student"}
    assert record["ratios_to_teacher"]["student"]["batch_5"].keys() == {"speed_up", "low", "high", "verdict"}
    assert set(record["noise"]) == {"batch_1", "batch_5"}
    # The teacher is called once more a round, to see what noise does.
    assert seen == [(1, 1, 2, 2)] * 22 + [(5, 1, 2, 2)] * 22


def test_a_known_duration_lies_within_its_intervals_and_one_of_three_times_is_shown_to_be_slower() -> None:
    models = {"teacher": sleeping(2), "twin": sleeping(2), "slow": sleeping(6)}
    record = latency(models, IMAGES, reference="teacher", batch_sizes=(4,), rounds=40, warm_up=1, threads=1, confidence=0.95)
    timed = record["models"]["slow"]["batch_4"]
    assert 6 <= timed["p50_low_ms"] <= timed["p50_ms"] <= timed["p50_high_ms"]
    assert timed["p95_low_ms"] <= timed["p95_ms"]
    assert timed["p95_high_ms"] is None  # of 40 calls, the longest is not surely above the 95th percentile
    assert timed["images_per_second_low"] <= timed["images_per_second"] <= 4 / 0.006
    assert record["ratios_to_teacher"]["slow"]["batch_4"]["verdict"] == "slower"
    assert record["ratios_to_teacher"]["twin"]["batch_4"]["verdict"] != "slower"


@pytest.mark.parametrize(
    ("low", "high", "noise", "word"),
    [
        (1.2, 1.4, (0.99, 1.02), "faster"),
        (1.2, 1.4, (0.8, 1.25), "no difference shown"),
        (0.98, 1.4, (0.99, 1.02), "no difference shown"),
        (0.6, 0.8, (0.9, 1.1), "slower"),
        (0.6, 0.95, (0.9, 1.1), "no difference shown"),
    ],
)
def test_what_noise_explains_is_no_speed_up(low, high, noise, word) -> None:
    assert verdict({"low": low, "high": high}, dict(zip(("low", "high"), noise, strict=True))) == word


def test_two_calls_of_one_model_are_told_apart_no_more_often_than_the_level_allows() -> None:
    random, told = np.random.default_rng(0), 0
    for _ in range(300):
        first, again, other = random.lognormal(sigma=0.3, size=(3, 60))
        told += verdict(speed_up(first, other, 0.95), speed_up(first, again, 0.95)) != "no difference shown"
    assert told <= 15


def test_throughput_counts_all_calls_not_the_median_one() -> None:
    seconds = np.array([0.01] * 9 + [0.11])
    assert spread(seconds, 8, 0.95)["images_per_second"] == pytest.approx(80 / 0.2)


def test_starting_a_model_is_measured_in_processes_of_its_own(tmp_path) -> None:
    small, large = (exported(tmp_path / f"{width}.onnx", width) for width in (8, 2048))
    found = cold({"small": small, "large": large}, batch_sizes=(1, 4), threads=1, confidence=0.95)
    for one in found.values():
        assert 0 < one["load_low_ms"] <= one["load_ms"] <= one["load_high_ms"]
        assert one["load_ms"] < one["cold_start_ms"]
    # 2048² weights of four bytes have to be somewhere.
    assert found["large"]["peak_memory_bytes"]["batch_1"] > found["small"]["peak_memory_bytes"]["batch_1"] + 4 * 2000**2


def test_a_file_that_does_not_load_is_told_and_not_measured(tmp_path) -> None:
    (tmp_path / "none.onnx").write_bytes(b"none")
    with pytest.raises(SlimlineError, match=r"could not be measured .*none\.onnx"):
        cold({"x": tmp_path / "none.onnx"}, batch_sizes=(1,), threads=1, confidence=0.95)


def exported(path: Path, width: int) -> Path:
    """A network of one layer of `width`² weights."""
    weights = onnx.numpy_helper.from_array(np.ones((width, width), np.float32), "w")
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", width]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weights])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_the_machine_is_described() -> None:
    facts = machine()
    assert facts["cores"] >= 1
    assert facts["memory_gib"] > 0
    assert facts["processor"]
