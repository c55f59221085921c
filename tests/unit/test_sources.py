"""Sources of image files: folder, zip and tar give the same; what folders mean; what is no image is refused by name."""

import io
import os
import subprocess
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tiny
from slimline.data.sources import SOURCES, layout
from slimline.data.sources.item import Folder, Item, Membership, Unreadable
from slimline.errors import SlimlineError
from slimline.registry import build

IMAGES = {"name": "images", "path": "photos"}
DIGITS = {"name": "digits", "path": "anything"}
TARS = {"tar": "w", "tar.gz": "w:gz", "tar.xz": "w:xz", "tar.bz2": "w:bz2"}
ARCHIVES = [*TARS, "zip"]


def pack(folder: Path, suffix: str) -> Path:
    """`folder` as an archive beside it."""
    target = folder.with_name(f"{folder.name}.{suffix}")
    if suffix == "zip":
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as zipped:
            for file in sorted(folder.rglob("*")):
                zipped.write(file, file.relative_to(folder))
    else:
        with tarfile.open(target, TARS[suffix]) as archive:  # type: ignore[call-overload]
            archive.add(folder, arcname=".")
    return target


def save(place: Path, pixels: np.ndarray | None = None) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8), np.uint8) if pixels is None else pixels).save(place)


def read(root: Path, path: str = "photos") -> list[Item]:
    return list(build(SOURCES, {"name": "images", "path": path}, root))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eighty PNG images in two classes, and the same as archives."""
    root = tmp_path_factory.mktemp("sources")
    for number, item in enumerate(tiny.items(80)):
        save(root / "photos" / item.belongs.label / f"{number}.png", item.content)
    (root / "photos" / "class 0" / "notes.txt").write_text("no image, and not called one")
    (root / "photos" / "class 0" / ".hidden.png").write_text("neither")
    (root / "photos" / "__MACOSX").mkdir()
    (root / "photos" / "__MACOSX" / "1.png").write_text("what a Mac adds")
    for suffix in ARCHIVES:
        pack(root / "photos", suffix)
    return root


@pytest.mark.parametrize("name", ["digits", "images"])
def test_a_source_tells_how_far_it_is(name: str, root: Path) -> None:
    shares = [item.share for item in build(SOURCES, {"digits": DIGITS, "images": IMAGES}[name], root)]
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] == 1


def test_the_digits_are_1797_images_of_ten_classes_over_the_full_range_of_grey(root: Path) -> None:
    items = list(build(SOURCES, DIGITS, root))
    assert len(items) == 1797
    assert {item.belongs for item in items} == {Membership(digit) for digit in "0123456789"}
    levels = np.unique(np.stack([item.content for item in items]))
    assert (levels.min(), levels.max(), len(levels)) == (0, 255, 17)


@pytest.mark.parametrize("suffix", ARCHIVES)
def test_an_archive_gives_the_very_same_bytes_as_the_folder_it_was_made_of(suffix: str, root: Path) -> None:
    with tiny.prepared(read(root)) as folder, tiny.prepared(read(root, f"photos.{suffix}")) as archive:
        assert folder.files() == archive.files()
        assert folder.prepared.report["images"]["found"] == 80


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        ("cat dog", "cat dog"),
        ("photos/cat photos/dog", "cat dog"),
        ("a/b/cat a/b/dog", "cat dog"),
        ("cat/2019 cat/2020 dog", "cat cat dog"),
        ("photos/cat/2019 photos/dog/2019/may", "cat dog"),
        ("train/cat train/dog test/cat test/dog", "cat:train dog:train cat:test dog:test"),
        ("Training/cat VAL/cat testing/dog", "cat:train cat:validation dog:test"),
        ("mnist/train/3 mnist/train/5 mnist/test/3", "3:train 5:train 3:test"),
        ("train/cat train/dog", "cat:train dog:train"),
        ("train/cat/2019 test/dog/far", "cat:train dog:test"),
        ("car plane train", "car plane train"),
        ("car/red plane/blue train/green", "car plane train"),
        ("cat/train cat/test dog/train", "cat:train cat:test dog:train"),
        ("cat dog unlabelled", "cat dog :unlabelled"),
        ("photos/cat photos/dog photos/Unlabeled/may", "cat dog :unlabelled"),
        ("train/cat test/dog unlabelled/a unlabelled", "cat:train dog:test :unlabelled :unlabelled"),
        ("cat/unlabelled dog", "cat dog"),
    ],
)
def test_folders_are_read_as_their_owner_meant_them(folders: str, expected: str) -> None:
    known = [Folder(tuple(folder.split("/"))) for folder in folders.split()]
    members = [Membership(label, split or None) for label, _, split in (word.partition(":") for word in expected.split())]
    assert list(layout.read(known).values()) == members


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ("train/cat test/cat extra/cat", "extra/ stands beside test, train/, which holds folders"),
        ("train/cat train/dog plane", "plane/ stands beside train/, which holds folders"),
        ("train/cat train", "images lie in train/ itself"),
        ("train test", "images lie in test/ itself"),
    ],
)
def test_folders_that_can_be_read_two_ways_are_refused(folders: str, message: str) -> None:
    with pytest.raises(SlimlineError, match=message):
        layout.read([Folder(tuple(folder.split("/"))) for folder in folders.split()])


def test_links_to_images_are_followed_and_links_to_folders_or_to_nothing_are_told(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere" / "1.png")
    save(tmp_path / "photos" / "cat" / "1.png")
    (tmp_path / "photos" / "dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "cat" / "again").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "cat" / "link.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    (tmp_path / "photos" / "cat" / "gone.png").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "photos" / "cat" / "pipe.png")
    items = {item.origin: item for item in read(tmp_path)}
    assert sorted(items) == ["cat/1.png", "cat/again", "cat/gone.png", "cat/link.png", "cat/pipe.png", "dog"]
    assert items["cat/link.png"].content == tmp_path / "photos/cat/link.png"
    assert all("is a link to a folder, into which DVC does not look" in items[name].content.reason for name in ("cat/again", "dog"))
    assert all("no regular file" in items[f"cat/{name}.png"].content.reason for name in ("gone", "pipe"))


def header(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, target, size
    return member


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (header("cat/1.png", tarfile.SYMTYPE, "/etc/passwd"), "is a link"),
        (header("cat/1.png", tarfile.LNKTYPE, "../../x"), "is a link"),
        (header("cat/1.png", tarfile.CHRTYPE), "is no regular file"),
        (header("cat/1.png", tarfile.FIFOTYPE), "is no regular file"),
        (header("../cat/1.png"), "leads out of its archive"),
        (header("/cat/1.png"), "leads out of its archive"),
        (header("cat/../../dog/1.png"), "leads out of its archive"),
        (header("1.png"), "lies in no class folder"),
        (header("cat/1.heic"), r"of a format that is not read \(.heic\)"),
        (header("caf\udce9/1.png"), "not UTF-8"),
    ],
)
def test_what_an_archive_should_not_hold_is_named(member: tarfile.TarInfo, reason: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "photos", "w") as archive:
        archive.addfile(member)
    with pytest.raises(SlimlineError, match=reason) as refusal, tiny.prepared(read(tmp_path)):
        pass
    assert member.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("kind", ["link", "encrypted", "crc", "parent"])
def test_what_a_zip_should_not_hold_is_named(kind: str, tmp_path: Path) -> None:
    member, content = zipfile.ZipInfo("cat/1.png" if kind != "parent" else "../cat/1.png"), b"0123456789" * 9
    if kind == "link":
        member.external_attr = 0o120777 << 16
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(member, content)
    raw = bytearray(stream.getvalue())
    if kind == "encrypted":
        raw[6] |= 1
        raw[raw.index(b"PK\1\2") + 8] |= 1
    if kind == "crc":
        raw[raw.index(content)] ^= 1
    (tmp_path / "photos").write_bytes(raw)
    (item,) = read(tmp_path)
    assert isinstance(item.content, Unreadable)
    expected = {"link": "symbolic link", "encrypted": "is encrypted", "crc": "cannot be unpacked", "parent": "leads out of its archive"}
    assert expected[kind] in item.content.reason


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    block = header("./PaxHeaders/x", tarfile.XHDTYPE, size=2**40).tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "photos").write_bytes(block + bytes(10240))
    with pytest.raises(SlimlineError, match="a header of 1,099,511,627,776 bytes"):
        read(tmp_path)


def test_a_path_that_does_not_exist_is_refused_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(SlimlineError, match=r"data.source.path: 'photos' does not exist"):
        read(tmp_path)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat" / "notes.txt").write_text("x")
    with pytest.raises(SlimlineError, match="no image found; expected CLASS/IMAGE"):
        read(tmp_path)


@pytest.mark.parametrize("suffix", ARCHIVES)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_truncated_archive_is_refused_by_name(suffix: str, share: float, root: Path, tmp_path: Path) -> None:
    content = (root / f"photos.{suffix}").read_bytes()
    (tmp_path / f"photos.{suffix}").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(SlimlineError, match=f"photos.{suffix}: no readable archive"):
        read(tmp_path, f"photos.{suffix}")


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").write_text("not an archive at all\n" * 100)
    with pytest.raises(SlimlineError, match="no readable archive"):
        read(tmp_path)


def encoded(pixels: np.ndarray, kind: str = "png") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
BAD = {
    "zero bytes": ("cat/bad.png", b""),
    "truncated": ("cat/bad.png", encoded(NOISE)[:2000]),
    "HTML called an image": ("cat/bad.jpg", b"<!doctype html><p>404 not found"),
    "random bytes": ("cat/bad.webp", bytes(range(256)) * 9),
    "one pixel": ("cat/bad.png", encoded(NOISE[:1, :1])),
    "a bomb": ("cat/bad.png", encoded(np.zeros((2000, 2000), np.uint8))),
    "in no class folder": ("bad.png", encoded(NOISE)),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("suffix", [None, "tar.gz", "zip"])
def test_a_file_that_is_no_image_is_refused_by_name_or_left_out_and_listed(kind: str, suffix: str | None, tmp_path: Path) -> None:
    name, content = BAD[kind]
    for number, item in enumerate(tiny.items(60)):
        save(tmp_path / "photos" / item.belongs.label / f"{number}.png", item.content)
    (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "photos" / name).write_bytes(content)
    path = "photos" if suffix is None else pack(tmp_path / "photos", suffix).name
    with pytest.raises(SlimlineError, match=f"'{name}' (is|has|lies)") as refusal, tiny.prepared(read(tmp_path, path), largest_pixels=10_000):
        pass
    assert "\n" not in str(refusal.value)
    with tiny.prepared(read(tmp_path, path), largest_pixels=10_000, unreadable="skip") as made:
        assert [fault["file"] for fault in made.prepared.report["unreadable"]] == [name]
        assert made.prepared.report["images"]["unreadable"] == 1
        assert len(made.classes) == 2
        assert any("left out: 1 of 61 images" in note for note in made.prepared.report["notes"])


def test_a_tar_that_ends_in_a_zip_is_read_as_the_tar_that_it_is(tmp_path: Path) -> None:
    save(tmp_path / "inner" / "fox" / "9.png")
    save(tmp_path / "outer" / "cat" / "1.png")
    pack(tmp_path / "inner", "zip").rename(tmp_path / "outer" / "zz.zip")
    with tarfile.open(tmp_path / "photos", "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.add(tmp_path / "outer", arcname=".")
    assert [item.origin for item in read(tmp_path)] == ["cat/1.png"]


@pytest.mark.parametrize("spoil", [(28, b"\xff\xfe"), (6, b"\xff\xff")])
def test_a_zip_whose_directory_lies_is_refused_in_a_line(spoil: tuple[int, bytes], tmp_path: Path) -> None:
    member = zipfile.ZipInfo("caf\u00e9/1.png")
    with zipfile.ZipFile(tmp_path / "photos", "w") as archive:
        archive.writestr(member, b"x")
    raw = bytearray((tmp_path / "photos").read_bytes())
    start = raw.index(b"PK\1\2")
    offset, content = spoil
    place = raw.index("caf\u00e9".encode(), start) + 3 if offset == 28 else start + offset
    raw[place : place + 2] = content
    (tmp_path / "photos").write_bytes(raw)
    with pytest.raises(SlimlineError, match=r"photos: (no readable archive|')"), tiny.prepared(read(tmp_path)):
        pass


def test_a_hundred_thousand_folders_are_read_in_a_moment() -> None:
    known = [Folder(("photos", f"class {n % 100}", str(n))) for n in range(100_000)]
    start = time.process_time()
    assert len({member.label for member in layout.read(known).values()}) == 100
    assert time.process_time() - start < 5


@pytest.mark.parametrize("pax", [False, True])
def test_a_file_of_impossible_size_in_a_tar_is_refused_at_once(pax: bool, tmp_path: Path) -> None:
    member = header("notes.txt")
    member.pax_headers = {"size": str(10**15)} if pax else {}
    member.size = 0 if pax else 10**15
    raw = member.tobuf(tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT)
    (tmp_path / "photos").write_bytes(raw + bytes(20480))
    start = time.process_time()
    with pytest.raises(SlimlineError, match="photos: no readable archive"):
        read(tmp_path)
    assert time.process_time() - start < 5


def test_what_is_neither_folder_nor_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "photos")
    with pytest.raises(SlimlineError, match="neither a folder nor a file"):
        read(tmp_path)


def test_folders_may_lie_a_thousand_deep_and_a_link_to_itself_is_passed_over(tmp_path: Path) -> None:
    deep = tmp_path / "photos"
    for part in ["cat"] + ["a"] * 1500:
        deep = deep / part
        deep.mkdir(parents=True)
    save(deep / "1.png")
    (tmp_path / "photos" / "cat" / "loop").symlink_to("loop")
    try:
        assert [item.belongs.parts[0] for item in read(tmp_path)] == ["cat"]
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "photos"], check=True)  # pytest's own removal does not reach so deep


def test_a_file_for_another_source_is_told_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(SlimlineError, match=r"'x.npz' is read by the source arrays; write name: arrays"):
        read(tmp_path, "x.npz")
