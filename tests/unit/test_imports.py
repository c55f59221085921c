"""The floors of the design hold, and the check that says so can fail."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """import-linter on the package under `root`/src, as `make lint` runs it."""
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=root, env={**os.environ, "PYTHONPATH": str(root / "src")}, capture_output=True, text=True, check=False)


def test_every_file_imports_only_from_floors_below() -> None:
    ended = lint_imports(ROOT)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [("core/affine.py", "import slimline.stages.prune", "A file imports only from floors below")],
)
def test_a_forbidden_import_breaks_its_contract(file, line, contract, tmp_path) -> None:
    shutil.copytree(ROOT / "src" / "slimline", tmp_path / "src" / "slimline", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "src" / "slimline" / file).open("a") as module:
        module.write(f"\n{line}\n")
    ended = lint_imports(tmp_path)
    assert ended.returncode == 1
    assert f"{contract} BROKEN" in ended.stdout
