"""Decoding: any mode, depth and size becomes bytes of one shape; the digest knows a picture again."""

import io
import struct
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from slimline.data.prepare.decode import SQUARE, Decoded, Form, decode
from slimline.data.sources.item import Unreadable

RAMP = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)
COLOURS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
GREY = COLOURS[:, :, 0]


def form(**changes) -> Form:
    return Form(**({"size": 8, "channels": 1, "resize": "fit", "background": 255, "largest_pixels": 10**6, "smallest_side": 1} | changes))


def file(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def one(content, **changes) -> Decoded:
    made = decode(content, form(**changes))
    assert isinstance(made, Decoded), made
    return made


def refused(content, **changes) -> str:
    made = decode(content, form(**changes))
    assert isinstance(made, Unreadable)
    return made.reason


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resize", sorted(SQUARE))
@pytest.mark.parametrize("size", [(8, 8), (5, 13), (1, 1), (40, 20), (300, 1)])
def test_an_image_of_any_mode_and_size_becomes_bytes_of_one_shape(mode, channels, resize, size) -> None:
    made = one(file(Image.new(mode, size), "TIFF"), channels=channels, resize=resize)
    assert (made.pixels.shape, made.pixels.dtype) == ((channels, 8, 8), np.uint8)
    assert (made.width, made.height) == size


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF"])
def test_every_lossless_format_gives_the_same_pixels_and_the_same_digest(kind) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    assert one(file(Image.fromarray(GREY), kind, **options)).digest == one(GREY).digest
    assert np.array_equal(one(file(Image.fromarray(GREY), kind, **options)).pixels[0], GREY)


def test_a_jpeg_is_read_as_pillow_reads_it() -> None:
    content = file(Image.fromarray(COLOURS), "JPEG")
    assert np.array_equal(one(content, channels=3).pixels, np.asarray(Image.open(io.BytesIO(content))).transpose(2, 0, 1))


def test_a_grey_picture_has_one_digest_however_it_is_stored() -> None:
    stored = [Image.fromarray(GREY), Image.fromarray(GREY).convert("RGB"), Image.fromarray(GREY).convert("RGBA"), Image.fromarray(GREY).convert("LA")]
    sixteen = Image.fromarray(GREY.astype(np.uint16) * 257)
    assert len({one(file(image)).digest for image in (*stored, sixteen)}) == 1
    assert one(file(Image.fromarray(GREY)), size=20, channels=3, resize="pad").digest == one(GREY).digest


def test_other_content_and_another_shape_of_the_same_bytes_have_other_digests() -> None:
    changed = GREY.copy()
    changed[7, 7] ^= 1
    assert len({one(pixels).digest for pixels in (GREY, changed, GREY.reshape(4, 16), GREY.reshape(16, 4), GREY.T.copy())}) == 5


def test_colours_and_rows_keep_their_places() -> None:
    rows = np.zeros((8, 8, 3), np.uint8)
    rows[2, 5] = (10, 20, 30)
    pixels = one(rows, channels=3).pixels
    assert pixels[:, 2, 5].tolist() == [10, 20, 30]
    assert pixels.sum() == 60


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_an_image_is_turned_upright_as_its_exif_tag_says(turn, kind) -> None:
    upright = np.repeat(np.repeat(np.array([[0, 80], [160, 250]], np.uint8), 16, 0), 16, 1)
    # What a camera held in that way stores: the inverse of how a viewer is told to turn it.
    turned = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.T, 6: np.rot90(upright), 7: upright[::-1, ::-1].T}
    stored, exif = np.ascontiguousarray(turned.get(turn, np.rot90(upright, -1))), Image.Exif()
    exif[0x0112] = turn
    content = file(Image.fromarray(stored), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    assert np.abs(one(content, size=32).pixels[0].astype(int) - upright).max() <= 3  # JPEG is lossy


def test_broken_exif_leaves_the_image_as_it_is() -> None:
    content = file(Image.fromarray(GREY), "PNG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff\x01\x12")
    assert np.array_equal(one(content).pixels[0], GREY)


def test_sixteen_bits_are_scaled_and_not_cut_off() -> None:
    expected = np.rint(RAMP / 257).astype(np.uint8)
    for image in (Image.fromarray(RAMP), Image.fromarray(RAMP.astype(np.int32)), Image.fromarray((RAMP / 65535).astype(np.float32))):
        assert np.array_equal(one(file(image, "TIFF")).pixels[0], expected)


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((8, 8), 70_000, np.int32),
        np.full((8, 8), -1, np.int32),
        np.full((8, 8), 1.5, np.float32),
        np.full((8, 8), np.nan, np.float32),
    ],
)
def test_pixels_beyond_what_can_be_scaled_are_refused(pixels) -> None:
    assert "save it with 8 or 16" in refused(file(Image.fromarray(pixels), "TIFF"))


@pytest.mark.parametrize("background", [0, 100, 255])
def test_the_background_shines_through_transparent_pixels(background) -> None:
    for image in (Image.new("RGBA", (8, 8), (200, 10, 10, 0)), Image.new("LA", (8, 8), (77, 0))):
        assert (one(file(image), channels=3, background=background).pixels == background).all()
    half = one(file(Image.new("RGBA", (8, 8), (255, 255, 255, 128))), background=0).pixels
    assert (half == 128).all()
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([1, 2, 3, 4, 5, 6])
    assert (one(file(palette, transparency=1), background=background).pixels == background).all()


def test_the_first_frame_of_an_animation_is_taken_and_told() -> None:
    frames = [Image.new("L", (8, 8), level) for level in (10, 200, 90)]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        made = one(file(frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})))
        assert made.animated
        assert (made.pixels == 10).all()
    assert not one(file(frames[0])).animated


def test_a_square_is_stretched_padded_or_cut() -> None:
    wide = np.repeat(np.array([[0] * 8 + [200] * 16 + [0] * 8], np.uint8), 16, 0)  # 16×32, light in the middle
    fit, pad, crop = (one(wide, size=16, resize=how, background=50).pixels[0] for how in ("fit", "pad", "crop"))
    assert fit[8, :2].max() <= 2
    assert 7 <= (fit[8] > 100).sum() <= 9
    assert (crop == 200).all()
    assert (pad[:4] == 50).all()
    assert (pad[12:] == 50).all()
    assert np.abs(pad[4:12].astype(int) - one(wide[:, :32], size=16).pixels[0][4:12]).max() < 40


@pytest.mark.parametrize("resize", sorted(SQUARE))
def test_an_image_of_the_right_size_is_not_touched(resize) -> None:
    assert np.array_equal(one(GREY, resize=resize).pixels[0], GREY)


def test_sizes_beyond_the_limits_are_refused_before_they_are_decoded() -> None:
    assert "more than 10,000 pixels" in refused(file(Image.new("1", (20_000, 20_000))), largest_pixels=10_000)
    assert "only 3×8 pixels" in refused(GREY[:, :3].copy(), smallest_side=4)
    assert one(file(Image.new("1", (4000, 1000))), largest_pixels=4_000_000).width == 4000


def test_an_image_of_millions_of_pixels_is_decoded_alone() -> None:
    held = []

    @contextmanager
    def lock():
        held.append(True)
        yield

    for image in (Image.new("1", (5000, 4000)), Image.fromarray(GREY)):
        assert isinstance(decode(file(image), form(largest_pixels=10**8), lock()), Decoded)
    assert held == [True]


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), OSError(24, "Too many open files"), MemoryError()])
def test_a_failure_of_the_machine_is_not_taken_for_one_of_the_image(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(type(error)):
        decode(b"anything", form())


def test_a_file_that_vanished_or_may_not_be_opened_is_unreadable(tmp_path: Path) -> None:
    assert "cannot be opened (No such file or directory)" in refused(tmp_path / "gone.png")


@pytest.mark.parametrize("pixels", [np.zeros((8, 8), np.complex128), np.zeros((8, 8, 5), np.uint8), np.zeros((2, 8, 8, 3), np.uint8)])
def test_pixels_of_an_odd_kind_from_a_users_source_are_refused(pixels: np.ndarray) -> None:
    assert refused(pixels)


def test_sixteen_bits_of_colour_keep_their_upper_eight() -> None:
    """Pillow reads such a file with eight; a table of it here would be a decoder of our own."""
    colours = np.full((8, 8, 3), (0x1234, 0x80FF, 0xFFFF), ">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in colours)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    png = b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks)
    assert one(png, channels=3).pixels[:, 0, 0].tolist() == [0x12, 0x80, 0xFF]


def test_a_mode_without_a_way_to_colours_is_refused_or_converted() -> None:
    lab = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    image = ImageCms.applyTransform(Image.fromarray(COLOURS), ImageCms.buildTransform(lab[1], lab[0], "RGB", "LAB"))
    assert isinstance(decode(file(image, "TIFF"), form()), Decoded | Unreadable)


def test_only_the_decoders_of_the_listed_formats_run() -> None:
    assert "no image that can be read" in refused(b"P5 8 8 255 " + bytes(64))
    assert "no image that can be read" in refused(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")
