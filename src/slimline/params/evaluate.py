"""Block `evaluate`: how sure, how speed is measured, and what models are attacked with."""

from collections import Counter
from itertools import pairwise
from typing import Annotated, Any

from pydantic import Field, model_validator

from slimline.errors import SlimlineError
from slimline.params.base import Block, made, plugin

Method = plugin("slimline.attacks:ATTACKS")


class Latency(Block):
    """Interleaved measurement on ONNX Runtime.

    Args:
        threads: ONNX Runtime's threads within an operator.
        batch_sizes: images a call.
        rounds: calls of every model at every batch size.
        warm_up: calls before them that are not counted.
    """

    threads: int = Field(ge=1)
    batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    rounds: int = Field(ge=10)
    warm_up: int = Field(ge=1)


class Attacks(Block):
    """Attacks on every model; docs/robustness.md has all methods.

    Args:
        images: of the test split, drawn by the seed.
        budgets: by what they are counted in (linf, l2, components, deviation, severity), ascending.
        methods: attacks, by names of the user's own.
    """

    images: int = Field(ge=1)
    budgets: dict[str, Annotated[tuple[Annotated[float, Field(gt=0.0)], ...], Field(min_length=1)]]
    methods: dict[str, Method] = Field(min_length=1)  # type: ignore[valid-type]

    @model_validator(mode="after")
    def budgets_for_every_method(self) -> "Attacks":
        methods: dict[str, dict[str, Any]] = self.methods
        attacks = {}
        for name, spec in methods.items():
            try:
                attacks[name] = made("slimline.attacks:ATTACKS", spec)
            except SlimlineError as error:
                raise ValueError(f"methods.{name}.{error}") from error
        for name, attack in attacks.items():
            if attack.measure not in self.budgets:
                raise ValueError(f"methods.{name} needs budgets.{attack.measure}; found budgets of {', '.join(self.budgets) or 'nothing'}")
            if max(self.budgets[attack.measure]) > attack.largest:
                raise ValueError(f"budgets.{attack.measure}: found {max(self.budgets[attack.measure]):g}; at most {attack.largest:g} means anything")
        used = Counter(attack.measure for attack in attacks.values())
        for measure, budgets in self.budgets.items():
            if measure not in used:
                raise ValueError(f"budgets.{measure}: no method is counted in it; the methods here are in {', '.join(used)}")
            if not all(low < high for low, high in pairwise(budgets)):
                raise ValueError(f"budgets.{measure}: found {list(budgets)}; they must ascend")
        return self


class Evaluate(Block):
    """Settings of the last stage.

    Args:
        confidence: level of every interval.
        batch_size: images scored, or attacked, a call.
        attacks: null for none.
    """

    confidence: float = Field(gt=0.5, lt=1.0)
    batch_size: int = Field(ge=1)
    latency: Latency
    attacks: Attacks | None = None
