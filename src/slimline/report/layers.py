"""Bits and sparsity of each layer of the model to ship, on the page and as data of a plot."""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from slimline.evaluation.layers import Layer
from slimline.report.drawing import COLORS, INK, svg
from slimline.report.numbers import count, percent, short
from slimline.report.shown import Section, Shown

MOST = 40
"""Layers that still fit a figure."""
ROW = 0.19
"""Inches between two layers."""
LONGEST = 22
"""Characters of a layer's name beside the figure."""


def table(layers: Sequence[Layer]) -> list[dict[str, Any]]:
    """The rows of `plots/layers.csv`: `kept` is the share of the student's weights that are left and not zero."""
    return [{**vars(one), "kept": one.nonzero / max(one.student_weights, one.weights)} for one in layers]


def section(layers: Sequence[Layer]) -> Section:
    """The figure, of the layers that have most weights where there are many; nothing where there is no layer."""
    if not layers:
        return Section()
    largest = sorted(layers, key=lambda one: -max(one.student_weights, one.weights))[:MOST]
    drawn = [one for one in layers if one in largest]
    before, left, nonzero = (sum(of) for of in zip(*((max(x.student_weights, x.weights), x.weights, x.nonzero) for x in layers), strict=True))
    told = (
        f"Of the student's {count(before)} weights in {count(len(layers))} layers {count(left)} are left, {count(nonzero)} of them not zero "
        f"({percent(nonzero / before, before)}). Weights have {_each([one.weight_bits for one in layers])}, "
        f"what layers read has {_each([one.input_bits for one in layers])}."
    )
    part = "" if len(drawn) == len(layers) else f" The {len(drawn)} layers with most weights are drawn; plots/layers.csv has all."
    how = "Left: full, weights that are left and not zero, with their number; pale, zeros; faint, cut off with their channels."
    alt = f"Weights and bits of each layer of the quantized model. {told}"
    return Section([Shown(Markup(_drawing(drawn)), alt, f"{told} {how} Biases and norms are not counted.{part}", "plots/layers.csv")])


def _each(bits: Sequence[int]) -> str:
    """How many layers have how many bits, as "8 bits" or "4 bits in 17 layers, 8 bits in 2"."""
    counts: Mapping[int, int] = {width: bits.count(width) for width in sorted(set(bits))}
    if len(counts) == 1:
        return _bits(bits[0])
    return ", ".join(f"{_bits(width)} in {number} layer{'' if number == 1 else 's'}" for width, number in counts.items())


def _bits(width: int) -> str:
    return "1 bit" if width == 1 else f"{width} bits"


def _drawing(layers: Sequence[Layer]) -> str:
    places = range(len(layers))
    names = _names([one.layer for one in layers])
    whole = [max(one.student_weights, one.weights) for one in layers]

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        for values, alpha in (([1.0] * len(layers), 0.12), ([x.weights / w for x, w in zip(layers, whole, strict=True)], 0.35)):
            left.barh(places, values, height=0.75, color=COLORS[4], alpha=alpha, linewidth=0)
        left.barh(places, [x.nonzero / w for x, w in zip(layers, whole, strict=True)], height=0.75, color=COLORS[4], linewidth=0)
        for place, one in enumerate(layers):
            left.annotate(short(one.nonzero), (1, place), (3, 0), textcoords="offset points", va="center", fontsize=7.5)
        left.set_yticks(places, names, fontsize=7.5)
        left.set(xlim=(0, 1.3), ylim=(len(layers) - 0.4, -0.6), xlabel="weights left of the student's")
        left.xaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
        left.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}\u202f%"))
        left.tick_params(axis="y", length=0)
        right.plot([one.input_bits for one in layers], places, linestyle="none", marker="o", markersize=6, markerfacecolor="none", color=COLORS[0])
        right.plot([one.weight_bits for one in layers], places, linestyle="none", marker="s", markersize=3.5, color=COLORS[4])
        right.set(xscale="log", xlim=(0.7, max(45, *(1.4 * one.weight_bits for one in layers))), xlabel="bits")
        right.xaxis.set_major_locator(FixedLocator([1, 2, 4, 8, 16, 32]))
        right.xaxis.set_major_formatter(FuncFormatter(lambda bits, _: f"{bits:g}"))
        right.xaxis.set_minor_locator(NullLocator())
        right.tick_params(axis="y", length=0)
        right.tick_params(axis="x", labelsize=8)
        right.grid(True, axis="x")
        for axes in (left, right):
            axes.spines["bottom"].set_color(INK)
        figure.legend(handles=right.get_lines(), labels=["read by the layer", "its weights"], loc="outside lower right", ncols=2)

    return svg(draw, name="layers", height=1.1 + ROW * len(layers))


def _names(layers: Sequence[str]) -> list[str]:
    """Without what all of them begin with, and without the beginning of long ones: the end tells layers of one block apart."""
    folders = zip(*(name.split(".")[:-1] for name in layers), strict=False)
    shared = sum(1 for _ in takewhile(lambda part: len(set(part)) == 1, folders))
    names = [".".join(name.split(".")[shared:]) for name in layers]
    return [name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}" for name in names]
