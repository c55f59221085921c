import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slimline.data.sources import SOURCES
from slimline.data.sources.item import Item, Membership
from slimline.errors import SlimlineError
from slimline.registry import build

GREY = np.random.default_rng(0).integers(0, 256, (6, 5, 7), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (6, 5, 7, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def items(root: Path) -> list[Item]:
    return list(build(SOURCES, {"name": "arrays", "path": "data.npz"}, root))


def read(root: Path, save: Any = np.savez_compressed, **arrays: Any) -> list[Item]:
    save(root / "data.npz", **arrays)
    return items(root)


def refusal(root: Path, **arrays: Any) -> str:
    with pytest.raises(SlimlineError) as error:
        read(root, **arrays) if arrays else items(root)
    assert "\n" not in str(error.value)
    assert "data.npz" in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_images_and_labels_are_given_as_they_were_saved(save, tmp_path) -> None:
    found = read(tmp_path, save, images=GREY, labels=LABELS)
    assert np.array_equal(np.stack([item.content for item in found]), GREY)
    assert [item.belongs for item in found] == [Membership(str(label)) for label in LABELS]
    assert [item.origin for item in found] == [f"images[{index}]" for index in range(6)]
    assert found[-1].share == 1


@pytest.mark.parametrize("names", ["x_{},y_{}", "{}_images,{}_labels"])
def test_names_of_keras_and_medmnist_tell_the_split(names, tmp_path) -> None:
    arrays = {}
    for split, label in (("train", 3), ("val", 4), ("test", 5)):
        images, labels = names.format(split, split).split(",")
        arrays |= {images: GREY[:2], labels: np.array([[label], [label]], np.uint8)}
    found = read(tmp_path, **arrays)
    assert [item.belongs for item in found[::2]] == [Membership("3", "train"), Membership("4", "validation"), Membership("5", "test")]
    assert [item.share for item in found] == [(n + 1) / 6 for n in range(6)]


@pytest.mark.parametrize(
    "images",
    [COLOUR, COLOUR.transpose(0, 3, 1, 2), np.ascontiguousarray(COLOUR.transpose(0, 3, 1, 2)), COLOUR.astype(">i4"), COLOUR.astype(np.uint64)],
)
def test_channels_first_or_last_and_any_integers_give_the_same_pixels(images, tmp_path) -> None:
    found = read(tmp_path, images=np.ascontiguousarray(images), labels=LABELS)
    assert np.array_equal(np.stack([item.content for item in found]), COLOUR)
    assert all(item.content.dtype == np.uint8 for item in found)


@pytest.mark.parametrize("images", [GREY[..., None], GREY[:, None]])
def test_one_channel_is_grey(images, tmp_path) -> None:
    assert np.array_equal(np.stack([item.content for item in read(tmp_path, images=images, labels=LABELS)]), GREY)


def test_text_labels_are_names_and_an_array_of_classes_names_integers(tmp_path) -> None:
    names = np.array(["cat", "dog", "élan"])
    for arrays in ({"labels": names[LABELS]}, {"labels": LABELS, "classes": names}, {"labels": names[LABELS], "classes": names}):
        assert [item.belongs.label for item in read(tmp_path, images=GREY, **arrays)] == ["cat", "dog", "élan"] * 2


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no such arrays": ({"pictures": GREY, "labels": LABELS}, "found the arrays labels, pictures"),
    "no labels": ({"x_train": GREY}, "holds no array y_train"),
    "too few labels": ({"images": GREY, "labels": LABELS[:5]}, "images holds 6 images and its labels 5"),
    "fractions": ({"images": GREY / 255, "labels": LABELS}, "images is of type float64"),
    "values above 255": ({"images": GREY.astype(int) + 9, "labels": LABELS}, "bring them to 0 to 255"),
    "values below 0": ({"images": GREY.astype(int) - 9, "labels": LABELS}, "bring them to 0 to 255"),
    "objects": ({"images": np.array([{}], object), "labels": LABELS}, "a pickle"),
    "labels as objects": ({"images": GREY, "labels": LABELS.astype(object)}, "labels holds Python objects, a pickle"),
    "two channels": ({"images": COLOUR[..., :2], "labels": LABELS}, "the shape (6, 5, 7, 2) is none of images"),
    "two readings": ({"images": np.zeros((6, 3, 5, 3), np.uint8), "labels": LABELS}, "could be channels first or last"),
    "vectors": ({"images": GREY.reshape(6, -1), "labels": LABELS}, "the shape (6, 35) is none of images"),
    "no pixels": ({"images": GREY[:, :0], "labels": LABELS}, "rows of 0 bytes"),
    "Fortran's order": ({"images": np.asfortranarray(GREY), "labels": LABELS}, "np.ascontiguousarray(images)"),
    "one-hot labels": ({"images": GREY, "labels": np.eye(3, dtype=int)[LABELS]}, "labels has the shape (6, 3)"),
    "labels of fractions": ({"images": GREY, "labels": LABELS / 1}, "labels are of type float64"),
    "a label without a class": ({"images": GREY, "labels": LABELS, "classes": ["a", "b"]}, "labels reach from 0 to 2, but there are 2 classes"),
    "a negative label": ({"images": GREY, "labels": LABELS - 1, "classes": ["a", "b", "c"]}, "labels reach from -1 to 1"),
    "a class twice": ({"images": GREY, "labels": LABELS, "classes": ["a", "b", "a"]}, "two classes have one name"),
    "an empty label": ({"images": GREY, "labels": np.array(["", "a", "b"] * 2)}, "'' is no name of a class"),
    "an unknown name": ({"images": GREY, "labels": np.array(["c", "a", "b"] * 2), "classes": ["a", "b"]}, "'c' is no name of a class"),
    "classes as numbers": ({"images": GREY, "labels": LABELS, "classes": np.arange(3)}, "classes is of type int64"),
}


@pytest.mark.parametrize("kind", BAD)
def test_other_arrays_are_refused_by_name(kind, tmp_path) -> None:
    arrays, message = BAD[kind]
    assert message in refusal(tmp_path, **arrays)


@pytest.mark.parametrize("content", [b"", b"<!doctype html>", b"PK\x03\x04 and no more"])
def test_a_file_that_is_no_npz_is_refused(content, tmp_path) -> None:
    (tmp_path / "data.npz").write_bytes(content)
    assert "no readable .npz file" in refusal(tmp_path)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_file_cut_off_is_refused(share, tmp_path) -> None:
    read(tmp_path, images=GREY, labels=LABELS)
    content = (tmp_path / "data.npz").read_bytes()
    (tmp_path / "data.npz").write_bytes(content[: int(len(content) * share)])
    assert "no readable .npz file" in refusal(tmp_path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_byte_among_the_pixels_is_noticed(save, tmp_path) -> None:
    read(tmp_path, save, images=GREY, labels=LABELS)
    content = bytearray((tmp_path / "data.npz").read_bytes())
    content[250] ^= 0x55
    (tmp_path / "data.npz").write_bytes(content)
    refusal(tmp_path)


def test_an_array_of_another_length_than_its_header_tells_is_refused(tmp_path) -> None:
    read(tmp_path, np.savez, images=GREY, labels=LABELS)
    with zipfile.ZipFile(tmp_path / "data.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for change, message in ((lambda data: data[:-9], "ends after 5 of 6"), (lambda data: data + b"x", "goes on after the 6 entries")):
        with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
            archive.writestr("images.npy", change(members["images.npy"]))
            archive.writestr("labels.npy", members["labels.npy"])
        assert message in refusal(tmp_path)


def test_a_path_that_does_not_exist_is_refused_with_its_key(tmp_path) -> None:
    assert "data.source.path: 'data.npz' is no file" in refusal(tmp_path)


def test_memory_stays_small_whatever_the_file_holds(tmp_path) -> None:
    np.savez_compressed(tmp_path / "data.npz", images=np.zeros((400, 256, 256, 3), np.uint8), labels=np.arange(400))
    tracemalloc.start()
    assert sum(1 for _ in build(SOURCES, {"name": "arrays", "path": "data.npz"}, tmp_path)) == 400
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 * 2**20  # the images are 75 MiB
