"""Images that stand in a page itself, so that it needs no file beside it."""

from base64 import b64encode
from io import BytesIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image

SIDE = 128
"""Pixels of a shown image; larger ones are made smaller, or the page would be."""


def address(pixels: UInt8[np.ndarray, "channels height width"], side: int = SIDE) -> str:
    """The address of a PNG that stands in the page; the same pixels give the same text."""
    image = Image.fromarray(np.squeeze(pixels.transpose(1, 2, 0), 2) if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    image.thumbnail((side, side))
    stream = BytesIO()
    image.save(stream, "PNG")
    return f"data:image/png;base64,{b64encode(stream.getvalue()).decode()}"
