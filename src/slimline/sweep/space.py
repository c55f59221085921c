"""The search space: from sweep.yaml to single parameters, each with its values, checked against the schema of params.yaml."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from slimline.errors import SlimlineError
from slimline.params.changes import changed, keys, path_of
from slimline.params.file import Params
from slimline.registry import SpecError
from slimline.sweep.definition import Definition, Parameter

Scalar = None | bool | int | float | str


@dataclass(frozen=True)
class Space:
    """Single parameters by their paths; those of each layer by paths of their own."""

    parameters: Mapping[str, Parameter]

    @classmethod
    def of(cls, definition: Definition, names: Mapping[str, Sequence[str]]) -> "Space":
        """
        Args:
            names: of layers and of tensors, by `layer` and `tensor`; needed where a parameter is of each.
        """
        single: dict[str, Parameter] = {}
        for path, parameter in definition.space.items():
            if parameter.each is None:
                single[path] = parameter
            else:
                single |= {path_of(*keys(path), name): parameter for name in names[parameter.each]}
        return cls(single)

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """What Optuna draws from."""
        return {path: _distribution(parameter) for path, parameter in self.parameters.items()}

    def values(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """What stands in params.yaml for what Optuna drew."""
        return {path: value if (choices := self.parameters[path].choices) is None else _labels(choices)[value] for path, value in drawn.items()}

    def drawn(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The reverse.

        Raises:
            SlimlineError: a value outside of the space.
        """
        found = {}
        for path, value in values.items():
            if path not in self.parameters:
                raise SlimlineError(f"start: {path} is no parameter of the space; it has {', '.join(self.parameters)}")
            parameter = self.parameters[path]
            if not _holds(parameter, value):
                raise SlimlineError(f"start: {path}: {json.dumps(value)} is not in the space")
            found[path] = value if parameter.choices is None else _label(value)
        return found


def check(definition: Definition, params: Params) -> Params:
    """`params` with what all trials have in common.

    Raises:
        SlimlineError: a value in `fixed` or at an end of the space that the parameter cannot have.
    """
    try:
        common = changed(params, definition.fixed)
    except SlimlineError as error:
        raise SlimlineError(f"fixed: {error}") from error
    blocks = [keys(path)[0] for path in definition.space]
    for path, parameter in definition.space.items():
        for value in parameter.ends:
            try:
                changed(params, {**definition.fixed, path: value if parameter.each is None else {"*": value}})
            except SpecError as error:
                # What is wrong beside other parameters of a block may be right beside other values of them.
                if error.place.startswith(path) or blocks.count(keys(path)[0]) == 1:
                    raise SlimlineError(f"space.{path}: {json.dumps(value)} cannot be: {error}") from error
            except SlimlineError as error:
                raise SlimlineError(f"space.{path}: {error}") from error
    return common


def _holds(parameter: Parameter, value: Any) -> bool:
    if parameter.choices is not None:
        return value in parameter.choices
    return isinstance(value, int | float) and parameter.low <= value <= parameter.high


def _distribution(parameter: Parameter) -> BaseDistribution:
    if parameter.choices is not None:
        return CategoricalDistribution(list(_labels(parameter.choices)))
    if parameter.whole:
        return IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step or 1)
    return FloatDistribution(float(parameter.low), float(parameter.high), log=parameter.log, step=parameter.step)


def _labels(choices: Sequence[Any]) -> dict[Scalar, Any]:
    """The choices by what Optuna can store of them."""
    return {_label(value): value for value in choices}


def _label(value: Any) -> Scalar:
    return value if isinstance(value, Scalar) else json.dumps(value, sort_keys=True)
