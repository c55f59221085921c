"""sweep.yaml: what is looked for, where, and with how many trials. As strict as params.yaml."""

import json
from io import StringIO
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from slimline.errors import SlimlineError
from slimline.params.base import Block, plugin
from slimline.params.changes import keys
from slimline.registry import describe, shown, suggestion
from slimline.sweep.objectives import ACCURACY, OBJECTIVES

VARIED = ("prune", "quantize")
"""Blocks of params.yaml that trials may vary: they start from the trained student, and what made it stays."""

RETRAINING = (
    ("prune", "fit"), ("prune", "loss"), ("prune", "schedule"), ("quantize", "fit"), ("quantize", "loss"), ("quantize", "from_scratch"),
    ("quantize", "weights", "learn"), ("quantize", "activations", "learn"),
)  # fmt: skip
"""What means something to trials that are retrained alone."""


LARGEST = 2**53
"""Up to it every whole number is a float, too, by which samplers and limits calculate."""


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"found {shown(value)}; a number is needed")
    if not abs(value) <= LARGEST:  # so put, NaN is refused too
        raise ValueError(f"found {shown(value)}; a number is needed, up to {LARGEST}")
    return value


def _objective(name: str) -> str:
    if name not in OBJECTIVES:
        raise ValueError(f"no such objective: '{name}'; {suggestion(name, list(OBJECTIVES))}")
    return name


def _path(path: str) -> str:
    try:
        found = keys(path)
    except SlimlineError as error:
        raise ValueError(str(error)) from error
    if len(found) < 2 or found[0] not in VARIED:
        raise ValueError(f"'{path}' cannot be varied: trials start from the trained student; name a parameter of {' or '.join(VARIED)}")
    return path


Number = Annotated[Any, AfterValidator(_number)]
ObjectiveName = Annotated[str, AfterValidator(_objective)]
ParameterPath = Annotated[str, AfterValidator(_path)]


class Parameter(Block):
    """The values of one parameter: a range, or a list.

    Args:
        low, high: ends of a range, both in it; of whole numbers where both are.
        step: distance of the values in it. log: drawn evenly by their logarithms.
        choices: values, in no order.
        each: the parameter is a mapping by names, and there is one such value for each layer with weights (`layer`), or for each tensor
            between layers (`tensor`).
    """

    low: Number = None
    high: Number = None
    step: Number = None
    log: bool = False
    choices: tuple[JsonValue, ...] | None = Field(default=None, min_length=1)
    each: Literal["layer", "tensor"] | None = None

    @model_validator(mode="after")
    def a_range_or_a_list(self) -> "Parameter":
        if (self.choices is None) is (self.low is None or self.high is None):
            raise ValueError("either low and high or choices are needed, not both")
        if self.choices is not None:
            if self.step is not None or self.log:
                raise ValueError("step and log are of a range; leave them out beside choices")
            if len({json.dumps(value, sort_keys=True) for value in self.choices}) < len(self.choices):
                raise ValueError("choices holds a value twice")
            return self
        if not self.low < self.high:
            raise ValueError(f"low is {self.low:g}, which is not below high, {self.high:g}")
        if self.step is not None and not 0 < self.step <= self.high - self.low:
            raise ValueError(f"step is {self.step:g}; it must be above 0 and at most high - low")
        if self.log and (self.step is not None or self.low <= 0):
            raise ValueError("log needs a low above 0, and no step")
        if isinstance(self.step, float) and self.whole:
            raise ValueError(f"step is {self.step:g}, but low and high are whole numbers; write them with a point")
        return self

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that stand for all: the ends of a range, or the whole list."""
        return (self.low, self.high) if self.choices is None else self.choices


class Limit(Block):
    """What a recommended model has to keep to, in an objective's unit.

    Args:
        drop: at most so much worse than the student that it was made of.
    """

    at_least: Number = None
    at_most: Number = None
    drop: Number = None

    @model_validator(mode="after")
    def one_of_them(self) -> "Limit":
        if sum(value is not None for value in (self.at_least, self.at_most, self.drop)) != 1:
            raise ValueError("exactly one of at_least, at_most and drop is needed")
        return self


class Budget(Block):
    """
    Args:
        trials: how many.
        epochs: of retraining in each (0: none, null: as many as params.yaml says).
        short: epochs of the trials that are promoted; 0 for none.
        full: whether the front of the promoted ones is retrained as params.yaml says.
        keep: of a sweep with one objective, one trial in so many is promoted; of one with several its front is.
        most: trials that are promoted at most, spread over the front.
    """

    trials: int = Field(ge=1, le=1_000_000)
    epochs: int | None = Field(default=0, ge=0)
    short: int = Field(default=2, ge=0)
    full: bool = True
    keep: int = Field(default=3, ge=2)
    most: int = Field(default=16, ge=1)


class Definition(Block):
    """What sweep.yaml holds.

    Args:
        base: folder of the params.yaml, data and student that trials start from, relative to that of sweep.yaml.
        objectives: what makes the front.
        constraints: what the recommended model keeps to, by objective.
        choose: the objective by which one of the models that do is recommended.
        fixed: values of params.yaml that all trials have.
        space: what they vary.
        start: trials to begin with. allocated: likewise, from `slimline bits` of the student for so much accuracy that layers may lose in
            sum (0.01 is one point); of a space with `each: layer`.
        workers: processes that run trials, with `threads` each; they change no trial, only the order in which trials learn of each other.
        storage: of the study; null for a file of this folder. The environment variable SLIMLINE_SWEEP_STORAGE goes before it.
    """

    base: str = Field(default="../..", pattern=r"^[^\x00]+$")
    seed: int = Field(ge=0, lt=2**32)
    objectives: tuple[ObjectiveName, ...] = Field(min_length=1)
    constraints: dict[ObjectiveName, Limit] = Field(default_factory=dict)
    choose: ObjectiveName
    fixed: dict[ParameterPath, JsonValue] = Field(default_factory=dict)
    space: dict[ParameterPath, Parameter] = Field(min_length=1)
    start: tuple[dict[ParameterPath, JsonValue], ...] = ()
    allocated: tuple[Annotated[float, Field(ge=0.0, lt=1.0)], ...] = ()
    sampler: plugin("slimline.sweep:SAMPLERS")  # type: ignore[valid-type]
    budget: Budget
    workers: int = Field(default=1, ge=1, le=1024)
    threads: int = Field(default=1, ge=1, le=1024)
    storage: str | None = None

    @model_validator(mode="after")
    def each_objective_once(self) -> "Definition":
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError("objectives names one twice")
        for name, limit in self.constraints.items():
            forbidden = "at_most" if OBJECTIVES[name].direction == "maximize" else "at_least"
            if getattr(limit, forbidden) is not None:
                raise ValueError(f"constraints.{name}.{forbidden}: more is {'better' if forbidden == 'at_most' else 'worse'} there")
            if limit.drop is not None and name != ACCURACY:
                raise ValueError(f"constraints.{name}.drop: only {ACCURACY} is compared with the student's; take at_most")
            (key, value), *_ = limit.model_dump(exclude_none=True).items()
            if not 0 <= value <= (1 if name == ACCURACY else LARGEST):
                raise ValueError(f"constraints.{name}.{key}: found {value:g}; {'a share from 0 to 1' if name == ACCURACY else '0 or more'} is needed")
        return self

    @model_validator(mode="after")
    def nothing_said_in_vain(self) -> "Definition":
        said = [(keys(path), f"{where}.{path}") for where, paths in (("fixed", self.fixed), ("space", self.space)) for path in paths]
        for (path, before), (other, behind) in combinations(said, 2):
            if path[: len(other)] == other:
                raise ValueError(f"{before}: {behind} replaces it, so it changes nothing; take one of them out, or write what holds the other first")
        if len(self.start) > self.budget.trials:
            raise ValueError(f"start: {len(self.start)} trials are given, and budget.trials is {self.budget.trials}; raise it, or give fewer")
        return self

    @model_validator(mode="after")
    def no_retraining_without_epochs(self) -> "Definition":
        if self.budget.epochs == 0:
            for path in self.space:
                if any(keys(path)[: len(part)] == part for part in RETRAINING):
                    raise ValueError(f"space.{path}: trials are not retrained, so it changes nothing; make budget.epochs null, or more than 0")
        if self.allocated and not any(parameter.each == "layer" and parameter.choices for parameter in self.space.values()):
            raise ValueError("allocated gives each layer one of its choices, and the space has no parameter with each: layer and choices")
        return self


def load(path: Path) -> Definition:
    """Read and check sweep.yaml.

    Raises:
        SlimlineError: no such file, no YAML, or a value that cannot be, with its key, what was found and what is allowed.
    """
    try:
        values = YAML(typ="safe", pure=True).load(StringIO(path.read_text(encoding="utf-8")))
        text = json.dumps(values)
    except FileNotFoundError as error:
        raise SlimlineError(f"{path}: no such file; name a folder that holds a sweep.yaml") from error
    except (YAMLError, UnicodeDecodeError, ValueError, TypeError, RecursionError) as error:
        raise SlimlineError(f"{path}: no valid YAML of numbers, texts, lists and mappings: {' '.join(str(error).split())}") from error
    try:
        return Definition.model_validate_json(text)
    except ValidationError as error:
        where, reason = describe(error, Definition)
        raise SlimlineError(f"{path}: {where}{': ' if where else ''}{reason}") from error
