"""What the sections of the page are made of."""

from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Shown:
    """A figure: its drawing, what it shows for who cannot see it, its caption, and the file that has its numbers (or none)."""

    svg: Markup
    alt: str
    caption: str
    source: str = ""
