"""`reports/index.html`: one page that needs nothing beside itself, made from the numbers the run has just written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import UInt8
from markupsafe import Markup
from numpy import ndarray

from slimline.evaluation.layers import Layer
from slimline.report import calibration, figures, layers, mistakes, one_bit, promise
from slimline.report.curves import Curve, read, read_all, steps_to
from slimline.report.gates import verdict
from slimline.report.numbers import count, label, milliseconds, percent, points, size, tick, times
from slimline.report.rendering import render
from slimline.report.robustness import NOT_SHOWN, attacked, less_robust, masked
from slimline.report.robustness import curves as robustness_curves
from slimline.report.robustness import verdict as robustness_verdict
from slimline.report.shown import Section, Shown
from slimline.report.tables import columns, comparisons_table, models_table
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


@dataclass(frozen=True)
class Tile:
    """One of the page's first numbers; `mood` is "good", "worse", or "open" where the data do not decide."""

    value: str
    meaning: str
    mood: str


MOODS = {"faster": "good", "better": "good", "slower": "worse", "worse": "worse"}
"""Of the words of `pace` and `reading`; every other word leaves it open."""
BESIDE = 4
"""Attacks in one figure; more are shared out between two that stand side by side."""


def page(
    scorecard: Numbers,
    latency: Numbers,
    gates: Numbers,
    curves: Mapping[str, Path],
    *,
    confidence: float | None = None,
    again: Mapping[str, Sequence[Path]] | None = None,
    weights: Sequence[Layer] = (),
    images: Mapping[int, UInt8[ndarray, "channels height width"]] | None = None,
) -> str:
    """The report as HTML text; the same arguments give the same bytes.

    Args:
        scorecard, latency, gates: as in `metrics/scorecard.json`, `metrics/latency.json` and `metrics/gates.json`.
        curves: training curve by model; a file that is not there is a model that was not trained.
        again: curves of the same models trained from further seeds.
        weights: what compression left of each layer of the model to ship.
        confidence: level of every interval, as 0.95; without it the page says "interval" and names no level.

    Raises:
        SlimlineError: a curve's file is no curve.
    """
    trained, level = read(curves), Level(confidence)
    lines = [*drawbacks(scorecard, latency), *less_robust(scorecard), *masked(scorecard)]
    sections = {
        "Promised and obtained": promise.section(scorecard),
        "Accuracy against size and speed": Section(_tradeoffs(scorecard, latency, level)),
        "Speed": Section(_latencies(latency)),
        "Mistakes": mistakes.section(scorecard, images or {}),
        "Calibration": calibration.section(scorecard),
        "Robustness": Section(_robustness(scorecard)),
        "Bits and sparsity per layer": layers.section(weights),
        "With and without the teacher": Section(_help(scorecard, trained, again or {})),
        "Training": Section(_curves(trained, list(scorecard["models"]))),
    }
    return render(
        "template.html",
        headline=headline(scorecard, latency),
        gates=verdict(gates),
        sentences=[accuracy_sentence(scorecard, level), meaning(scorecard)],
        tiles=_tiles(scorecard, latency),
        drawbacks=[line for line in lines if label(SHIPPED) in line],
        others=[line for line in lines if label(SHIPPED) not in line],
        attacked=next(iter(attacked(scorecard).values()), None),
        data=scorecard["data"],
        models=columns(scorecard),
        shipped=SHIPPED,
        parts=models_table(scorecard, latency),
        compared=comparisons_table(scorecard),
        one_bit=one_bit.section(scorecard, latency, level),
        margin=next((points(-pair["margin"], pair["images"]) for pair in scorecard["comparisons"].values() if "margin" in pair), None),
        sections={title: section for title, section in sections.items() if section},
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


@dataclass(frozen=True)
class Cost:
    """What accuracy is drawn against.

    Args:
        title: in running text.
        values: by model.
        name: of the figure.
        axis: beside it.
        told, tick: a value in running text, and beside the axis.
        source: the file that has the numbers.
    """

    title: str
    values: Mapping[str, float]
    name: str
    axis: str
    told: Callable[[float], str]
    tick: Callable[[float], str]
    source: str


def _tradeoffs(scorecard: Numbers, latency: Numbers, level: Level) -> list[Shown]:
    models, timings = scorecard["models"], latency["models"]
    first = next(iter(timings[TEACHER]))
    packed = {name: float(card["packed_bytes"]) for name, card in models.items()}
    medians = {name: float(timings[name][first]["p50_ms"]) for name in models}

    def ms(value: float) -> str:
        return f"{milliseconds(value)} ms"

    def short_ms(value: float) -> str:
        return f"{value:g} ms"

    return [
        _tradeoff(scorecard, level, Cost("the packed file's size", packed, "tradeoff", "packed file, model.slim", size, tick, "plots/tradeoff.csv")),
        _tradeoff(
            scorecard,
            level,
            Cost(
                f"median latency at {batch(first)}",
                medians,
                "tradeoff-latency",
                f"median latency at {batch(first)}",
                ms,
                short_ms,
                "plots/latency.csv",
            ),
        ),
    ]


def _tradeoff(scorecard: Numbers, level: Level, cost: Cost) -> Shown:
    models, test = scorecard["models"], scorecard["data"]["test"]
    told = "; ".join(f"{label(name)} {cost.told(cost.values[name])}, {percent(card['accuracy'], test)}" for name, card in models.items())
    return Shown(
        Markup(figures.tradeoff(models, cost.values, name=cost.name, axis=cost.axis, told=cost.told, ticked=cost.tick)),
        f"Test accuracy against {cost.title}: {told}.",
        f"Test accuracy against {cost.title}; up and to the left is better. The line joins models that none beats in both. "
        f"Bars: {level} of each accuracy, {count(test)} images; neither axis starts at zero, models on one spot stand side by side. "
        "Compare two models by the paired table, not by whether their bars overlap.",
        cost.source,
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
                f"Time of one call at {batch(key)}: bar, median of {count(latency['rounds'])} rounds; whisker, to the 95th percentile "
                "(…: beyond the figure).",
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
    told = {
        title: f"{title} {next(iter(lines.values()))[-1][0]:g}: "
        + ", ".join(f"{label(name)} {percent(line[-1][1], images)}" for name, line in lines.items())
        for title, lines in drawn.items()
    }
    doubted = [label(name) for name, one in attacked(scorecard).items() if robustness_verdict(one) == NOT_SHOWN]
    doubt = f" Robustness not shown: {', '.join(doubted)}; their gradients may be masked." if doubted else ""
    caption = (
        f"Accuracy (upwards) against the budget of each attack, on {count(images)} test images. “All within” counts an image as lost that any "
        f"attack of that measure fools. A high curve shows that these attacks failed, not that all would.{doubt}"
    )
    titles = list(drawn)
    cut = BESIDE if len(titles) <= BESIDE else -(-len(titles) // 4) * 2  # an even number: there are two in a row
    return [
        Shown(
            Markup(figures.robustness({title: drawn[title] for title in part}, list(scorecard["models"]), name=f"robustness-{place}")),
            f"Accuracy under attack, at the largest budget of each: {'; '.join(told[title] for title in part)}.",
            "Further attacks, likewise." if place else caption,
        )
        for place, part in enumerate((titles[:cut], titles[cut:]))
        if part
    ]
