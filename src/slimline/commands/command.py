"""What the commands share."""

import argparse
import json
import math
from pathlib import Path
from typing import Any, TypeAlias

from slimline.errors import SlimlineError

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def amount(text: str) -> float:
    """A finite number that is not below zero."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is no number from 0 on")
    return value


def count(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1 on")
    return int(text)


def read(path: Path) -> Any:
    """The JSON of a file that a stage left.

    Raises:
        SlimlineError: it is not there, or no JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise SlimlineError(f"{path}: no such file; run make repro first") from error
    except ValueError as error:
        raise SlimlineError(f"{path}: no valid JSON ({error}); run dvc repro --force evaluate") from error
