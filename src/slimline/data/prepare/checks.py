"""What a user should know of their images before a network is trained on them."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Int64

from slimline.data.prepare.divide import NONE, SPLITS, Division
from slimline.data.prepare.pool import Facts
from slimline.errors import SlimlineError

if TYPE_CHECKING:
    from slimline.data.prepare.noise import Noise  # imports scikit-learn, which worker processes do without

LISTED = 100
"""Files of a kind that the report names; further ones are counted."""
NEAR_CONSTANT = 2.0
"""Standard deviation of the pixels, of 255 levels, below which an image shows nothing."""
LONG = 10.0
"""Ratio of the sides above which bringing an image to a square says little of it."""
IMBALANCED = 10.0
"""Ratio of the largest to the smallest class in training from which on it is worth a note."""

Name = Callable[[int], str]
"""The origin of a row."""


@dataclass(frozen=True)
class Labelled:
    """Rows of readable images, by their number in the source.

    Args:
        row: number of each image in the source.
        label: its class's number.
        division: its split, and whether its equal stands elsewhere.
        classes: names of the classes.
    """

    row: Int64[np.ndarray, " n"]
    label: Int64[np.ndarray, " n"]
    division: Division
    classes: Sequence[str]

    @property
    def kept(self) -> Bool[np.ndarray, " n"]:
        """Whether an image stands in a split, and was not dropped."""
        return self.division.split != NONE

    def counts(self, chosen: Bool[np.ndarray, " n"]) -> Int64[np.ndarray, "splits classes"]:
        """Of the `chosen` images, how many each class has in each split."""
        table = np.zeros((len(SPLITS), len(self.classes)), np.int64)
        np.add.at(table, (self.division.split[chosen], self.label[chosen]), 1)
        return table


def refuse_small_classes(images: Labelled, smallest: int) -> None:
    """Every class needs images to train on, to choose by and to report on.

    Raises:
        SlimlineError: a class with fewer than `smallest` images in a split.
    """
    for split, counts in zip(SPLITS, images.counts(images.kept), strict=True):
        few = [f"{label} ({count})" for label, count in zip(images.classes, counts, strict=True) if count < smallest]
        if few:
            more = f" and {len(few) - 5} more" if len(few) > 5 else ""
            needed = f"at least {smallest} {'is' if smallest == 1 else 'are'} needed"
            raise SlimlineError(
                f"data: too few images in the {split} split of class {', '.join(few[:5])}{more}; {needed}: add images, or enlarge the split"
            )


def report(images: Labelled, facts: Facts, name: Name) -> dict[str, Any]:
    """What `metrics/prepare.json` says, but for label noise; `notes` are the lines to be read by a person.

    Args:
        facts: of every item of the source, readable or not.
        name: origin of a row of the source.
    """
    counts = images.counts(images.kept)
    width, height = facts.table["width"][images.row], facts.table["height"][images.row]
    flat = images.row[images.kept & (facts.table["contrast"][images.row] < NEAR_CONSTANT)]
    long = images.row[np.maximum(width, height) > LONG * np.minimum(width, height)]
    found: dict[str, Any] = {
        "images": {
            "found": len(facts.table),
            "unreadable": len(facts.reasons),
            "dropped_duplicates": int((~images.kept).sum()),
            **{split: int(total) for split, total in zip(SPLITS, counts.sum(1), strict=True)},
        },
        "classes": {label: {split: int(counts[number, index]) for number, split in enumerate(SPLITS)} for index, label in enumerate(images.classes)},
        "largest_to_smallest_class": float(counts[0].max() / counts[0].min()),
        "stratification": _stratification(images),
        "sizes": {
            "width": [int(f(width)) for f in (np.min, np.median, np.max)],
            "height": [int(f(height)) for f in (np.min, np.median, np.max)],
            "long": _listed(long, name),
        },
        "animated": _listed(images.row[facts.table["animated"][images.row]], name),
        "near_constant": _listed(flat, name),
        "duplicates": _duplicates(images, facts, name),
        "unreadable": [{"file": name(row), "reason": reason} for row, reason in list(facts.reasons.items())[:LISTED]],
    }
    found["notes"] = _notes(found)
    return found


def doubts(noise: "Noise", images: Labelled, judged: Int64[np.ndarray, " m"], name: Name) -> dict[str, Any]:
    """What `data.prepare.noise` found, by file.

    Args:
        judged: the images that it was asked about, in that order.
    """
    listed = [
        {
            "file": name(int(images.row[judged[position]])),
            "split": SPLITS[images.division.split[judged[position]]],
            "class": images.classes[images.label[judged[position]]],
            "likelier": images.classes[likelier],
        }
        for position, likelier in zip(noise.named[:LISTED], noise.likelier[:LISTED], strict=True)
    ]
    check = None if noise.check is None else {**asdict(noise.check), "believable": noise.check.believable}
    return {"summary": noise.sentence(), "images": len(noise.positions), "doubtful": len(noise.named), "files": listed, "planted": check}


def _listed(rows: Int64[np.ndarray, " n"], name: Name) -> dict[str, Any]:
    return {"count": len(rows), "files": sorted(name(int(row)) for row in rows[:LISTED])}


def _stratification(images: Labelled) -> dict[str, Any]:
    """How far the share of a class in a drawn split is from the one asked for, where it is farthest; `deviations` are standard ones.

    The draws are independent, so about one class of 20 lies beyond two of them.
    """
    chosen = images.division.drawn & images.kept
    counts = images.counts(chosen)
    total = np.maximum(counts.sum(0), 1)
    worst: dict[str, Any] = {"split": None, "class": None, "asked": 0.0, "obtained": 0.0, "deviations": 0.0}
    for split, share in images.division.asked.items():
        obtained = counts[SPLITS.index(split)] / total
        deviations = np.abs(obtained - share) / np.sqrt(share * (1 - share) / total)
        label = int(deviations.argmax())
        if deviations[label] > worst["deviations"]:
            found = {"obtained": float(obtained[label]), "deviations": float(deviations[label])}
            worst = {"split": split, "class": images.classes[label], "asked": share, **found}
    return worst


def _duplicates(images: Labelled, facts: Facts, name: Name) -> dict[str, Any]:
    """Images whose prepared pixels are those of another one."""
    _, group, size = np.unique(facts.table["twin"][images.row], return_inverse=True, return_counts=True)
    lowest, highest = np.full(len(size), np.iinfo(np.int64).max), np.full(len(size), -1)
    np.minimum.at(lowest, group, images.label)
    np.maximum.at(highest, group, images.label)
    contradicted = np.flatnonzero(highest > lowest)

    def pairs(groups: Int64[np.ndarray, " m"]) -> list[list[str]]:
        # Sorting groups by size would hide small ones; the first few, by name, are enough to go and look.
        named = [sorted(name(int(images.row[row])) for row in np.flatnonzero(group == one)[:2]) for one in groups[:LISTED]]
        return sorted(named)

    straddling = images.division.straddling
    return {
        "copies": int((size - 1).sum()),
        "copies_files": pairs(np.flatnonzero(size > 1)),
        "across_splits": int(straddling.sum()),
        "across_splits_files": sorted(name(int(row)) for row in images.row[straddling][:LISTED]),
        "contradictory": len(contradicted),
        "contradictory_files": pairs(contradicted),
    }


def _notes(found: dict[str, Any]) -> list[str]:
    images, duplicates = found["images"], found["duplicates"]
    ratio, worst = found["largest_to_smallest_class"], found["stratification"]
    share = f"{worst['obtained']:.3f} of class {worst['class']} where {worst['asked']:.3f} was asked"
    said = {
        f"unreadable, left out: {images['unreadable']} of {images['found']} images": images["unreadable"],
        f"in a higher split too: {duplicates['across_splits']} images, of which {images['dropped_duplicates']} dropped": duplicates["across_splits"],
        f"exact copies of other images: {duplicates['copies']}": duplicates["copies"],
        f"pictures under two different labels: {duplicates['contradictory']}": duplicates["contradictory"],
        f"images that show next to nothing: {found['near_constant']['count']}": found["near_constant"]["count"],
        f"files with several frames, of which the first was taken: {found['animated']['count']}": found["animated"]["count"],
        f"images more than {LONG:g} times as long as wide: {found['sizes']['long']['count']}": found["sizes"]["long"]["count"],
        f"the largest class has {ratio:.1f} times the images of the smallest": ratio >= IMBALANCED,
        f"the {worst['split']} split holds {share}": worst["deviations"] > 4,
    }
    return [line for line, holds in said.items() if holds]
