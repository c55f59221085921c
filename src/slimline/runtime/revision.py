"""Prepared data as they are, or as they were at a git revision."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from slimline.errors import SlimlineError
from slimline.paths import Paths, repository_root

TODAY = ("workspace", ".")


@contextmanager
def prepared_at(what: str, workspace: Paths) -> Iterator[Path]:
    """The prepared folder that `what` names; one that was fetched is deleted afterwards.

    Args:
        what: "workspace" or "." for what `workspace` holds now; else a folder, prepared or a workspace; else a git revision (a commit,
            tag, branch, `HEAD~1`, or the name of a DVC experiment), whose prepared data are fetched from DVC's cache.

    Raises:
        SlimlineError: no such folder or revision, or no prepared data there.
    """
    folder = Path(what)
    if what in TODAY:
        yield workspace.prepared
    elif folder.is_dir():
        inside = Paths(folder).prepared
        yield inside if inside.is_dir() else folder
    else:
        with TemporaryDirectory(prefix="slimline-") as aside:
            yield _fetched(what, workspace, Path(aside) / "prepared")


def _fetched(revision: str, workspace: Paths, target: Path) -> Path:
    """Fill `target` with the prepared data of `workspace` at `revision`."""
    from dvc.api import DVCFileSystem  # half a second, and only a revision needs it
    from dvc.exceptions import DvcException
    from dvc.scm import SCMError
    from dvc_data.index import DataIndexDirError

    root = repository_root(workspace.root)
    if not (root / ".dvc").is_dir():
        raise SlimlineError(f"{revision}: no such folder, and {root} is no DVC repository that could have such a revision; name a folder")
    place = workspace.prepared.resolve().relative_to(root).as_posix()
    files = DVCFileSystem(str(root), rev=revision)
    try:
        files.info(place)  # not `exists`, which is silent about an unknown revision
    except SCMError as error:
        raise SlimlineError(f"{revision}: no such folder and no git revision of {root}; name one that git log or dvc exp show lists") from error
    except FileNotFoundError as error:
        raise SlimlineError(f"{revision}: this revision has no {place}; name a later one, or a folder") from error
    try:
        files.get(place, str(target), recursive=True)
    except (DvcException, DataIndexDirError, OSError) as error:
        raise SlimlineError(
            f"{revision}: DVC's cache has no {place} of this revision ({error}); run dvc fetch if a remote has it, or make it anew there: "
            f"git switch --detach {revision}, dvc repro prepare, git switch -"
        ) from error
    return target
