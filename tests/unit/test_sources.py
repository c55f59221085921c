"""Sources: each gives pictures; files that are none are refused by name."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tiny
from slimline.data.prepare import Prepared, arrange
from slimline.data.sources import SOURCES
from slimline.data.sources.picture import Picture
from slimline.errors import SlimlineError
from slimline.registry import build

IMAGES = {"name": "images", "path": "photos"}
FOLDERS = {"images": IMAGES, "digits": {"name": "digits", "path": "anything"}}
"""A spec for each source; `photos` holds what `photos` below makes."""


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder of forty PNG images in two classes, and the same as archives."""
    root = tmp_path_factory.mktemp("sources")
    for number, picture in enumerate(tiny.pictures(80)):
        place = root / "photos" / picture.label / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        picture.image.save(place)
    (root / "photos" / "class 0" / "notes.txt").write_text("no image, and not called one")
    (root / "photos" / "class 0" / ".hidden.png").write_text("neither")
    for suffix, mode in {"tar": "w", "tar.gz": "w:gz", "tar.xz": "w:xz", "tar.bz2": "w:bz2"}.items():
        with tarfile.open(root / f"photos.{suffix}", mode) as archive:  # type: ignore[call-overload]
            archive.add(root / "photos", arcname=".")
    return root


def prepared(root: Path, path: str) -> Prepared:
    pictures = build(SOURCES, {"name": "images", "path": path}, root)
    return arrange(pictures, size=8, channels=1, validation=0.3, test=0.3, seed=0)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_source_gives_labelled_pictures_of_at_least_two_classes(name, root) -> None:
    pictures = list(build(SOURCES, FOLDERS.get(name, {"name": name}), root))
    assert all(isinstance(picture, Picture) for picture in pictures)
    assert all(picture.split in ("train", "test", None) and picture.origin for picture in pictures)
    assert all(picture.image.width >= 1 and picture.image.height >= 1 for picture in pictures)
    assert len({picture.label for picture in pictures}) >= 2


def test_the_digits_are_1797_images_of_ten_classes_over_the_full_range_of_grey(root) -> None:
    pictures = list(build(SOURCES, FOLDERS["digits"], root))
    assert len(pictures) == 1797
    assert {picture.label for picture in pictures} == set("0123456789")
    levels = np.unique(np.stack([np.asarray(picture.image) for picture in pictures]))
    assert (levels.min(), levels.max(), len(levels)) == (0, 255, 17)


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.xz", "tar.bz2"])
def test_an_archive_gives_the_very_same_arrays_as_the_folder_it_was_made_of(suffix, root) -> None:
    folder, archive = prepared(root, "photos"), prepared(root, f"photos.{suffix}")
    assert folder.classes == archive.classes
    for split in folder.splits:
        assert np.array_equal(folder.splits[split].images, archive.splits[split].images)
        assert np.array_equal(folder.splits[split].labels, archive.splits[split].labels)


def test_every_image_of_the_folder_is_found_and_nothing_else(root) -> None:
    assert sum(len(split.labels) for split in prepared(root, "photos").splits.values()) == 80


@pytest.mark.parametrize(("folder", "split"), [("train", "train"), ("Training", "train"), ("TEST", "test"), ("testing", "test"), ("other", None)])
def test_a_folder_above_the_classes_names_the_split(folder, split, tmp_path) -> None:
    place = tmp_path / "photos" / folder / "cat" / "1.png"
    place.parent.mkdir(parents=True)
    Image.new("L", (8, 8)).save(place)
    (picture,) = build(SOURCES, IMAGES, tmp_path)
    assert (picture.label, picture.split) == ("cat", split)


def png() -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    tiny.pictures(1, size=64)[0].image.save(buffer, "png")
    return buffer.getvalue()


BAD = {
    "zero bytes": ("cat/bad.png", b""),
    "truncated": ("cat/bad.png", png()[:2000]),
    "HTML called an image": ("cat/bad.jpg", b"<!doctype html><p>404 not found"),
    "random bytes": ("cat/bad.webp", bytes(range(256)) * 9),
    "in no class folder": ("bad.png", png()),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("archived", [False, True])
def test_a_file_that_is_no_image_is_refused_by_name(kind, archived, tmp_path) -> None:
    name, content = BAD[kind]
    place = tmp_path / "photos" / name
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    spec = IMAGES
    if archived:
        with tarfile.open(tmp_path / "photos.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / "photos", arcname=".")
        spec = {"name": "images", "path": "photos.tar.gz"}
    with pytest.raises(SlimlineError, match=name) as refusal:
        list(build(SOURCES, spec, tmp_path))
    assert "\n" not in str(refusal.value)


def test_a_path_that_does_not_exist_is_refused_with_its_key(tmp_path) -> None:
    with pytest.raises(SlimlineError, match=r"data.source.path: 'photos' does not exist"):
        list(build(SOURCES, IMAGES, tmp_path))


def test_a_folder_without_images_is_refused(tmp_path) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat" / "notes.txt").write_text("x")
    with pytest.raises(SlimlineError, match="no image found; expected CLASS/IMAGE"):
        list(build(SOURCES, IMAGES, tmp_path))


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.xz", "tar.bz2"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_truncated_archive_is_refused_by_name(suffix, share, root, tmp_path) -> None:
    content = (root / f"photos.{suffix}").read_bytes()
    (tmp_path / f"photos.{suffix}").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(SlimlineError, match=f"photos.{suffix}"):
        list(build(SOURCES, {"name": "images", "path": f"photos.{suffix}"}, tmp_path))


def test_a_file_that_is_no_archive_is_refused(tmp_path) -> None:
    (tmp_path / "photos").write_text("not an archive at all\n" * 100)
    with pytest.raises(SlimlineError, match="no readable tar archive"):
        list(build(SOURCES, IMAGES, tmp_path))
