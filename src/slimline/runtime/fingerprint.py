"""What a stage depends on, as DVC sees it, in one digest.

DVC's own entry of the stage is hashed by DVC itself, so there is no second list of dependencies that could disagree.
"""

import hashlib
import json
import os
import subprocess
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slimline.paths import STAGES, Paths, repository_root

CODE = ("src/", "pipelines/")
"""Where what is no input begins."""

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
        inputs: md5 of what the stage depends on besides code, by path from the repository.
    """

    fingerprint: str
    execution: str
    commit: str | None
    dirty: bool
    places: tuple[Path, ...]
    stamps: Mapping[Path, Stamp]
    inputs: Mapping[str, str] = field(default_factory=dict)

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
                fingerprint, execution = _digest(own, set(), repo.root_dir), _digest(stages, made, repo.root_dir)
                return Identity(fingerprint, execution, commit, dirty, places, _stamps(places), inputs(own[0], repo.root_dir))
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
    return pipeline_stages(repo, paths.root)


def pipeline_stages(repo: Any, folder: Path) -> list[Any]:
    """DVC's entries of the stages that run in `folder`, as `repo`, which may be at another revision, calls it."""
    from dvc.stage import PipelineStage

    return [entry for entry in repo.index.stages if Path(entry.wdir) == folder and isinstance(entry, PipelineStage)]


def stage_name(entry: Any) -> str:
    """A stage's name, without the member of a matrix that its folder says already."""
    return str(entry.name).partition("@")[0]


def inputs(entry: Any, root: str, *, recorded: bool = False) -> dict[str, str]:
    """md5 of what a stage depends on besides code and parameters, by path from `root`; of what it has never met, none."""
    from dvc.dependency.param import ParamsDependency

    files = [one for one in entry.deps if not isinstance(one, ParamsDependency)]
    found = {os.path.relpath(one.fs_path, root): _md5(one, recorded) for one in files}
    return {path: md5 for path, md5 in found.items() if md5 and not path.startswith(CODE)}


def outputs(entry: Any, root: str) -> dict[str, str]:
    """md5 of what a stage made, as dvc.lock has it."""
    return {os.path.relpath(one.fs_path, root): one.hash_info.value for one in entry.outs if one.hash_info.value}


def _md5(dependency: Any, recorded: bool) -> str | None:
    if recorded:
        return dependency.hash_info.value
    return dependency.get_hash().value if dependency.exists else None


def recorded_digest(stages: list[Any], root: str, without: Container[str] = ()) -> str:
    """The fingerprint of a stage, or without what they made the execution of all, as dvc.lock has them."""
    return _digest(stages, without, root, recorded=True)


def _digest(stages: list[Any], without: Container[str], root: str, *, recorded: bool = False) -> str:
    """Digest of commands, parameters and dependencies of `stages`, leaving out the paths in `without`.

    Args:
        recorded: as dvc.lock has them, not as they are.
    """
    from dvc.dependency.param import ParamsDependency

    facts: list[Any] = []
    for entry in sorted(stages, key=stage_name):
        facts.append([stage_name(entry), entry.cmd])
        for dependency in entry.deps:
            if dependency.fs_path in without:
                continue
            if isinstance(dependency, ParamsDependency):
                value = (dependency.hash_info.value or {}) if recorded else dependency.read_params()
            else:
                value = _md5(dependency, recorded)
            facts.append([stage_name(entry), os.path.relpath(dependency.fs_path, root), value])
    return _sha256(facts)


def _sha256(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


WRITTEN = (":(top)", *(f":(top,exclude,glob)**/{name}" for name in ("dvc.lock", "metrics/*", "results.json", "README.md")))
"""All but what a run itself rewrites."""


def git_state(folder: Path) -> tuple[str | None, bool]:
    """The commit that `folder` is on (None outside of git), and whether what a result depends on differs from it.

    What a run itself rewrites (dvc.lock, metrics, records) does not count.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    return commit.decode().strip() if commit else None, bool(_git(folder, "status", "--porcelain", "--untracked-files=no", "--", *WRITTEN))


def git_changes(folder: Path) -> bytes:
    """How the tracked files differ from the commit; nothing outside of git."""
    return _git(folder, "diff", "--binary", "HEAD", "--", *WRITTEN) or b""


def _git(folder: Path, *words: str) -> bytes | None:
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
