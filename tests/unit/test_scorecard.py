"""What logits say: accuracy, calibration, confusion."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, log_loss, recall_score, top_k_accuracy_score
from torchmetrics.functional.classification import multiclass_calibration_error

from slimline.evaluation.scorecard import Answers, agreement, confusion, disagreements, score, top_accuracy
from slimline.evaluation.statistics import wilson


def sure(confidence: float, right: int, images: int) -> Answers:
    """Answers between two classes, all given with `confidence`, the first `right` of them right."""
    logits = np.tile(np.log(np.array([[confidence, 1 - confidence]])), (images, 1)).astype(np.float32)
    return Answers(logits, (np.arange(images) >= right).astype(np.int64))


@given(st.integers(2, 6), st.integers(1, 60), st.integers(0, 1000))
def test_the_confusion_matrix_is_that_of_scikit_learn(classes, images, seed) -> None:
    random = np.random.default_rng(seed)
    answers = Answers(random.normal(size=(images, classes)).astype(np.float32), random.integers(0, classes, images))
    assert np.array_equal(confusion(answers), confusion_matrix(answers.labels, answers.predicted, labels=range(classes)))


@given(st.integers(11, 14), st.integers(1, 60), st.integers(0, 1000))
def test_every_figure_is_that_of_scikit_learn_and_torchmetrics(classes, images, seed) -> None:
    random = np.random.default_rng(seed)
    answers = Answers(random.normal(size=(images, classes)).astype(np.float32), random.integers(0, classes, images))
    card, known, probabilities = score(answers, answers, 0.95), range(classes), np.exp(answers.log_probabilities)
    assert card["nll"] == pytest.approx(log_loss(answers.labels, probabilities, labels=known), rel=1e-6)
    assert card["top5_accuracy"] == pytest.approx(top_k_accuracy_score(answers.labels, answers.logits, k=5, labels=known))
    expected = multiclass_calibration_error(torch.from_numpy(probabilities), torch.from_numpy(answers.labels), num_classes=classes, n_bins=15)
    assert card["ece"] == pytest.approx(float(expected), abs=1e-6)
    recall = recall_score(answers.labels, answers.predicted, labels=known, average=None, zero_division=np.nan)
    assert np.array([row["accuracy"] for row in card["per_class"]], float) == pytest.approx(recall, nan_ok=True)
    assert sum(row["images"] for row in card["per_class"]) == sum(one["images"] for one in card["reliability"]) == images
    matrix = np.zeros((classes, classes), int)
    for actual, predicted, count in card["confusion"]:
        matrix[actual, predicted] = count
    assert np.array_equal(matrix, confusion(answers))


def test_among_equal_logits_the_first_classes_are_the_answer_at_any_depth() -> None:
    answers = Answers(np.zeros((6, 6), np.float32), np.arange(6))
    assert top_accuracy(answers, 1) == answers.accuracy == pytest.approx(1 / 6)
    assert top_accuracy(answers, 5) == pytest.approx(5 / 6)


def test_of_few_classes_five_answers_say_nothing_and_of_a_class_without_images_nothing_is_known() -> None:
    card = score(sure(0.8, 30, 30), sure(0.8, 30, 30), 0.95)
    assert card["top5_accuracy"] is None
    assert card["per_class"][1] == {"images": 0, "right": 0, "accuracy": None, "accuracy_low": None, "accuracy_high": None}


def test_a_certain_answer_stands_in_the_last_bin() -> None:
    (one,) = score(sure(0.99, 3, 4), Answers(np.array([[999.0, 0.0], [5.0, 0.0]], np.float32), np.array([0, 1])), 0.95)["reliability"]
    assert (one["high"], one["images"], one["accuracy"]) == (1.0, 2, 0.5)


def test_disagreements_tell_what_was_lost_first_and_agreement_counts_common_errors() -> None:
    labels = np.array([0, 1, 2, 0, 1])
    first, middle, last = (Answers(np.eye(3, dtype=np.float32)[np.array(one)], labels) for one in ([0, 0, 2, 2, 1], [0, 0, 2, 2, 0], [0, 1, 0, 2, 1]))
    found = disagreements({"a": first, "b": middle, "c": last}, "a", "c")
    assert (found["images"], [row["image"] for row in found["shown"]]) == (3, [2, 1, 4])
    assert found["shown"][0]["actual"] == 2
    assert found["shown"][0]["answers"]["c"] == {"predicted": 0, "probability": 0.5761}
    assert disagreements({"a": first, "b": middle, "c": last}, "a", "c", shown=1)["images"] == 3
    assert agreement(middle, first, 0.9) == {"agreement": 0.8, **dict(zip(("agreement_low", "agreement_high"), wilson(4, 5, 0.9), strict=True))}


@pytest.mark.parametrize(("confidence", "right"), [(0.8, 80), (0.6, 60), (0.95, 95)])
def test_answers_that_are_right_as_often_as_they_are_sure_are_perfectly_calibrated(confidence, right) -> None:
    card = score(sure(confidence, right, 100), sure(confidence, right, 100), 0.95)
    assert card["ece"] == pytest.approx(0, abs=1e-6)
    assert card["accuracy"] == pytest.approx(right / 100)


@pytest.mark.parametrize(("confidence", "right"), [(0.99, 50), (0.6, 100), (0.9, 0)])
def test_the_calibration_error_is_the_distance_between_how_sure_and_how_right(confidence, right) -> None:
    card = score(sure(confidence, right, 100), sure(confidence, right, 100), 0.95)
    assert card["ece"] == pytest.approx(abs(confidence - right / 100), abs=1e-5)


def test_each_number_comes_from_its_own_split() -> None:
    card = score(sure(0.8, 30, 40), sure(0.8, 70, 100), 0.9)
    assert card["validation_accuracy"] == 0.75
    assert card["accuracy"] == 0.7
    assert card["errors"] == 30
    assert (card["accuracy_low"], card["accuracy_high"]) == wilson(70, 100, 0.9)
