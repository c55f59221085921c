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

    def within_distances(self) -> bool:
        """Whether any of them is bounded by a distance."""
        methods: dict[str, dict[str, Any]] = self.methods
        return any(made("slimline.attacks:ATTACKS", spec).bounded for spec in methods.values())

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


class Limits(Block):
    """Limits by the names of `evaluation.gates.GATES`; None is not set."""

    @property
    def limits(self) -> dict[str, float]:
        """Those that are set."""
        return {name: limit for name, limit in self.model_dump().items() if limit is not None}


class Gates(Limits):
    """What the quantized model must keep of the teacher to be shipped; each may be left out. docs/evaluation.md says how each is judged.

    Args:
        accuracy_drop: largest loss of test accuracy, the upper end of its interval included; 0.02 is two points.
        size_ratio: least times that the packed file is smaller.
        latency_ms: longest median of a call with one image, the upper end of its interval included.
        speed_up: least times that it is faster with one image, the lower end of its interval included.
        ece: largest expected calibration error.
        robustness_drop: largest loss of accuracy under attack within any budget, the upper end of its interval included.
    """

    accuracy_drop: float | None = Field(default=None, gt=0.0, lt=1.0)
    size_ratio: float | None = Field(default=None, gt=0.0)
    latency_ms: float | None = Field(default=None, gt=0.0)
    speed_up: float | None = Field(default=None, gt=0.0)
    ece: float | None = Field(default=None, gt=0.0, lt=1.0)
    robustness_drop: float | None = Field(default=None, gt=0.0, lt=1.0)


class Regression(Limits):
    """What a model may lose against another one that `slimline compare` holds it to; each may be left out. docs/evaluation.md says how
    each is judged.

    Args:
        accuracy_drop: largest loss of test accuracy, the upper end of its interval included; 0.02 is two points.
        size_growth: largest growth of the packed file; 0.1 is a tenth more bytes.
        slow_down: largest growth of the time of a call, at any batch size, unless the machine's noise explains it.
        ece_rise: largest growth of the expected calibration error.
        robustness_drop: largest loss of accuracy under attack within any budget, the upper end of its interval included.
    """

    accuracy_drop: float | None = Field(default=None, gt=0.0, lt=1.0)
    size_growth: float | None = Field(default=None, ge=0.0)
    slow_down: float | None = Field(default=None, ge=0.0)
    ece_rise: float | None = Field(default=None, ge=0.0, lt=1.0)
    robustness_drop: float | None = Field(default=None, gt=0.0, lt=1.0)


class Promise(Block):
    """What a sweep expects of the model to ship, as `slimline adopt` writes it here; the report sets the outcome beside it.

    Args:
        sweep, trial: where it comes from.
        accuracy: what is expected of the test images, from and to, by validation images that chose nothing.
        packed_bytes, bops: of the trial's model. Values that were changed since make another model, which its bit operations tell.
    """

    sweep: str
    trial: int = Field(ge=0)
    accuracy: tuple[Annotated[float, Field(ge=0.0, le=1.0)], Annotated[float, Field(ge=0.0, le=1.0)]]
    packed_bytes: int = Field(ge=1)
    bops: int = Field(ge=0)


class Evaluate(Block):
    """Settings of the last stage.

    Args:
        confidence: level of every interval.
        margin: loss of test accuracy that would not matter: every comparison is tested against it. null: none is.
        batch_size: images scored, or attacked, a call.
        attacks: null for none.
        gates: what `slimline gate` lets pass of the quantized model against the teacher.
        regression: what `slimline compare` lets pass of a model against another one.
        promise: what the sweep expected whose values were adopted; null: none was.
    """

    confidence: float = Field(gt=0.5, lt=1.0)
    margin: float | None = Field(default=None, gt=0.0, lt=1.0)
    batch_size: int = Field(ge=1)
    latency: Latency
    attacks: Attacks | None = None
    gates: Gates = Gates()
    regression: Regression = Regression()
    promise: Promise | None = None

    @model_validator(mode="after")
    def gates_are_of_what_is_measured(self) -> "Evaluate":
        for name in ("latency_ms", "speed_up"):
            if name in self.gates.limits and 1 not in self.latency.batch_sizes:
                raise ValueError(f"gates.{name} is about batches of one image: put 1 into latency.batch_sizes")
        for name, block in (("gates", self.gates), ("regression", self.regression)):
            if "robustness_drop" in block.limits and (self.attacks is None or not self.attacks.within_distances()):
                raise ValueError(f"{name}.robustness_drop needs attacks that are bounded by a distance: name one in attacks.methods, as fgsm")
        return self
