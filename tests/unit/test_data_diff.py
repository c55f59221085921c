"""What changed between two prepared folders is told completely, and chance is not called a drift."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.datasets import load_digits

from slimline.data.diff import SPLITS, as_json, binned, diff, judge, psi, tenths, worst
from slimline.errors import SlimlineError
from slimline.report.difference import as_text, difference_command

Parts = dict[str, tuple[np.ndarray, list[int]]]


def prepared(folder: Path, parts: Parts, classes: list[str]) -> Path:
    """`parts` (images and labels of each split) as the prepare stage writes them."""
    for split, (images, labels) in parts.items():
        (folder / split).mkdir(parents=True)
        np.save(folder / split / "images.npy", images)
        np.save(folder / split / "labels.npy", np.array(labels, np.int64))
    shape = list(parts["train"][0].shape[1:])
    counts = {split: len(labels) for split, (_, labels) in parts.items()}
    values = {
        "name": folder.name,
        "classes": classes,
        "input_shape": shape,
        "counts": counts,
        "mean": [0.0] * shape[0],
        "std": [1.0] * shape[0],
        "digest": "0",
    }
    (folder / "dataset.json").write_text(json.dumps(values))
    return folder


def patterns(numbers: list[int], channels: int = 1, size: int = 4) -> np.ndarray:
    """Images of noise, each decided by its number alone."""
    return np.array([np.random.default_rng(number).integers(0, 256, (channels, size, size), np.uint8) for number in numbers])


def small(
    folder: Path, *, train: list[int], test: list[int], labels: dict[int, int] | None = None, classes: tuple[str, ...] = ("cat", "dog")
) -> Path:
    """Patterns by number; the label is the number's parity unless `labels` says otherwise."""
    label = {number: number % 2 for number in range(1000)} | (labels or {})
    parts = {
        split: (patterns(numbers), [label[n] for n in numbers]) for split, numbers in (("train", train), ("validation", [900, 901]), ("test", test))
    }
    return prepared(folder, parts, list(classes))


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return np.rint(images[order].reshape(-1, 1, 8, 8) * 255 / 16).astype(np.uint8), labels[order].astype(np.int64)


def digit_folder(folder: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    bounds = dict(zip(SPLITS, np.split(np.arange(len(labels)), [len(labels) // 2, len(labels) * 3 // 4]), strict=True))
    parts = {split: (images[part], labels[part].tolist()) for split, part in bounds.items()}
    return prepared(folder, parts, [str(number) for number in range(10)])


def test_a_set_does_not_differ_from_itself(tmp_path, digits) -> None:
    folder = digit_folder(tmp_path / "digits", *digits)
    same = diff(folder, folder)
    assert {entry.psi for entry in same.stability.values()} == {0.0}
    assert set(same.stability) == {"class balance", "pixel values", "brightness", "contrast", "sharpness"}
    assert worst(same) == 0
    assert same.images is not None
    assert (same.images.kept, same.images.moved, same.images.relabelled, same.images.added, same.images.removed) == (1797, 0, 0, 0, 0)


def test_every_image_is_kept_moved_relabelled_added_or_removed(tmp_path) -> None:
    before = small(tmp_path / "before", train=[0, 1, 2, 3, 4, 5], test=[6, 7])
    after = small(tmp_path / "after", train=[0, 1, 2, 8, 9, 6], test=[4, 7, 3], labels={1: 0, 3: 0})
    images = diff(before, after).images
    assert images is not None
    assert (images.kept, images.moved, images.relabelled, images.added, images.removed) == (5, 2, 2, 2, 1)
    assert images.moves == {"train → test": 1, "test → train": 1}
    assert images.relabels == {"dog → cat": 2}


def test_copies_of_an_image_are_counted_one_by_one(tmp_path) -> None:
    before = small(tmp_path / "before", train=[0, 0, 0, 1], test=[2, 3])
    after = small(tmp_path / "after", train=[0, 1], test=[2, 3, 0])
    images = diff(before, after).images
    assert images is not None
    assert (images.kept, images.moved, images.removed, images.added) == (6, 1, 1, 0)


def test_a_new_and_a_lost_class_are_named_and_shift_the_balance(tmp_path) -> None:
    before = small(tmp_path / "before", train=list(range(100)), test=[100, 101])
    after = small(tmp_path / "after", train=list(range(100)), test=[100, 101], classes=("cat", "wolf"))
    found = diff(before, after)
    assert (found.classes_added, found.classes_removed) == (("wolf",), ("dog",))
    assert found.balance["train"] == {"cat": (0.5, 0.5), "dog": (0.5, 0.0), "wolf": (0.0, 0.5)}
    assert found.stability["class balance"].verdict == "large"
    assert found.images is not None
    assert found.images.relabels == {"dog → wolf": 52}


@pytest.mark.parametrize("seed", range(5))
def test_two_random_halves_of_one_set_are_stable(seed, tmp_path, digits) -> None:
    images, labels = digits
    first, second = np.array_split(np.random.default_rng(seed).permutation(len(labels)), 2)
    found = diff(digit_folder(tmp_path / "a", images[first], labels[first]), digit_folder(tmp_path / "b", images[second], labels[second]))
    assert {entry.verdict for entry in found.stability.values()} == {"stable"}


def test_two_small_random_samples_are_stable_although_their_index_is_high(tmp_path, digits) -> None:
    images, labels = digits
    found = diff(digit_folder(tmp_path / "a", images[:60], labels[:60]), digit_folder(tmp_path / "b", images[60:120], labels[60:120]))
    assert max(entry.psi for entry in found.stability.values()) > 0.25
    assert {entry.verdict for entry in found.stability.values()} == {"stable"}
    assert worst(found) == 0


def test_images_a_fifth_darker_are_a_large_drift(tmp_path, digits) -> None:
    images, labels = digits
    darker = (images * 0.8).astype(np.uint8)
    found = diff(digit_folder(tmp_path / "before", images, labels), digit_folder(tmp_path / "after", darker, labels))
    assert {found.stability[name].verdict for name in ("pixel values", "brightness", "contrast")} == {"large"}
    assert found.stability["class balance"].verdict == "stable"
    assert found.mean[1][0] == pytest.approx(found.mean[0][0] * 0.8, abs=0.005)
    assert worst(found) == max(entry.psi for entry in found.stability.values())


def test_a_shift_of_one_classs_share_is_seen_in_the_class_balance_alone(tmp_path, digits) -> None:
    images, labels = digits
    chosen = (labels != 3) | (np.arange(len(labels)) % 10 == 0)
    found = diff(digit_folder(tmp_path / "before", images, labels), digit_folder(tmp_path / "after", images[chosen], labels[chosen]))
    assert found.stability["class balance"].verdict == "shift"
    assert {entry.verdict for name, entry in found.stability.items() if name != "class balance"} == {"stable"}


def test_sets_of_other_sizes_and_channels_are_compared_where_they_can_be(tmp_path, digits) -> None:
    images, labels = digits
    larger = np.repeat(images.repeat(2, axis=2).repeat(2, axis=3), 3, axis=1)
    found = diff(digit_folder(tmp_path / "before", images, labels), digit_folder(tmp_path / "after", larger, labels))
    assert found.images is None
    assert set(found.stability) == {"class balance", "pixel values", "brightness", "contrast"}
    assert {entry.verdict for entry in found.stability.values()} == {"stable"}
    assert (len(found.mean[0]), len(found.mean[1])) == (1, 3)
    assert "cannot be matched" in as_text(found)


def test_mean_and_deviation_are_those_of_the_pixels(tmp_path) -> None:
    folder = small(tmp_path / "one", train=list(range(30)), test=[30, 31])
    pixels = patterns([*range(32), 900, 901]) / 255
    found = diff(folder, folder)
    assert found.mean[0][0] == pytest.approx(pixels.mean())
    assert found.std[0][0] == pytest.approx(pixels.std())


def test_an_image_brighter_than_any_before_is_not_lost_in_a_constant_set() -> None:
    cuts = tenths(np.array([5.0]), np.array([100]))
    assert binned(np.array([4.0, 5.0, 5.0, 6.0]), cuts).tolist() == [1, 2, 1]


def test_the_text_tells_all_and_the_json_has_the_same_numbers(tmp_path, capsys) -> None:
    before, after = small(tmp_path / "before", train=[0, 1, 2, 3], test=[4, 5]), small(tmp_path / "after", train=[0, 1, 2, 7], test=[3, 4, 5])
    found = diff(before, after)
    text = as_text(found)
    assert all(word in text for word in ("Before: 1×4×4", "moves: train → test", "dog", "class balance", "by chance", "brightness"))
    assert max(map(len, text.splitlines())) <= 150
    assert difference_command(before, after, as_program=True, limit=None)
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(as_json(found)))


def test_a_limit_is_passed_by_what_sampling_does_not_explain_alone(tmp_path, digits, capsys) -> None:
    images, labels = digits
    before, after = digit_folder(tmp_path / "before", images, labels), digit_folder(tmp_path / "after", (images * 0.8).astype(np.uint8), labels)
    assert not difference_command(before, after, as_program=False, limit=0.25)
    assert difference_command(before, before, as_program=False, limit=0.25)
    assert difference_command(before, after, as_program=False, limit=100.0)


def test_a_folder_without_prepared_data_is_refused(tmp_path) -> None:
    with pytest.raises(SlimlineError, match="no prepared data"):
        diff(tmp_path, tmp_path)


def test_an_image_costs_columns_and_no_objects(tmp_path) -> None:
    count = 20_000
    images = np.random.default_rng(0).integers(0, 256, (count, 1, 4, 4), np.uint8)
    parts = {split: (images[part], [n % 2 for n in part]) for split, part in zip(SPLITS, np.array_split(np.arange(count), 3), strict=True)}
    folder = prepared(tmp_path / "many", parts, ["a", "b"])
    few = small(tmp_path / "few", train=[0, 1], test=[2, 3])
    diff(few, few)  # imports
    tracemalloc.start()
    found = diff(folder, folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.images is not None
    assert found.images.kept == count
    assert peak < 2 * count * 150  # bytes: of either set 150 MB a million


bins = st.integers(1, 12).flatmap(lambda size: st.tuples(*[arrays(np.int64, size, elements=st.integers(0, 500))] * 2))


@given(bins)
def test_the_index_is_symmetric_never_negative_and_nought_for_equal_counts(pair) -> None:
    before, after = pair
    assert psi(before, after) == pytest.approx(psi(after, before))
    assert psi(before, after) >= 0
    assert psi(before, before) == 0


@given(bins)
def test_a_bin_that_both_leave_empty_changes_nothing(pair) -> None:
    before, after = pair
    assert psi(np.append(before, 0), np.append(after, 0)) == psi(before, after)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=60), st.lists(st.integers(-9, 9), max_size=60))
def test_every_value_falls_into_one_bin_and_equal_values_into_the_same(values, others) -> None:
    cuts = tenths(*np.unique(np.array(values, float), return_counts=True))
    assert binned(np.array(values, float), cuts).sum() == len(values)
    assert binned(np.array(others, float), cuts).sum() == len(others)
    assert np.all(np.diff(cuts) > 0)


@given(st.lists(st.floats(0, 1), min_size=20, max_size=200, unique=True))
def test_bins_of_distinct_values_are_equally_filled(values) -> None:
    filled = binned(np.array(values), tenths(np.sort(values), np.ones(len(values), np.int64)))
    assert len(filled) == 10
    assert filled.max() - filled.min() <= 1


def test_by_chance_alone_the_index_averages_what_is_expected_and_seldom_exceeds_its_bound() -> None:
    draws = np.random.default_rng(0).multinomial(400, [0.1] * 10, size=(2000, 2))
    found = [judge(before, after, (400, 400)) for before, after in draws]
    assert np.mean([entry.psi for entry in found]) == pytest.approx(found[0].expected, rel=0.05)
    assert 0.003 < np.mean([entry.psi > entry.sampling for entry in found]) < 0.02


numbers = st.lists(st.integers(0, 30), min_size=1, max_size=12)


@given(numbers, numbers, numbers, numbers)
def test_images_add_up(tmp_path_factory, train, test, later_train, later_test) -> None:
    folder = tmp_path_factory.mktemp("laws")
    before, after = small(folder / "before", train=train, test=test), small(folder / "after", train=later_train, test=later_test)
    there, back = diff(before, after).images, diff(after, before).images
    assert there is not None
    assert back is not None
    shared = there.kept + there.moved + there.relabelled
    assert shared + there.removed == len(train) + len(test) + 2
    assert shared + there.added == len(later_train) + len(later_test) + 2
    assert (there.kept, there.moved, there.relabelled, there.added, there.removed) == (
        back.kept,
        back.moved,
        back.relabelled,
        back.removed,
        back.added,
    )
    assert sum(there.moves.values()) == there.moved


def test_a_set_without_images_is_refused_by_name(tmp_path) -> None:
    none = {split: (np.zeros((0, 1, 4, 4), np.uint8), []) for split in SPLITS}
    some = {split: (patterns([number]), [0]) for number, split in enumerate(SPLITS)}
    empty, full = prepared(tmp_path / "empty", none, ["a"]), prepared(tmp_path / "full", some, ["a"])
    for pair in ((empty, full), (full, empty)):
        with pytest.raises(SlimlineError, match="empty: no image in it to compare"):
            diff(*pair)
