"""Where the model to ship is wrong: class by class, mistaken for what, and the very images on which it parts from the teacher."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int, UInt8
from markupsafe import Markup

from slimline.report import figures
from slimline.report.numbers import count, label, percent, signed
from slimline.report.pictures import address
from slimline.report.shown import Card, Cards, Section, Shown, Table
from slimline.report.words import SHIPPED, TEACHER, Numbers

MOST_CLASSES = 16
"""Classes of a confusion matrix that still fit a figure, and rows of the table of classes."""
CARDS = 24
"""Images that are shown, of all kinds together."""
SIDE = 96
"""Pixels of one."""

Pixels = UInt8[np.ndarray, "channels height width"]

LOST, WON, BOTH = "Right by the teacher alone", "Right by the quantized model alone", "Both wrong, each in its own way"
SHARES = {LOST: 12, WON: 6, BOTH: 6}
"""How many of each kind at most."""


def picked(scorecard: Numbers) -> dict[str, list[Numbers]]:
    """By kind, the images on which teacher and the model to ship part, as far as they are shown."""
    found: dict[str, list[Numbers]] = {kind: [] for kind in SHARES}
    for row in scorecard["disagreements"]["shown"]:
        teacher, shipped = (row["answers"][name]["predicted"] for name in (TEACHER, SHIPPED))
        if teacher != shipped:
            kind = {teacher: LOST, shipped: WON}.get(row["actual"], BOTH)
            if len(found[kind]) < SHARES[kind]:
                found[kind].append(row)
    return {kind: rows for kind, rows in found.items() if rows}


def section(scorecard: Numbers, images: Mapping[int, Pixels]) -> Section:
    """Confusion matrices, the classes that lost most, and the images of `picked` as far as `images` has them, by number in the test split."""
    classes, models = scorecard["data"]["class_names"], scorecard["models"]
    confusions = {name: _matrix(models[name]["confusion"], len(classes)) for name in (TEACHER, SHIPPED)}
    return Section(_confusions(confusions, classes), _classes(scorecard, classes), _pictures(scorecard, classes, images))


def _pictures(scorecard: Numbers, classes: Sequence[str], images: Mapping[int, Pixels]) -> list[Cards]:
    pair = scorecard["comparisons"][f"{SHIPPED}_vs_{TEACHER}"]
    totals = {LOST: pair["only_second"], WON: pair["only_first"]}
    shown = []
    for kind, rows in picked(scorecard).items():
        cards = [_card(row, classes, images[row["image"]]) for row in rows if row["image"] in images]
        total = totals.get(kind, len(cards))
        part = f", {count(len(cards))} shown" if total > len(cards) else ""
        if cards:
            shown.append(Cards(f"{kind}: {count(total)}{part}" if kind in totals else kind, cards))
    return shown


def _card(row: Numbers, classes: Sequence[str], pixels: Pixels) -> Card:
    said = [
        f"{label(name)}: {classes[row['answers'][name]['predicted']]}, {100 * row['answers'][name]['probability']:.0f}\u202f%"
        for name in (TEACHER, SHIPPED)
    ]
    actual = classes[row["actual"]]
    return Card(address(pixels, SIDE), f"Test image {row['image']}, class {actual}; {'; '.join(said)}", [f"actual: {actual}", *said])


def _classes(scorecard: Numbers, classes: Sequence[str]) -> Table:
    teacher, shipped = (scorecard["models"][name]["per_class"] for name in (TEACHER, SHIPPED))
    tested = [place for place in range(len(classes)) if shipped[place]["images"]]
    order = sorted(tested, key=lambda place: (shipped[place]["right"] - teacher[place]["right"]) / shipped[place]["images"])[:MOST_CLASSES]
    rows = []
    for place in order:
        before, after = teacher[place], shipped[place]
        images, change = after["images"], after["right"] - before["right"]
        interval = f"{percent(after['accuracy_low'], images)} to {percent(after['accuracy_high'], images)}"
        shares = percent(before["accuracy"], images), percent(after["accuracy"], images)
        rows.append([classes[place], signed(change), *shares, interval, count(images)])
    part = f"The {len(order)} classes of {count(len(classes))} that lost most; metrics/scorecard.json has all. " if len(order) < len(classes) else ""
    return Table(
        "Accuracy by class, those that lost most first",
        ["Class", "Images right, change", label(TEACHER), label(SHIPPED), "its interval", "Test images"],
        rows,
        f"{part}Sorted by the share that was lost: what stands first is there partly by chance.",
    )


def _matrix(counts: Sequence[tuple[int, int, int]], classes: int) -> Int[np.ndarray, "actual predicted"]:
    matrix = np.zeros((classes, classes), dtype=np.int64)
    for actual, predicted, images in counts:
        matrix[actual, predicted] = images
    return matrix


def _confusions(confusions: Mapping[str, Int[np.ndarray, "actual predicted"]], classes: Sequence[str]) -> list[Shown]:
    kept = figures.hardest(list(confusions.values()), MOST_CLASSES)
    part = "" if len(kept) == len(classes) else f" The {len(kept)} of {count(len(classes))} classes with the most errors; the others are left out."
    shown = []
    for name, matrix in confusions.items():
        images = int(matrix.sum())
        errors = f"{count(images - int(matrix.trace()))} of {count(images)} test images off the diagonal"
        shown.append(
            Shown(
                Markup(figures.confusion(matrix[kept][:, kept], [classes[index] for index in kept], name)),
                f"Confusion matrix of the {label(name)} model: {errors}. {_mistakes(matrix, classes)}",
                f"Confusion matrix of the {label(name)} model, test images. Blue: right; orange: errors.{part}",
            )
        )
    return shown


def _mistakes(matrix: Int[np.ndarray, "actual predicted"], classes: Sequence[str]) -> str:
    """The three most frequent mistakes, for who cannot see the matrix."""
    wrong = matrix - np.diag(np.diagonal(matrix))
    worst = [np.unravel_index(place, matrix.shape) for place in np.argsort(-wrong, axis=None, kind="stable")[:3] if wrong.flat[place]]
    told = [f"{classes[actual]} taken for {classes[predicted]} {count(int(wrong[actual, predicted]))}×" for actual, predicted in worst]
    return f"Most often: {'; '.join(told)}." if told else "No mistakes."
