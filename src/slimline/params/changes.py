"""Values of params.yaml by their paths, and a params.yaml with some of them changed: for whoever varies parameters.

A path is keys with dots between, `prune.target.amount`; a key that holds a dot stands in double quotes, and an entry of a list is named by
its place: `quantize.weights.exceptions."blocks.0.conv"`, `prune.fit.augment.0.pixels`.
"""

import copy
import importlib
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from io import StringIO
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML

from slimline.errors import SlimlineError
from slimline.params.base import Block
from slimline.params.file import BLOCKS, Params
from slimline.registry import SpecError, describe, suggestion

KEY = re.compile(r'"([^"]+)"|([^".]+)')


def keys(path: str) -> tuple[str, ...]:
    """The keys of a path.

    Raises:
        SlimlineError: no path.
    """
    found, place = [], 0
    while match := KEY.match(path, place):
        found.append(match[1] or match[2])
        place = match.end() + 1
        if match.end() == len(path):
            return tuple(found)
        if path[match.end()] != ".":
            break
    raise SlimlineError(f"'{path}' is no path of a parameter; write keys with dots between, those that hold a dot in double quotes")


def path_of(*parts: str) -> str:
    """The path of these keys."""
    return ".".join(f'"{part}"' if "." in part else part for part in parts)


def put(values: Any, path: tuple[str, ...], value: Any) -> None:
    """Set what stands at `path` within `values`, mappings and lists within each other; mappings on the way that are missing, or null, are made.

    Raises:
        SlimlineError: the path leads into a number or a text, or to a place that a list has not.
    """
    *way, last = path
    at = values
    for part in way:
        at = at[_entry(at, part, path)]
    at[_entry(at, last, path, inside=False)] = value


def _entry(at: Any, key: str, path: tuple[str, ...], *, inside: bool = True) -> str | int:
    """What `key` is called in `at`, where there is something below it if that is asked for."""
    if isinstance(at, list):
        if not key.isdecimal() or int(key) >= len(at):
            raise SlimlineError(f"{path_of(*path)}: there is no entry '{key}' in a list of {len(at)}")
        return int(key)
    if not isinstance(at, dict):
        raise SlimlineError(f"{path_of(*path)}: '{key}' would stand in {json.dumps(at)}, which has no keys")
    if inside and at.get(key) is None:
        at[key] = {}
    return key


def changed(params: Params, changes: Mapping[str, Any]) -> Params:
    """`params`, as its file says, with other values at the paths of `changes`, one after another; the blocks that they are in are checked again.

    Raises:
        SlimlineError: a path that leads nowhere, or a value that cannot be there, with its path, what was found and what is allowed.
    """
    values = copy.deepcopy(_parsed(params.text))
    touched = set()
    for path, value in changes.items():
        name, *rest = keys(path)
        if name not in BLOCKS or not rest:
            raise SlimlineError(f"{path}: no parameter of a block; {suggestion(name, list(BLOCKS))}, with a key behind it")
        put(values, (name, *rest), copy.deepcopy(value))  # a later change within it is not for whoever gave it
        touched.add(name)
    return Params(params.seed, {**params.blocks, **{name: _checked(name, values[name]) for name in sorted(touched)}}, params.text)


@lru_cache(maxsize=8)
def _parsed(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(StringIO(text))


def _checked(name: str, value: Any) -> Block:
    module, _, attribute = BLOCKS[name].partition(":")
    schema: type[Block] = getattr(importlib.import_module(module), attribute)
    try:
        return schema.model_validate_json(json.dumps(value))
    except ValidationError as error:
        where, reason = describe(error, schema)
        raise SpecError(f"{name}{'.' if where else ''}{where}", reason) from error
