"""params.yaml, read and checked as a whole before anything runs.

Every stage checks every block, so that a slip in the last one is found before the first trains for an hour. But a stage uses
its own blocks alone, and depends (for DVC) on their schemas alone. The others can only refuse, never change a result; that
is why they are looked up by name here instead of being imported.
"""

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from slimline.errors import SlimlineError
from slimline.params.base import Block
from slimline.registry import describe, shown, suggestion

BlockT = TypeVar("BlockT", bound=Block)

BLOCKS = {
    "data": "slimline.params.data:Data",
    "teacher": "slimline.params.teacher:Teacher",
    "distill": "slimline.params.distill:Distill",
    "prune": "slimline.params.prune:Prune",
    "quantize": "slimline.params.quantize:Quantize",
    "evaluate": "slimline.params.evaluate:Evaluate",
    "hardware": "slimline.params.hardware:Hardware",
    "tracking": "slimline.params.tracking:Tracking",
}
"""Block of params.yaml to its schema. `seed` stands beside them, a plain number."""


@dataclass(frozen=True)
class Params:
    """params.yaml, checked. `text` is the file as it was read."""

    seed: int
    blocks: Mapping[str, Block]
    text: str

    def block(self, name: str, schema: type[BlockT]) -> BlockT:
        """Block `name`, typed."""
        block = self.blocks[name]
        if not isinstance(block, schema):
            raise TypeError(f"block {name} is {type(block).__name__}, not {schema.__name__}")
        return block


def load(path: Path) -> Params:
    """Read and check params.yaml.

    Raises:
        SlimlineError: no such file, no YAML, or a value that cannot be, with its full key, what was found and what is allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = YAML(typ="safe", pure=True).load(StringIO(text))
    except FileNotFoundError as error:
        raise SlimlineError(f"{path}: no such file; run in a folder that holds a params.yaml") from error
    except (YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise SlimlineError(f"{path}: no valid YAML: {_cause(error)}") from error
    allowed = ["seed", *BLOCKS]
    if not isinstance(values, dict):
        found = "nothing" if values is None else shown(values)
        raise SlimlineError(f"{path}: found {found}; a mapping with the blocks {', '.join(allowed)} is needed")
    for key in values:
        if key not in allowed:
            raise SlimlineError(f"{path}: {key}: no such block; {suggestion(str(key), allowed)}")
    for key in allowed:
        if key not in values:
            raise SlimlineError(f"{path}: {key}: missing; needed are {', '.join(allowed)}")
    seed = values["seed"]
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise SlimlineError(f"{path}: seed: found {shown(seed)}; a whole number from 0 to 4294967295 is needed")
    try:
        blocks = {name: _checked(path, name, values[name]) for name in BLOCKS}
    except RecursionError as error:
        raise SlimlineError(f"{path}: a value holds itself, or lists lie too deep in lists; write plain values") from error
    return Params(seed=seed, blocks=blocks, text=text)


def _checked(path: Path, name: str, value: Any) -> Block:
    module, _, attribute = BLOCKS[name].partition(":")
    schema: type[Block] = getattr(importlib.import_module(module), attribute)
    _refuse_what_json_lacks(path, name, value)
    try:
        # JSON mode is strict about types, yet takes a list where the schema holds a tuple.
        return schema.model_validate_json(json.dumps(value))
    except ValidationError as error:
        where, reason = describe(error, schema)
        raise SlimlineError(f"{path}: {name}{'.' if where else ''}{where}: {reason}") from error


def _refuse_what_json_lacks(path: Path, where: str, value: Any) -> None:
    """YAML has dates, sets and bytes; no parameter is one."""
    match value:
        case dict():
            for key, inner in value.items():
                if not isinstance(key, str):
                    raise SlimlineError(f"{path}: {where}: found the key {shown(key)}; a key is text")
                _refuse_what_json_lacks(path, f"{where}.{key}", inner)
        case list():
            for index, inner in enumerate(value):
                _refuse_what_json_lacks(path, f"{where}.{index}", inner)
        case None | bool() | int() | float() | str():
            pass
        case _:
            raise SlimlineError(f"{path}: {where}: found {shown(value)}, a {type(value).__name__}; a number, text, list or mapping is needed")


def _cause(error: Exception) -> str:
    """What YAML complains of and where, on one line."""
    if isinstance(error, MarkedYAMLError) and error.problem and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return " ".join(str(error).split())


def plain(block: Block) -> dict[str, Any]:
    """A block as values that JSON can hold."""
    return TypeAdapter(dict[str, Any]).dump_python(block.model_dump(), mode="json")
