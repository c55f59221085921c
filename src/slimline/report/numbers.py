"""Numbers as a reader meets them: rounded to what the sample can carry, with a true minus sign and a unit."""

import math
from collections.abc import Sequence

FINE = 2000
"""From this many images on, a tenth of a percentage point is two images or more, so a second decimal says something."""

SYMBOLS = (("G", 1e9), ("M", 1e6), ("k", 1e3))


def digits(images: int) -> int:
    """Decimals of a percentage measured on `images` images."""
    return 2 if images >= FINE else 1


def percent(share: float, images: int) -> str:
    """A share in [0, 1] as a percentage."""
    return f"{100 * share:.{digits(images)}f}\u202f%"


def points(difference: float, images: int) -> str:
    """A difference of two shares in percentage points, with its sign; nothing is both zero and signed."""
    text = f"{100 * difference:+.{digits(images)}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "\u2212")


def times(ratio: float) -> str:
    """A ratio, to about three significant digits."""
    return f"{ratio:.{0 if ratio >= 100 else 1 if ratio >= 10 else 2}f}×"


def count(number: int) -> str:
    """A whole number, its thousands set apart."""
    return f"{number:,}"


def signed(number: int) -> str:
    """A change of a whole number, with its sign."""
    return f"{number:+,}".replace("-", "\u2212") if number else "0"


def short(number: float) -> str:
    """A count to three significant digits with a decimal prefix, as 2.53 M."""
    value, prefix = _scaled(number)
    text = f"{value:.{max(0, 2 - int(math.log10(value)))}f}" if prefix else f"{value:g}"
    return f"{text} {prefix}".rstrip()


def size(number: float) -> str:
    """Bytes with a decimal prefix, as 35.0 kB."""
    text = short(number)
    return f"{text}B" if text[-1].isalpha() else f"{text} B"


def tick(number: float) -> str:
    """Bytes beside an axis, as 20 kB."""
    value, prefix = _scaled(number)
    return f"{value:g} {prefix}B"


def _scaled(number: float) -> tuple[float, str]:
    prefix, unit = next(((prefix, unit) for prefix, unit in SYMBOLS if number >= unit), ("", 1.0))
    return number / unit, prefix


def milliseconds(value: float) -> str:
    """A duration, to three significant digits."""
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else "0"


def p_value(value: float) -> str:
    """The p of a test; below a thousandth the digits say nothing more."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def label(name: str) -> str:
    """A model's name in running text."""
    return name.replace("_", " ")


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table for a terminal: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows)
