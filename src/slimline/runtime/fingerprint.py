"""What a stage depends on, as DVC sees it, in one digest.

DVC's own entry of the stage is hashed by DVC itself, so there is no second list of dependencies that could disagree.
"""

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Identity:
    """Who a stage's run is.

    Args:
        fingerprint: digest of the stage's command, code, parameters and inputs.
        execution: digest of code, parameters and raw data of the whole pipeline, equal for all its stages.
        commit: git commit, None outside of git.
        dirty: whether tracked files differ from that commit.
    """

    fingerprint: str
    execution: str
    commit: str | None
    dirty: bool


def identify(stage: str, workspace: Path) -> Identity:
    """Ask DVC for the dependencies of `stage` (its name in the dvc.yaml of `workspace` or above) and hash them.

    Outside of a DVC repository both digests are those of the stage's name: such a run has no recorded identity to share.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo  # half a second, and only a starting stage needs it

    commit, dirty = git_state(workspace)
    try:
        with Repo(str(workspace)) as repo:
            own_name = os.environ.get("DVC_STAGE", stage)
            stages = {entry.addressing: entry for entry in repo.index.stages if entry.is_data_source is False}
            own = next((entry for entry in stages.values() if own_name in (entry.addressing, getattr(entry, "name", None))), None)
            if own is None:
                raise NotDvcRepoError(f"no stage {own_name}")
            family = [entry for entry in stages.values() if entry.wdir == own.wdir]
            made = {out.fs_path for entry in family for out in entry.outs}
            return Identity(_digest([own], set()), _digest(family, made), commit, dirty)
    except (NotDvcRepoError, DvcException):
        nothing = hashlib.sha256(stage.encode()).hexdigest()
        return Identity(nothing, nothing, commit, dirty)


def _digest(stages: list[Any], without: set[str]) -> str:
    """Digest of commands, parameters and dependencies of `stages`, leaving out the paths in `without`."""
    from dvc.dependency.param import ParamsDependency

    facts: dict[str, Any] = {}
    for entry in stages:
        facts[entry.addressing] = {"cmd": entry.cmd}
        for dependency in entry.deps:
            if dependency.fs_path in without:
                continue
            name = f"{entry.addressing} {dependency}"
            if isinstance(dependency, ParamsDependency):
                facts[name] = dependency.read_params()
            else:
                facts[name] = dependency.get_hash().value if dependency.exists else None
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def git_state(folder: Path) -> tuple[str | None, bool]:
    """The commit that `folder` is on (None outside of git), and whether tracked files differ from it."""

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    return ask("rev-parse", "HEAD"), bool(ask("status", "--porcelain", "--untracked-files=no"))
