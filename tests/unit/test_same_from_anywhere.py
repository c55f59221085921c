"""The same pictures give the same prepared bytes, whichever source they come through."""

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import tiny
from slimline.data.sources import SOURCES
from slimline.registry import build

SHARED = Path(__file__).parents[3] / "shared" / "data"
SPLITS = ("train", "test")

Picture = tuple[str, int, np.ndarray]
"""Split, digit, pixels."""


def drawn(count: int) -> Iterator[Picture]:
    levels = np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    for number, pixels in enumerate(levels):
        yield ("train" if number % 4 else "test"), number // 4 % 3, pixels


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def folder(root: Path, pictures: list[Picture]) -> dict[str, str]:
    for number, (split, label, pixels) in enumerate(pictures):
        place = root / "photos" / split / str(label) / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(png(pixels))
    return {"name": "images", "path": "photos"}


def tar(root: Path, pictures: list[Picture]) -> dict[str, str]:
    with tarfile.open(root / "photos.tar.xz", "w:xz", preset=0) as archive:
        for number, (split, label, pixels) in reversed(list(enumerate(pictures))):
            content = png(pixels)
            member = tarfile.TarInfo(f"mine/{split}/{label}/{number}.png")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return {"name": "images", "path": "photos.tar.xz"}


def zipped(root: Path, pictures: list[Picture]) -> dict[str, str]:
    with zipfile.ZipFile(root / "photos.zip", "w") as archive:
        for number, (split, label, pixels) in enumerate(pictures):
            archive.writestr(f"{split}/{label}/x{number}.png", png(pixels))
    return {"name": "images", "path": "photos.zip"}


def manifest(root: Path, pictures: list[Picture]) -> dict[str, str]:
    (root / "table").mkdir()
    with (root / "table/labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split"))
        for number, (split, label, pixels) in enumerate(pictures):
            (root / f"table/{number}.png").write_bytes(png(pixels))
            writer.writerow((f"{number}.png", label, split))
    return {"name": "manifest", "path": "table", "split_column": "split"}


def stacked(pictures: list[Picture]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    of = {split: [picture for picture in pictures if picture[0] == split] for split in SPLITS}
    return {split: (np.stack([p for _, _, p in part]), np.array([label for _, label, _ in part])) for split, part in of.items()}


def arrays(root: Path, pictures: list[Picture]) -> dict[str, str]:
    by_split = stacked(pictures)
    named = {f"{letter}_{split}": array for split, pair in by_split.items() for letter, array in zip("xy", pair, strict=True)}
    np.savez_compressed(root / "mnist.npz", **named)
    return {"name": "arrays", "path": "mnist.npz"}


def idx(root: Path, pictures: list[Picture]) -> dict[str, str]:
    (root / "mnist").mkdir()
    for split, (pixels, labels) in stacked(pictures).items():
        start = {"train": "train", "test": "t10k"}[split]
        (root / f"mnist/{start}-images-idx3-ubyte").write_bytes(np.array([0x803, *pixels.shape], ">u4").tobytes() + pixels.tobytes())
        (root / f"mnist/{start}-labels-idx1-ubyte").write_bytes(np.array([0x801, len(labels)], ">u4").tobytes() + labels.astype(np.uint8).tobytes())
    return {"name": "idx", "path": "mnist"}


def parquet(root: Path, pictures: list[Picture]) -> dict[str, str]:
    (root / "hub").mkdir()
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": [str(digit) for digit in range(10)]}}
    for split in SPLITS:
        part = [picture for picture in pictures if picture[0] == split]
        image = pa.array([{"bytes": png(pixels), "path": None} for _, _, pixels in part], pa.struct({"bytes": pa.binary(), "path": pa.string()}))
        table = pa.table({"image": image, "label": pa.array([label for _, label, _ in part], pa.int64())})
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        pq.write_table(table.replace_schema_metadata(metadata), root / f"hub/{split}-00000-of-00001.parquet")
    return {"name": "parquet", "path": "hub"}


Writer = Callable[[Path, list[Picture]], dict[str, str]]
WRITERS: list[Writer] = [folder, tar, zipped, manifest, arrays, idx, parquet]
FORM = {"size": 28, "validation": 0.1}


@pytest.mark.parametrize("other", WRITERS[1:], ids=lambda writer: writer.__name__)
def test_every_source_gives_the_bytes_that_the_folder_gives(other: Writer, tmp_path: Path) -> None:
    pictures = list(drawn(240))
    specs = folder(tmp_path, pictures), other(tmp_path, pictures)
    with tiny.prepared(build(SOURCES, specs[0], tmp_path), **FORM) as one, tiny.prepared(build(SOURCES, specs[1], tmp_path), **FORM) as same:
        assert one.files() == same.files()
        assert one.prepared.description["counts"]["test"] == 60


def unpacked(archive: Path, target: Path) -> list[Picture]:
    """The archive's images in `target`, as anybody would unpack them."""
    with tarfile.open(archive) as tar:
        tar.extractall(target, filter="data")
    return sorted((file.parts[-3], file.parts[-2], file) for file in target.rglob("*.*") if file.is_file())  # type: ignore[type-var]


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real MNIST is not in {SHARED}")
def test_the_real_mnist_is_the_same_from_archive_folder_idx_and_parquet(tmp_path: Path) -> None:
    files = unpacked(SHARED / "mnist.tar.xz", tmp_path / "mnist_folder")
    with tiny.prepared(build(SOURCES, {"name": "images", "path": str(SHARED / "mnist.tar.xz")}, tmp_path), workers=2, **FORM) as archive:
        expected = archive.files()
        assert archive.prepared.report["images"] | {"train": 0, "validation": 0} == {
            "found": 70_000, "unreadable": 0, "dropped_duplicates": 0, "train": 0, "validation": 0, "test": 10_000,
        }  # fmt: skip
    pictures = [(split, int(label), np.asarray(Image.open(file))) for split, label, file in files]
    specs = [{"name": "images", "path": "mnist_folder"}, idx(tmp_path, pictures), parquet(tmp_path, pictures)]
    for spec in specs:
        with tiny.prepared(build(SOURCES, spec, tmp_path), workers=2, **FORM) as same:
            assert same.files() == expected, spec


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the JPEG copy of CIFAR-10 is not in {SHARED}")
def test_the_jpeg_copy_of_cifar10_is_the_same_from_archive_and_folder(tmp_path: Path) -> None:
    unpacked(SHARED / "cifar10-jpg.tar.xz", tmp_path / "cifar")
    form = {"size": 32, "channels": 3, "validation": 0.1}
    paths = (str(SHARED / "cifar10-jpg.tar.xz"), "cifar")
    archive, unpacked_ = (build(SOURCES, {"name": "images", "path": path}, tmp_path) for path in paths)
    with tiny.prepared(archive, workers=2, **form) as one, tiny.prepared(unpacked_, workers=2, **form) as other:
        assert one.files() == other.files()
        assert one.prepared.report["images"]["found"] == 60_000
        assert one.prepared.report["images"]["test"] == 10_000
