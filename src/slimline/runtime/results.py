"""What stages leave as JSON, for commands to read."""

import json
from pathlib import Path
from typing import Any

from slimline.errors import SlimlineError


def read(path: Path) -> Any:
    """The JSON of a file that a stage left.

    Raises:
        SlimlineError: it is not there, or no JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise SlimlineError(f"{path}: no such file; run make repro first") from error
    except (ValueError, RecursionError) as error:
        raise SlimlineError(f"{path}: no valid JSON ({error}); run dvc repro --force evaluate") from error
