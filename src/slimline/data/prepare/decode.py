"""One image file to bytes of one shape, and the facts that dividing and checking need."""

import hashlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps

from slimline.data.sources.item import Unreadable

FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "TIFF", "WEBP")
"""The decoders that may run, whatever a file calls itself: Pillow has others, which start foreign programs or were less looked at."""
MODES = {1: "L", 3: "RGB"}
HEAVY = 16_000_000
"""Pixels from which on images are decoded one at a time over all processes, so that memory stays bounded."""
GAP = 3.0
"""Images are first averaged down to this multiple of their new size, then resampled: the same to the eye, and much faster."""

Resize = Literal["fit", "pad", "crop"]


@dataclass(frozen=True)
class Form:
    """How images come out, and which may come in.

    Args:
        size: height and width, in pixels.
        channels: 1 (grey) or 3 (red, green, blue).
        resize: how an image of another aspect becomes a square: stretched to `fit`, with background beside it (`pad`), or its middle (`crop`).
        background: grey level, 0 to 255, under transparent pixels and beside padded images.
        largest_pixels: most pixels of an image.
        smallest_side: least height and width.
    """

    size: int
    channels: int
    resize: Resize
    background: int
    largest_pixels: int
    smallest_side: int


UNSHARED: AbstractContextManager[object] = nullcontext()
"""In the place of a lock, where one process decodes alone."""


@dataclass(frozen=True)
class Decoded:
    """One image.

    Args:
        pixels: as prepared.
        digest: SHA-256 of the upright 8-bit image in its own size, grey where all its colours are: equal for the same picture in
            any lossless format, and whatever it is resized to.
        width, height: before resizing, upright.
        animated: whether it has further frames; the first is taken.
    """

    pixels: UInt8[np.ndarray, "channels size size"]
    digest: bytes
    width: int
    height: int
    animated: bool


@contextmanager
def decoders(form: Form) -> Iterator[None]:
    """Pillow set up for `decode`, and put back afterwards."""
    before = Image.MAX_IMAGE_PIXELS
    # Pillow refuses twice what it is told to warn of; our own, exact limit comes when a file is opened.
    Image.MAX_IMAGE_PIXELS = form.largest_pixels
    try:
        with warnings.catch_warnings():
            # What it warns of (broken EXIF, large images) is either refused here or of no effect on the pixels.
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def decode(content: bytes | Path | np.ndarray | Unreadable, form: Form, alone: AbstractContextManager[object] = UNSHARED) -> Decoded | Unreadable:
    """Decode one image, or tell why that cannot be.

    Args:
        alone: held while an image of more than `HEAVY` pixels is decoded.

    Raises:
        OSError, MemoryError: a failure of the machine, not of the image.
    """
    if isinstance(content, Unreadable):
        return content
    try:
        if isinstance(content, np.ndarray):
            return _opened(Image.fromarray(content), form)
        with Image.open(BytesIO(content) if isinstance(content, bytes) else content, formats=FORMATS) as image:
            if image.width * image.height < HEAVY:
                return _opened(image, form)
            with alone:
                return _opened(image, form)
    except Image.UnidentifiedImageError:
        return Unreadable("is no image that can be read; mend or remove it")
    except Image.DecompressionBombError:
        return _too_large(form)
    except (FileNotFoundError, PermissionError) as error:
        return Unreadable(f"cannot be opened ({error.strerror}); mend or remove it")
    except MemoryError:
        raise
    except Exception as error:  # the decoders raise nearly anything on a file that was damaged or made to harm
        if isinstance(error, OSError) and error.errno is not None:  # theirs have no number
            raise
        return Unreadable(f"is no readable image ({type(error).__name__}); mend or remove it")


def _too_large(form: Form) -> Unreadable:
    return Unreadable(f"has more than {form.largest_pixels:,} pixels; remove it, or raise data.largest_pixels")


def _opened(image: Image.Image, form: Form) -> Decoded | Unreadable:
    if image.width * image.height > form.largest_pixels:
        return _too_large(form)
    image.load()
    animated = _has_more_frames(image)
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        upright = ImageOps.exif_transpose(image) if turned else image  # it copies an image that stands upright
    except Exception:  # broken EXIF says nothing of where up is
        upright = image
    return _upright(upright, form, animated=animated)


def _has_more_frames(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))  # Pillow's own advice: single-frame formats lack it
    except Exception:  # the second frame is broken: there is one, and it is not needed
        image.seek(0)
        return True


def _upright(image: Image.Image, form: Form, *, animated: bool = False) -> Decoded | Unreadable:
    width, height = image.size
    if min(width, height) < form.smallest_side:
        return Unreadable(f"is only {width}×{height} pixels; remove it, or lower data.smallest_side (now {form.smallest_side})")
    plain = _eight_bits(image, form.background)
    if isinstance(plain, Unreadable):
        return plain
    digest = hashlib.sha256(f"{width}x{height} {plain.mode}".encode())
    levels = np.asarray(plain)
    digest.update(levels.data)
    mode = MODES[form.channels]
    sized = SQUARE[form.resize](plain if plain.mode == mode else plain.convert(mode), form)
    pixels = (levels if sized is plain else np.asarray(sized)).reshape(form.size, form.size, form.channels).transpose(2, 0, 1)
    return Decoded(pixels, digest.digest(), width, height, animated)


def _eight_bits(image: Image.Image, background: int) -> Image.Image | Unreadable:
    """`image` as L where it is grey, as RGB otherwise; what shines through is `background`."""
    if image.mode == "F" or image.mode.startswith("I"):
        levels = np.asarray(image)
        if image.mode == "F":
            if not (levels.min() >= 0 and levels.max() <= 1):  # so put, NaN is refused too
                return Unreadable("has real numbers outside of 0…1 for pixels; save it with 8 or 16 bits")
            return Image.fromarray(np.rint(levels * 255).astype(np.uint8))
        if levels.min() < 0 or levels.max() > 65535:
            return Unreadable("has pixels of more than 16 bits; save it with 8 or 16")
        # 65535 / 255 = 257: rounding by whole numbers, since Pillow's own conversion would cut all above 255 off.
        return Image.fromarray(((levels.astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, (background, background, background, 255))
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    elif image.mode == "L":
        return image
    colours = image if image.mode == "RGB" else image.convert("RGB")  # which copies, even where there is nothing to convert
    red, green, blue = np.moveaxis(np.asarray(colours), 2, 0)
    grey = all(np.array_equal(red[:16], other[:16]) and np.array_equal(red, other) for other in (green, blue))
    return colours.getchannel(0) if grey else colours


def _fit(image: Image.Image, form: Form) -> Image.Image:
    square = (form.size, form.size)
    return image if image.size == square else image.resize(square, Image.Resampling.LANCZOS, reducing_gap=GAP)


def _pad(image: Image.Image, form: Form) -> Image.Image:
    scale = form.size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    inner = image if image.size == (width, height) else image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=GAP)
    ground = Image.new(image.mode, (form.size, form.size), (form.background,) * len(image.getbands()))
    ground.paste(inner, ((form.size - width) // 2, (form.size - height) // 2))
    return ground


def _crop(image: Image.Image, form: Form) -> Image.Image:
    side = min(image.size)
    left, top = ((whole - side) // 2 for whole in image.size)
    return _fit(image.crop((left, top, left + side, top + side)) if image.width != image.height else image, form)


SQUARE: dict[str, Callable[[Image.Image, Form], Image.Image]] = {"fit": _fit, "pad": _pad, "crop": _crop}
