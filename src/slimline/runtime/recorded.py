"""What dvc.lock says of a workspace's stages, now or at a git revision, and telling MLflow of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slimline.errors import SlimlineError
from slimline.params.file import load
from slimline.params.tracking import Tracking
from slimline.paths import Paths, repository_root, store_root
from slimline.runtime.fingerprint import inputs, outputs, pipeline_stages, recorded_digest, stage_name
from slimline.tracking.journal import at_work, delivered, journals, link, resolved_uri

PATIENCE = 120.0
"""Seconds that `sync` waits for MLflow to take what waits for it."""


@dataclass(frozen=True)
class Recorded:
    """A stage as dvc.lock has it.

    Args:
        stage: its name.
        fingerprint: digest of what it depended on, the tag of its run.
        inputs: md5 by path from the repository, of what it read besides code.
        outputs: likewise, of what it made.
    """

    stage: str
    fingerprint: str
    inputs: dict[str, str]
    outputs: dict[str, str]


def recorded(paths: Paths, revision: str | None = None) -> tuple[str, list[Recorded]]:
    """The digest of the pipeline's execution, and its stages that have ever ended, as dvc.lock has them.

    Args:
        revision: of git; None for the files as they are.

    Raises:
        SlimlineError: no DVC repository, or no such revision.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo  # half a second
    from dvc.scm import SCMError

    root = repository_root(paths.root)
    try:
        with Repo(str(root)) as repo, _at(repo, revision):
            stages = pipeline_stages(repo, Path(repo.root_dir) / paths.root.resolve().relative_to(root))
            made = {out.fs_path for entry in stages for out in entry.outs}
            execution = recorded_digest(stages, repo.root_dir, made)
            ended = [entry for entry in stages if all(out.hash_info.value or not out.use_cache for out in entry.outs)]
            return execution, [_recorded(entry, repo.root_dir) for entry in ended]
    except NotDvcRepoError as error:
        raise SlimlineError(f"{root}: no DVC repository, so no stage is recorded here; run in one") from error
    except SCMError as error:
        raise SlimlineError(f"{revision}: no git revision of {root}; name one that git log lists") from error
    except DvcException as error:
        raise SlimlineError(f"{root}: DVC cannot read the pipeline ({' '.join(str(error).split())[:200]}); mend dvc.yaml or dvc.lock") from error


@contextmanager
def _at(repo: Any, revision: str | None) -> Iterator[None]:
    if revision is None:
        yield
    else:
        with repo.switch(revision):
            yield


def _recorded(entry: Any, root: str) -> Recorded:
    return Recorded(stage_name(entry), recorded_digest([entry], root), inputs(entry, root, recorded=True), outputs(entry, root))


def sync(paths: Paths) -> str:
    """Tell MLflow what waits for it, and which run made what dvc.lock names; why not all of it was taken, in words, empty where it was.

    Stages that DVC restored from its cache have no new run: the pipeline's run names the ones that made them.

    Raises:
        SlimlineError: as `recorded`.
    """
    root = store_root(paths.root)
    tracking = load(paths.params).block("tracking", Tracking)
    spool = Paths(root).spool
    execution, stages = recorded(paths)
    if stages:
        told = [{key: value for key, value in asdict(one).items() if key != "inputs"} for one in stages]
        link(spool, resolved_uri(tracking.uri, root), tracking.experiment, execution, told)
    return delivered(spool, [journal for journal in journals(spool) if not at_work(journal)], PATIENCE)
