"""MLflow: one parent run a pipeline execution, one child a stage.

The parent is found, or created, by a digest of code, parameters and data, since a pipeline has no first moment of its own: any
stage may be the first that DVC finds stale.
"""

import functools
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from slimline.tracking import flattened

# Set before MLflow is imported: a server that does not answer is given up on in seconds, not minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

import mlflow
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME
from mlflow.utils.time import get_current_time_millis

EXECUTION_TAG = "slimline.execution"
STAGE_TAG = "slimline.stage"
FINGERPRINT_TAG = "slimline.fingerprint"
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
        stage: name of the stage.
        execution: digest that names the pipeline execution.
        fingerprint: digest of what the stage depends on.
        commit: git commit, or None outside of git.
    """

    def __init__(self, uri: str, experiment: str, *, stage: str, execution: str, fingerprint: str, commit: str | None, artifacts: Path) -> None:
        self.uri = uri
        self.broken = False
        self._open(experiment, stage, execution, fingerprint, commit, artifacts)

    @_forgiving
    def _open(self, experiment: str, stage: str, execution: str, fingerprint: str, commit: str | None, artifacts: Path) -> None:
        self._client = MlflowClient(tracking_uri=self.uri)
        found = self._client.get_experiment_by_name(experiment)
        # A local database is given a folder beside it; a server has its own idea of where artifacts go.
        location = artifacts.as_uri() if self.uri.startswith("sqlite:") else None
        self._experiment = found.experiment_id if found else self._client.create_experiment(experiment, artifact_location=location)
        git = {MLFLOW_GIT_COMMIT: commit} if commit else {}
        parents = self._client.search_runs(
            [self._experiment],
            f"tags.`{EXECUTION_TAG}` = '{execution}' and tags.`{STAGE_TAG}` = 'pipeline'",
            run_view_type=ViewType.ACTIVE_ONLY,
            order_by=["attributes.start_time ASC"],
            max_results=1,
        )
        if parents:
            self._parent = parents[0].info.run_id
            self._client.update_run(self._parent, status="RUNNING")
        else:
            tags = {EXECUTION_TAG: execution, STAGE_TAG: "pipeline", **git}
            self._parent = self._create(f"pipeline {execution[:8]}", tags)
        tags = {EXECUTION_TAG: execution, STAGE_TAG: stage, FINGERPRINT_TAG: fingerprint, MLFLOW_PARENT_RUN_ID: self._parent, **git}
        self._run = self._create(stage, tags)

    def _create(self, name: str, tags: dict[str, str]) -> str:
        run = self._client.create_run(self._experiment, run_name=name, tags={MLFLOW_RUN_NAME: name, "slimline.mlflow": mlflow.__version__, **tags})
        return str(run.info.run_id)

    @_forgiving
    def params(self, values: Mapping[str, Any]) -> None:
        entries = [Param(name, str(value)[:LONGEST_PARAM]) for name, value in flattened(values).items()]
        self._client.log_batch(self._run, params=entries)

    @_forgiving
    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        now = get_current_time_millis()
        self._client.log_batch(self._run, metrics=[Metric(name, float(value), now, step or 0) for name, value in values.items()])

    @_forgiving
    def tags(self, values: Mapping[str, str]) -> None:
        self._client.log_batch(self._run, tags=[RunTag(name, value) for name, value in values.items()])

    @_forgiving
    def artifact(self, path: Path) -> None:
        if path.is_dir():
            self._client.log_artifacts(self._run, str(path), artifact_path=path.name)
        else:
            self._client.log_artifact(self._run, str(path))

    @_forgiving
    def finish(self, *, succeeded: bool, last: bool) -> None:
        status = "FINISHED" if succeeded else "FAILED"
        self._client.set_terminated(self._run, status=status)
        if last or not succeeded:
            self._client.set_terminated(self._parent, status=status)


def resolved_uri(uri: str, repository: Path) -> str:
    """`uri`, or MLFLOW_TRACKING_URI where it is set; a relative sqlite path is taken from `repository`.

    So a stage finds the same store from whichever folder it runs.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or uri
    prefix = "sqlite:///"
    if uri.startswith(prefix) and not uri.startswith(prefix + "/"):
        return f"{prefix}{repository / uri.removeprefix(prefix)}"
    return uri
