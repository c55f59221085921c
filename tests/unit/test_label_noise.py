"""Changed labels are found where that can be, and the list says how far to believe it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from slimline.data.prepare.features import described, thumbnails
from slimline.data.prepare.noise import FOLDS, Noise, OutOfFold, best_threshold, label_noise, margin_scores, measured


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    images, labels = load_digits(return_X_y=True)
    return np.rint(images.reshape(-1, 1, 8, 8) * 255 / 16).astype(np.uint8), labels.astype(np.int64)


@pytest.fixture(scope="module")
def clean(digits) -> Noise:
    return label_noise(*digits, seed=0)


def flipped(labels: np.ndarray, share: float) -> np.ndarray:
    rng = np.random.default_rng(7)
    return np.where(rng.random(len(labels)) < share, (labels + rng.integers(1, 10, len(labels))) % 10, labels)


def test_changed_labels_of_digits_are_named_with_their_true_class(digits) -> None:
    images, labels = digits
    wrong = flipped(labels, 0.04)
    noise = label_noise(images, wrong, seed=0)
    truly = np.flatnonzero(wrong != labels)
    assert len(np.intersect1d(noise.named, truly)) >= 0.9 * max(len(noise.named), len(truly))
    right = np.isin(noise.named, truly)
    assert np.mean(noise.likelier[right] == labels[noise.named[right]]) > 0.95
    assert noise.check is not None
    assert noise.check.believable
    assert noise.sentence().startswith(f"doubtful labels: {len(noise.named)} (tried on")


def test_the_check_on_clean_digits_finds_almost_all_it_changed(clean) -> None:
    assert clean.check is not None
    assert clean.check.images == 1797
    assert 60 <= clean.check.planted <= 120
    assert min(clean.check.precision, clean.check.recall) > 0.9
    assert clean.check.roc_auc > 0.99
    assert clean.check.false_alarms < 0.01


def test_labels_changed_for_the_check_never_appear_in_the_list(digits, clean) -> None:
    assert len(clean.named) < 20
    assert np.array_equal(clean.named, clean.positions[np.argsort(-clean.scores, kind="stable")][: len(clean.named)])


def test_images_that_say_nothing_of_their_class_are_not_believed() -> None:
    rng = np.random.default_rng(0)
    noise = label_noise(rng.integers(0, 256, (1200, 1, 8, 8), np.uint8), rng.integers(0, 4, 1200), seed=0)
    assert noise.check is not None
    assert not noise.check.believable
    assert noise.sentence().startswith("cannot tell")


def test_the_same_images_give_the_same_bytes_in_any_order(digits, clean) -> None:
    images, labels = digits
    order = np.random.default_rng(3).permutation(len(labels))
    again = label_noise(images[order], labels[order], seed=0)
    assert np.array_equal(again.scores, clean.scores[order])
    assert (again.threshold, again.check) == (clean.threshold, clean.check)
    assert set(order[again.named]) == set(clean.named)


def test_scores_lie_between_0_and_1_with_six_digits(clean) -> None:
    assert clean.scores.min() >= 0
    assert clean.scores.max() <= 1
    assert np.array_equal(clean.scores, clean.scores.round(6))


def test_copies_do_not_vouch_for_their_own_wrong_label(digits) -> None:
    images, labels = digits
    victim = int(np.flatnonzero(labels == 4)[0])
    copies = np.concatenate([images, np.repeat(images[victim : victim + 1], 30, axis=0)])
    noise = label_noise(copies, np.concatenate([labels, np.full(30, 0)]), seed=0)
    assert noise.scores[-30:].min() > 0.8
    assert set(range(1797, 1827)) <= set(noise.named)
    assert noise.scores[victim] < 0.5


def test_names_of_classes_may_be_any_integers(digits, clean) -> None:
    images, labels = digits
    noise = label_noise(images, labels * 100 - 7, seed=0)
    assert np.array_equal(noise.scores, clean.scores)
    assert np.array_equal(noise.likelier, clean.likelier * 100 - 7)


def test_a_memory_map_gives_the_same(digits, clean, tmp_path) -> None:
    np.save(tmp_path / "images.npy", digits[0])
    assert np.array_equal(label_noise(np.load(tmp_path / "images.npy", mmap_mode="r"), digits[1], seed=0).scores, clean.scores)


def test_of_too_many_images_a_random_part_is_scored_and_positions_say_which(digits, monkeypatch) -> None:
    monkeypatch.setattr("slimline.data.prepare.noise.MOST", 900)
    noise = label_noise(*digits, seed=0)
    assert len(noise.positions) == len(noise.scores) == 900
    assert np.all(np.diff(noise.positions) > 0)
    assert set(noise.named) <= set(noise.positions)
    assert noise.check is not None
    assert noise.check.images == 900


@settings(max_examples=8)
@given(st.integers(2, 40), st.sampled_from([1, 3]), st.sampled_from([8, 9, 31, 33, 100]), st.integers(1, 40), st.booleans(), st.integers(0, 2**32))
def test_odd_sets_never_raise(count, channels, size, classes, constant, seed) -> None:
    rng = np.random.default_rng(seed)
    images = np.full((count, channels, size, size), 255, np.uint8) if constant else rng.integers(0, 256, (count, channels, size, size), np.uint8)
    noise = label_noise(images, rng.integers(0, classes, count), seed=seed)
    assert len(noise.scores) == count
    assert np.all((noise.scores >= 0) & (noise.scores <= 1))
    assert noise.check is None
    assert len(noise.named) == 0
    assert "too few" in noise.sentence()


def test_equal_images_of_large_size_and_two_classes_are_not_judged() -> None:
    noise = label_noise(np.zeros((4, 3, 512, 512), np.uint8), np.array([0, 1, 0, 1]), seed=0)
    assert noise.scores.tolist() == [0, 0, 0, 0]


def test_a_thumbnail_is_the_mean_of_blocks() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 70, 64), np.uint8)
    small = thumbnails(images)
    assert small.shape == (2, 3, 23, 21)
    assert small[1, 2, 4, 5] == np.rint(images[1, 2, 12:15, 15:18].mean())
    assert np.array_equal(thumbnails(images[..., :32, :32]), images[..., :32, :32])


def test_features_do_not_depend_on_brightness_or_contrast_of_the_gradients() -> None:
    image = np.random.default_rng(0).integers(0, 100, (1, 1, 16, 16), np.uint8)
    gradients = [described(part)[0, :288].astype(int) for part in (image, image + 50, image * 2)]
    assert np.abs(gradients[0] - gradients[1]).max() == 0
    assert np.abs(gradients[0] - gradients[2]).max() <= 2


@threadpool_limits.wrap(limits=1, user_api="blas")
def test_shared_sums_give_the_ridge_that_each_fold_alone_would(digits) -> None:
    features, labels = described(digits[0][:300]), digits[1][:300]
    fold = np.arange(300) % FOLDS
    model = OutOfFold(features, fold, labels, 10)
    predictions = np.zeros((300, 10), np.float32)
    for number in range(FOLDS):
        seen = features[fold != number].astype(float)
        weights = np.linalg.solve(seen.T @ seen + model.ridge * np.eye(seen.shape[1]), seen.T @ np.eye(10)[labels[fold != number]])
        predictions[fold == number] = features[fold == number].astype(float) @ weights
    assert np.abs(model.scores(labels)[0] - margin_scores(predictions, labels)[0]).max() < 1e-5


def test_doubt_is_one_half_where_two_classes_are_equally_likely_and_grows_with_the_other() -> None:
    predictions = np.array([[0.5, 0.5], [0.5, 0.5], [0.9, 0.1], [0.1, 0.9]], np.float32)
    scores, rival = margin_scores(predictions, np.array([0, 1, 0, 1]))
    assert scores[0] == scores[1] == 0.5
    assert scores[2] == scores[3] < 0.5
    assert rival.tolist() == [1, 0, 1, 0]


def test_a_frequent_class_gets_no_head_start() -> None:
    predictions = np.array([[0.95, 0.05]] * 8 + [[0.6, 0.4]] * 2, np.float32)
    assert margin_scores(predictions, np.array([0] * 8 + [1] * 2))[0].max() < 0.5


def test_the_best_threshold_parts_what_can_be_parted_and_is_never_below_one_half() -> None:
    changed = np.array([False, False, True, True])
    assert best_threshold(changed, np.array([0.1, 0.7, 0.8, 0.9])) == 0.8
    assert best_threshold(changed, np.array([0.1, 0.2, 0.3, 0.4])) == 0.5


def test_what_is_measured_is_counted() -> None:
    found = measured(np.array([True, True, False, False, False]), np.array([0.9, 0.2, 0.8, 0.1, 0.1]), 0.5)
    assert (found.images, found.planted, found.named, found.found) == (5, 2, 2, 1)
    assert (found.precision, found.recall, found.false_alarms) == (0.5, 0.5, 1 / 3)
    assert not found.believable
