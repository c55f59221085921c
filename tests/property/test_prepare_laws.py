"""Laws of dividing: decoded content and seed decide, nothing else."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from slimline.data.prepare.divide import NONE, SPLITS, divide
from slimline.data.sources.item import Item, Membership

ITEMS = tiny.items(80)
seeds = st.integers(0, 2**32 - 1)
ONE = settings(max_examples=12)


def label(item: Item) -> str:
    assert isinstance(item.belongs, Membership)
    return item.belongs.label


@ONE
@given(st.randoms(use_true_random=False), seeds)
def test_neither_order_nor_file_names_change_a_byte(order: random.Random, seed: int) -> None:
    shuffled = [item._replace(origin=f"renamed {n}") for n, item in enumerate(order.sample(ITEMS, len(ITEMS)))]
    with tiny.prepared(ITEMS, seed=seed) as one, tiny.prepared(shuffled, seed=seed) as other:
        assert one.files() == other.files()


@ONE
@given(st.integers(1, 60), st.integers(1, 1000))
def test_adding_images_moves_no_image_that_was_there(count: int, seed: int) -> None:
    with tiny.prepared(ITEMS) as one, tiny.prepared([*ITEMS, *tiny.items(count, seed=seed)]) as other:
        before, after = one.places(), other.places()
    assert all(after[image] == splits for image, splits in before.items())
    assert len(after) == len(before) + count


@ONE
@given(st.lists(st.integers(0, len(ITEMS) - 1), min_size=1, max_size=30), seeds)
def test_equal_images_never_stand_on_two_sides(copies: list[int], seed: int) -> None:
    # Also under another label, as in a set that someone labelled twice.
    doubled = [*ITEMS, *(ITEMS[index]._replace(belongs=Membership("class 0")) for index in copies)]
    with tiny.prepared(doubled, seed=seed) as made:
        assert all(len(splits) == 1 for splits in made.places().values())
        assert sum(len(made.labels(split)) for split in SPLITS) == len(doubled)
        assert made.prepared.report["duplicates"]["copies"] == len(copies)
        contradicted = {index for index in copies if label(ITEMS[index]) != "class 0"}
        assert made.prepared.report["duplicates"]["contradictory"] == len(contradicted)


@ONE
@given(st.integers(2, 5), seeds)
def test_pictures_that_are_equal_only_once_resized_do_not_straddle_splits_either(enlarged: int, seed: int) -> None:
    """Enlarged by whole pixels they decode to other content, and average back to the very same."""
    twins = [item._replace(content=np.full((8, 8), n, np.uint8)) for n, item in enumerate(ITEMS)]
    larger = [item._replace(content=item.content.repeat(enlarged, 0).repeat(enlarged, 1)) for item in twins]
    with tiny.prepared([*twins, *larger], seed=seed) as made:
        assert all(len(splits) == 1 for splits in made.places().values())
        images = made.prepared.report["images"]
        assert images["dropped_duplicates"] > 0
        assert images["dropped_duplicates"] + sum(images[split] for split in SPLITS) == 160
    with tiny.prepared([*twins, *larger], seed=seed, duplicates="keep") as kept:
        assert sum(len(kept.labels(split)) for split in SPLITS) == 160
        assert kept.prepared.report["duplicates"]["across_splits"] == images["dropped_duplicates"]


@ONE
@given(st.lists(st.integers(0, 39), min_size=1, max_size=10, unique=True), st.sampled_from(["test", "validation"]))
def test_a_given_split_is_kept_and_its_images_leave_training(copied: list[int], split: str) -> None:
    given_split = tiny.items(40, seed=5, split=split)
    rest = tiny.items(80, seed=6, split="train")
    copies = [given_split[index]._replace(belongs=Membership(label(given_split[index]), "train")) for index in copied]
    with tiny.prepared([*rest, *copies, *given_split]) as made:
        assert {image.tobytes() for image in made.images(split)} == {item.content.tobytes() for item in given_split}
        assert len(made.labels(split)) == 40
        assert all(len(splits) == 1 for splits in made.places().values())
        assert made.prepared.report["images"]["dropped_duplicates"] == len(copied)
        assert sum(len(made.labels(name)) for name in SPLITS) == 120


@ONE
@given(seeds)
def test_every_image_keeps_its_label(seed: int) -> None:
    labels = {item.content.tobytes(): label(item) for item in ITEMS}
    with tiny.prepared(ITEMS, seed=seed) as made:
        for split in SPLITS:
            assert made.labels(split) == [labels[image.tobytes()] for image in made.images(split)]


@ONE
@given(st.sampled_from([8, 12, 16, 40]), st.sampled_from(["fit", "pad", "crop"]), st.sampled_from([1, 3]), seeds)
def test_an_image_stays_in_its_split_whatever_it_is_resized_to(size: int, resize: str, channels: int, seed: int) -> None:
    items = [item._replace(origin=str(n)) for n, item in enumerate(tiny.items(60, size=16))]
    with tiny.prepared(items, seed=seed) as one, tiny.prepared(items, seed=seed, size=size, resize=resize, channels=channels) as other:
        for made in (one, other):
            made.prepared.write_files(made.folder / "files.csv")
        assert one.files()["files.csv"] == other.files()["files.csv"]


def test_another_seed_gives_another_division() -> None:
    with tiny.prepared(ITEMS, seed=0) as one, tiny.prepared(ITEMS, seed=1) as other:
        assert one.places() != other.places()


@ONE
@given(seeds, st.floats(0.05, 0.45), st.floats(0.05, 0.45), st.integers(100, 3000))
def test_each_class_is_divided_as_asked_within_what_chance_allows(seed: int, validation: float, test: float, count: int) -> None:
    random_digests = np.random.default_rng(seed).bytes(32 * count)
    digest = np.frombuffer(random_digests, "S32")
    split = divide(digest, digest, np.zeros(count, "S32"), np.full(count, NONE), seed=seed, validation=validation, test=test, drop=True).split
    for name, share in (("validation", validation), ("test", test), ("train", 1 - validation - test)):
        obtained = float((split == SPLITS.index(name)).mean())
        assert abs(obtained - share) < 4.5 * np.sqrt(share * (1 - share) / count)


@pytest.mark.parametrize("workers", [2, 3])
def test_the_number_of_workers_changes_no_byte(workers: int) -> None:
    items = tiny.items(700)
    with tiny.prepared(items) as one, tiny.prepared(items, workers=workers) as other:
        assert one.files() == other.files()


@ONE
@given(st.integers(1, 30), seeds)
def test_images_of_one_group_are_never_divided_and_adding_to_it_moves_none(size: int, seed: int) -> None:
    grouped = [item._replace(group=f"patient {n // size}") if n % 3 else item for n, item in enumerate(tiny.items(240))]
    more = [item._replace(group="patient 0") for item in tiny.items(5, seed=3)]
    with (
        tiny.prepared(grouped, seed=seed, validation=0.4, test=0.4) as made,
        tiny.prepared([*grouped, *more], seed=seed, validation=0.4, test=0.4) as later,
    ):
        after = later.places()
        assert all(after[image] == splits for image, splits in made.places().items())
        for group in {item.group for item in grouped} - {None}:
            members = [item.content.tobytes() for item in grouped if item.group == group]
            assert len(set.union(*(after[image] for image in members))) == 1
