import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from slimline.data.sources import SOURCES
from slimline.data.sources.item import Item, Membership
from slimline.errors import SlimlineError
from slimline.registry import build

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 5, 6), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2, 9], np.uint8)


def encoded(array: np.ndarray) -> bytes:
    return struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


def put(folder: Path, name: str, content: bytes) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)


def folder_of(root: Path, *, ending: str = "-idx{}-ubyte", prefix: str = "train") -> Path:
    put(root / "mnist", f"{prefix}-images{ending.format(3)}", encoded(IMAGES))
    put(root / "mnist", f"{prefix}-labels{ending.format(1)}", encoded(LABELS))
    return root / "mnist"


def read(root: Path, **parameters: list[str]) -> list[Item]:
    return list(build(SOURCES, {"name": "idx", "path": "mnist", **parameters}, root))


def refusal(root: Path, **parameters: list[str]) -> str:
    with pytest.raises(SlimlineError) as error:
        read(root, **parameters)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("ending", ["-idx{}-ubyte", "-idx{}-ubyte.gz", ".idx{}-ubyte", ".idx{}-ubyte.gz"])
@pytest.mark.parametrize(("prefix", "split"), [("train", "train"), ("t10k", "test")])
def test_every_spelling_gives_the_same_images_and_the_split(ending, prefix, split, tmp_path) -> None:
    folder_of(tmp_path, ending=ending, prefix=prefix)
    items = read(tmp_path)
    assert np.array_equal(np.stack([item.content for item in items]), IMAGES)
    assert [item.belongs for item in items] == [Membership(str(label), split) for label in LABELS]
    assert items[0].origin == f"{prefix}-images{ending.format(3)}[0]"


def test_both_splits_are_given_one_after_the_other(tmp_path) -> None:
    folder_of(tmp_path)
    folder_of(tmp_path, prefix="t10k", ending="-idx{}-ubyte.gz")
    items = read(tmp_path)
    assert [item.belongs.split for item in items] == ["train"] * 7 + ["test"] * 7
    assert [item.share for item in items] == [(n + 1) / 14 for n in range(14)]


def test_a_plain_file_goes_before_a_packed_one_beside_it(tmp_path) -> None:
    folder = folder_of(tmp_path)
    put(folder, "train-images-idx3-ubyte.gz", b"never opened")
    assert len(read(tmp_path)) == 7


def test_classes_are_called_as_the_parameter_says(tmp_path) -> None:
    folder_of(tmp_path)
    assert read(tmp_path, classes=list("abcdefghij"))[-1].belongs.label == "j"
    assert "labels reach from 0 to 9, but there are 3 classes" in refusal(tmp_path, classes=["a", "b", "c"])


def test_a_folder_without_such_files_is_refused(tmp_path) -> None:
    assert "data.source.path: 'mnist' is no folder" in refusal(tmp_path)
    put(tmp_path / "mnist", "notes.txt", b"")
    assert "no MNIST file found" in refusal(tmp_path)


@pytest.mark.parametrize("gone", ["images-idx3", "labels-idx1"])
def test_images_without_labels_and_labels_without_images_are_refused(gone, tmp_path) -> None:
    (folder_of(tmp_path) / f"train-{gone}-ubyte").unlink()
    assert "lies alone; put the train" in refusal(tmp_path)


BAD = {
    "another magic": ("images", encoded(LABELS), "begins with 0x00000801, not 0x00000803"),
    "HTML": ("labels", b"<!doctype html>", "begins with 0x3c21646f, not 0x00000801"),
    "nothing": ("labels", b"", "begins with 0x, not"),
    "half a header": ("images", encoded(IMAGES)[:9], "ends within its header"),
    "too few images": ("images", encoded(IMAGES[:6]), "holds 6 images, and its labels' file 7"),
    "truncated": ("images", encoded(IMAGES)[:-1], "ends after 6 of 7 entries"),
    "labels truncated": ("labels", encoded(LABELS)[:-1], "ends after 6 of 7 entries"),
    "too long": ("images", encoded(IMAGES) + b"x", "goes on after the 7 entries"),
    "impossible size": ("images", struct.pack(">IIII", 0x803, 7, 2**32 - 1, 2**32 - 1), "its header tells of rows of"),
    "no pixels": ("images", struct.pack(">IIII", 0x803, 7, 0, 5), "its header tells of rows of 0 bytes"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_bad_file_is_refused_by_name(kind, suffix, tmp_path) -> None:
    which, content, message = BAD[kind]
    put(folder_of(tmp_path, ending="-idx{}-ubyte" + suffix), name := f"train-{which}-idx{3 if which == 'images' else 1}-ubyte{suffix}", content)
    assert message in refusal(tmp_path)
    assert name in refusal(tmp_path)


@pytest.mark.parametrize("content", [gzip.compress(encoded(IMAGES))[:-20], gzip.compress(encoded(IMAGES))[:-1], b"no gzip at all"])
def test_a_damaged_gzip_file_is_refused_by_name(content, tmp_path) -> None:
    (folder_of(tmp_path, ending="-idx{}-ubyte.gz") / "train-images-idx3-ubyte.gz").write_bytes(content)
    assert "train-images-idx3-ubyte.gz: it cannot be read" in refusal(tmp_path)
