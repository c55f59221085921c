"""A clone of the working tree with a small params.yaml, on which the real commands are run, and what tests look at afterwards."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
from chain import TINY

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Repository:
    """A git and DVC repository of its own, with the commands of this environment."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_", "GIT_"))}
        return {**kept, "PATH": path, "PYTHONPATH": str(self.root / "src"), "DVC_SITE_CACHE_DIR": str(self.root.parent / "site-cache")}

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(command, cwd=self.root, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.root, env={**self.environment, **environment}, text=True, capture_output=True, check=False, timeout=600
        )

    def output(self, *command: str) -> str:
        done = self.run(*command)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def clone(folder: Path) -> Repository:
    """The working tree, uncommitted changes included, as the one commit of a new repository."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.endswith("dvc.lock"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / "params.yaml").write_text(TINY)
    repository = Repository(folder)
    repository.output("git", "init", "--quiet", "--initial-branch=main")
    repository.output("git", "config", "user.email", "tests@example.org")
    repository.output("git", "config", "user.name", "tests")
    commit(repository, "as it is")
    return repository


def commit(repository: Repository, message: str) -> None:
    repository.output("git", "add", "--all")
    repository.output("git", "commit", "--quiet", "--message", message)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file's bytes but for what no result is: compiled code, the locks of stages, and what waits to be sent to MLflow."""
    files = (f for f in sorted(folder.rglob("*")) if f.is_file() and not {"__pycache__", "spool"} & set(f.parts) and f.suffix != ".lock")
    return {str(f.relative_to(folder)): f.read_bytes() for f in files}


def refused(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Assert that `done` ended in one line, which holds `parts`, and exit code 2."""
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("slimline: ")
    assert all(part in lines[0] for part in parts), lines[0]


def alive(root: Path) -> list[psutil.Process]:
    """The processes that work in `root`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(root):
                found.append(process)
        except psutil.Error:  # ended meanwhile, or another user's
            continue
    return found
