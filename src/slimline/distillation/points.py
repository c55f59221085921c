"""Feature points: which layers of student and teacher a loss compares.

A layer is named as in `named_modules` of the whole network: `network.blocks.2`, say. Where no pairs are given, a loss takes one of each
network by itself: the last feature map, or what goes into the layer that gives the logits.
"""

from collections.abc import Callable
from difflib import get_close_matches
from math import prod
from typing import Annotated

from pydantic import Field

from slimline.distillation.loss import Pairs, Shapes
from slimline.errors import SlimlineError

Named = Annotated[tuple[tuple[str, str], ...], Field(min_length=1)] | None
"""Pairs of layers, the student's and the teacher's, as params.yaml names them; null for the loss's own choice."""

SUGGESTED = 3
"""Layers that a refusal names in the place of one that does not exist."""


def last_map(shapes: Shapes) -> str | None:
    """The last layer that answers a feature map [channels height width] of more than one pixel.

    None where there is none, or where tokens follow it: a transformer's patches are no last map. The image itself counts as none.
    """
    image = next(iter(shapes.values()))
    spread = [name for name in shapes if prod(shapes[name][1:]) > 1 and shapes[name] != image]
    return spread[-1] if spread and len(shapes[spread[-1]]) == 3 else None


def before_logits(shapes: Shapes) -> str | None:
    """The last layer before the one that gives the logits; None where there is none.

    `shapes` are in the order in which layers answer. The last to answer may be a block, whose last layer answered just before it.
    """
    names = list(shapes)
    place = len(names) - 1
    while place > 0 and names[place - 1].startswith(f"{names[place]}."):
        place -= 1
    return names[place - 1] if place > 0 else None


def chosen(loss: str, pairs: Named, student: Shapes, teacher: Shapes, default: Callable[[Shapes], str | None]) -> Pairs:
    """`pairs`, each of which exists; or `default` of both networks.

    Args:
        loss: its name, for refusals.

    Raises:
        SlimlineError: a layer that does not exist, with those of the nearest names; no pairs are given, and a network has no such layer.
    """
    if pairs is None:
        own, theirs = default(student), default(teacher)
        if own is None or theirs is None:
            raise SlimlineError(
                f"loss {loss}: the {'student' if own is None else 'teacher'} has no {default.__name__.replace('_', ' ')}; name the layers in pairs"
            )
        return ((own, theirs),)
    for own, theirs in pairs:
        for whose, name, shapes in (("student", own, student), ("teacher", theirs, teacher)):
            if name not in shapes:
                close = get_close_matches(name, list(shapes), SUGGESTED, cutoff=0.0)
                raise SlimlineError(
                    f"loss {loss}: the {whose} has no layer '{name}' (pair {own}, {theirs}); nearest: "
                    + ", ".join(f"{near} {shapes[near]}" for near in close)
                )
    return pairs


def incomparable(loss: str, pair: tuple[str, str], student: Shapes, teacher: Shapes, needed: str) -> SlimlineError:
    """The refusal of a pair whose shapes do not fit."""
    own, theirs = pair
    return SlimlineError(
        f"loss {loss}: the student's '{own}' {student[own]} and the teacher's '{theirs}' {teacher[theirs]} cannot be compared; "
        f"{needed}; name other layers in pairs"
    )
