"""What a trial is judged by. All of it repeats: the same network gives the same numbers, on any machine with the same last bits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ACCURACY = "validation_accuracy"


@dataclass(frozen=True)
class Objective:
    """
    Args:
        direction: what is better.
        learned: whether training can make it better; what it cannot is known before it.
        meaning: in a few words, with its unit.
    """

    direction: Literal["minimize", "maximize"]
    learned: bool
    meaning: str

    def worse(self, value: float, limit: float) -> float:
        """By how much `value` is worse than `limit`; 0 or less where it is not."""
        return value - limit if self.direction == "minimize" else limit - value


OBJECTIVES: Mapping[str, Objective] = {
    ACCURACY: Objective("maximize", True, "share of validation images that choose which it names rightly"),
    "packed_bytes": Objective("minimize", False, "bytes of model.slim"),
    "bops": Objective("minimize", False, "bit operations an image"),
    "macs": Objective("minimize", False, "multiply-accumulates an image"),
    "params": Objective("minimize", False, "learnable numbers"),
    "nonzero_params": Objective("minimize", False, "learnable numbers that are not zero"),
}
