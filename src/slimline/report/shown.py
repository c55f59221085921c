"""What the sections of the page are made of."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Shown:
    """A figure: its drawing, what it shows for who cannot see it, its caption, and the file that has its numbers (or none)."""

    svg: Markup
    alt: str
    caption: str
    source: str = ""


@dataclass(frozen=True)
class Table:
    """Text in rows under a head; the first column names the row, `worse` are the places of rows that are worse."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    worse: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Card:
    """A picture that stands in the page, what it shows, and lines below it; the first is the heading."""

    picture: str
    alt: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Cards:
    """Pictures that have something in common."""

    title: str
    cards: Sequence[Card]


@dataclass(frozen=True)
class Section:
    """Part of the page; an empty one is left out."""

    figures: Sequence[Shown] = ()
    table: Table | None = None
    pictures: Sequence[Cards] = ()
    text: str = ""

    def __bool__(self) -> bool:
        return bool(self.figures or self.table or self.pictures)
