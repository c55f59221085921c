"""Which split an image joins: decided by the digest of its decoded content and the seed, and by nothing else.

So neither order nor file names matter, an image never moves when others are added, and the same picture from anywhere goes the same
way. Images of one group are drawn together, by the group's name. A share is met as closely as independent draws meet it: of n images of a
class, within some multiple of √(n · share · (1 − share)).
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from slimline.data.sources.item import SPLITS

NONE = -1
"""In the place of a split's number: none was given, or the image is dropped."""


@dataclass(frozen=True)
class Division:
    """Who goes where.

    Args:
        split: number of each image's split; NONE where it is dropped.
        drawn: whether that split was drawn; the others' was given.
        asked: the share of the drawn images that was asked for, by split.
        key: what images are put in order by, the digest stirred with the seed.
        straddling: whether an equal image stands in a split of higher precedence.
    """

    split: Int64[np.ndarray, " n"]
    drawn: Bool[np.ndarray, " n"]
    asked: dict[str, float]
    key: Shaped[np.ndarray, " n"]
    straddling: Bool[np.ndarray, " n"]


def divide(
    digest: Shaped[np.ndarray, " n"],
    twin: Shaped[np.ndarray, " n"],
    group: Shaped[np.ndarray, " n"],
    given: Int64[np.ndarray, " n"],
    *,
    seed: int,
    validation: float,
    test: float,
    drop: bool,
) -> Division:
    """Divide images whose source gave some of them a split (`given`, NONE elsewhere).

    A split that the source gives is kept as it is, and what else would have joined it stays in training. The shares are of the
    images that are to be divided.

    Args:
        digest: of the decoded content; decides.
        group: in the place of `digest` it decides for images that go together; empty where an image goes by itself.
        twin: of the prepared pixels. Pictures that differ may be equal once resized, and then may stand on two sides.
        drop: whether such a one, or a copy of an image of a given split, is dropped from the split of lower precedence.
    """
    key = stirred(digest, seed)
    share = _uniform(np.where(group == b"", key, stirred(group, seed)))
    asked = {name: wanted for name, wanted in (("test", test), ("validation", validation)) if not (given == SPLITS.index(name)).any()}
    drawn, reached = np.full(len(digest), SPLITS.index("train")), 0.0
    for name, wanted in asked.items():
        drawn[(reached <= share) & (share < reached + wanted)] = SPLITS.index(name)
        reached += wanted
    kept = (given != NONE) & (given != SPLITS.index("train"))
    split = np.where(kept, given, drawn)
    precedence = split + len(SPLITS) * kept  # a split that was given goes before one that was drawn
    straddling = _highest(twin, precedence) % len(SPLITS) != split
    return Division(np.where(straddling & drop, NONE, split), ~kept, asked, key, straddling)


def stirred(digest: Shaped[np.ndarray, " n"], seed: int) -> Shaped[np.ndarray, " n"]:
    """SHA-256 of the seed and each digest."""
    prefix = seed.to_bytes(4, "big")
    rows = np.ascontiguousarray(digest).view(np.uint8).reshape(-1, 32)  # a bytes column would lose zeros at the end
    return np.array([hashlib.sha256(prefix + row.tobytes()).digest() for row in rows], "S32")


def _uniform(key: Shaped[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """The key's first 53 bits as a number in [0, 1)."""
    words = np.ascontiguousarray(key.view(np.uint8).reshape(-1, 32)[:, :8]).view(">u8").reshape(-1)
    return (words >> np.uint64(11)).astype(np.float64) / 2**53


def _highest(twin: Shaped[np.ndarray, " n"], precedence: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """For each image, the highest precedence that an image of the same pixels has."""
    _, group = np.unique(twin, return_inverse=True)
    highest = np.zeros(len(twin), np.int64)
    np.maximum.at(highest, group, precedence)
    return highest[group]
