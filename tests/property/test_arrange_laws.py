"""Laws of splitting: pixels and seed decide, nothing else."""

import random
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from slimline.data.prepare import SPLITS, Prepared, arrange

PICTURES = tiny.pictures(80)
seeds = st.integers(0, 2**32 - 1)
ONE = settings(max_examples=12)


def arranged(pictures, seed: int = 0) -> Prepared:
    return arrange(pictures, size=8, channels=1, validation=0.3, test=0.3, seed=seed)


def places(prepared: Prepared) -> dict[bytes, set[str]]:
    """The splits in which each image stands."""
    where: dict[bytes, set[str]] = {}
    for split in SPLITS:
        for image in prepared.splits[split].images:
            where.setdefault(image.tobytes(), set()).add(split)
    return where


def same(first: Prepared, second: Prepared) -> bool:
    return first.classes == second.classes and all(
        np.array_equal(first.splits[s].images, second.splits[s].images) and np.array_equal(first.splits[s].labels, second.splits[s].labels)
        for s in SPLITS
    )


@ONE
@given(st.randoms(use_true_random=False), seeds)
def test_neither_order_nor_file_names_change_a_byte(order: random.Random, seed: int) -> None:
    shuffled = [replace(picture, origin=f"renamed {n}") for n, picture in enumerate(order.sample(PICTURES, len(PICTURES)))]
    assert same(arranged(PICTURES, seed), arranged(shuffled, seed))


@ONE
@given(st.integers(1, 60), st.integers(1, 1000))
def test_adding_images_moves_no_image_that_was_there(count: int, seed: int) -> None:
    before, after = places(arranged(PICTURES)), places(arranged(PICTURES + tiny.pictures(count, seed=seed)))
    assert all(after[image] == splits for image, splits in before.items())
    assert len(after) == len(before) + count


@ONE
@given(st.lists(st.integers(0, len(PICTURES) - 1), min_size=1, max_size=30), seeds)
def test_equal_images_never_stand_on_two_sides(copies: list[int], seed: int) -> None:
    # Also under another label, as in a set that someone labelled twice.
    doubled = [*PICTURES, *(replace(PICTURES[index], label="class 0") for index in copies)]
    prepared = arranged(doubled, seed)
    assert all(len(splits) == 1 for splits in places(prepared).values())
    assert sum(len(prepared.splits[split].labels) for split in SPLITS) == len(doubled)


@ONE
@given(st.lists(st.integers(0, 39), min_size=1, max_size=10, unique=True))
def test_a_given_test_split_is_kept_and_its_images_leave_the_rest(copied: list[int]) -> None:
    test = tiny.pictures(40, seed=5, split="test")
    rest = [*tiny.pictures(80, seed=6, split="train"), *(replace(test[index], split="train") for index in copied)]
    prepared = arranged([*rest, *test])
    kept = {image.tobytes() for image in prepared.splits["test"].images}
    assert kept == {np.asarray(picture.image)[None].tobytes() for picture in test}
    assert len(prepared.splits["test"].labels) == 40
    assert all(len(splits) == 1 for splits in places(prepared).values())
    assert prepared.dropped_duplicates == len(copied)
    assert sum(len(prepared.splits[split].labels) for split in SPLITS) == 120


@ONE
@given(seeds)
def test_every_image_keeps_its_label(seed: int) -> None:
    labels = {np.asarray(picture.image)[None].tobytes(): picture.label for picture in PICTURES}
    prepared = arranged(PICTURES, seed)
    for split in SPLITS:
        part = prepared.splits[split]
        assert [prepared.classes[label] for label in part.labels] == [labels[image.tobytes()] for image in part.images]


def test_another_seed_gives_another_division() -> None:
    assert places(arranged(PICTURES, 0)) != places(arranged(PICTURES, 1))


def test_shares_are_those_asked_for() -> None:
    many = arrange(tiny.pictures(4000, size=2), size=2, channels=1, validation=0.2, test=0.3, seed=0)
    shares = {split: len(many.splits[split].labels) / 4000 for split in SPLITS}
    assert all(abs(shares[split] - asked) < 0.03 for split, asked in {"train": 0.5, "validation": 0.2, "test": 0.3}.items())
