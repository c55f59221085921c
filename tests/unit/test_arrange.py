"""Prepared arrays: refusals, what is written, what is read again; the laws of splitting are in tests/property/test_arrange_laws.py."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tiny
from slimline.data.prepare import SPLITS, Prepared, Split, arrange, pixels_of, write
from slimline.data.prepared import describe, load_split
from slimline.errors import SlimlineError

HALVES = {"size": 8, "channels": 1, "validation": 0.3, "test": 0.3, "seed": 0}


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return arrange(tiny.pictures(90, classes=3), **HALVES)


@pytest.fixture
def folder(prepared, tmp_path) -> Path:
    write(prepared, tmp_path, name="noise")
    return tmp_path


def test_one_class_is_no_task_and_is_refused() -> None:
    with pytest.raises(SlimlineError, match=r"found 1 class \(class 0\)"):
        arrange(tiny.pictures(20, classes=1), **HALVES)


def test_a_class_that_is_missing_in_a_split_is_refused_with_both_names() -> None:
    lonely = replace(tiny.pictures(1, seed=9)[0], label="rare")
    with pytest.raises(SlimlineError, match=r"the (train|validation|test) split has no image of class rare"):
        arrange([*tiny.pictures(60), lonely], **HALVES)


def test_channels_other_than_one_and_three_are_refused() -> None:
    with pytest.raises(SlimlineError, match=r"data.channels: found 2"):
        arrange(tiny.pictures(60), **{**HALVES, "channels": 2})


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(8, 8), (5, 13), (40, 20)])
def test_an_image_of_any_mode_and_size_becomes_bytes_of_one_shape(mode, channels, size) -> None:
    pixels = pixels_of(Image.new(mode, size), 8, channels)
    assert (pixels.shape, pixels.dtype) == ((channels, 8, 8), np.uint8)


def test_colours_and_rows_keep_their_places() -> None:
    rows = np.zeros((8, 8, 3), np.uint8)
    rows[2, 5] = (10, 20, 30)
    pixels = pixels_of(Image.fromarray(rows), 8, 3)
    assert pixels[:, 2, 5].tolist() == [10, 20, 30]
    assert pixels.sum() == 60


def test_the_written_description_tells_mean_and_deviation_of_the_training_pixels(prepared, tmp_path) -> None:
    description = write(prepared, tmp_path, name="noise")
    train = prepared.splits["train"].images / 255
    assert np.allclose(description["mean"], train.mean((0, 2, 3)))
    assert np.allclose(description["std"], train.std((0, 2, 3)))
    assert description["counts"] == {split: len(prepared.splits[split].labels) for split in SPLITS}


def test_mean_and_deviation_are_those_of_each_channel(tmp_path) -> None:
    colours = np.random.default_rng(0).integers(0, [256, 100, 10], (60, 8, 8, 3), dtype=np.uint8)
    coloured = [replace(p, image=Image.fromarray(c)) for p, c in zip(tiny.pictures(60), colours, strict=True)]
    made = arrange(coloured, **{**HALVES, "channels": 3})
    description = write(made, tmp_path, name="noise")
    assert np.allclose(description["mean"], (made.splits["train"].images / 255).mean((0, 2, 3)))
    assert np.allclose(description["std"], (made.splits["train"].images / 255).std((0, 2, 3)))


def test_what_was_written_is_read_again(prepared, folder) -> None:
    description = describe(folder)
    assert description.classes == prepared.classes
    assert description.input_shape == (1, 8, 8)
    for split in SPLITS:
        images = load_split(folder, split)
        assert np.array_equal(images.pixels.numpy(), prepared.splits[split].images)
        assert np.array_equal(images.labels.numpy(), prepared.splits[split].labels)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("part", ["images", "labels"])
def test_the_digest_changes_with_any_pixel_and_any_label(split, part, prepared, folder, tmp_path_factory) -> None:
    array = getattr(prepared.splits[split], part).copy()
    array.reshape(-1)[-1] += 1
    changed = replace(prepared, splits={**prepared.splits, split: replace(prepared.splits[split], **{part: array})})
    other = write(changed, tmp_path_factory.mktemp("changed"), name="noise")
    assert other["digest"] != describe(folder).digest


def test_the_digest_changes_with_the_names_of_classes_and_not_with_the_name_of_the_set(prepared, folder, tmp_path_factory) -> None:
    renamed = replace(prepared, classes=("a", "b", "c"))
    assert write(renamed, tmp_path_factory.mktemp("renamed"), name="noise")["digest"] != describe(folder).digest
    assert write(prepared, tmp_path_factory.mktemp("same"), name="another")["digest"] == describe(folder).digest


def test_the_same_data_gives_the_same_bytes_of_every_file(prepared, folder, tmp_path_factory) -> None:
    again = tmp_path_factory.mktemp("again")
    write(prepared, again, name="noise")
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert len(files) == 7
    assert all((folder / file).read_bytes() == (again / file).read_bytes() for file in files)


def test_a_split_of_one_colour_has_a_deviation_that_can_be_divided_by(tmp_path) -> None:
    blank = Split(np.zeros((4, 1, 8, 8), np.uint8), np.array([0, 1, 0, 1]))
    assert write(Prepared(dict.fromkeys(SPLITS, blank), ("a", "b"), 0), tmp_path, name="blank")["std"][0] > 0


@pytest.mark.parametrize("file", ["images.npy", "labels.npy"])
@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_a_truncated_array_is_refused_with_its_folder(file, length, folder) -> None:
    place = folder / "train" / file
    place.write_bytes(place.read_bytes()[:length])
    with pytest.raises(SlimlineError, match=f"{folder / 'train'}: damaged arrays"):
        load_split(folder, "train")


def test_an_array_that_needs_pickle_is_refused(folder) -> None:
    np.save(folder / "train" / "labels.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(SlimlineError, match="damaged arrays"):
        load_split(folder, "train")


def test_missing_arrays_and_a_missing_description_name_the_stage_to_run(tmp_path) -> None:
    with pytest.raises(SlimlineError, match="run the prepare stage"):
        load_split(tmp_path, "train")
    with pytest.raises(SlimlineError, match="run the prepare stage"):
        describe(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "null", json.dumps({"name": "x"}), json.dumps({"classes": 3}), "\xff"])
def test_a_foreign_description_is_refused_with_its_path(content, folder) -> None:
    (folder / "dataset.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(SlimlineError, match=r"dataset.json: no description of prepared data"):
        describe(folder)


def test_arrays_that_do_not_fit_together_are_refused(folder) -> None:
    labels = np.load(folder / "train" / "labels.npy")
    np.save(folder / "train" / "labels.npy", labels[:-1])
    with pytest.raises(SlimlineError, match="do not fit together"):
        load_split(folder, "train")


def test_an_image_is_turned_upright_as_its_exif_tag_says() -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    sideways, exif = Image.fromarray(np.rot90(pixels)), Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    stream = io.BytesIO()
    sideways.save(stream, "PNG", exif=exif)
    assert np.array_equal(pixels_of(Image.open(stream), 8, 1)[0], pixels)


def test_sixteen_bits_are_scaled_and_not_cut_off() -> None:
    ramp = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)
    assert np.array_equal(pixels_of(Image.fromarray(ramp), 8, 1)[0], np.rint(ramp / 257).astype(np.uint8))
