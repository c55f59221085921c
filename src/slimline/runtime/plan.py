"""Which stages `dvc repro` would run, and why; nothing is started."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimline.errors import SlimlineError
from slimline.paths import Paths, repository_root
from slimline.runtime.fingerprint import family, stage_name
from slimline.tracking import flattened

SHOWN = 3
"""Changed files of a folder that are named."""

MISSING = object()


@dataclass(frozen=True)
class Planned:
    """A stage that is stale.

    Args:
        stage: its name.
        reasons: what changed since its last run, a line each; empty where it only waits.
        after: stages of this plan whose outputs it reads; if they come out as they were, it is not run for their sake.
    """

    stage: str
    reasons: tuple[str, ...]
    after: tuple[str, ...]


def plan(paths: Paths) -> list[Planned]:
    """The stale stages of the workspace, in the order in which they would run. About three seconds, more where large data are new.

    A stage whose results lie in DVC's run cache is planned too; DVC restores it then instead of running it.

    Raises:
        SlimlineError: this is no DVC repository, or no dvc.yaml knows this workspace.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo

    root = repository_root(paths.root)
    try:
        with Repo(str(root)) as repo:
            stages = family(repo, paths)
            if not stages:
                raise SlimlineError(f"{paths.root}: no stage of a dvc.yaml runs here; name a workspace by --workspace")
            return _planned(_in_order(stages), root)
    except NotDvcRepoError as error:
        raise SlimlineError(f"{paths.root}: no DVC repository; run it where dvc.yaml lies") from error
    except DvcException as error:
        raise SlimlineError(f"{root}: DVC cannot read the pipeline ({' '.join(str(error).split())[:200]}); mend dvc.yaml or dvc.lock") from error


def told(stages: Sequence[Planned], seconds: Mapping[str, float]) -> str:
    """`stages` for people to read.

    Args:
        seconds: that the last run of a stage took, where known.
    """
    if not stages:
        return "Nothing to do: data and pipeline are up to date."
    lines = []
    for one in stages:
        lines.append(f"{one.stage}  (last time {_clock(seconds[one.stage])})" if one.stage in seconds else one.stage)
        lines += [f"    {reason}" for reason in one.reasons]
        lines += [f"    after {', '.join(one.after)}, if that comes out otherwise"] if one.after else []
    known = [seconds[one.stage] for one in stages if one.stage in seconds]
    whole = f"; at most {_clock(sum(known))} by what they took last" if len(known) == len(stages) else ""
    return "\n".join([*lines, f"{len(stages)} stage{'s' if len(stages) > 1 else ''}{whole}."])


def _clock(seconds: float) -> str:
    """1 h 02 min, 2 min 10 s or 3.1 s."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 60} min {whole % 60:02} s" if whole >= 60 else f"{seconds:.1f} s"


def _in_order(stages: Sequence[Any]) -> list[Any]:
    """Each stage after those whose outputs it reads."""
    makers = {out.fs_path: stage for stage in stages for out in stage.outs}
    ordered: list[Any] = []

    def add(stage: Any) -> None:
        if stage not in ordered:
            for dependency in stage.deps:
                if dependency.fs_path in makers:
                    add(makers[dependency.fs_path])
            ordered.append(stage)

    for stage in stages:
        add(stage)
    return ordered


def _planned(stages: Sequence[Any], root: Path) -> list[Planned]:
    planned: list[Planned] = []
    makers = {out.fs_path: stage_name(stage) for stage in stages for out in stage.outs}
    for stage in stages:
        stale = {one.stage for one in planned}
        after = dict.fromkeys(makers[d.fs_path] for d in stage.deps if makers.get(d.fs_path) in stale)
        reasons = tuple(_reasons(stage, makers, stale, root))
        if reasons or after:
            planned.append(Planned(stage_name(stage), reasons, tuple(after)))
    return planned


def _reasons(stage: Any, makers: Mapping[str, str], stale: set[str], root: Path) -> Iterator[str]:
    from dvc.dependency.param import ParamsDependency

    known = [*stage.deps, *stage.outs]
    if known and all(one.hash_info.value is None for one in known):
        yield "has never run here"
        return
    if stage.is_callback or stage.always_changed:
        yield "always changed: DVC runs it every time"
    if stage.changed_stage():
        yield "its command in dvc.yaml changed"
    for dependency in stage.deps:
        if isinstance(dependency, ParamsDependency):
            yield from _changed_parameters(dependency.hash_info.value or {}, dependency.read_params())
        elif makers.get(dependency.fs_path) not in stale:
            for word in dependency.status().values():
                yield _changed_file(Path(dependency.fs_path), word, root)
    for out in stage.outs:
        for word in out.status().values():
            yield f"output {os.path.relpath(out.fs_path, root)}: {'deleted' if word == 'not in cache' else word}"


def _changed_parameters(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    old, new = flattened(before), flattened(now)
    for key in sorted(old.keys() | new.keys()):
        if old.get(key, MISSING) != new.get(key, MISSING):
            yield f"{key}: {_said(old, key)} → {_said(new, key)}"


def _said(values: Mapping[str, Any], key: str) -> str:
    return f"{values[key]}" if key in values else "not there"


def _changed_file(place: Path, word: str, root: Path) -> str:
    """What changed at `place`, which DVC calls `word`. Of a folder DVC knows one digest, so git is asked which files."""
    inside = _since_the_lock(place, root) if place.is_dir() else []
    named = f" ({', '.join(inside[:SHOWN])}{f' and {len(inside) - SHOWN} more' if len(inside) > SHOWN else ''})" if inside else ""
    return f"{os.path.relpath(place, root)}: {word}{named}"


def _since_the_lock(folder: Path, root: Path) -> list[str]:
    """The files of `folder` that differ from the commit that wrote dvc.lock last; none outside of git."""
    commit = _git(root, "log", "-1", "--format=%H", "--", "dvc.lock")
    if not commit:
        return []
    changed = _git(root, "diff", "--name-only", "--relative", commit[0], "--", str(folder))
    new = _git(root, "ls-files", "--others", "--exclude-standard", "--", str(folder))
    return sorted({os.path.relpath(root / name, folder) for name in (*changed, *new)})


def _git(root: Path, *words: str) -> list[str]:
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []
