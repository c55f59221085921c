"""The page's two tables, as rows of text."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from slimline.report.numbers import count, milliseconds, p_value, percent, points, short, size, times
from slimline.report.robustness import MEASURES, NOT_SHOWN, attacked, verdict, worse_than_teacher
from slimline.report.words import SHIPPED, TEACHER, Numbers, batch, pace, reading, sides, smaller


@dataclass(frozen=True)
class Cell:
    """One number, a smaller line below it, and whether it is a change for the worse against the teacher."""

    text: str
    note: str = ""
    worse: bool = False


@dataclass(frozen=True)
class Row:
    """One quantity over all models, in the order of the columns; `unit` is said beside its name."""

    name: str
    unit: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Part:
    """Rows of one kind, under a heading."""

    title: str
    rows: list[Row]


@dataclass(frozen=True)
class Compared:
    """One paired comparison, in words."""

    name: str
    only_first: str
    only_second: str
    difference: str
    interval: str
    p_value: str
    reading: str
    margin: str


def columns(scorecard: Numbers) -> list[str]:
    """The models from left to right: the teacher, beside it the model to ship, which a phone then shows too, and those on the way."""
    first = (TEACHER, SHIPPED)
    return [*first, *(name for name in scorecard["models"] if name not in first)]


def models_table(scorecard: Numbers, latency: Numbers) -> list[Part]:
    """Every quantity of every model, in the order of `columns`."""
    data, models = scorecard["data"], {name: scorecard["models"][name] for name in columns(scorecard)}
    test = data["test"]

    def row(name: str, unit: str, cell: Callable[[Any], Cell]) -> Row:
        return Row(name, unit, tuple(cell(card) for card in models.values()))

    def params(card: Numbers) -> Cell:
        zeros = card["params"] - card["nonzero_params"]
        return Cell(count(card["params"]), f"{count(zeros)} of them zero" if zeros else "")

    accuracy = [
        row(
            "Test accuracy",
            f"{test:,} images",
            lambda card: Cell(percent(card["accuracy"], test), f"{percent(card['accuracy_low'], test)} to {percent(card['accuracy_high'], test)}"),
        ),
        row("Test errors", f"of {test:,}", lambda card: Cell(count(card["errors"]))),
        row("Agrees with teacher", "on test images", lambda card: _agreement(card, test)),
        row("Validation accuracy", f"{data['validation']:,} images", lambda card: Cell(percent(card["validation_accuracy"], data["validation"]))),
        row("Calibration error", "ECE, test", lambda card: Cell(percent(card["ece"], test))),
        row("Negative log-likelihood", "nats, test", lambda card: Cell(f"{card['nll']:.3f}")),
    ]
    if all(card["top5_accuracy"] is not None for card in models.values()):
        accuracy.insert(1, row("Top-5 accuracy", f"{test:,} images", lambda card: Cell(percent(card["top5_accuracy"], test))))
    cost = [
        row("Packed file", "model.slim", lambda card: Cell(size(card["packed_bytes"]), f"{count(card['packed_bytes'])} bytes")),
        Row("Times smaller", "than teacher", tuple(_smaller(scorecard, name) for name in models)),
        row("Parameters", "", params),
        row("MACs", "per image", lambda card: Cell(short(card["macs"]))),
        row("Bit operations", "per image", lambda card: Cell(short(card["bops"]))),
    ]
    speed = []
    for key in latency["models"][TEACHER]:
        speed.append(Row("Latency, median", f"ms, {batch(key)}", tuple(_latency(latency, name, key) for name in models)))
        speed.append(Row("Times faster", f"than teacher, {batch(key)}", tuple(_faster(latency, name, key) for name in models)))
    speed.extend(_sessions(latency, list(models)))
    parts = {"Accuracy": accuracy, "Size and cost": cost, "Speed": speed, "Robustness": _under_attack(scorecard)}
    return [Part(title, rows) for title, rows in parts.items() if rows]


def _under_attack(scorecard: Numbers) -> list[Row]:
    """What stands under all attacks of a measure, and whether that may be believed; models that were not attacked have a dash."""
    attacks = attacked(scorecard)
    if not attacks:
        return []
    first = next(iter(attacks.values()))
    images, rows = first["images"], []
    for measure, of in first["together"].items():
        for place, point in enumerate(of):

            def cell(name: str, measure: str = measure, place: int = place) -> Cell:
                if name not in attacks:
                    return Cell("–")
                one = attacks[name]["together"][measure][place]
                interval = f"{percent(one['accuracy_low'], images)} to {percent(one['accuracy_high'], images)}"
                return Cell(percent(one["accuracy"], images), interval, worse_than_teacher(scorecard, name, measure, one["budget"]))

            unit = f"all within {MEASURES[measure]} {point['budget']:g}, {images:,} images"
            rows.append(Row("Right under attack", unit, tuple(cell(name) for name in columns(scorecard))))
    verdicts = {name: verdict(one) for name, one in attacks.items()}
    cells = (Cell(verdicts.get(name, "–"), worse=verdicts.get(name) == NOT_SHOWN) for name in columns(scorecard))
    return [*rows, Row("Masked gradients", "four tests", tuple(cells))]


def _smaller(scorecard: Numbers, name: str) -> Cell:
    if name == TEACHER:
        return Cell("–", "reference")
    ratio = smaller(scorecard, name)
    return Cell(times(ratio), "" if ratio > 1 else "not smaller", worse=ratio <= 1)


def _agreement(card: Numbers, images: int) -> Cell:
    if "agreement" not in card:
        return Cell("–", "reference")
    return Cell(percent(card["agreement"], images), f"{percent(card['agreement_low'], images)} to {percent(card['agreement_high'], images)}")


def _sessions(latency: Numbers, names: Sequence[str]) -> Iterator[Row]:
    """Throughput, start and memory; a dash for what does not run on ONNX Runtime or whose memory the system does not tell."""
    last = list(latency["models"][TEACHER])[-1]
    rates = [latency["models"][name][last]["images_per_second"] for name in names]
    yield Row("Throughput", f"images a second, {batch(last)}", tuple(Cell(short(float(f"{rate:.3g}"))) for rate in rates))
    sessions = [latency["sessions"].get(name) for name in names]
    starts = (Cell("–") if one is None else Cell(milliseconds(one["cold_start_ms"]), f"load {milliseconds(one['load_ms'])}") for one in sessions)
    yield Row("Cold start", "ms, load and first answer", tuple(starts))
    peaks = (None if one is None else one["peak_memory_bytes"][last] for one in sessions)
    yield Row("Peak memory", f"of the session, {batch(last)}", tuple(Cell("–" if peak is None else size(peak)) for peak in peaks))


def _latency(latency: Numbers, name: str, key: str) -> Cell:
    timing = latency["models"][name][key]
    return Cell(milliseconds(timing["p50_ms"]), f"p95 {milliseconds(timing['p95_ms'])}")


def _faster(latency: Numbers, name: str, key: str) -> Cell:
    if name == TEACHER:
        return Cell("–", "reference")
    ratio = latency["ratios_to_teacher"][name][key]
    word = pace(ratio)
    said = "" if word == "faster" else f"{word}: "
    return Cell(times(ratio["speed_up"]), f"{said}{times(ratio['low'])} to {times(ratio['high'])}", worse=word != "faster")


def comparisons_table(scorecard: Numbers) -> list[Compared]:
    """Every paired comparison, in the scorecard's order."""
    rows = []
    for name, pair in scorecard["comparisons"].items():
        first, second = sides(name)
        images = pair["images"]
        rows.append(
            Compared(
                f"{first} against {second}",
                count(pair["only_first"]),
                count(pair["only_second"]),
                points(pair["difference"], images),
                f"{points(pair['low'], images)} to {points(pair['high'], images)}",
                p_value(pair["p_holm"]),
                reading(pair),
                _within(pair),
            )
        )
    return rows


def _within(pair: Numbers) -> str:
    """Whether a loss of the margin or more is ruled out; nothing where no margin is set."""
    if "margin" not in pair:
        return ""
    return "shown" if pair["non_inferior"] else "not shown"
