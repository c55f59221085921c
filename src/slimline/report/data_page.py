"""`reports/data.html`: the prepared images to look at, and what is odd about them."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from slimline.errors import SlimlineError
from slimline.paths import Paths
from slimline.report.pictures import address
from slimline.report.rendering import render

A_CLASS = 10
"""Images of a class that are shown."""
CLASSES = 60
"""Classes that are shown: the smallest, where trouble is."""
CARDS = 36
"""Odd images of a kind that are shown."""


@dataclass(frozen=True)
class Card:
    """An image, what is to be said of it, and the file that it came from."""

    source: str
    title: str
    file: str


@dataclass(frozen=True)
class Group:
    """Images that have something in common."""

    title: str
    text: str
    cards: Sequence[Card]


@dataclass(frozen=True)
class Class:
    """A row of the table of classes."""

    name: str
    counts: Mapping[str, int]
    images: Sequence[str]


def data_page(paths: Paths) -> str:
    """The page as HTML text, from `data/prepared`, `data/files.csv`, `data/origin.json` and `metrics/prepare.json`.

    Raises:
        SlimlineError: one of them is missing.
    """
    try:
        name = json.loads(paths.origin.read_text())["name"]
        found = json.loads(paths.stage_metrics("prepare").read_text())
        description = json.loads((paths.prepared / "dataset.json").read_text())
        arrays = {split: np.load(paths.prepared / split / "images.npy", mmap_mode="r") for split in description["counts"]}
        labels = np.load(paths.prepared / "train" / "labels.npy")
        noise, duplicates = found.get("label_noise"), found["duplicates"]
        doubtful = {
            one["file"]: f"{one['class']}, or rather {one['likelier']}? ({one['split']})" for one in (noise["files"] if noise else [])[:CARDS]
        }
        contradicted = list(chain.from_iterable(duplicates["contradictory_files"]))[:CARDS]
        constant = found["near_constant"]["files"][:CARDS]
        places = _places(paths.files, {*doubtful, *contradicted, *constant})
    except (OSError, ValueError, KeyError) as error:
        raise SlimlineError(f"{paths.root}: no prepared data to show ({error}); run the prepare stage (dvc repro prepare)") from error

    def cards(titles: Mapping[str, str]) -> list[Card]:
        known = [(file, title, places[file]) for file, title in titles.items() if file in places]
        return [Card(address(arrays[split][row]), title, file) for file, title, (split, row, _) in known]

    def labelled(files: Iterable[str]) -> list[Card]:
        return cards({file: places[file][2] for file in files if file in places})

    groups = []
    if noise:
        groups.append(Group("Labels that are perhaps wrong", noise["summary"], cards(doubtful)))
    if contradicted:
        text = f"{duplicates['contradictory']} pictures carry two different labels; one of each pair is wrong."
        groups.append(Group("The same picture under two labels", text, labelled(contradicted)))
    if constant:
        groups.append(Group("Images that show next to nothing", f"{found['near_constant']['count']} in all.", labelled(constant)))
    channels, side, _ = description["input_shape"]
    return render(
        "data.html",
        name=name,
        images=description["counts"],
        classes=description["classes"],
        side=side,
        channels=channels,
        notes=found["notes"],
        shown=_classes(found["classes"], description["classes"], arrays["train"], labels),
        groups=groups,
    )


def _places(files: Path, wanted: set[str]) -> dict[str, tuple[str, int, str]]:
    """Split, row and class of those files that were prepared."""
    with files.open(newline="", encoding="utf-8") as lines:
        return {line["file"]: (line["split"], int(line["row"]), line["class"]) for line in csv.DictReader(lines) if line["file"] in wanted}


def _classes(counts: dict[str, Any], names: Sequence[str], images: np.ndarray, labels: np.ndarray) -> list[Class]:
    rarest = sorted(range(len(names)), key=lambda index: counts[names[index]]["train"])[:CLASSES]
    samples = {index: np.flatnonzero(labels == index)[:A_CLASS] for index in sorted(rarest)}
    return [Class(names[index], counts[names[index]], [address(images[row]) for row in rows]) for index, rows in samples.items()]
