"""The picture of layers' sensitivity: accuracy against the fraction of one layer that is pruned, a line a layer."""

from collections.abc import Sequence
from itertools import pairwise

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from slimline.report.drawing import LINES, MARKERS, color, png

WIDTH, HEIGHT = 9.0, 5.5
"""Inches."""
LEGEND_ROWS = 30


def picture(rows: Sequence[tuple[str, float, float]]) -> bytes:
    """A PNG of rows (layer, fraction, accuracy), those of a layer one after another; layers that cost most come first in the legend."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for layer, fraction, accuracy in rows:
        lines.setdefault(layer, []).append((fraction, accuracy))
    places = {layer: place for place, layer in enumerate(lines)}

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for layer in sorted(lines, key=lambda layer: _mean(lines[layer])):
            place = places[layer]
            xs, ys = zip(*lines[layer], strict=True)
            turn, style = place // (8 * len(LINES)), LINES[place // 8 % len(LINES)]  # no two of several hundred layers look alike
            axes.plot(xs, ys, color=color(place), marker=MARKERS[(place + turn) % len(MARKERS)], markersize=3.5, linestyle=style, label=layer)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
        axes.set_xlabel("of one layer pruned, all others whole, not retrained")
        axes.set_ylabel("validation accuracy")
        axes.grid(visible=True)
        columns = -(-len(lines) // LEGEND_ROWS)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=7, ncols=columns, title="most sensitive first")

    return png(draw, width=WIDTH, height=HEIGHT)


def _mean(points: Sequence[tuple[float, float]]) -> float:
    """Mean accuracy over the fraction, by trapezoids, on the stretch that was measured."""
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points))
    return area / points[-1][0] if points[-1][0] > 0 else points[-1][1]
