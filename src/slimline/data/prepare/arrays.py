"""Any source to `data/prepared/`: one pass over the source, then one over the pixels, in memory that grows by some 200 bytes an image."""

import csv
import hashlib
import json
import unicodedata
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8
from numpy.lib.format import write_array_header_1_0
from tqdm import tqdm

from slimline.data.prepare import checks
from slimline.data.prepare.checks import Labelled
from slimline.data.prepare.decode import Form
from slimline.data.prepare.divide import NONE, SPLITS, divide, stirred
from slimline.data.prepare.pool import Facts, chunks, decoded, processors
from slimline.data.sources import layout
from slimline.data.sources.item import NO_CLASS, UNLABELLED, Folder, Item, Membership
from slimline.errors import SlimlineError
from slimline.files import whole_file, write_json
from slimline.params.data import Data

COPIED_BYTES = 8 * 2**20
"""Prepared pixels in memory at a time."""


class Origins:
    """Where each item lies, in one buffer: a text of its own for each of a million images would take ten times the room."""

    def __init__(self) -> None:
        self._text, self._ends = bytearray(), array("q", [0])

    def append(self, origin: str) -> None:
        self._text += origin.encode("utf-8", "backslashreplace")
        self._ends.append(len(self._text))

    def __getitem__(self, row: int) -> str:
        return self._text[self._ends[row] : self._ends[row + 1]].decode()


@dataclass(frozen=True)
class Found:
    """A source, read to its end: the prepared pixels of item n lie at row n of the spool file.

    Args:
        facts, origins: row by row.
        belongs: number of the class and split, or folder, of each row, in `kinds`.
        kinds: those that hold readable images, by number.
    """

    facts: Facts
    origins: Origins
    belongs: Int64[np.ndarray, " n"]
    kinds: dict[Membership | Folder, int]


@dataclass(frozen=True)
class Rows:
    """The images of one split, in its order: their rows in the spool file, and their classes' numbers."""

    row: Int64[np.ndarray, " m"]
    label: Int64[np.ndarray, " m"]


@dataclass(frozen=True)
class Prepared:
    """What was prepared.

    Args:
        description: as in `dataset.json`.
        report: as in `metrics/prepare.json`.
    """

    description: dict[str, Any]
    report: dict[str, Any]
    _splits: dict[str, Rows]
    _origins: Origins

    def write_files(self, path: Path) -> None:
        """Write a CSV that names the file of every prepared image: split, its row there, class, file."""
        with whole_file(path) as file:
            text = TextIOWrapper(file, encoding="utf-8", newline="")
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(("split", "row", "class", "file"))
            names = {**dict(enumerate(self.description["classes"])), NO_CLASS: ""}
            for split, images in self._splits.items():
                for place, (row, label) in enumerate(zip(images.row.tolist(), images.label.tolist(), strict=True)):
                    writer.writerow((split, place, names[label], self._origins[row]))
            text.detach()  # flushes, and leaves closing to `whole_file`


def prepare(items: Iterable[Item], params: Data, folder: Path, *, seed: int, workers: int | None = None) -> Prepared:
    """Write the arrays of each split and `dataset.json` into `folder`, an existing and empty one.

    Rows are in the order of their digests, stirred with the seed. `dataset.json` says nothing of where the images came from.

    Args:
        workers: processes that decode; None: one a processor.

    Raises:
        SlimlineError: an image that cannot be read (unless they are skipped), fewer than two classes, classes that differ in
            case alone, a class with too few images in a split.
    """
    form = Form(params.size, params.channels, params.resize, params.background, params.largest_pixels, params.smallest_side)
    spool = folder / "spool"
    try:
        found = _read(items, params, form, spool, workers or processors())
        members = _members(list(found.kinds))
        untold = _untold(found, members)
        images = _labelled(found, members, untold, params, seed)
        checks.refuse_small_classes(images, params.smallest_class)
        order = _order(images)
        splits = {split: Rows(images.row[chosen], images.label[chosen]) for split, chosen in order.items()}
        if len(untold):
            kept = _unequal(untold, images, found.facts) if params.duplicates == "drop" else untold
            kept = kept[np.argsort(stirred(found.facts.table["digest"][kept], seed), kind="stable")]
            splits[UNLABELLED] = Rows(kept, np.full(len(kept), NO_CLASS))
        pixels = np.memmap(spool, np.uint8, "r").reshape(-1, form.channels, form.size, form.size)
        description = _write(splits, images.classes, pixels, form, folder)
        report = checks.report(images, found.facts, found.origins.__getitem__)
        if len(untold):
            report["images"] |= {UNLABELLED: len(kept), "dropped_unlabelled_duplicates": len(untold) - len(kept)}
        if params.label_noise:
            # scikit-learn takes a second to import, and worker processes import this module too.
            from slimline.data.prepare.noise import label_noise

            judged = np.concatenate(list(order.values()))
            noise = label_noise(pixels, images.label[judged], seed=seed, rows=images.row[judged])
            report["label_noise"] = checks.doubts(noise, images, judged, found.origins.__getitem__)
            if noise.worth_telling:
                report["notes"].append(noise.sentence())
    finally:
        spool.unlink(missing_ok=True)
    return Prepared(description, report, splits, found.origins)


def _read(items: Iterable[Item], params: Data, form: Form, spool: Path, workers: int) -> Found:
    origins, belongs, kinds = Origins(), array("q"), dict[Membership | Folder, int]()
    tables, reasons = [], dict[int, str]()
    bar = "prepare {percentage:3.0f} %|{bar}| {elapsed}, {remaining} left{postfix}"
    with tqdm(total=1.0, bar_format=bar, disable=None, leave=False) as progress:
        for part, facts in decoded(chunks(items, form.channels * form.size**2), form, spool, workers):
            for row, reason in facts.reasons.items():
                if params.unreadable == "refuse":
                    hint = "data.unreadable: skip leaves such files out and lists them all"
                    raise SlimlineError(f"{params.source['path']}: '{part.origins[row]}' {reason}; {hint}")
                reasons[len(belongs) + row] = reason
            for origin, kind, readable in zip(part.origins, part.belongs, facts.table["readable"], strict=True):
                origins.append(origin)
                belongs.append(kinds.setdefault(kind, len(kinds)) if readable else NONE)
            facts.table["group"] = [b"" if group is None else hashlib.sha256(group.encode()).digest() for group in part.groups]
            tables.append(facts.table)
            progress.set_postfix_str(f"{len(belongs):,} images", refresh=False)
            progress.update(part.share - progress.n)
    if not kinds:
        raise SlimlineError(f"{params.source['path']}: no readable image in it; mend the files, or name another path")
    return Found(Facts(np.concatenate(tables), reasons), origins, np.array(belongs, np.int64), kinds)


def _labelled(found: Found, members: Sequence[Membership], untold: Int64[np.ndarray, " m"], params: Data, seed: int) -> Labelled:
    classes = _ordered({member.label for member in members if member.split != UNLABELLED})
    number = {label: index for index, label in enumerate(classes)} | {"": NO_CLASS}
    row = np.setdiff1d(np.flatnonzero(found.facts.table["readable"]), untold)
    table = found.facts.table[row]
    kind = found.belongs[row]
    label = np.array([number[member.label] for member in members])[kind]
    given = np.array([SPLITS.index(member.split) if member.split in SPLITS else NONE for member in members])[kind]
    division = divide(
        table["digest"], table["twin"], table["group"], given,
        seed=seed, validation=params.validation, test=params.test, drop=params.duplicates == "drop",
    )  # fmt: skip
    return Labelled(row, label, division, classes)


def _untold(found: Found, members: Sequence[Membership]) -> Int64[np.ndarray, " m"]:
    """The readable rows whose class nobody told."""
    untold = np.array([member.split == UNLABELLED for member in members])
    return np.flatnonzero((found.belongs != NONE) & untold[found.belongs])


def _unequal(untold: Int64[np.ndarray, " m"], images: Labelled, facts: Facts) -> Int64[np.ndarray, " k"]:
    """Those of the rows `untold` that no labelled image equals: the labelled splits go before."""
    twin = facts.table["twin"]
    return untold[~np.isin(twin[untold], twin[images.row])]


def _members(kinds: list[Membership | Folder]) -> list[Membership]:
    """Class and split of each kind, the names of classes trimmed, and composed as Unicode composes them (a Mac writes é as two characters).

    Raises:
        SlimlineError: a class without a name, or with one that cannot be printed.
    """
    told = layout.read(kind for kind in kinds if isinstance(kind, Folder))
    members = [told[kind] if isinstance(kind, Folder) else kind for kind in kinds]
    for member in members:
        if member.split != UNLABELLED and not (member.label.strip() and member.label.strip().isprintable()):
            raise SlimlineError(f"data: the class {ascii(member.label)[:100]} has a name that cannot be printed; give it another one")
    return [Membership(unicodedata.normalize("NFC", member.label.strip()), member.split) for member in members]


def _ordered(labels: set[str]) -> tuple[str, ...]:
    """The classes: whole numbers by value, names as text.

    Raises:
        SlimlineError: fewer than two, or two that differ in case alone.
    """
    if len(labels) < 2:
        raise SlimlineError(f"data: found {len(labels)} class ({', '.join(labels)}); a classifier needs at least 2")
    folded: dict[str, str] = {}
    for label in sorted(labels):
        other = folded.setdefault(label.casefold(), label)
        if other != label:
            raise SlimlineError(f"data: the classes '{other}' and '{label}' differ in case alone; give them one name, or two that differ")
    numbers = all(label.isascii() and label.isdecimal() for label in labels)
    return tuple(sorted(labels, key=lambda label: (int(label) if numbers else 0, label)))


def _order(images: Labelled) -> dict[str, Int64[np.ndarray, " m"]]:
    """For each split, its images in the order of their keys; images of equal content, in the order of their labels."""
    ordered = np.lexsort((images.label, images.division.key))
    split = images.division.split[ordered]
    return {name: ordered[split == number] for number, name in enumerate(SPLITS)}


def _write(
    splits: dict[str, Rows], classes: Sequence[str], read: UInt8[np.ndarray, "n channels size size"], form: Form, folder: Path
) -> dict[str, Any]:
    """Write the arrays and `dataset.json`; return what that holds.

    `mean` and `std` are a number a channel over the training split, of pixels in [0, 1]; a channel that does not change has one
    level for its `std`. `digest` is over names and arrays.

    Args:
        read: prepared pixels of every item of the source.
    """
    shape = read.shape[1:]
    step = max(1, COPIED_BYTES // read[0].nbytes)
    histogram = np.zeros((shape[0], 256), np.int64)
    counts = {split: len(images.row) for split, images in splits.items()}
    digest = hashlib.sha256(json.dumps([classes, shape, counts]).encode())
    for split, images in splits.items():
        (folder / split).mkdir()
        with (folder / split / "images.npy").open("wb") as file:  # a map would end the process where the disk is full
            write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (counts[split], *shape)})
            for start in range(0, counts[split], step):
                pixels = read[images.row[start : start + step]]
                file.write(pixels.data)
                digest.update(pixels.data)
                if split == "train":
                    histogram += [np.bincount(pixels[:, channel].reshape(-1), minlength=256) for channel in range(shape[0])]
        np.save(folder / split / "labels.npy", images.label)
        digest.update(images.label.tobytes())
    levels = np.arange(256) / 255
    means = histogram @ levels / histogram.sum(1)
    variances = [float(h @ (levels - mean) ** 2 / h.sum()) for h, mean in zip(histogram, means, strict=True)]
    description = {
        "classes": list(classes),
        "input_shape": list(shape),
        "counts": counts,
        "mean": [float(mean) for mean in means],
        "std": [max(variance**0.5, 1 / 255) for variance in variances],
        "digest": digest.hexdigest(),
        "resize": form.resize,
        "background": form.background,
    }
    write_json(folder / "dataset.json", description)
    return description
