"""MLflow: one parent run a pipeline execution, one child a stage.

The parent is found, or created, by a digest of code, parameters and data, since a pipeline has no first moment of its own: any
stage may be the first that DVC finds stale.
"""

import fcntl
import functools
import hashlib
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from slimline.errors import SlimlineError
from slimline.tracking import Status, flattened

# Set before MLflow is imported: a server that does not answer is given up on in seconds, not minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

import mlflow
from mlflow.db import upgrade
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME
from mlflow.utils.time import get_current_time_millis

EXECUTION_TAG = "slimline.execution"
STAGE_TAG = "slimline.stage"
FINGERPRINT_TAG = "slimline.fingerprint"
SUPERSEDES_TAG, SUPERSEDED_TAG = "slimline.supersedes", "slimline.superseded_by"
"""A stage that is done again, by force or because DVC was killed before it noted the first time, names the run before, and is named by it."""

EPOCHS = "train/loss"
"""The metric that tells which epochs a run knows."""

SQLITE = "sqlite:///"
LONGEST_PARAM = 6000
"""MLflow refuses longer values."""

logging.getLogger("mlflow").setLevel(logging.WARNING)  # it announces every table of a new database
logging.getLogger("alembic").setLevel(logging.WARNING)

Method = TypeVar("Method", bound=Callable[..., None])


def _forgiving(method: Method) -> Method:
    """A failure of the store is told once, on standard error, and ends the recording, never the stage."""

    @functools.wraps(method)
    def attempt(self: "MlflowTracker", *args: Any, **kwargs: Any) -> None:
        if self.broken:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # any store, any driver, any network
            self.broken = True
            reason = " ".join(str(error).split())[:200]
            print(f"slimline: MLflow at {self.uri} failed ({reason}); the stage goes on unrecorded", file=sys.stderr)

    return attempt  # type: ignore[return-value]


class MlflowTracker:
    """The run of one stage in the MLflow store at `uri`.

    Args:
        uri: as MLflow takes it; environment and relative paths already resolved.
        experiment: name; created where it does not exist.
        largest_artifact: bytes; a larger file is recorded by reference.
        stage: name of the stage.
        execution: digest that names the pipeline execution.
        fingerprint: digest of what the stage depends on.
        commit: git commit, or None outside of git.
    """

    def __init__(self, uri: str, experiment: str, *, largest_artifact: int, stage: str, execution: str, fingerprint: str, commit: str | None) -> None:
        self.uri = uri
        self.broken = False
        self._largest_artifact = largest_artifact
        self._run = ""  # until it is opened
        self._step = -1  # of the last epoch that was told
        self._told = -1  # the same, of a run that was cut off before: what it knows is not told again
        self._open(experiment, stage, execution, fingerprint, commit)

    @_forgiving
    def _open(self, experiment: str, stage: str, execution: str, fingerprint: str, commit: str | None) -> None:
        database = Path(self.uri.removeprefix(SQLITE)) if self.uri.startswith(SQLITE) else None
        if database:
            _make(database)
        self._client = MlflowClient(tracking_uri=self.uri)
        found = self._client.get_experiment_by_name(experiment)
        # A local database is given a folder beside it; a server has its own idea of where artifacts go.
        location = (database.parent / "mlartifacts").as_uri() if database else None
        self._experiment = found.experiment_id if found else self._client.create_experiment(experiment, artifact_location=location)
        git = {MLFLOW_GIT_COMMIT: commit} if commit else {}
        execution_tags = {EXECUTION_TAG: execution, STAGE_TAG: "pipeline"}
        self._parent = self._found(execution_tags) or self._create(f"pipeline {execution[:8]}", execution_tags | git)
        # A run of the very same work that did not end well was cut off: it is continued, not doubled.
        stage_tags = {EXECUTION_TAG: execution, STAGE_TAG: stage, FINGERPRINT_TAG: fingerprint, MLFLOW_PARENT_RUN_ID: self._parent}
        cut_off = self._found(stage_tags, "attributes.status != 'FINISHED'")
        if cut_off is not None:
            self._run = cut_off
            self._step = self._told = max((entry.step for entry in self._client.get_metric_history(self._run, EPOCHS)), default=-1)
        else:
            earlier = self._search(stage_tags, "attributes.status = 'FINISHED'")
            self._run = self._create(stage, stage_tags | git | ({SUPERSEDES_TAG: earlier} if earlier else {}))
            if earlier:
                self._client.set_tag(earlier, SUPERSEDED_TAG, self._run)

    def _found(self, tags: dict[str, str], *conditions: str) -> str | None:
        """The last run with `tags`, reopened."""
        found = self._search(tags, *conditions)
        if found is not None:
            self._client.update_run(found, status="RUNNING")
        return found

    def _search(self, tags: dict[str, str], *conditions: str) -> str | None:
        """The last run with `tags`."""
        query = " and ".join([*(f"tags.`{name}` = '{value}'" for name, value in tags.items()), *conditions])
        found = self._client.search_runs([self._experiment], query, ViewType.ACTIVE_ONLY, order_by=["attributes.start_time DESC"], max_results=1)
        return str(found[0].info.run_id) if found else None

    def _create(self, name: str, tags: dict[str, str]) -> str:
        run = self._client.create_run(self._experiment, run_name=name, tags={MLFLOW_RUN_NAME: name, "slimline.mlflow": mlflow.__version__, **tags})
        return str(run.info.run_id)

    @_forgiving
    def params(self, values: Mapping[str, Any]) -> None:
        entries = [Param(name, str(value)[:LONGEST_PARAM]) for name, value in flattened(values).items()]
        self._client.log_batch(self._run, params=entries)

    @_forgiving
    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        # What is told without an epoch is final, so it comes after the last one: MLflow shows the newest step of a metric.
        if step is not None and step <= self._told:
            return
        self._step = self._step + 1 if step is None else step
        now = get_current_time_millis()
        self._client.log_batch(self._run, metrics=[Metric(name, float(value), now, self._step) for name, value in values.items()])

    @_forgiving
    def beside(self, stage: str, fingerprint: str, values: Mapping[str, float]) -> None:
        run = self._search({STAGE_TAG: stage, FINGERPRINT_TAG: fingerprint}, "attributes.status = 'FINISHED'")
        if run is not None:
            now = get_current_time_millis()
            self._client.log_batch(run, metrics=[Metric(name, float(value), now, 0) for name, value in values.items()])

    @_forgiving
    def tags(self, values: Mapping[str, str]) -> None:
        self._client.log_batch(self._run, tags=[RunTag(name, value) for name, value in values.items()])

    @_forgiving
    def artifact(self, path: Path) -> None:
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            folder = file.parent.relative_to(path.parent).as_posix()
            if file.stat().st_size <= self._largest_artifact:
                self._client.log_artifact(self._run, str(file), artifact_path=None if folder == "." else folder)
                continue
            with file.open("rb") as content:
                md5 = hashlib.file_digest(content, "md5").hexdigest()
            reference = {"path": str(file), "bytes": file.stat().st_size, "md5": md5}
            self._client.log_dict(self._run, reference, f"{folder}/{file.name}.reference.json")

    def finish(self, status: Status, *, last: bool) -> None:
        # A run that was opened is closed even if something in between could not be recorded.
        self.broken = not self._run
        self._finish(status, last)

    @_forgiving
    def _finish(self, status: Status, last: bool) -> None:
        self._client.set_terminated(self._run, status=status)
        if last or status != "FINISHED":
            self._client.set_terminated(self._parent, status=status)


def last_seconds(uri: str, experiment: str, stages: Iterable[str]) -> dict[str, float]:
    """How long the last finished run of each of `stages` took; a stage without one is left out.

    Raises:
        SlimlineError: the store does not answer.
    """
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).exists():
        return {}  # asking would make it
    try:
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            return {}
        seconds = {}
        for stage in stages:
            query = f"tags.`{STAGE_TAG}` = '{stage}' and attributes.status = 'FINISHED'"
            newest = ["attributes.start_time DESC"]
            for run in client.search_runs([found.experiment_id], query, ViewType.ACTIVE_ONLY, order_by=newest, max_results=1):
                seconds[stage] = (run.info.end_time - run.info.start_time) / 1000
        return seconds
    except Exception as error:  # any store, any driver, any network
        raise SlimlineError(f"MLflow at {uri} does not answer ({' '.join(str(error).split())[:200]}); start it, or mend tracking.uri") from error


def _make(database: Path) -> None:
    """Make the store `database`, whole or not at all, where there is none yet.

    MLflow fills a new one statement by statement. What a kill leaves of that it never opens again, and every later run goes unrecorded.

    Raises:
        OSError: it cannot be written; MLflow itself would try for minutes.
    """
    folder = os.open(database.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # another stage may be making it; the lock goes with the process
        if not database.exists():
            for left in database.parent.glob(f"{database.name}.part*"):  # by a killed process: the file, or its journal
                left.unlink()
            aside = database.with_name(f"{database.name}.part")
            aside.open("xb").close()
            upgrade.callback(f"{SQLITE}{aside}")
            aside.replace(database)
    finally:
        os.close(folder)
    database.open("ab").close()


def resolved_uri(uri: str, repository: Path) -> str:
    """`uri`, or MLFLOW_TRACKING_URI where it is set; a relative sqlite path is taken from `repository`.

    So a stage finds the same store from whichever folder it runs.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or uri
    if uri.startswith(SQLITE) and not uri.startswith(f"{SQLITE}/"):
        return f"{SQLITE}{repository / uri.removeprefix(SQLITE)}"
    return uri
