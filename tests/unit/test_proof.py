"""What the teacher brought: its effect over seeds, and what is said of it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimline.evaluation.distillation import effect
from slimline.evaluation.scorecard import Answers
from slimline.evaluation.statistics import compare, compared, crossed_interval
from slimline.report import figures
from slimline.report.curves import Curve, read_all, steps_to
from slimline.report.words import drawbacks, helped, on_the_grids, ruined, ruined_by_teacher, teachers_effect, unhelpful

IMAGES = 300
LABELS = np.arange(IMAGES) % 3


def answers(wrong: int, seed: int = 0) -> Answers:
    """A classifier that errs on `wrong` images."""
    chosen = np.random.default_rng(seed).choice(IMAGES, wrong, replace=False)
    predicted = LABELS.copy()
    predicted[chosen] = (predicted[chosen] + 1) % 3
    return Answers(np.eye(3, dtype=np.float32)[predicted], LABELS)


def test_of_one_seed_the_effect_is_the_paired_comparison() -> None:
    found, pair = effect([answers(10)], [answers(30, 1)], 0.95), compare(answers(10).right, answers(30, 1).right, 0.95)
    assert (found.difference, found.low, found.high) == (pair.difference, pair.low, pair.high)
    assert found.deviation is None
    assert (found.images, found.student, found.student_alone) == (IMAGES, (1 - 10 / IMAGES,), (0.9,))


def test_of_several_seeds_it_is_their_mean_with_their_deviation() -> None:
    found = effect([answers(10), answers(13, 2), answers(16, 3)], [answers(30, 4), answers(30, 5), answers(30, 6)], 0.95)
    assert found.difference == pytest.approx((20 + 17 + 14) / 3 / IMAGES)
    assert found.deviation == pytest.approx(3 / IMAGES)
    assert found.low < found.difference < found.high


def test_one_image_tells_nothing_of_others_however_many_seeds_there_are() -> None:
    single = Answers(np.eye(3, dtype=np.float32)[:1], np.array([0]))
    found = effect([single, single], [single, single], 0.95)
    assert (found.difference, found.low, found.high) == (0.0, -1.0, 1.0)


def test_more_seeds_that_agree_make_the_interval_narrower_and_seeds_that_disagree_wider() -> None:
    few = effect([answers(10, n) for n in range(2)], [answers(30, 9 + n) for n in range(2)], 0.95)
    many = effect([answers(10, n) for n in range(8)], [answers(30, 9 + n) for n in range(8)], 0.95)
    apart = effect([answers(2 if n % 2 else 60, n) for n in range(8)], [answers(30, 9 + n) for n in range(8)], 0.95)
    assert many.high - many.low < few.high - few.low
    assert apart.high - apart.low > 2 * (many.high - many.low)


@given(runs=st.integers(2, 6), images=st.integers(2, 40), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_the_interval_holds_the_mean_and_grows_with_confidence(runs: int, images: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(-1, 2, (runs, images)).astype(float)
    low, high = crossed_interval(values, 0.9)
    wider = crossed_interval(values, 0.99)
    assert wider[0] <= low <= values.mean() + 1e-12
    assert values.mean() - 1e-12 <= high <= wider[1]
    assert crossed_interval(values + 3, 0.9) == pytest.approx((low + 3, high + 3))


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Runs and images have effects of their own, and there is noise in each cell."""
    random = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        values = 0.1 + random.normal(0, 0.05, (4, 1)) + random.normal(0, 0.4, (1, 60)) + random.normal(0, 0.3, (4, 60))
        low, high = crossed_interval(values, 0.95)
        held += low <= 0.1 <= high
    assert held / 400 > 0.93


def test_equal_answers_show_no_effect_and_no_false_precision_is_read_into_them() -> None:
    found = effect([answers(10)] * 3, [answers(10)] * 3, 0.95)
    assert (found.difference, found.low, found.high) == (0.0, 0.0, 0.0)
    assert unhelpful(scorecard(found)) is not None


def scorecard(found: Any) -> dict[str, Any]:
    return {"comparisons": {}, "models": {}, "data": {"test": IMAGES}, "distillation": {"test": asdict(found), "validation": asdict(found)}}


def test_a_teacher_that_helps_is_told_without_a_warning() -> None:
    card = scorecard(effect([answers(5, n) for n in range(3)], [answers(60, 9 + n) for n in range(3)], 0.95))
    assert unhelpful(card) is None
    assert helped(card).startswith("With the teacher minus without: +18.3 points on 300 test images (interval +1")
    assert "3 seeds" in helped(card)


@pytest.mark.parametrize(
    ("taught", "alone", "told"),
    [(10, 11, "do not show that the teacher's help made the student more accurate"), (60, 5, "made the student less accurate")],
)
def test_a_teacher_that_does_not_help_is_one_line(taught: int, alone: int, told: str) -> None:
    card = scorecard(effect([answers(taught)], [answers(alone, 3)], 0.95))
    line = unhelpful(card)
    assert line is not None
    assert told in line
    assert "\n" not in line
    assert "seeds" not in line
    assert drawbacks({**card, "comparisons": {"student_vs_student_alone": card["distillation"]["test"]}, "models": MODELS}, LATENCY) == [line]


MODELS = {"teacher": {"packed_bytes": 9, "ece": 0.1}, "student": {"packed_bytes": 5, "ece": 0.1}}
LATENCY: dict[str, Any] = {"ratios_to_teacher": {}, "models": {}}


def test_a_record_without_the_effect_is_read_by_its_paired_comparison() -> None:
    pair = {"images": 10, "difference": 0.0, "low": -0.1, "high": 0.1}
    assert teachers_effect({"comparisons": {"student_vs_student_alone": pair}}) == pair
    assert teachers_effect({"comparisons": {}}) is None


def curve(*accuracies: float) -> Curve:
    n = len(accuracies)
    return Curve(np.arange(1, n + 1), np.ones(n), np.ones(n), np.array(accuracies), 10 * np.arange(1, n + 1))


def test_how_soon_a_curve_is_there() -> None:
    assert steps_to(curve(0.1, 0.6, 0.5, 0.7), 0.6) == 20
    assert steps_to(curve(0.1, 0.6, 0.5, 0.7), 0.71) is None


def test_the_figure_names_each_model_once_however_many_seeds_it_has() -> None:
    svg = figures.help_curves({"student": [curve(0.1, 0.9), curve(0.2, 0.8)], "student_alone": [curve(0.1, 0.5)]}, ["student", "student_alone"])
    assert svg.count(">student<") == svg.count(">student alone<") == 1


def test_further_seeds_curves_are_read_as_the_first_ones(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    path.write_text("epoch,train_loss,val_loss,val_accuracy,steps\n0,1.5,1.2,0.5,9\n1,0.5,0.4,0.95,18\n")
    assert read_all([path])[0].steps.tolist() == [9, 18]


@pytest.mark.parametrize(("trained", "taught", "told"), [(0.8, True, "under the teacher made"), (0.8, False, "Training made"), (0.92, True, None)])
def test_a_training_that_ruined_a_quantized_network_is_told(trained: float, taught: bool, told: str | None) -> None:
    card = scorecard(effect([answers(5)], [answers(60, 9)], 0.95))
    card["quantization"] = {"validation": 330, "calibrated": 0.914, "trained": trained, "taught": taught}
    line = ruined(card)
    assert (line is None) == (told is None)
    if told is not None:
        assert line is not None
        assert told in line
        assert "80.0\u202f% of 330 validation images, from 91.4\u202f%" in line
        assert ("temperature" in line) == taught
        assert line in drawbacks({**card, "models": MODELS}, LATENCY)


def control(only_student: int, only_alone: int, real: tuple[int, int] = (9, 6)) -> dict[str, Any]:
    card = scorecard(effect([answers(5)], [answers(60, 9)], 0.95))
    forms = {"real": real, "calibrated": (only_student, only_alone)}
    found = {form: {"student": 0.932, "student_alone": 0.925, **asdict(compared(*counts, 1000, 0.95))} for form, counts in forms.items()}
    return {**card, "quantization": {"validation": 1000, "calibrated": 0.9, "trained": 0.9, "taught": True, "control": found}}


def test_a_student_that_loses_to_its_control_on_coarse_grids_alone_is_told() -> None:
    card = control(5, 60)
    line = ruined_by_teacher(card)
    assert line is not None
    assert "temperature" in line
    assert "difference \u22125.5 points (interval \u2212" in line
    assert line in drawbacks({**card, "models": MODELS}, LATENCY)


@pytest.mark.parametrize("card", [control(30, 32), control(60, 5), control(5, 60, real=(4, 70))], ids=["no difference", "better", "before too"])
def test_no_grid_is_blamed_for_what_it_did_not_do(card: dict[str, Any]) -> None:
    assert ruined_by_teacher(card) is None
    assert on_the_grids(card).startswith("On the grids of quantize, calibrated and not trained, the student is right of 93.2")


def test_where_the_control_was_not_quantized_nothing_is_said_of_it() -> None:
    card = scorecard(effect([answers(5)], [answers(60, 9)], 0.95))
    for found in ({}, {"quantization": {"validation": 10, "calibrated": 0.9, "trained": 0.9, "taught": True, "control": None}}):
        assert on_the_grids({**card, **found}) == ""
        assert ruined_by_teacher({**card, **found}) is None
