"""`reports/index.html`: one page that needs nothing beside itself, made from the numbers the run has just written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Int
from markupsafe import Markup
from numpy import ndarray

from slimline.report import figures, one_bit
from slimline.report.curves import Curve, read, read_all, steps_to
from slimline.report.numbers import count, label, milliseconds, percent, points, size, times
from slimline.report.rendering import render
from slimline.report.robustness import NOT_SHOWN, attacked, less_robust, masked, verdict
from slimline.report.robustness import curves as robustness_curves
from slimline.report.shown import Shown
from slimline.report.tables import comparisons_table, models_table
from slimline.report.words import (
    SHIPPED,
    TEACHER,
    Level,
    Numbers,
    accuracy_sentence,
    batch,
    drawbacks,
    headline,
    helped,
    meaning,
    on_the_grids,
    pace,
    reading,
    smaller,
)

TAUGHT, ALONE = "student", "student_alone"

MOST_CLASSES = 16
"""Classes of a confusion matrix that still fit a figure."""


@dataclass(frozen=True)
class Tile:
    """One of the page's first numbers; `mood` is "good", "worse", or "open" where the data do not decide."""

    value: str
    meaning: str
    mood: str


MOODS = {"faster": "good", "better": "good", "slower": "worse", "worse": "worse"}
"""Of the words of `pace` and `reading`; every other word leaves it open."""


def page(
    scorecard: Numbers,
    latency: Numbers,
    confusions: Mapping[str, Int[ndarray, "actual predicted"]],
    curves: Mapping[str, Path],
    classes: Sequence[str],
    *,
    confidence: float | None = None,
    again: Mapping[str, Sequence[Path]] | None = None,
) -> str:
    """The report as HTML text; the same arguments give the same bytes.

    Args:
        scorecard, latency: as in `metrics/scorecard.json` and `metrics/latency.json`.
        confusions: counts on the test split by model.
        curves: training curve by model; a file that is not there is a model that was not trained.
        classes: names, in the order of the matrices' rows.
        again: curves of the same models trained from further seeds.
        confidence: level of every interval, as 0.95; without it the page says "interval" and names no level.

    Raises:
        SlimlineError: a curve's file is no curve.
    """
    trained, level = read(curves), Level(confidence)
    return render(
        "template.html",
        headline=headline(scorecard, latency),
        sentences=[accuracy_sentence(scorecard, level), meaning(scorecard)],
        tiles=_tiles(scorecard, latency),
        drawbacks=[*drawbacks(scorecard, latency), *less_robust(scorecard), *masked(scorecard)],
        attacked=next(iter(attacked(scorecard).values()), None),
        data=scorecard["data"],
        models=list(scorecard["models"]),
        rows=models_table(scorecard, latency),
        compared=comparisons_table(scorecard),
        one_bit=one_bit.section(scorecard, latency, level),
        groups={
            "Size and accuracy": [_tradeoff(scorecard, level)],
            "Speed": _latencies(latency),
            "With and without the teacher": _help(scorecard, trained, again or {}),
            "Training": _curves(trained, list(scorecard["models"])),
            "Robustness": _robustness(scorecard),
            "Mistakes": _confusions(confusions, classes),
        },
        untrained=[label(name) for name in curves if name not in trained],
        latency=latency,
        level=str(level),
    )


def _tiles(scorecard: Numbers, latency: Numbers) -> list[Tile]:
    ratio, pair = smaller(scorecard, SHIPPED), scorecard["comparisons"][f"{SHIPPED}_vs_{TEACHER}"]
    tiles = [
        Tile(times(ratio), "smaller than the teacher", "good") if ratio > 1 else Tile(times(1 / ratio), "the teacher's size: not smaller", "worse")
    ]
    for key, speed in latency["ratios_to_teacher"][SHIPPED].items():
        word = pace(speed)
        said = "" if word == "faster" else f": {word}"
        tiles.append(Tile(times(speed["speed_up"]), f"the teacher's speed at {batch(key)}{said}", MOODS.get(word, "open")))
    word = reading(pair)
    return [*tiles, Tile(points(pair["difference"], pair["images"]), f"points of test accuracy against the teacher: {word}", MOODS.get(word, "open"))]


def _tradeoff(scorecard: Numbers, level: Level) -> Shown:
    models, test = scorecard["models"], scorecard["data"]["test"]
    told = "; ".join(f"{label(name)} {size(card['packed_bytes'])}, {percent(card['accuracy'], test)}" for name, card in models.items())
    return Shown(
        Markup(figures.tradeoff(models)),
        f"Test accuracy against packed size: {told}.",
        f"Test accuracy against the packed file's size. Bars: {level} of each accuracy, {count(test)} images. Neither axis starts at zero; "
        "models on one spot are drawn side by side. Compare two models by the paired table, not by whether their bars overlap.",
    )


def _latencies(latency: Numbers) -> list[Shown]:
    models = latency["models"]
    shown = []
    for key in models[TEACHER]:
        told = "; ".join(f"{label(name)} {milliseconds(timings[key]['p50_ms'])} ms" for name, timings in models.items())
        shown.append(
            Shown(
                Markup(figures.latency(models, key)),
                f"Median latency at {batch(key)}: {told}.",
                f"Time of one call at {batch(key)}: bar, median of {count(latency['rounds'])} rounds; whisker, to the 95th percentile.",
            )
        )
    return shown


def _curves(curves: Mapping[str, Curve], order: Sequence[str]) -> list[Shown]:
    if not curves:
        return []
    best = "; ".join(f"{label(name)} best in epoch {curve.epoch[curve.best]} of {curve.epoch[-1]}" for name, curve in curves.items())
    return [
        Shown(
            Markup(figures.accuracy_curves(curves, order)),
            f"Validation accuracy by epoch: {best}.",
            "Validation accuracy by epoch. The mark is the epoch whose weights were kept. Pruned and quantized models start from trained weights.",
        ),
        Shown(
            Markup(figures.loss_curves(curves, order)),
            f"Training loss by epoch, from first to last: "
            f"{'; '.join(f'{label(name)} {curve.train_loss[0]:.3g} to {curve.train_loss[-1]:.3g}' for name, curve in curves.items())}.",
            "Training loss by epoch. Models that learn from the teacher have another loss than those that learn from labels: "
            "compare a curve with itself, not with its neighbours.",
        ),
    ]


def _help(scorecard: Numbers, trained: Mapping[str, Curve], again: Mapping[str, Sequence[Path]]) -> list[Shown]:
    if "distillation" not in scorecard or not {TAUGHT, ALONE} <= set(trained):
        return []
    curves = {name: [trained[name], *read_all(again.get(name, ()))] for name in (TAUGHT, ALONE)}
    sooner = _sooner(trained[TAUGHT], trained[ALONE], scorecard["data"]["validation"])
    told = " ".join(filter(None, [helped(scorecard), sooner, on_the_grids(scorecard)]))
    return [
        Shown(
            Markup(figures.help_curves(curves, list(scorecard["models"]))),
            f"Validation accuracy by training step, with the teacher and without. {told}",
            f"Validation accuracy by training step, with the teacher and without. {told}",
        )
    ]


def _sooner(taught: Curve, alone: Curve, images: int) -> str:
    """After how many steps each first was as accurate on validation images as the control ever was."""
    most = float(alone.val_accuracy.max())
    own, theirs = steps_to(alone, most), steps_to(taught, most)
    assert own is not None, "its own best"
    there = "did not get there" if theirs is None else f"was there after {count(theirs)}"
    return f"The student alone took {count(own)} steps to its best, {percent(most, images)} of the validation images; the student {there}."


def _robustness(scorecard: Numbers) -> list[Shown]:
    drawn = robustness_curves(scorecard)
    if not drawn:
        return []
    images = next(iter(attacked(scorecard).values()))["images"]
    told = "; ".join(
        f"{title} {next(iter(lines.values()))[-1][0]:g}: {', '.join(f'{label(name)} {percent(line[-1][1], images)}' for name, line in lines.items())}"
        for title, lines in drawn.items()
    )
    doubted = [label(name) for name, one in attacked(scorecard).items() if verdict(one) == NOT_SHOWN]
    doubt = f" Robustness not shown: {', '.join(doubted)}; their gradients may be masked." if doubted else ""
    return [
        Shown(
            Markup(figures.robustness(drawn, list(scorecard["models"]))),
            f"Accuracy under attack, at the largest budget of each: {told}.",
            f"Accuracy (upwards) against the budget of each attack, on {count(images)} test images. “All within” counts an image as "
            f"lost that any attack of that measure fools. A high curve shows that these attacks failed, not that all would.{doubt}",
        )
    ]


def _confusions(confusions: Mapping[str, Int[ndarray, "actual predicted"]], classes: Sequence[str]) -> list[Shown]:
    names = [name for name in (TEACHER, SHIPPED) if name in confusions]
    kept = figures.hardest([confusions[name] for name in names], MOST_CLASSES)
    part = "" if len(kept) == len(classes) else f" The {len(kept)} of {count(len(classes))} classes with the most errors; the others are left out."
    shown = []
    for name in names:
        matrix = confusions[name]
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


def _mistakes(matrix: Int[ndarray, "actual predicted"], classes: Sequence[str]) -> str:
    """The three most frequent mistakes, for who cannot see the matrix."""
    wrong = [(int(matrix[a, p]), classes[a], classes[p]) for a in range(len(classes)) for p in range(len(classes)) if a != p and matrix[a, p]]
    told = [f"{actual} taken for {predicted} {count(times)}×" for times, actual, predicted in sorted(wrong, key=lambda one: -one[0])[:3]]
    return f"Most often: {'; '.join(told)}." if told else "No mistakes."
