"""Trials of a sweep as MLflow runs: one parent a sweep, one child a trial, comparable in MLflow's pages."""

import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from mlflow.utils.time import get_current_time_millis

SWEEP_TAG, TRIAL_TAG = "slimline.sweep", "slimline.trial"
SQLITE = "sqlite:///"
LONGEST_PARAM = 6000
ENDED = ("FINISHED", "FAILED")


@dataclass(frozen=True)
class Record:
    """What is recorded of a trial.

    Args:
        name: of its run, unique within the sweep.
        reason: why it could not be, if so.
    """

    name: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    reason: str | None = None


def record_trials(uri: str, experiment: str, sweep: str, identity: str, records: Iterable[Record]) -> int:
    """Record those of `records` that the sweep's run has not yet; how many. A store that fails costs a line on standard error, nothing else.

    Args:
        uri: as MLflow takes it, already resolved.
        identity: digest of all that decides what the trials give.
    """
    try:
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(experiment)
        # As in a stage's first run: a local database has a folder beside it.
        beside = (Path(uri.removeprefix(SQLITE)).parent / "mlartifacts").as_uri() if uri.startswith(SQLITE) else None
        where = found.experiment_id if found else client.create_experiment(experiment, artifact_location=beside)
        query = f"tags.`{SWEEP_TAG}` = '{identity}' and tags.`{TRIAL_TAG}` = 'all'"
        parents = client.search_runs([where], query, ViewType.ACTIVE_ONLY, max_results=1, order_by=["attributes.start_time"])
        tags = {SWEEP_TAG: identity, "slimline.mlflow": mlflow.__version__}
        parent = parents[0].info.run_id if parents else client.create_run(where, run_name=sweep, tags={**tags, TRIAL_TAG: "all"}).info.run_id
        known = {run.data.tags[TRIAL_TAG] for run in _children(client, where, parent)}
        missing = [one for one in records if one.name not in known]
        now = get_current_time_millis()
        for one in missing:
            run = client.create_run(where, run_name=one.name, tags={**tags, MLFLOW_PARENT_RUN_ID: parent}).info.run_id
            params = [Param(name.replace('"', ""), str(value)[:LONGEST_PARAM]) for name, value in one.params.items()]
            metrics = [Metric(name, float(value), now, 0) for name, value in one.metrics.items()]
            # The tag that says that it is recorded goes with the rest: what a kill leaves without it is recorded once more.
            client.log_batch(run, params=params, metrics=metrics, tags=[RunTag(TRIAL_TAG, one.name), RunTag("reason", one.reason or "")])
            client.set_terminated(run, status="FAILED" if one.reason else "FINISHED")
        with suppress(MlflowException):  # another driver, whose record came first, has just deleted it
            client.set_terminated(parent, status="FINISHED")
        _thin(client, where, identity)
    except Exception as error:  # any store, any driver, any network
        print(f"slimline: MLflow at {uri} failed ({' '.join(str(error).split())[:200]}); the sweep's trials are not recorded there", file=sys.stderr)
        return 0
    return len(missing)


def _thin(client: MlflowClient, experiment: str, identity: str) -> None:
    """Drivers that share a sweep end at the same moment, and none sees yet what the others record: of equal runs the first stays.

    Each does this when all of its own have ended, and leaves those that have not; so the last one sees them all.
    """
    runs = sorted(_runs(client, experiment, f"tags.`{SWEEP_TAG}` = '{identity}'"), key=lambda run: (run.info.start_time, run.info.run_id))
    first = next(run.info.run_id for run in runs if run.data.tags.get(TRIAL_TAG) == "all")
    seen: set[str | None] = set()
    for run in sorted(runs, key=lambda run: run.data.tags.get(MLFLOW_PARENT_RUN_ID, first) != first):
        name = run.data.tags.get(TRIAL_TAG)
        if name in seen and run.info.status in ENDED:
            with suppress(MlflowException):  # another one has just deleted it
                client.delete_run(run.info.run_id)
        seen.add(name)


def _children(client: MlflowClient, experiment: str, parent: str) -> Iterable[Any]:
    return _runs(client, experiment, f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}' and tags.`{TRIAL_TAG}` LIKE '%'")


def _runs(client: MlflowClient, experiment: str, query: str) -> Iterable[Any]:
    token = None
    while True:
        found = client.search_runs([experiment], query, ViewType.ACTIVE_ONLY, max_results=1000, page_token=token)
        yield from found
        if not (token := found.token):
            return
