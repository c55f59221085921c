"""The report's figures: pure functions from numbers to SVG text."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from slimline.report.curves import Curve
from slimline.report.drawing import COLORS, INK, LINES, color, marker, svg
from slimline.report.numbers import label, milliseconds
from slimline.report.words import Numbers

CLOSE, APART = 0.04, 9.0
"""Models nearer than this share of the axis would hide each other; they are drawn this many typographic points apart."""

MOST_TICKS = 6
"""Along an axis as wide as a phone."""

WHISKER = 2.0
"""Times the longest median that a whisker may reach."""

LONGEST = 14
"""Characters of a class name beside a confusion matrix."""


def tradeoff(
    models: Mapping[str, Numbers], costs: Mapping[str, float], *, name: str, axis: str, told: Callable[[float], str], ticked: Callable[[float], str]
) -> str:
    """Test accuracy with its interval against a cost, on a logarithmic axis; a line joins the models that none beats in both.

    Args:
        models: cards by name, with `accuracy`, `accuracy_low`, `accuracy_high`.
        costs: what each model costs; above zero.
        name: of the figure, unique on the page.
        axis: what the cost is.
        told, ticked: a cost in the legend, and beside the axis.
    """
    names = list(models)
    spent = np.array([float(costs[name]) for name in names])
    low, high = spent.min() / 1.6, spent.max() * 1.6
    offsets = aside(np.log(spent / low) / np.log(high / low))

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        best = front(spent, [models[name]["accuracy"] for name in names])
        axes.step(spent[best], [models[names[one]]["accuracy"] for one in best], where="post", color=INK, alpha=0.35, linewidth=1)
        for index, model in enumerate(names):
            card = models[model]
            below, above = card["accuracy"] - card["accuracy_low"], card["accuracy_high"] - card["accuracy"]
            place = axes.transData + ScaledTranslation(offsets[index] / 72, 0, figure.dpi_scale_trans)
            axes.errorbar(
                spent[index],
                card["accuracy"],
                yerr=[[max(below, 0)], [max(above, 0)]],
                transform=place,
                capsize=3,
                linestyle="none",
                label=f"{label(model)}, {told(spent[index])}",
                color=color(index),
                marker=marker(index),
            )
        bottom, top = min(card["accuracy_low"] for card in models.values()), max(card["accuracy_high"] for card in models.values())
        room = 0.1 * max(top - bottom, 0.001)
        axes.set(xscale="log", xlim=(low, high), ylim=(bottom - room, top + room), xlabel=axis, ylabel="test accuracy")
        axes.xaxis.set_major_locator(FixedLocator(ticks(low, high)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: ticked(value)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(_percent))
        axes.grid(True)
        figure.legend(loc="outside lower center", ncols=2)

    return svg(draw, name=name, height=3.7)


def ticks(low: float, high: float) -> list[float]:
    """Round numbers within (low, high), few enough to be told beside a logarithmic axis: 1, 2, 5, or powers of ten, or equal steps."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for subs in ((1, 2, 5), (1, 3), (1,)):
        found = [float(f"{sub}e{power}") for power in powers for sub in subs if low < float(f"{sub}e{power}") < high]
        if 3 <= len(found) <= MOST_TICKS:
            return found
    return [float(one) for one in MaxNLocator(nbins=4).tick_values(low, high) if low < one < high] if high < 10 * low else found


def front(costs: Sequence[float] | np.ndarray, accuracies: Sequence[float]) -> list[int]:
    """Indices of the Pareto front, the cheapest first: of those that cost as much or less, none is as accurate."""
    kept: list[int] = []
    for index in sorted(range(len(costs)), key=lambda one: (costs[one], -accuracies[one])):
        if not kept or accuracies[index] > accuracies[kept[-1]]:
            kept.append(index)
    return kept


def aside(places: np.ndarray) -> list[float]:
    """Sideways shift of each mark, in typographic points, so that marks on one spot stand side by side around it.

    Args:
        places: position along the axis, as shares of its length.
    """
    order = np.argsort(places, kind="stable")
    shifts = [0.0] * len(places)
    groups = np.split(order, np.flatnonzero(np.diff(places[order]) > CLOSE) + 1)
    for group in groups:
        for rank, index in enumerate(group):
            shifts[int(index)] = APART * (rank - (len(group) - 1) / 2)
    return shifts


def accuracy_curves(curves: Mapping[str, Curve], order: Sequence[str]) -> str:
    """Validation accuracy by epoch; a mark shows the epoch whose weights were kept.

    Args:
        order: all models, so that each keeps its colour where some were not trained.
    """
    return _curves(curves, order, "accuracy-curves", "validation accuracy", lambda curve: curve.val_accuracy, _percent)


def loss_curves(curves: Mapping[str, Curve], order: Sequence[str]) -> str:
    """Training loss by epoch; see `accuracy_curves`."""
    return _curves(curves, order, "loss-curves", "training loss", lambda curve: curve.train_loss, None)


def help_curves(curves: Mapping[str, Sequence[Curve]], order: Sequence[str]) -> str:
    """Validation accuracy against training steps, a line a seed; the first seed's is full, and its mark is the epoch whose weights were kept.

    Args:
        order: all models, so that each keeps its colour.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for model, seeds in curves.items():
            index = order.index(model)
            for place, curve in enumerate(seeds):
                axes.plot(
                    curve.steps,
                    curve.val_accuracy,
                    color=color(index),
                    linestyle=LINES[index % len(LINES)],
                    linewidth=0.8 if place else 1.8,
                    alpha=0.5 if place else 1.0,
                    marker=None if place else marker(index),
                    markevery=[curve.best],
                    label=None if place else label(model),
                )
        axes.set(xlabel="training steps", ylabel="validation accuracy", xlim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.yaxis.set_major_formatter(FuncFormatter(_percent))
        axes.grid(True)
        figure.legend(loc="outside lower center", ncols=3, handlelength=3.2)

    return svg(draw, name="help-curves", height=3.3)


def _curves(
    curves: Mapping[str, Curve],
    order: Sequence[str],
    name: str,
    quantity: str,
    values: Callable[[Curve], np.ndarray],
    told: Callable[[float, int], str] | None,
) -> str:
    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for model, curve in curves.items():
            index = order.index(model)
            axes.plot(
                curve.epoch,
                values(curve),
                color=color(index),
                linestyle=LINES[index % len(LINES)],
                marker=marker(index),
                markevery=[curve.best],
                label=label(model),
            )
        axes.set(xlabel="epoch", ylabel=quantity)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if told is not None:
            axes.yaxis.set_major_formatter(FuncFormatter(told))
        axes.grid(True)
        figure.legend(loc="outside lower center", ncols=3, handlelength=3.2)

    return svg(draw, name=name, height=3.3)


def robustness(curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], order: Sequence[str], *, name: str) -> str:
    """Accuracy against the budget of an attack, a small plot an attack, a line a model.

    Args:
        curves: by title and model: pairs of budget and accuracy.
        order: all models, so that each keeps its colour.
        name: of the figure, unique on the page.
    """
    rows = -(-len(curves) // 2)

    def draw(figure: Figure) -> None:
        figure.set_layout_engine("constrained", wspace=0.08)  # numbers below neighbours stay apart
        plots = figure.subplots(rows, 2, sharey=True, squeeze=False)
        for axes in plots.flat[len(curves) :]:
            axes.set_visible(False)
        for axes, (title, lines) in zip(plots.flat, curves.items(), strict=False):
            for model, line in lines.items():
                index = order.index(model)
                axes.plot(
                    *zip(*line, strict=True),
                    color=color(index),
                    linestyle=LINES[index % len(LINES)],
                    marker=marker(index),
                    markersize=4,
                    label=label(model),
                )
            axes.set_title(title, fontsize=9)
            axes.set(ylim=(-0.03, 1.03), xlim=(0, None))
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
            axes.yaxis.set_major_formatter(FuncFormatter(_percent))
            axes.grid(True)
        figure.legend(handles=plots.flat[0].get_lines(), loc="outside lower center", ncols=3, handlelength=3.2)

    return svg(draw, name=name, height=0.7 + 1.7 * rows)


def confusion(matrix: Int[np.ndarray, "actual predicted"], classes: Sequence[str], name: str) -> str:
    """Counts of images by actual class (down) and predicted class (across); right answers in blue, errors in orange.

    Args:
        classes: one name a row; few enough that a reader could still tell apart (`hardest` picks them).
        name: of the model, unique on the page.
    """
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    names = [_shortened(text) for text in classes]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5), aspect="equal", xlabel="predicted", ylabel="actual")
        for actual, predicted in zip(*np.nonzero(matrix), strict=True):
            right = actual == predicted
            # An error is rare and must be seen: its tint starts strong. Both stay faint enough for the page's ink on top.
            tint = 0.1 + 0.25 * shares[actual, predicted] if right else 0.35 + 0.2 * shares[actual, predicted]
            _square(axes, int(actual), int(predicted), COLORS[0] if right else COLORS[1], float(tint))
            text = f"{matrix[actual, predicted]}"
            axes.text(predicted, actual, text, ha="center", va="center", fontsize=_fits(len(names), len(text)), fontweight=None if right else "bold")
        upright = max(map(len, names)) > 2
        axes.set_xticks(range(len(names)), names, rotation=90 if upright else 0, fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(True)

    return svg(draw, name=f"confusion-{name.replace('_', '-')}", height=4.2)


def _percent(share: float, _: int) -> str:
    # Ticks are sums of steps: without rounding, 0.975 may be told as 97.49999999999999.
    return f"{round(100 * share, 6):g}\u202f%"


def _square(axes: Axes, row: int, column: int, fill: str, alpha: float) -> None:
    axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=fill, alpha=alpha, linewidth=0))


def _shortened(text: str) -> str:
    # Both ends are kept: names of one family ("husky 1", "husky 2") often differ in the last letters alone.
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 7]}…{text[-6:]}"


def _fits(classes: int, characters: int) -> float:
    """Size of type, in points, at which a count fills three quarters of its cell; a bold digit is 0.7 as wide as its size."""
    cell = 72 * 2.9 / classes
    return min(9.0, 0.75 * cell / (0.7 * characters))


def hardest(matrices: Sequence[Int[np.ndarray, "actual predicted"]], most: int) -> list[int]:
    """Indices, ascending, of at most `most` classes: those with the most errors over all matrices, as actual or predicted."""
    total = np.sum(matrices, axis=0)
    errors = total.sum(0) + total.sum(1) - 2 * np.diagonal(total)
    return sorted(np.argsort(-errors, kind="stable")[:most].tolist())


def latency(models: Mapping[str, Mapping[str, Numbers]], key: str) -> str:
    """Median time of one call of each model at one batch size, with a whisker to the 95th percentile, cut off where it would dwarf the bars.

    Args:
        models: `p50_ms` and `p95_ms` by model and batch size.
        key: the batch size, as `batch_1`.
    """
    names = list(models)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        medians, tails = ([models[name][key][which] for name in names] for which in ("p50_ms", "p95_ms"))
        longest = min(max(tails), WHISKER * max(medians))
        for index, (median, whole) in enumerate(zip(medians, tails, strict=True)):
            tail = min(whole, longest)
            axes.barh(index, median, height=0.6, color=color(index))
            axes.errorbar(median, index, xerr=[[0], [max(tail - median, 0)]], color=INK, capsize=3 if tail == whole else 0, lw=1)
            axes.annotate(f"{milliseconds(median)} ms{'' if tail == whole else ' …'}", (tail, index), (6, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(names)), [label(name) for name in names])
        # A quarter of the axis is kept for the number behind the longest bar.
        axes.set(xlim=(0, 1.33 * longest), ylim=(len(names) - 0.4, -0.6), xlabel="milliseconds a call")
        axes.tick_params(axis="y", length=0)
        axes.grid(True, axis="x")

    return svg(draw, name=f"latency-{key.replace('_', '-')}", height=0.95 + 0.36 * len(names))
