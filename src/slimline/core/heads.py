"""Layers whose outputs are split into parts that only make sense whole, as attention's heads."""

from abc import ABC

from torch import nn


class Heads(nn.Module, ABC):
    """A module that splits what the layers `split` answer into heads of `size` numbers.

    How many heads there are follows from these layers' widths, so that they can lose whole heads and nothing else has to change.
    """

    split: tuple[str, ...]
    size: int
