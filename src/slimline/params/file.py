"""params.yaml, read and checked as a whole before anything runs.

Every stage checks every block, so that a slip in the last one is found before the first trains for an hour. But a stage uses
its own blocks alone, and depends (for DVC) on their schemas alone. The others can only refuse, never change a result; that
is why they are looked up by name here instead of being imported.
"""

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from slimline.errors import SlimlineError
from slimline.params.base import Block
from slimline.registry import describe

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
    except (YAMLError, UnicodeDecodeError) as error:
        raise SlimlineError(f"{path}: no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise SlimlineError(f"{path}: found {type(values).__name__}; a mapping of blocks is needed")
    allowed = ["seed", *BLOCKS]
    for key in values:
        if key not in allowed:
            raise SlimlineError(f"{path}: {key}: no such block; {_suggestion(str(key), allowed)}")
    for key in allowed:
        if key not in values:
            raise SlimlineError(f"{path}: {key}: missing")
    seed = values["seed"]
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise SlimlineError(f"{path}: seed: found {seed!r}; a whole number from 0 to 4294967295 is needed")
    blocks = {name: _checked(path, name, values[name]) for name in BLOCKS}
    return Params(seed=seed, blocks=blocks, text=text)


def _checked(path: Path, name: str, value: Any) -> Block:
    module, _, attribute = BLOCKS[name].partition(":")
    schema: type[Block] = getattr(importlib.import_module(module), attribute)
    try:
        # JSON mode is strict about types, yet takes a list where the schema holds a tuple.
        return schema.model_validate_json(json.dumps(value))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        located = describe(error).removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            *parents, key = first["loc"]
            located += f"; {_suggestion(str(key), _keys(schema, parents))}"
        raise SlimlineError(f"{path}: {name}{'.' if first['loc'] else ': '}{located}") from error
    except TypeError as error:
        raise SlimlineError(f"{path}: {name}: {error}") from error


def _keys(schema: Any, parents: list[int | str]) -> list[str]:
    """Keys that the schema allows below `parents`."""
    for part in parents:
        candidates = [schema.model_fields[part].annotation] if isinstance(part, str) and part in schema.model_fields else []
        candidates += [inner for candidate in candidates for inner in get_args(candidate)]
        schema = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
        if schema is None:
            return []
    return list(schema.model_fields)


def _suggestion(key: str, allowed: list[str]) -> str:
    close = get_close_matches(key, allowed, n=1)
    return f"did you mean {close[0]}?" if close else f"allowed here: {', '.join(allowed)}"


def plain(block: Block) -> dict[str, Any]:
    """A block as values that JSON can hold."""
    return TypeAdapter(dict[str, Any]).dump_python(block.model_dump(), mode="json")
