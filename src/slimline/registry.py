"""Plugins by name: one table a package, one line a method, and import paths to the user's own.

A plugin is a class or a function. Its keyword-only arguments are its parameters, exactly what may stand beside `name:` in
params.yaml; its positional arguments are what the stage gives it when it runs (a model, batches, a number of classes).
So the signature is the schema, and parameters and runtime arguments never mix.

Tables hold import paths, not objects, so that a package's `__init__` imports nothing heavy.
"""

import importlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, PydanticUserError, ValidationError, create_model

from slimline.errors import SlimlineError

Spec = Mapping[str, Any]
"""`{"name": …, **parameters}` as it stands in params.yaml."""

Table = Mapping[str, str]
"""Name to import path, `package.module:thing`."""

LONGEST_SHOWN = 80
"""Characters of a refused value that a message repeats."""


class SpecError(SlimlineError):
    """A spec that fits no plugin: `place` is the key within the spec, `reason` what was found there and what is allowed."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place, self.reason = place, reason


def find(table: Table, name: str) -> Callable[..., Any]:
    """The plugin called `name` in `table`, or at the import path `package.module:thing`.

    Raises:
        SlimlineError: no such name, module or attribute.
    """
    target = table.get(name, name)
    module_name, colon, attribute = target.partition(":")
    if not colon:
        raise SlimlineError(f"found {shown(name)}; {suggestion(name, sorted(table))}, or an import path package.module:thing")
    try:
        plugin = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # a user's module may raise anything
        raise SlimlineError(f"cannot import '{target}': {error or type(error).__name__}") from error
    if not callable(plugin):
        raise SlimlineError(f"'{target}' is no class or function")
    return plugin


def parameters_of(plugin: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keyword-only arguments of `plugin`: its parameters in params.yaml."""
    signature = inspect.signature(plugin, eval_str=True)
    return {name: p for name, p in signature.parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def complete(table: Table, spec: Spec) -> dict[str, Any]:
    """`spec` checked against its plugin's signature, with defaults filled in.

    Raises:
        SpecError: no such plugin, or an unknown, missing, wrongly typed or impossible parameter.
    """
    if not isinstance(spec.get("name"), str):
        raise SpecError("name", f"found {shown(spec.get('name'))}; the name of a method is needed: {', '.join(sorted(table))}")
    try:
        plugin = find(table, spec["name"])
    except SlimlineError as error:
        raise SpecError("name", str(error)) from error
    try:
        fields: dict[str, Any] = {
            name: (Any if p.annotation is inspect.Parameter.empty else p.annotation, ... if p.default is inspect.Parameter.empty else p.default)
            for name, p in parameters_of(plugin).items()
        }
        schema = create_model(spec["name"], __config__=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False), **fields)
    except (ValueError, TypeError, NameError, PydanticUserError) as error:  # of a user's own, or of no method at all
        raise SpecError("name", f"'{spec['name']}' has no signature that parameters could be read from ({str(error).splitlines()[0]})") from error
    given = {key: value for key, value in spec.items() if key != "name"}
    try:
        # JSON mode, as in the rest of params.yaml: strict about types, yet a YAML list may fill a tuple.
        checked = schema.model_validate_json(json.dumps(given))
    except ValidationError as error:
        raise SpecError(*describe(error, schema)) from error
    return {"name": spec["name"], **checked.model_dump()}


def bind(table: Table, spec: Spec) -> Callable[..., Any]:
    """The plugin that `spec` names with the spec's parameters filled in; what remains to be given are its runtime arguments.

    Raises:
        SlimlineError: no such plugin, or parameters that do not fit it.
    """
    try:
        parameters = complete(table, spec)
    except SpecError as error:
        raise SlimlineError(f"method {shown(spec.get('name'))}: {error}") from error
    name = parameters.pop("name")
    return partial(find(table, name), **parameters)


def build(table: Table, spec: Spec, *runtime: Any) -> Any:
    """Call the plugin that `spec` names with `runtime` in position and the spec's parameters by keyword.

    Raises:
        SlimlineError: no such plugin, parameters that do not fit it, or a function of another kind, which takes other arguments.
    """
    plugin = bind(table, spec)
    try:
        inspect.signature(plugin).bind(*runtime)
    except TypeError as error:
        raise SlimlineError(
            f"method {shown(spec['name'])} is given {len(runtime)} arguments here, which it does not take ({error}); name a method of this kind: "
            f"{', '.join(sorted(table))}"
        ) from error
    return plugin(*runtime)


def describe(error: ValidationError, schema: type[BaseModel]) -> tuple[str, str]:
    """Of the first fault that `schema` found: its key with dots (empty: the whole), and what was found and what is allowed, in one line.

    A misspelt key is told before the key that is missing because of it; further faults are counted.
    """
    faults = error.errors(include_url=False)
    first = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    loc = list(first["loc"])
    match first["type"]:
        case "extra_forbidden":
            reason = f"no such parameter; {suggestion(str(loc[-1]), _keys(schema, loc[:-1]))}"
        case "missing":
            reason = f"missing; known here: {', '.join(_keys(schema, loc[:-1]))}"
        case "refused":  # raised by `params.base.plugin`
            loc.append(first["ctx"]["place"])
            reason = first["ctx"]["reason"]
        case "value_error":
            reason = str(first["ctx"]["error"])
        case "model_type" | "dict_type":
            keys = _keys(schema, loc)
            shape = f", with the keys {', '.join(keys)}" if keys else f", as {{name: {first['input']}}}" if isinstance(first["input"], str) else ""
            reason = f"found {shown(first['input'])}; a mapping is needed{shape}"
        case _:
            message = (
                first["msg"]
                .replace("Input should", "it should")
                .replace("Tuple should", "it should")
                .replace(" after validation", "")
                .replace("a valid boolean", "true or false")
            )
            reason = f"found {shown(first['input'])}; {message}{_as_number(first['input'])}"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return ".".join(str(part) for part in loc if part != "[key]"), reason + more


def shown(value: Any) -> str:
    """`value` as a message repeats it: as in YAML, on one line, not too long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def suggestion(found: str, allowed: Sequence[str]) -> str:
    """The name nearest to `found`, and all that may stand there."""
    close = get_close_matches(found, allowed, n=1)
    return f"{f'did you mean {close[0]}? ' if close else ''}allowed here: {', '.join(allowed) or 'nothing'}"


def _as_number(value: Any) -> str:
    """A hint where `value` is text that reads as a number."""
    if not isinstance(value, str):
        return ""
    try:
        return f"; this is text, write {float(value):g} without quotes"
    except ValueError:
        return ""


def _keys(schema: type[BaseModel], parents: Sequence[int | str]) -> list[str]:
    """Keys that `schema` allows below `parents`; none where that is no block."""
    place: Any = schema
    for part in parents:
        if isinstance(part, str) and get_origin(place) is dict:  # a name that the user gives
            place = get_args(place)[1]
        elif isinstance(part, str):  # a number is a place in a list, whose entries are all of the same kind
            block = _block(place)
            if block is None or part not in block.model_fields:
                return []
            place = block.model_fields[part].annotation
    block = None if get_origin(place) is dict else _block(place)
    return [] if block is None else list(block.model_fields)


def _block(annotation: Any) -> type[BaseModel] | None:
    """The first block in `annotation`, as in `tuple[Block, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_block, get_args(annotation))), None)
