"""What logits say: accuracy, calibration, confusion."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from slimline.evaluation.scorecard import Answers, confusion, score
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
