"""Prepared data, models and what was measured of them as they are, or as they were at a git revision."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any

from psutil import pid_exists

from slimline.errors import SlimlineError
from slimline.paths import MADE_BY, Paths, repository_root

TODAY = "."
"""What names the workspace as it is."""

PREFIX = "slimline-"
"""How the folders of fetched data begin; the process's number follows."""


@dataclass(frozen=True)
class Kept:
    """Something that a stage leaves in a workspace.

    Args:
        place: its folder, from the workspace.
        marker: a file without which a folder is none.
        name: what messages call it.
        stage: that makes it.
    """

    place: str
    marker: str
    name: str
    stage: str


PREPARED = Kept("data/prepared", "dataset.json", "prepared data", "prepare")


@contextmanager
def prepared_at(what: str, workspace: Paths) -> Iterator[Path]:
    """The prepared folder that `what` names, see `kept_at`."""
    with kept_at(what, workspace, PREPARED) as folder:
        yield folder


@contextmanager
def model_at(what: str, workspace: Paths, name: str) -> Iterator[Path]:
    """The folder of the model that `what` names, see `kept_at`; `name` is its folder under `models/` of a workspace or revision."""
    with kept_at(what, workspace, Kept(f"models/{name}", "model.json", "model", MADE_BY[name])) as folder:
        yield folder


@contextmanager
def kept_at(what: str, workspace: Paths, kept: Kept) -> Iterator[Path]:
    """The folder of `kept` that `what` names; one that was fetched is deleted afterwards.

    Args:
        what: "." for what `workspace` holds now; else a folder, the thing itself or a workspace; else a git revision (a commit,
            tag, branch, `HEAD~1`, or the name of a DVC experiment), whose folder is fetched from DVC's cache.

    Raises:
        SlimlineError: no such folder or revision, or nothing of the kind there.
    """
    folder = Path(what)
    if what == TODAY:
        yield workspace.root / kept.place
    elif folder.is_dir():
        inside = folder / kept.place
        found = inside if inside.is_dir() else folder
        if not (found / kept.marker).is_file():
            raise SlimlineError(f"{what}: no {kept.name} there (no {kept.marker}); name a folder of it, a workspace or a git revision")
        yield found
    else:
        root = _repository(what, workspace)
        disk = root / ".dvc" / "tmp"  # not the system's temporary folder, which is often memory; git leaves it out
        with _aside(disk) as aside:
            yield _fetched(what, root, _within(root, workspace, kept.place), aside / Path(kept.place).name, kept.stage)


def measured_at(what: str, workspace: Paths, files: Mapping[str, Path]) -> dict[str, Any] | None:
    """The JSON of `files` of `workspace`, by their names, in what `what` names (as for `kept_at`); None where one of them is not there.

    Raises:
        SlimlineError: a file that is no JSON.
    """
    places = {name: path.relative_to(workspace.root) for name, path in files.items()}
    try:
        if what == TODAY or Path(what).is_dir():
            folder = workspace.root if what == TODAY else Path(what)
            return {name: json.loads((folder / place).read_text()) for name, place in places.items()}
        from dvc.api import DVCFileSystem
        from dvc.exceptions import DvcException

        root = _repository(what, workspace)
        tree = DVCFileSystem(str(root), rev=what)
        try:
            return {name: json.loads(tree.read_text(_within(root, workspace, place))) for name, place in places.items()}
        except DvcException:  # not in the cache
            return None
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise SlimlineError(f"{what}: {', '.join(map(str, places.values()))}: no valid JSON ({error}); run dvc repro --force evaluate") from error


def _repository(what: str, workspace: Paths) -> Path:
    root = repository_root(workspace.root)
    if not (root / ".dvc").is_dir():
        raise SlimlineError(f"{what}: no such folder, and {root} is no DVC repository that could have such a revision; name a folder")
    return root


def _within(root: Path, workspace: Paths, place: Path | str) -> str:
    return (workspace.root.resolve() / place).relative_to(root).as_posix()


@contextmanager
def _aside(disk: Path) -> Iterator[Path]:
    """A folder in the folder `disk`, deleted afterwards; so are those of processes that were killed."""
    try:
        disk.mkdir(exist_ok=True)
        for left in disk.glob(f"{PREFIX}*"):
            if not ((number := left.name.split("-")[1]).isdigit() and pid_exists(int(number))):
                rmtree(left, ignore_errors=True)
        folder = TemporaryDirectory(dir=disk, prefix=f"{PREFIX}{os.getpid()}-")
    except OSError as error:
        raise SlimlineError(f"{disk}: cannot be written ({error.strerror}); make room or mend its permissions") from error
    with folder as name:
        yield Path(name)


def _fetched(revision: str, root: Path, place: str, target: Path, stage: str) -> Path:
    """Fill `target` with what lies at `place` of the DVC repository `root` at `revision`."""
    from dvc.api import DVCFileSystem  # half a second, and only a revision needs it
    from dvc.exceptions import DvcException
    from dvc.scm import SCMError
    from dvc_data.index import DataIndexDirError

    files = DVCFileSystem(str(root), rev=revision)
    try:
        files.info(place)  # not `exists`, which is silent about an unknown revision
    except SCMError as error:
        raise SlimlineError(f"{revision}: no such folder and no git revision of {root}; name one that git log or dvc exp show lists") from error
    except FileNotFoundError as error:
        raise SlimlineError(f"{revision}: this revision has no {place}; name a later one, or a folder") from error
    except DvcException as error:
        raise SlimlineError(f"{revision}: DVC cannot read the pipeline of this revision ({_line(error)}); name another one, or a folder") from error
    try:
        files.get(place, str(target), recursive=True)
    except (DvcException, DataIndexDirError, OSError) as error:
        raise SlimlineError(
            f"{revision}: DVC's cache has no {place} of this revision ({_line(error)}); run dvc fetch if a remote has it, or make it anew there: "
            f"git switch --detach {revision}, dvc repro {stage}, git switch -"
        ) from error
    return target


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
