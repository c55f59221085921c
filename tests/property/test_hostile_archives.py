"""Archives made to harm: whatever they hold, they are read or refused by name, in bounded memory, and nothing is written elsewhere."""

import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import tiny
from slimline.data.sources.images import images
from slimline.errors import SlimlineError

ARCHIVES = settings(max_examples=200)
LARGEST = 4_000_000


def encoded(pixels: np.ndarray | Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    image.save(stream, kind, **options)
    return stream.getvalue()


GREY = np.random.default_rng(0).integers(0, 256, (24, 17), dtype=np.uint8)
COLOURS = np.random.default_rng(1).integers(0, 256, (9, 31, 3), dtype=np.uint8)
GOOD = [
    encoded(GREY, "PNG"),
    encoded(COLOURS, "JPEG"),
    encoded(COLOURS, "WEBP"),
    encoded(GREY, "BMP"),
    encoded(COLOURS, "TIFF", compression="tiff_lzw"),
    encoded(Image.fromarray(COLOURS).convert("P"), "GIF"),
    encoded(Image.fromarray(COLOURS).convert("CMYK"), "JPEG"),
    encoded(GREY.astype(np.uint16) * 257, "PNG"),
    encoded(Image.fromarray(GREY), "GIF", save_all=True, append_images=[Image.fromarray(GREY[::-1].copy())]),
]
CRUEL = [
    b"",
    b"<!doctype html><title>404</title>",
    encoded(Image.new("1", (20_000, 20_000)), "PNG"),
    encoded(Image.new("1", (20_000, 100)), "PNG"),
    encoded(Image.new("L", (1, 1)), "PNG"),
    b"II*\0" + b"\xff" * 40,
    encoded(Image.fromarray(GREY), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"),
]


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """An image, something that claims to be one, or an image that was cut off or has bytes changed."""
    content = draw(st.sampled_from(GOOD + CRUEL))
    match draw(st.sampled_from(["whole", "whole", "cut", "changed", "noise"])):
        case "cut":
            return content[: draw(st.integers(0, len(content)))]
        case "changed":
            changed = bytearray(content)
            for place in draw(st.lists(st.integers(0, max(len(content) - 1, 0)), max_size=8)) if content else []:
                changed[place] = draw(st.integers(0, 255))
            return bytes(changed)
        case "noise":
            return draw(st.binary(max_size=200))
        case _:
            return content


folders = st.sampled_from(
    ["cat", "dog", "Cat", "train/cat", "test/cat", "a/b/cat", "..", "../..", "/etc", "", "caf\udce9", "caf\u00e9", "cafe\u0301", "."]
)
files = st.sampled_from(["1.png", "2.jpg", "3.gif", "n\udcffame.png", "x\ny.png", ".hidden.png", "notes.txt", "4.heic", "5.tiff", "6.WEBP"])
KINDS = [tarfile.REGTYPE] * 6 + [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]


@st.composite
def tars(draw: st.DrawFn) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=draw(st.sampled_from(["w", "w:gz", "w:xz"]))) as archive:
        for folder, name, content, kind in draw(st.lists(st.tuples(folders, files, contents(), st.sampled_from(KINDS)), max_size=8)):
            member = tarfile.TarInfo(f"{folder}/{name}" if folder else name)
            member.type, member.linkname = kind, draw(st.sampled_from(["/etc/passwd", "../../secret", "cat/1.png"]))
            member.size = len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(content))
    return damaged(draw, stream.getvalue())


@st.composite
def zips(draw: st.DrawFn) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))) as archive:
        for folder, name, content in draw(st.lists(st.tuples(folders, files, contents()), max_size=8, unique_by=lambda one: one[:2])):
            path = f"{folder}/{name}" if folder else name
            member = zipfile.ZipInfo(path.encode("utf-8", "replace").decode())
            member.external_attr = draw(st.sampled_from([0o100644, 0o100644, 0o120777])) << 16
            archive.writestr(member, content)
    return damaged(draw, stream.getvalue())


def damaged(draw: st.DrawFn, archive: bytes) -> bytes:
    """`archive`, now and then cut off or with a byte changed."""
    match draw(st.sampled_from(["whole"] * 6 + ["cut", "changed"])):
        case "cut":
            return archive[: draw(st.integers(0, len(archive)))]
        case "changed":
            place = draw(st.integers(0, len(archive) - 1))
            return archive[:place] + bytes([draw(st.integers(0, 255))]) + archive[place + 1 :]
        case _:
            return archive


@pytest.fixture(scope="module")
def fence(tmp_path_factory: pytest.TempPathFactory):
    """A folder that archives lie in; at the end it and those around it hold them alone."""
    outer = tmp_path_factory.mktemp("outer")
    inner = outer / "middle" / "inner"
    inner.mkdir(parents=True)
    yield inner
    assert [p.name for p in sorted(outer.rglob("*")) if p.is_file()] == ["photos"]


@pytest.mark.parametrize("kind", [tars, zips])
@pytest.mark.parametrize("unreadable", ["refuse", "skip"])
def test_an_archive_is_read_or_refused_in_one_line_that_names_what_is_wrong(kind, unreadable: str, fence: Path) -> None:
    said: list[str] = []

    @ARCHIVES
    @given(kind())
    def attempt(archive: bytes) -> None:
        (fence / "photos").write_bytes(archive)
        listing = sorted(fence.iterdir())
        try:
            with tiny.prepared(images(fence, path="photos"), largest_pixels=LARGEST, unreadable=unreadable):
                pass
        except SlimlineError as refusal:
            said.append(str(refusal))
        assert sorted(fence.iterdir()) == listing

    attempt()
    assert len(said) > 20
    for line in said:
        assert line.isprintable()
        assert line.encode()
        # An archive as a whole, a file in it, classes.
        assert "photos: no " in line or "photos: '" in line or line.startswith("data:"), line
    assert unreadable == "skip" or sum("photos: '" in line for line in said) > 20


@settings(max_examples=400)
@given(contents())
def test_whatever_a_file_holds_it_becomes_pixels_or_a_reason(content: bytes) -> None:
    from slimline.data.prepare.decode import Decoded, Form, decode
    from slimline.data.sources.item import Unreadable

    made = decode(content, Form(size=8, channels=3, resize="pad", background=0, largest_pixels=LARGEST, smallest_side=1))
    assert isinstance(made, Decoded | Unreadable)
    if isinstance(made, Unreadable):
        assert made.reason.startswith(("is ", "has "))


BOMBS = """
import io, resource, struct, sys, tarfile, zipfile
from pathlib import Path
import numpy as np
from PIL import Image
from slimline.data.prepare.arrays import prepare
from slimline.data.sources.images import images
from slimline.errors import SlimlineError
from slimline.params.data import Data

def png(size):
    stream = io.BytesIO()
    Image.new("1", size).save(stream, "PNG")
    return stream.getvalue()

def zipped(method, name, content, claimed):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr(name, content)
    raw = bytearray(stream.getvalue())
    struct.pack_into("<I", raw, 22, claimed)
    struct.pack_into("<I", raw, raw.index(b"PK\\1\\2") + 24, claimed)
    return bytes(raw)

def tarred(name, size, mode, **kind):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        member = tarfile.TarInfo(name)
        member.size = size
        archive.addfile(member, Zeros(size))
    return stream.getvalue()

class Zeros:
    def __init__(self, left): self.left = left
    def read(self, count):
        given = min(count, self.left)
        self.left -= given
        return bytes(given)

LARGE = 1_500_000_000
folder = Path(sys.argv[1])
zeros = bytes(LARGE)
bombs = [zipped(zipfile.ZIP_DEFLATED, "cat/1.png", zeros, 100), zipped(zipfile.ZIP_BZIP2, "cat/1.png", zeros[:10**8], 100)]
del zeros
bombs += [zipped(zipfile.ZIP_STORED, "cat/1.png", png((20_000, 20_000)), len(png((20_000, 20_000)))), tarred("cat/1.png", LARGE, "w:gz")]
(folder / "base").write_bytes(b"")
data = {"source": {"name": "images", "path": "photos"}, "size": 8, "channels": 1, "validation": 0.3, "test": 0.3, "label_noise": False}
# The peak so far was of making the bombs: each is read in a child, whose peak is its own.
import os
for bomb in bombs:
    (folder / "photos").write_bytes(bomb)
    child = os.fork()
    if child == 0:
        (folder / "made").mkdir(exist_ok=True)
        Path("/proc/self/clear_refs").write_text("5")  # start the peak anew
        try:
            prepare(images(folder, path="photos"), Data.model_validate(data), folder / "made", seed=0, workers=1)
        except SlimlineError as refusal:
            peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
            print(int(peak.split()[1]) // 1024, refusal, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.slow
def test_a_bomb_is_refused_by_name_before_it_fills_the_memory(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", BOMBS, str(tmp_path)], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stderr
    for line in lines:
        peak, _, refusal = line.partition(" ")
        assert "'cat/1.png'" in refusal
        assert int(peak) < 400, line
