"""How far the models' probabilities may be believed: the reliability diagram, and data of a plot."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from slimline.report.drawing import INK, color, svg
from slimline.report.numbers import count, label, percent
from slimline.report.shown import Section, Shown
from slimline.report.words import SHIPPED, TEACHER, Numbers

LARGEST = 170.0
"""Area of the mark of a bin that holds all images, in square typographic points; that of fewer is in proportion, `LEAST` at least."""
LEAST = 7.0


def table(card: Numbers) -> list[dict[str, float]]:
    """The rows of `plots/calibration/<model>.csv`: a row a bin that holds images."""
    return [{key: one[key] for key in ("confidence", "accuracy", "images")} for one in card["reliability"]]


def section(scorecard: Numbers) -> Section:
    """Teacher and the model to ship side by side."""
    models, images = {name: scorecard["models"][name] for name in (TEACHER, SHIPPED)}, scorecard["data"]["test"]
    told = "; ".join(
        f"{label(name)}: calibration error {percent(card['ece'], images)}, {_sure(card['reliability'])}, negative log-likelihood {card['nll']:.3f}"
        for name, card in models.items()
    )
    return Section(
        [
            Shown(
                Markup(_drawing(models, list(scorecard["models"]))),
                f"Reliability of the models' probabilities. {told}.",
                f"Share of right answers against how probable the model held them, {count(images)} test images in bins; a mark's area is its share "
                f"of them, so small marks are mostly chance. On the line a model is right as often as it says; below it, it is too sure. "
                f"{told[0].upper()}{told[1:]}.",
                "plots/calibration/",
            )
        ]
    )


def _sure(bins: Sequence[Numbers]) -> str:
    """Whether a model says too much, on the mean of all images."""
    images = sum(one["images"] for one in bins)
    gap = sum(one["images"] * (one["confidence"] - one["accuracy"]) for one in bins) / images
    if round(abs(gap), 3) == 0:
        return "on the mean as sure as it is right"
    return f"on the mean {percent(abs(gap), images)} too {'sure' if gap > 0 else 'unsure'}"


def _drawing(models: Mapping[str, Numbers], order: Sequence[str]) -> str:
    def draw(figure: Figure) -> None:
        figure.set_layout_engine("constrained", wspace=0.08)  # numbers below neighbours stay apart
        for axes, (name, card) in zip(figure.subplots(1, len(models), sharey=True), models.items(), strict=True):
            bins = card["reliability"]
            images = sum(one["images"] for one in bins)
            axes.plot([0, 1], [0, 1], color=INK, alpha=0.4, linewidth=0.8)
            areas = [max(LARGEST * one["images"] / images, LEAST) for one in bins]
            told = [one["confidence"] for one in bins], [one["accuracy"] for one in bins]
            axes.plot(*told, color=color(order.index(name)), linewidth=0.8, alpha=0.6)
            axes.scatter(*told, s=areas, color=color(order.index(name)), alpha=0.8, linewidths=0, clip_on=False)
            axes.set_title(label(name), fontsize=9)
            axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="probability of the answer")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
                axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}\u202f%"))
            axes.xaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
            axes.grid(True)
        figure.axes[0].set_ylabel("right answers")

    return svg(draw, name="calibration", height=2.25)
