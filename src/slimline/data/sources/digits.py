"""The embedded default: 1,797 handwritten digits, 8×8 grey (E. Alpaydin, C. Kaynak; UCI repository, 1998), inside scikit-learn."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from slimline.data.sources.item import Item, Membership


def digits(root: Path, *, path: str) -> Iterator[Item]:
    """Every digit; the 17 grey levels are spread over 0…255. `path` is a note on their origin and holds no data."""
    from sklearn.datasets import load_digits  # takes a second, and only this source needs it

    bunch = load_digits()
    levels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    for index, (pixels, label) in enumerate(zip(levels, bunch.target, strict=True)):
        yield Item(pixels, Membership(str(label)), f"digit {index}", (index + 1) / len(levels))
