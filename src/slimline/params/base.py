"""What every block of params.yaml is made of: strict, frozen models, and specs of plugins checked against their signatures."""

import importlib
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

from slimline.errors import SlimlineError
from slimline.registry import Spec, SpecError, build, complete, find


class Block(BaseModel):
    """A block of params.yaml: unknown keys are refused, types are never coerced, values never change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def plugin(table: str) -> Any:
    """The type of a key that names a plugin: a mapping `{name, **parameters}` that fits a plugin of the table at `table`.

    The table is looked up when a value is checked: the schema of params.yaml lies below the methods and imports none of them.

    Args:
        table: import path of the table, `package:NAME`.
    """
    module, _, attribute = table.partition(":")

    def check(spec: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return complete(getattr(importlib.import_module(module), attribute), spec)
        except SpecError as error:
            # `registry.describe` puts the two together with the key at which the spec stands.
            raise PydanticCustomError("refused", "{place}: {reason}", {"place": error.place, "reason": error.reason}) from error

    return Annotated[dict[str, Any], AfterValidator(check)]


def fact(table: str, spec: Spec, name: str, *, built: bool = False) -> Any:
    """What the plugin of the table at `table` that `spec` names says of itself, for blocks to refuse what does not go together with it.

    Args:
        name: of the attribute.
        built: whether it is what the plugin makes of `spec` alone that says it.

    Raises:
        ValueError: a plugin of another kind, which says no such thing.
    """
    module, _, attribute = table.partition(":")
    try:
        plugin = made(table, spec) if built else find(getattr(importlib.import_module(module), attribute), spec["name"])
        return getattr(plugin, name)
    except (SlimlineError, AttributeError) as error:
        raise ValueError(f"'{spec['name']}' is no method that can stand here ({error})") from error


def made(table: str, spec: Spec) -> Any:
    """What the plugin of the table at `table` makes of `spec` alone, likewise."""
    module, _, attribute = table.partition(":")
    return build(getattr(importlib.import_module(module), attribute), spec)
