"""Unlabelled images, and the images on which a student meets its teacher."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from slimline.core.labels import UNKNOWN
from slimline.data import prepared as reading
from slimline.data.prepared import describe, load_split
from slimline.data.shuffled import Mixing, Shuffled
from slimline.data.sources import item as source
from slimline.data.sources.item import Item, Membership
from slimline.data.transfer import transfer_set
from slimline.errors import SlimlineError


def unlabelled(count: int, seed: int = 9) -> list[Item]:
    return [item._replace(belongs=Membership("", "unlabelled")) for item in tiny.items(count, seed=seed, split="unlabelled")]


@pytest.fixture
def made() -> Iterator[tiny.Arrays]:
    with tiny.prepared([*tiny.items(90, classes=3), *unlabelled(20)]) as arrays:
        yield arrays


def test_both_sides_of_the_prepared_data_call_them_the_same() -> None:
    assert reading.UNLABELLED == source.UNLABELLED
    assert source.NO_CLASS == UNKNOWN


def test_unlabelled_images_are_a_split_of_their_own_that_changes_nothing_else(made: tiny.Arrays) -> None:
    with tiny.prepared(tiny.items(90, classes=3)) as without:
        assert {name: made.files()[name] for name in without.files() if name != "dataset.json"} == {
            name: content for name, content in without.files().items() if name != "dataset.json"
        }
        ours, theirs = describe(made.folder), describe(without.folder)
    assert (ours.classes, ours.mean, ours.std) == (theirs.classes, theirs.mean, theirs.std)
    assert ours.digest != theirs.digest
    assert ours.counts == {**theirs.counts, "unlabelled": 20}
    split = load_split(made.folder, "unlabelled")
    assert split.labels.tolist() == [UNKNOWN] * 20
    assert {image.tobytes() for image in made.images("unlabelled")} == {item.content[None].tobytes() for item in unlabelled(20)}


def test_their_order_is_not_that_of_the_source() -> None:
    forwards, backwards = [*tiny.items(90, classes=3), *unlabelled(20)], [*tiny.items(90, classes=3), *unlabelled(20)[::-1]]
    with tiny.prepared(forwards) as one, tiny.prepared(backwards) as other:
        assert np.array_equal(one.images("unlabelled"), other.images("unlabelled"))


def test_an_unlabelled_copy_of_a_labelled_image_is_dropped_whatever_its_split() -> None:
    labelled = tiny.items(90, classes=3)
    copies = [item._replace(belongs=Membership("", "unlabelled"), origin=f"copy {n}") for n, item in enumerate(labelled)]
    with tiny.prepared([*copies, *labelled, *unlabelled(5)]) as made:
        assert len(made.images("unlabelled")) == 5
        assert made.prepared.report["images"]["dropped_unlabelled_duplicates"] == 90
        assert made.prepared.report["images"]["unlabelled"] == 5
        assert len(made.images("train")) + len(made.images("validation")) + len(made.images("test")) == 90
    with tiny.prepared([*copies, *labelled], duplicates="keep") as made:
        assert len(made.images("unlabelled")) == 90


def test_the_list_of_files_names_them_without_a_class(made: tiny.Arrays, tmp_path: Path) -> None:
    made.prepared.write_files(tmp_path / "files.csv")
    rows = list(csv.DictReader((tmp_path / "files.csv").open()))
    own = [row for row in rows if row["split"] == "unlabelled"]
    assert {row["class"] for row in own} == {""}
    assert {row["file"] for row in own} == {item.origin for item in unlabelled(20)}
    assert len(rows) == 110


def test_a_source_of_unlabelled_images_alone_is_no_task() -> None:
    with pytest.raises(SlimlineError, match="found 0 class"), tiny.prepared(unlabelled(20)):
        pass


def test_the_transfer_set_is_the_training_split_where_nothing_else_is_asked(made: tiny.Arrays) -> None:
    chosen, train = transfer_set(made.folder, (), unlabelled=False), load_split(made.folder, "train")
    assert torch.equal(chosen.pixels, train.pixels)
    assert torch.equal(chosen.labels, train.labels)


def test_classes_are_left_out_and_unlabelled_images_follow(made: tiny.Arrays) -> None:
    train = load_split(made.folder, "train")
    chosen = transfer_set(made.folder, ("class 1",), unlabelled=True)
    kept = train.labels != 1
    assert 0 < int(kept.sum()) < len(train)
    assert torch.equal(chosen.pixels, torch.cat([train.pixels[kept], load_split(made.folder, "unlabelled").pixels]))
    assert torch.equal(chosen.labels, torch.cat([train.labels[kept], torch.full((20,), UNKNOWN)]))


def test_a_class_may_be_called_by_a_number() -> None:
    with tiny.prepared([item._replace(belongs=Membership(str(n % 3))) for n, item in enumerate(tiny.items(90))]) as made:
        assert set(transfer_set(made.folder, (2,), unlabelled=False).labels.tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("without", "further", "told"),
    [
        (("class 9",), False, r"distill\.transfer\.without: the data have no class 'class 9'; there are class 0, class 1, class 2"),
        (("class 0", "class 1", "class 2"), False, r"distill\.transfer\.without names every class"),
        ((), True, r"distill\.transfer\.unlabelled is true, but the source brought no unlabelled images"),
    ],
)
def test_a_transfer_set_that_cannot_be_is_refused(without: tuple[str, ...], further: bool, told: str) -> None:
    with tiny.prepared(tiny.items(90, classes=3)) as made, pytest.raises(SlimlineError, match=told):
        transfer_set(made.folder, without, unlabelled=further)


def test_mixing_leaves_unlabelled_images_without_a_class(made: tiny.Arrays) -> None:
    images = transfer_set(made.folder, (), unlabelled=True)
    for batch in Shuffled(images, 16, 0, mix=Mixing({"name": "mixup", "alpha": 1.0}, 3)):
        sums = batch.labels.sum(1)
        assert ((sums == 0) | (sums - 1).abs().lt(1e-6)).all()
        assert not sums[images.labels[batch.samples] == UNKNOWN].any()


def test_labels_in_the_unlabelled_split_are_no_work_of_ours(made: tiny.Arrays) -> None:
    np.save(made.folder / "unlabelled" / "labels.npy", np.zeros(20, np.int64))
    with pytest.raises(SlimlineError, match="images of known classes"):
        load_split(made.folder, "unlabelled")
