"""What a stage depends on, as DVC sees it, in one digest.

DVC's own entry of the stage is hashed by DVC itself, so there is no second list of dependencies that could disagree.
"""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimline.paths import STAGES, Paths, repository_root

Stamp = tuple[int, int]
"""When a file was last written, in nanoseconds, and how long it is."""


@dataclass(frozen=True)
class Identity:
    """Who a stage's run is.

    Args:
        fingerprint: digest of the stage's command, code, parameters and inputs.
        execution: digest of code, parameters and raw data of the whole pipeline, equal for all its stages.
        commit: git commit, None outside of git.
        dirty: whether tracked files differ from that commit.
        places: files and folders that the stage depends on.
        stamps: of the files there.
    """

    fingerprint: str
    execution: str
    commit: str | None
    dirty: bool
    places: tuple[Path, ...]
    stamps: Mapping[Path, Stamp]

    def changed(self, stage: str, paths: Paths) -> str:
        """What the stage depends on and is no longer as it was, in words; empty where all is.

        Only where a file was written since is DVC asked again: that takes half a second.
        """
        now = _stamps(self.places)
        touched = sorted(path for path in now.keys() | self.stamps.keys() if now.get(path) != self.stamps.get(path))
        if not touched or identify(stage, paths).fingerprint == self.fingerprint:
            return ""
        names = [os.path.relpath(path, paths.root) for path in touched]
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def identify(stage: str, paths: Paths) -> Identity:
    """Ask DVC what the stage `stage` of this workspace depends on, and hash it.

    Outside of DVC, and in a workspace that no dvc.yaml knows, the digests are of the stage's name and of params.yaml.
    """
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo  # half a second, and only a starting stage needs it

    commit, dirty = git_state(paths.root)
    try:
        with Repo(str(repository_root(paths.root))) as repo:
            stages = family(repo, paths)
            own = [entry for entry in stages if stage_name(entry) == stage]
            if own:
                made = {out.fs_path for entry in stages for out in entry.outs}
                places = tuple(Path(dependency.fs_path) for entry in own for dependency in entry.deps)
                return Identity(_digest(own, set(), repo.root_dir), _digest(stages, made, repo.root_dir), commit, dirty, places, _stamps(places))
    except NotDvcRepoError:
        pass
    text = paths.params.read_text()
    return Identity(_sha256([stage, text]), _sha256([text]), commit, dirty, (paths.params,), _stamps([paths.params]))


def fingerprints(paths: Paths) -> dict[str, str]:
    """The fingerprint of each stage of this workspace, as `identify` gives it."""
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        with Repo(str(repository_root(paths.root))) as repo:
            if stages := family(repo, paths):
                return {stage_name(entry): _digest([entry], set(), repo.root_dir) for entry in stages}
    except NotDvcRepoError:
        pass
    text = paths.params.read_text()
    return {stage: _sha256([stage, text]) for stage in STAGES}


def _files(places: Iterable[Path]) -> Iterator[Path]:
    """The files at `places`, and in those that are folders."""
    for place in places:
        yield from (file for file in place.rglob("*") if file.is_file() and "__pycache__" not in file.parts) if place.is_dir() else [place]


def _stamps(places: Iterable[Path]) -> dict[Path, Stamp]:
    stamps = {}
    for file in _files(places):
        try:
            status = file.stat()
            stamps[file] = (status.st_mtime_ns, status.st_size)
        except FileNotFoundError:
            stamps[file] = (0, -1)
    return stamps


def family(repo: Any, paths: Paths) -> list[Any]:
    """DVC's entries of the stages that run in this workspace."""
    from dvc.stage import PipelineStage

    return [entry for entry in repo.index.stages if Path(entry.wdir) == paths.root and isinstance(entry, PipelineStage)]


def stage_name(entry: Any) -> str:
    """A stage's name, without the member of a matrix that its folder says already."""
    return str(entry.name).partition("@")[0]


def _digest(stages: list[Any], without: set[str], root: str) -> str:
    """Digest of commands, parameters and dependencies of `stages`, leaving out the paths in `without`."""
    from dvc.dependency.param import ParamsDependency

    facts: list[Any] = []
    for entry in sorted(stages, key=stage_name):
        facts.append([stage_name(entry), entry.cmd])
        for dependency in entry.deps:
            if dependency.fs_path in without:
                continue
            if isinstance(dependency, ParamsDependency):
                value = dependency.read_params()
            else:
                value = dependency.get_hash().value if dependency.exists else None
            facts.append([stage_name(entry), os.path.relpath(dependency.fs_path, root), value])
    return _sha256(facts)


def _sha256(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def git_state(folder: Path) -> tuple[str | None, bool]:
    """The commit that `folder` is on (None outside of git), and whether what a result depends on differs from it.

    What a run itself rewrites (dvc.lock, metrics, records) does not count.
    """

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    written = [f":(top,exclude,glob)**/{name}" for name in ("dvc.lock", "metrics/*", "results.json", "README.md")]
    return ask("rev-parse", "HEAD"), bool(ask("status", "--porcelain", "--untracked-files=no", "--", ":(top)", *written))
