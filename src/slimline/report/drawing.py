"""How every figure is drawn: one style, deterministic SVG, and colours that a light and a dark page both carry."""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO, StringIO

import matplotlib
from matplotlib import style
from matplotlib.figure import Figure

WIDTH = 4.2
"""Inches, a little less than a phone's width, so that text does not shrink there; wider pages set figures side by side."""

DPI = 130

INK = "#010203"
"""Stands for the page's own text colour until the SVG is written; no figure uses it for anything else."""

COLORS = ("#2a7fbf", "#cf6a12", "#1d9467", "#b159c6", "#d4485c", "#7f7f2a", "#6c78d8", "#8a7468")
"""Contrast of at least 3 against both white and the dark page's background."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
LINES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 1)))
"""Colour is never the only difference between two models."""

_STYLE = {
    "svg.hashsalt": "slimline",
    "svg.fonttype": "none",  # text stays text: it can be selected, and scripts that the drawing font lacks still show
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "text.parse_math": False,  # a class may be called $
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
}


def color(index: int) -> str:
    """Of the model at `index`, the same in every figure."""
    return COLORS[index % len(COLORS)]


def marker(index: int) -> str:
    """Of the model at `index`, the same in every figure."""
    return MARKERS[index % len(MARKERS)]


def svg(draw: Callable[[Figure], None], *, name: str, height: float) -> str:
    """SVG text of what `draw` puts on an empty figure.

    Args:
        name: unique on a page; it goes before every id, since several figures share one document.
        height: inches.
    """
    text = StringIO()
    with _figure(WIDTH, height) as figure:
        draw(figure)
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inline(text.getvalue(), name)


def png(draw: Callable[[Figure], None], *, width: float, height: float) -> bytes:
    """What `draw` puts on an empty figure as a picture for a README, on white. Sizes are in inches."""
    content = BytesIO()
    with _figure(width, height) as figure:
        draw(figure)
        figure.savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    return content.getvalue()


@contextmanager
def _figure(width: float, height: float) -> Iterator[Figure]:
    with matplotlib.rc_context(), warnings.catch_warnings():
        # The user's own matplotlibrc must not change the report.
        style.use(["default", _STYLE])
        # The browser has the glyphs that the drawing font lacks; only the width of such a text is a guess.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield Figure(figsize=(width, height), layout="constrained")


def _inline(text: str, name: str) -> str:
    """The `<svg>` element alone, with ids of its own, the page's colour for ink, and no say in its own accessible name."""
    text = text[text.index("<svg") :].rstrip()
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    # The figure around it is named and described; what lies within is drawing.
    return text.replace(INK, "currentColor").replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)
