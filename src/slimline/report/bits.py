"""Which bits where, as a table and a picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from slimline.quantization.bits import Bits
from slimline.quantization.sensitivity import Row
from slimline.report.drawing import COLORS, INK, png

CELL = 0.27
"""Inches between two layers."""

LEAST = 1e-9
"""Errors below are as good as none."""


def table(rows: Sequence[Row], chosen: Mapping[str, Bits]) -> list[dict[str, Any]]:
    """A row a layer and width, for a CSV file."""
    return [
        {
            "layer": row.layer,
            "width": row.width,
            "weights": row.weights,
            "bytes": row.bytes,
            "error": row.error,
            "accuracy": row.accuracy,
            "drop": row.drop,
            "chosen": int(chosen.get(row.layer) == row.width),
        }
        for row in rows
    ]


def picture(rows: Sequence[Row], chosen: Mapping[str, Bits]) -> bytes:
    """PNG: layers down, widths across, the darker the larger the error; in each cell the accuracy lost in points, and a frame where chosen."""
    layers, widths = list(dict.fromkeys(row.layer for row in rows)), list(dict.fromkeys(row.width for row in rows))
    errors = np.array([[next(row.error for row in rows if (row.layer, row.width) == (layer, width)) for width in widths] for layer in layers])
    drops = np.array([[next(row.drop for row in rows if (row.layer, row.width) == (layer, width)) for width in widths] for layer in layers])
    shades = np.log10(np.maximum(errors, LEAST))

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        image = axes.imshow(shades, cmap="Blues", aspect="auto", vmin=shades.min() - 0.5, vmax=max(0.0, shades.max()))
        middle = 0.4 * image.norm.vmin + 0.6 * image.norm.vmax  # type: ignore[operator]
        for (down, across), drop in np.ndenumerate(drops):
            shade = "white" if shades[down, across] > middle else INK
            axes.text(across, down, f"{100 * drop:.1f}" if drop else "0", ha="center", va="center", color=shade, fontsize=7.5)
            if chosen.get(layers[down]) == widths[across]:
                axes.add_patch(Rectangle((across - 0.46, down - 0.42), 0.92, 0.84, fill=False, edgecolor=COLORS[1], linewidth=2))
        axes.set_xticks(range(len(widths)), [str(width) for width in widths])
        axes.set_yticks(range(len(layers)), layers, fontsize=7.5)
        axes.set_xlabel("bits of this layer's weights alone (numbers: points of validation accuracy lost; framed: chosen)")
        figure.colorbar(image, ax=axes, label="log₁₀ of the error of the logits")

    return png(draw, width=8.5, height=1.3 + CELL * len(layers))
