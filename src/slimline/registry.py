"""Plugins by name: one table a package, one line a method, and import paths to the user's own.

A plugin is a class or a function. Its keyword-only arguments are its parameters, exactly what may stand beside `name:` in
params.yaml; its positional arguments are what the stage gives it when it runs (a model, batches, a number of classes).
So the signature is the schema, and parameters and runtime arguments never mix.

Tables hold import paths, not objects, so that a package's `__init__` imports nothing heavy.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError, create_model

from slimline.errors import SlimlineError

Spec = Mapping[str, Any]
"""`{"name": …, **parameters}` as it stands in params.yaml."""

Table = Mapping[str, str]
"""Name to import path, `package.module:thing`."""


def find(table: Table, name: str) -> Callable[..., Any]:
    """The plugin called `name` in `table`, or at the import path `package.module:thing`.

    Raises:
        SlimlineError: no such name, module or attribute.
    """
    target = table.get(name, name)
    module_name, colon, attribute = target.partition(":")
    if not colon:
        raise SlimlineError(f"no method is called '{name}': choose one of {', '.join(sorted(table))}, or an import path package.module:thing")
    try:
        plugin = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise SlimlineError(f"cannot import '{target}': {error}") from error
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
        ValidationError: an unknown, missing, wrongly typed or impossible parameter, with its place.
        SlimlineError: no such plugin.
    """
    plugin = find(table, spec["name"])
    fields: dict[str, Any] = {
        name: (p.annotation, ... if p.default is inspect.Parameter.empty else p.default) for name, p in parameters_of(plugin).items()
    }
    schema = create_model(spec["name"], __config__=ConfigDict(extra="forbid", strict=True), **fields)
    # JSON mode, as in the rest of params.yaml: strict about types, yet a YAML list may fill a tuple.
    given = {key: value for key, value in spec.items() if key != "name"}
    checked = schema.model_validate_json(TypeAdapter(dict[str, Any]).dump_json(given))
    return {"name": spec["name"], **checked.model_dump()}


def bind(table: Table, spec: Spec) -> Callable[..., Any]:
    """The plugin that `spec` names with the spec's parameters filled in; what remains to be given are its runtime arguments.

    Raises:
        SlimlineError: no such plugin, or parameters that do not fit it.
    """
    try:
        parameters = complete(table, spec)
    except ValidationError as error:
        raise SlimlineError(f"'{spec['name']}' cannot be built: {describe(error)}") from error
    name = parameters.pop("name")
    return partial(find(table, name), **parameters)


def build(table: Table, spec: Spec, *runtime: Any) -> Any:
    """Call the plugin that `spec` names with `runtime` in position and the spec's parameters by keyword.

    Raises:
        SlimlineError: no such plugin, or parameters that do not fit it.
    """
    return bind(table, spec)(*runtime)


def describe(error: ValidationError) -> str:
    """A validation error in one line: path, what was found, what is allowed; further errors counted, not listed."""
    errors = error.errors(include_url=False)
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        text = f"{where}: no such parameter (is it misspelt?)"
    elif first["type"] == "missing":
        text = f"{where}: missing"
    else:
        text = f"{where}: found {first['input']!r}; {first['msg'][0].lower()}{first['msg'][1:]}" if where else first["msg"]
    return text if len(errors) == 1 else f"{text} (and {len(errors) - 1} more)"
