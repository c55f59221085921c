"""The losses of an epoch's steps, summed where they are exact, looked at only now and then."""

import math

import torch
from torch import Tensor

WINDOW = 32
"""Steps between two looks. A look at every step would have a GPU wait for the processor."""


class NotFiniteError(ArithmeticError):
    """A loss that is infinite or no number. `step` counts from 0 within the epoch."""

    def __init__(self, step: int, value: float) -> None:
        super().__init__(f"loss {value} at step {step}")
        self.step, self.value = step, value


class Losses:
    """A sum in double precision, in the order of the steps: the same bits however often it was looked at."""

    def __init__(self) -> None:
        self.total = 0.0
        self.steps = 0
        self._window: list[Tensor] = []

    def add(self, loss: Tensor) -> None:
        """
        Raises:
            NotFiniteError: one of the last losses.
        """
        self._window.append(loss)
        if len(self._window) == WINDOW:
            self.look()

    def look(self) -> float:
        """The sum so far.

        Raises:
            NotFiniteError: one of the losses since the last look.
        """
        window, self._window = self._window, []
        for value in torch.stack(window).tolist() if window else []:
            if not math.isfinite(value):
                raise NotFiniteError(self.steps, value)
            self.total += value
            self.steps += 1
        return self.total

    def reset(self, total: float = 0.0, steps: int = 0) -> None:
        """Start an epoch, or go on within one after `steps` of it."""
        self.total, self.steps, self._window = total, steps, []
