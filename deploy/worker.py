"""What a sweep's worker does first: copy what trials start from out of the workspace; then become the command.

Workers share the sweep's database and nothing else, as several machines do: each has a folder, and a driver's lock, of its own.
"""

import os
import shutil
import sys
from pathlib import Path

SHARED = Path("/shared")
LEFT = shutil.ignore_patterns(".slimline", ".git", "cache", "raw", "mlartifacts", "mlflow.db*", "__pycache__")
"""What no trial needs: what other runs keep, DVC's cache, raw data."""


def copy(shared: Path, workspace: Path) -> None:
    """Bring `workspace` up to `shared`, data and models included.

    Raises:
        FileNotFoundError: there is no trained student there yet.
    """
    for needed in ("params.yaml", "data/prepared", "models/student", "models/teacher"):
        if not (shared / needed).exists():
            raise FileNotFoundError(2, "not there yet; run the pipeline first", str(shared / needed))
    shutil.copytree(shared, workspace, ignore=LEFT, dirs_exist_ok=True)


def main() -> None:
    try:
        copy(SHARED, Path.cwd())
    except shutil.Error as error:  # all that could not be copied: the first says it
        _, place, why = error.args[0][0]
        print(f"slimline: {place}: {why}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"slimline: {error.filename or SHARED}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
