"""Measuring side by side: functions of known duration, in mixed order."""

import time

import numpy as np
import pytest

from slimline.evaluation.latency import latency, machine, measure, speed_up, summarize

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
    assert record["ratios_to_teacher"]["student"]["batch_5"].keys() == {"speed_up", "low", "high"}
    assert seen == [(1, 1, 2, 2)] * 11 + [(5, 1, 2, 2)] * 11


def test_the_machine_is_described() -> None:
    facts = machine()
    assert facts["cores"] >= 1
    assert facts["memory_gib"] > 0
    assert facts["processor"]
