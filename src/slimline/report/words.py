"""What the numbers allow one to say: the verdict, and everything that got worse, in plain words."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from slimline.report.numbers import label, milliseconds, percent, points, size, times

TEACHER, SHIPPED = "teacher", "quantized"
STEPS = ("student", "pruned", "quantized")
"""Models of which each is made from the one before; each should bring something."""

Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Level:
    """The level of every interval on the page, where the caller knows it.

    Args:
        confidence: as 0.95; None leaves the word "interval" without a level rather than guess one.
    """

    confidence: float | None

    def __str__(self) -> str:
        return "interval" if self.confidence is None else f"{100 * self.confidence:g}\u202f% interval"


TOLD = 6
"""Images: 2 × 0.5⁶ is below 5 %, 2 × 0.5⁵ is not."""


def batch(key: str) -> str:
    """`batch_64` as `batch 64`."""
    return key.replace("_", " ")


def pace(ratio: Numbers) -> str:
    """A speed-up in one word: "slower" and "faster" only where noise does not explain it (`evaluation.latency.verdict`)."""
    return "not shown faster" if ratio["verdict"] == "no difference shown" else str(ratio["verdict"])


def reading(comparison: Numbers) -> str:
    """What a paired comparison says of the first of the two."""
    if comparison["high"] < 0:
        return "worse"
    return "better" if comparison["low"] > 0 else "no difference shown"


TAUGHT = "student_vs_student_alone"

EFFECTS = {"better": "helps", "worse": "harms", "no difference shown": "not shown to help"}
"""What `reading` says of the student against its control, as a run's tag."""


def headline(scorecard: Numbers, latency: Numbers) -> str:
    """The verdict: size, speed and accuracy of the model to ship, beside the teacher."""
    ratio = smaller(scorecard, SHIPPED)
    weight = f"{times(ratio)} smaller than the teacher" if ratio > 1 else f"not smaller than the teacher ({times(1 / ratio)} its size)"
    return f"The quantized model is {', '.join([weight, *_speeds(latency['ratios_to_teacher'][SHIPPED])])}; {_accuracy(scorecard)}."


def _speeds(ratios: Mapping[str, Numbers]) -> Iterator[str]:
    """A phrase a pace, over all batch sizes of that pace; the intervals stand in the table."""

    def of(word: str) -> list[tuple[str, str]]:
        return [(times(one["speed_up"]), batch(key)) for key, one in ratios.items() if pace(one) == word]

    if faster := of("faster"):
        (ratio, at), *others = faster
        yield " and ".join([f"{ratio} as fast at {at}", *(f"{ratio} at {at}" for ratio, at in others)])
    for word, said, between in (("slower", "slower", " and "), ("not shown faster", "not shown to be faster", " or ")):
        if found := of(word):
            yield f"{said} at {between.join(f'{at} ({ratio} its speed)' for ratio, at in found)}"


def _accuracy(scorecard: Numbers) -> str:
    pair = scorecard["comparisons"][f"{SHIPPED}_vs_{TEACHER}"]
    word = {"worse": "less", "better": "more"}.get(reading(pair))
    gap = points(abs(pair["difference"]), pair["images"]).lstrip("+")
    return f"it is {gap} points {word} accurate" if word else "no difference in accuracy is shown"


def accuracy_sentence(scorecard: Numbers, level: Level) -> str:
    """The verdict's second sentence: errors and the paired difference."""
    models, pair = scorecard["models"], scorecard["comparisons"][f"{SHIPPED}_vs_{TEACHER}"]
    images, errors = pair["images"], models[SHIPPED]["errors"]
    return (
        f"On {images:,} test images it made {errors:,} {'error' if errors == 1 else 'errors'} to the teacher's {models[TEACHER]['errors']:,} "
        f"(difference {points(pair['difference'], images)} points, "
        f"{level} {points(pair['low'], images)} to {points(pair['high'], images)})."
    )


def meaning(scorecard: Numbers) -> str:
    """The verdict's third sentence: what the interval of the difference does and does not show."""
    pair = scorecard["comparisons"][f"{SHIPPED}_vs_{TEACHER}"]
    images = pair["images"]
    if pair["high"] < 0:
        return "The interval leaves out zero: the quantized model is less accurate than the teacher, beyond what chance explains."
    if pair["low"] > 0:
        return "On these images the quantized model is more accurate than the teacher: the interval leaves out zero."
    loss = f"; a loss of up to {points(pair['low'], images).lstrip(chr(0x2212))} points fits them as well" if pair["low"] < 0 else ""
    return f"The interval includes zero: the data do not show a difference in accuracy{loss}."


def smaller(scorecard: Numbers, name: str) -> float:
    """How many times fewer bytes than the teacher's `model.slim` that of `name` has."""
    models = scorecard["models"]
    return float(models[TEACHER]["packed_bytes"] / models[name]["packed_bytes"])


def drawbacks(scorecard: Numbers, latency: Numbers) -> list[str]:
    """Everything on which a compressed model is worse, or a step of the chain shows no gain; may be empty."""
    return [
        *_slower_than_teacher(latency),
        *_slower_than_the_step_before(latency),
        *_not_smaller(scorecard),
        *_less_accurate(scorecard),
        *_distillation(scorecard),
        *filter(None, [ruined(scorecard), ruined_by_teacher(scorecard)]),
        *_worse_calibrated(scorecard),
    ]


def _slower_than_teacher(latency: Numbers) -> Iterator[str]:
    for name, speeds in latency["ratios_to_teacher"].items():
        for word, be in {"slower": "is slower than the teacher", "not shown faster": "is not shown to be faster than the teacher"}.items():
            found = [
                f"at {batch(key)}: {times(speed['speed_up'])} its speed (interval {times(speed['low'])} to {times(speed['high'])})"
                for key, speed in speeds.items()
                if pace(speed) == word
            ]
            if found:
                yield f"The {label(name)} model {be} {'; '.join(found)}."


def _slower_than_the_step_before(latency: Numbers) -> Iterator[str]:
    ratios, medians = latency["ratios_to_teacher"], latency["models"]
    for before, after in pairwise(name for name in STEPS if name in ratios):
        for key, speed in ratios[after].items():
            # Both are timed against the teacher in the same rounds; apart, the two intervals leave no doubt which is slower.
            if speed["high"] < ratios[before][key]["low"]:
                yield (
                    f"The {label(after)} model is slower than the {label(before)} one it was made from at {batch(key)}: median "
                    f"{milliseconds(medians[after][key]['p50_ms'])} ms to {milliseconds(medians[before][key]['p50_ms'])} ms."
                )


def _not_smaller(scorecard: Numbers) -> Iterator[str]:
    models = scorecard["models"]
    for before, after in pairwise(name for name in (TEACHER, *STEPS) if name in models):
        first, second = models[before]["packed_bytes"], models[after]["packed_bytes"]
        if second >= first:
            yield f"The {label(after)} model's file is not smaller than the {label(before)} one's: {size(second)} to {size(first)}."


def _less_accurate(scorecard: Numbers) -> Iterator[str]:
    for name, pair in scorecard["comparisons"].items():
        if name != TAUGHT and reading(pair) == "worse":  # of that one `unhelpful` tells, over all seeds
            first, second = sides(name)
            images = pair["images"]
            yield (
                f"The {first} model is less accurate than the {second} model: {points(pair['difference'], images)} points "
                f"(interval {points(pair['low'], images)} to {points(pair['high'], images)})."
            )


def _distillation(scorecard: Numbers) -> Iterator[str]:
    if told := unhelpful(scorecard):
        yield told


def teachers_effect(scorecard: Numbers) -> Numbers | None:
    """Accuracy with the teacher minus that without, on the test split: over all seeds where there are several."""
    found = scorecard.get("distillation")
    return found["test"] if found is not None else scorecard["comparisons"].get(TAUGHT)


def unhelpful(scorecard: Numbers) -> str | None:
    """One line where the test images do not show that the teacher helped."""
    pair = teachers_effect(scorecard)
    if pair is None or reading(pair) == "better":
        return None
    images = pair["images"]
    said = (
        "Learning from the teacher made the student less accurate than the same network trained alone"
        if reading(pair) == "worse"
        else "These data do not show that the teacher's help made the student more accurate than the same network trained alone"
    )
    return (
        f"{said}: difference {points(pair['difference'], images)} points (interval {points(pair['low'], images)} to {points(pair['high'], images)}"
        f"{_seeds(pair)})."
    )


def ruined(scorecard: Numbers) -> str | None:
    """One line where training on the grid made the quantized network worse on validation images than calibration alone.

    Of fewer images lost than `TOLD` not even a paired test without any won back would tell (exact McNemar, 5 %).
    """
    found = scorecard.get("quantization")
    if found is None or round((found["calibrated"] - found["trained"]) * found["validation"]) < TOLD:
        return None
    images = found["validation"]
    under, advice = (
        (" under the teacher", "A strong temperature can ruin a network of few bits: lower that of quantize.loss, or make it null.")
        if found["taught"]
        else ("", "Lower the rate of quantize.fit, or make it null.")
    )
    return (
        f"Training{under} made the quantized model worse than calibration had left it: {percent(found['trained'], images)} of {images:,} "
        f"validation images, from {percent(found['calibrated'], images)}. {advice}"
    )


def on_the_grids(scorecard: Numbers) -> str:
    """The student and its control before and after the same calibration; nothing where that was not measured."""
    control = (scorecard.get("quantization") or {}).get("control")
    if control is None:
        return ""
    real, calibrated = control["real"], control["calibrated"]
    images = real["images"]
    there, here = (f"{percent(one['student'], images)} against {percent(one['student_alone'], images)}" for one in (calibrated, real))
    return (
        f"On the grids of quantize, calibrated and not trained, the student is right of {there} of the control, from {here} of "
        f"{images:,} validation images: difference {points(calibrated['difference'], images)} points "
        f"(interval {points(calibrated['low'], images)} to {points(calibrated['high'], images)}), from {points(real['difference'], images)}."
    )


def ruined_by_teacher(scorecard: Numbers) -> str | None:
    """One line where learning from the teacher left a student that loses to its control on coarse grids, which it did not in real numbers."""
    control = (scorecard.get("quantization") or {}).get("control")
    if control is None or reading(control["calibrated"]) != "worse" or reading(control["real"]) == "worse":
        return None
    return (
        "Learning from the teacher made the student worse than the same network trained alone once both are quantized. "
        f"{on_the_grids(scorecard)} A strong temperature can do that: lower that of distill.loss."
    )


def helped(scorecard: Numbers) -> str:
    """What the teacher brought, on test and validation images."""
    found = scorecard["distillation"]
    test, validation = found["test"], found["validation"]

    def told(pair: Numbers, split: str) -> str:
        images = pair["images"]
        deviation = "" if pair["deviation"] is None else f", deviation over the seeds {points(pair['deviation'], images).lstrip('+')}"
        return (
            f"{points(pair['difference'], images)} points on {images:,} {split} images "
            f"(interval {points(pair['low'], images)} to {points(pair['high'], images)}{deviation})"
        )

    return f"With the teacher minus without: {told(test, 'test')}, {told(validation, 'validation')}{_seeds(test)}."


def _seeds(pair: Numbers) -> str:
    runs = len(pair.get("student", ()))
    return f"; {runs} seeds, the interval is for others and for other images" if runs > 1 else ""


def _worse_calibrated(scorecard: Numbers) -> Iterator[str]:
    models, images = scorecard["models"], scorecard["data"]["test"]
    worse = [name for name in STEPS if name in models and models[name]["ece"] > models[TEACHER]["ece"]]
    if worse:
        listed = ", ".join(f"{label(name)} {percent(models[name]['ece'], images)}" for name in worse)
        yield (
            f"Calibration error is higher than the teacher's {percent(models[TEACHER]['ece'], images)}: {listed}. "
            "No interval is computed for it, so a small gap may be chance."
        )


def sides(comparison: str) -> tuple[str, str]:
    """`a_vs_b` as the two models' names in running text."""
    first, _, second = comparison.partition("_vs_")
    return label(first), label(second)
