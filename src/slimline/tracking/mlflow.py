"""MLflow: one parent run a pipeline execution, one child a stage.

The parent is found, or created, by a digest of code, parameters and data, since a pipeline has no first moment of its own: any
stage may be the first that DVC finds stale. A child is known by its stage's fingerprint.
"""

import fcntl
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from slimline.errors import SlimlineError
from slimline.tracking.journal import SQLITE, without_password

# Set before MLflow is imported: a server that does not answer is given up on in seconds, not minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # on standard error, where a command's one line is to stand

import mlflow
import sqlalchemy
from mlflow.db import upgrade
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, LoggedModelStatus, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME, MLFLOW_RUN_NOTE
from requests import RequestException
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from slimline.tracking.pages import EXPERIMENT, PIPELINE, conclude, description

EXECUTION_TAG = "slimline.execution"
STAGE_TAG = "slimline.stage"
FINGERPRINT_TAG = "slimline.fingerprint"
WORKSPACE_TAG = "slimline.workspace"
SUPERSEDES_TAG, SUPERSEDED_TAG = "slimline.supersedes", "slimline.superseded_by"
"""A stage that is done again, by force or because DVC was killed before it noted the first time, names the run before, and is named by it."""

RUN_TAG = "slimline.run."
"""Of a pipeline's run, before a stage's name: the run that made what the stage has there, also where DVC restored it from its cache."""

INPUT_TAG, OUTPUT_TAG, MD5_TAG = "input.", "output.", "md5."
"""Of a stage's run: before a path, its md5; before the md5 of a file that it made or used, its path."""

EPOCHS = "train/loss"
"""The metric that tells which epochs a run knows."""

SQL = (SQLITE, "postgresql", "mysql")
"""How the addresses of databases begin."""
PATIENCE = 10
"""Seconds for a database's server to answer."""

KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Tag of the experiment: else MLflow's page asks what it is, and may show traces of language models first."""

ENDED = "attributes.status = 'FINISHED'"
LONGEST_TAG, LONGEST_DIGEST = 8000, 36
"""MLflow refuses longer values."""
TOGETHER = 100
"""Parameters, tags or metrics that MLflow takes at once."""

logging.getLogger("mlflow").setLevel(logging.WARNING)  # it announces every table of a new database
logging.getLogger("alembic").setLevel(logging.WARNING)

PROBLEMS = (
    (
        r"No module named 'psycopg2?'",
        "is PostgreSQL, whose driver is not here: pip install 'slimline[postgresql]', and write postgresql+psycopg://… in tracking.uri",
    ),
    (r"password authentication failed|no password supplied|role .* does not exist", "refuses who asks: mend name and password in tracking.uri"),
    (r"database .* does not exist", "has no such database: createdb it, or mend tracking.uri"),
    (r"Invalid Host header", "refuses its own host name: start mlflow server with --allowed-hosts 'HOST:*,localhost:*'"),
    (
        r"\b401\b|\b403\b|UNAUTHENTICATED|Unauthorized|PERMISSION_DENIED",
        "refuses who asks: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
    ),
    (
        r"out-of-date database schema|Can't locate revision",
        "has the database of another version of MLflow: make a copy of it, then mlflow db upgrade URI",
    ),
    (
        r"unsupported URI|UnsupportedModelRegistryStoreURI|Could not parse|file system|filesystem|No plugin|Can't load plugin",
        "is no address of a store: write sqlite:///FILE, postgresql+psycopg://… or http://… in tracking.uri",
    ),
    (r"\b404\b|ENDPOINT_NOT_FOUND", "has no MLflow at that address: mend tracking.uri"),
    (
        r"failed with exception|Connection|timed out|could not translate host|Name or service not known",
        "does not answer: start it, or mend tracking.uri",
    ),
    (
        r"unable to open database file|Is a directory|Permission denied|readonly database|not a directory",
        "cannot be opened: mend the path in tracking.uri, or its permissions",
    ),
)
"""What the texts of failures say, and what is to be done."""


def problem(error: Exception) -> str:
    """What is wrong with a store, and what to do, in words that follow its address."""
    text = " ".join(str(error).split())
    return next((words for pattern, words in PROBLEMS if re.search(pattern, text, re.IGNORECASE)), f"failed ({text[:200]})")


@contextmanager
def asked(uri: str) -> Iterator[None]:
    """Turn whatever a store, its driver or the network fail with in the block into one line.

    Args:
        uri: as it may be shown.

    Raises:
        SlimlineError: with what is wrong and what to do.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError, ImportError, RequestException) as error:
        raise SlimlineError(f"MLflow at {uri} {problem(error)}") from error


def reach(uri: str) -> None:
    """Connect once to a database that is a server: MLflow itself tries for two minutes, and says so ten times.

    Raises:
        SQLAlchemyError, ImportError: it does not answer, or refuses; it is no address, or a folder; or its driver is not there.
    """
    try:
        sqlalchemy.make_url(uri if uri.startswith(SQL) else SQLITE)
    except ValueError as error:
        raise ArgumentError("Could not parse the port") from error
    if uri.startswith(SQLITE) and Path(uri.removeprefix(SQLITE)).is_dir():
        raise ArgumentError("Is a directory")
    if uri.startswith(SQL) and not uri.startswith(SQLITE):
        engine = sqlalchemy.create_engine(uri, connect_args={"connect_timeout": PATIENCE})
        try:
            engine.connect().close()
        finally:
            engine.dispose()


def client_of(uri: str) -> MlflowClient:
    """Runs and registry of the store at `uri`, to be asked; asking makes none.

    Raises:
        SlimlineError: it is no address, or of a database that is not there.
    """
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).exists():
        raise SlimlineError(f"MLflow at {uri} is not there yet; the first stage makes it, or mend tracking.uri")
    with asked(without_password(uri)):
        reach(uri)
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def is_refusal(error: Exception) -> bool:
    """Whether MLflow understood what it was told and will never take it."""
    return isinstance(error, MlflowException) and error.error_code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS")


def search(client: MlflowClient, experiment: str, tags: Mapping[str, str], *conditions: str, most: int = 1) -> list[Run]:
    """The newest runs with `tags`, of which `conditions` in MLflow's language hold."""
    query = " and ".join([*(f"tags.`{name}` = '{value}'" for name, value in tags.items()), *conditions])
    return list(client.search_runs([experiment], query, ViewType.ACTIVE_ONLY, order_by=["attributes.start_time DESC"], max_results=most))


class Store:
    """An experiment in the MLflow store at `uri`, told what journals hold.

    Args:
        uri: as MLflow takes it; environment and relative paths already resolved.
        experiment: name; created where it does not exist.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self.uri = uri
        database = Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None
        if database:
            _make(database)
        reach(uri)
        self.client = MlflowClient(tracking_uri=uri)
        found = self.client.get_experiment_by_name(experiment)
        # A local database is given a folder beside it; a server has its own idea of where artifacts go.
        location = (database.parent / "mlartifacts").as_uri() if database else None
        self.experiment = found.experiment_id if found else self._new(experiment, location)
        self._monitors: dict[str, SystemMetricsMonitor] = {}
        self._operations: dict[str, Callable[[Sequence[Mapping[str, Any]], Path, dict[str, Any]], None]] = {
            "open": self._open,
            "params": self._params,
            "metrics": self._metrics,
            "tags": self._tags,
            "artifact": self._artifact,
            "dataset": self._dataset,
            "model": self._model,
            "beside": self._beside,
            "finish": self._finish,
            "link": self._link,
        }

    def _new(self, experiment: str, location: str | None) -> str:
        tags = {MLFLOW_RUN_NOTE: EXPERIMENT, **KIND}
        return str(self.client.create_experiment(experiment, artifact_location=location, tags=tags))

    def send(self, operation: str, entries: Sequence[Mapping[str, Any]], journal: Path, state: dict[str, Any], *, live: bool) -> None:
        """Tell MLflow several entries of one operation.

        Args:
            journal: folder of the files that they name.
            state: of the journal; what is to be known of its run later is entered there.
            live: whether the stage is at work, here and now.
        """
        self._operations[operation](entries, journal, state)
        if operation == "open" and live:
            self._watch(state["run"])

    def _watch(self, run: str) -> None:
        """Record what the machine is at, until the run is closed."""
        self._monitors[run] = SystemMetricsMonitor(run, sampling_interval=10, resume_logging=True, tracking_uri=self.uri)
        self._monitors[run].start()

    def _open(self, entries: Sequence[Mapping[str, Any]], _journal: Path, state: dict[str, Any]) -> None:
        (told,) = entries
        stage, execution, workspace = told["stage"], told["execution"], told["workspace"]
        common = {EXECUTION_TAG: execution, WORKSPACE_TAG: workspace, **told["tags"]} | (
            {MLFLOW_GIT_COMMIT: told["commit"]} if told["commit"] else {}
        )
        parents = search(self.client, self.experiment, {EXECUTION_TAG: execution, STAGE_TAG: PIPELINE})
        shared = {STAGE_TAG: PIPELINE, **{name: value for name, value in common.items() if name != "dvc.stage"}}
        parent = parents[0].info.run_id if parents else self._create(f"{PIPELINE} {execution[:8]}", shared, told["time"])
        if parents and parents[0].info.status != "FINISHED":
            self.client.update_run(parent, status="RUNNING")
        known = {STAGE_TAG: stage, FINGERPRINT_TAG: told["fingerprint"]}
        own = {**known, **common, MLFLOW_PARENT_RUN_ID: parent}
        self._end_those_that_were_killed(told, parent)
        # A run of the very same work in the same place that did not end well was cut off: it is continued, not doubled.
        if cut_off := search(self.client, self.experiment, {**known, WORKSPACE_TAG: workspace}, "attributes.status != 'FINISHED'"):
            run = cut_off[0].info.run_id
            self.client.update_run(run, status="RUNNING")
            self._log(run, tags=own)
        else:
            earlier = search(self.client, self.experiment, known, ENDED)
            run = self._create(stage, own | ({SUPERSEDES_TAG: earlier[0].info.run_id} if earlier else {}), told["time"])
            if earlier:
                self.client.set_tag(earlier[0].info.run_id, SUPERSEDED_TAG, run)
        self.client.set_tag(parent, f"{RUN_TAG}{stage}", run)
        # What a run that was cut off knows is not told again.
        epochs = [entry.step for entry in self.client.get_metric_history(run, EPOCHS)]
        state |= {"run": run, "parent": parent, "told": max(epochs, default=-1), "step": max(epochs, default=-1)}

    def _end_those_that_were_killed(self, told: Mapping[str, Any], parent: str) -> None:
        """This stage's workspace has room for one process at a time, so another of its runs that seems to be at work is not."""
        for run in search(self.client, self.experiment, {WORKSPACE_TAG: told["workspace"]}, "attributes.status = 'RUNNING'", most=100):
            stage = run.data.tags.get(STAGE_TAG)
            abandoned = stage == told["stage"] and run.data.tags.get(FINGERPRINT_TAG) != told["fingerprint"]
            if abandoned or (stage == PIPELINE and run.info.run_id != parent):
                self.client.set_terminated(run.info.run_id, status="KILLED")

    def _create(self, name: str, tags: dict[str, str], start: int) -> str:
        tags = {name: value[:LONGEST_TAG] for name, value in tags.items()}
        own = {MLFLOW_RUN_NAME: name, MLFLOW_RUN_NOTE: description(tags[STAGE_TAG]), "slimline.mlflow": mlflow.__version__}
        run = self.client.create_run(self.experiment, start, own | tags, name)
        return str(run.info.run_id)

    def _log(
        self, run: str, *, params: Mapping[str, str] | None = None, tags: Mapping[str, str] | None = None, metrics: Sequence[Metric] = ()
    ) -> None:
        for part in _parts([Param(_name(name), value) for name, value in (params or {}).items()]):
            self.client.log_batch(run, params=part)
        for part in _parts([RunTag(_name(name), value[:LONGEST_TAG]) for name, value in (tags or {}).items()]):
            self.client.log_batch(run, tags=part)
        for part in _parts(metrics):
            self.client.log_batch(run, metrics=part)

    def _params(self, entries: Sequence[Mapping[str, Any]], _journal: Path, state: dict[str, Any]) -> None:
        for told in entries:
            self._log(state["run"], params=told["values"])

    def _metrics(self, entries: Sequence[Mapping[str, Any]], _journal: Path, state: dict[str, Any]) -> None:
        metrics: list[Metric] = []
        step = state["step"]
        for told in entries:
            if told["step"] is not None and told["step"] <= state["told"]:
                continue
            # What is told without an epoch is final, so it comes after the last one: MLflow shows the newest step of a metric.
            step = step + 1 if told["step"] is None else told["step"]
            metrics += [Metric(_name(name), value, told["time"], step) for name, value in told["values"].items()]
        self._log(state["run"], metrics=metrics)
        state["step"] = step

    def _tags(self, entries: Sequence[Mapping[str, Any]], _journal: Path, state: dict[str, Any]) -> None:
        self._log(state["run"], tags={name: value for told in entries for name, value in told["values"].items()})

    def _artifact(self, entries: Sequence[Mapping[str, Any]], journal: Path, state: dict[str, Any]) -> None:
        for told in entries:
            self.client.log_artifact(state["run"], str(journal / told["file"]), artifact_path=told["folder"] or None)

    def _dataset(self, entries: Sequence[Mapping[str, Any]], _journal: Path, state: dict[str, Any]) -> None:
        for told in entries:
            facts = json.dumps(told["facts"])
            source = json.dumps({"digest": told["digest"], **told["facts"].get("source", {})})
            dataset = Dataset(told["name"], told["digest"][:LONGEST_DIGEST], "dvc", source, profile=facts)
            self.client.log_inputs(state["run"], [DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, told["facts"]["context"])])])

    def _model(self, entries: Sequence[Mapping[str, Any]], journal: Path, state: dict[str, Any]) -> None:
        from slimline.tracking.models import save  # onnx and more, which only stages that train need

        for told in entries:
            known = self.client.search_logged_models([self.experiment], f"source_run_id = '{state['run']}' and name = '{told['name']}'")
            if any(one.status == LoggedModelStatus.READY for one in known):
                continue
            logged = self.client.create_logged_model(self.experiment, told["name"], state["run"], model_type="classifier")
            with TemporaryDirectory() as folder:
                target = Path(folder) / "model"
                about = Model(run_id=state["run"], model_id=logged.model_id)
                save(target, about, journal / told["onnx"], journal / told["example"])
                self.client.log_model_artifacts(logged.model_id, str(target))
            self.client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
            self.client.log_outputs(state["run"], [LoggedModelOutput(logged.model_id, state["step"])])

    def _beside(self, entries: Sequence[Mapping[str, Any]], _journal: Path, state: dict[str, Any]) -> None:
        for told in entries:
            for run in search(self.client, self.experiment, {STAGE_TAG: told["stage"], FINGERPRINT_TAG: told["fingerprint"]}, ENDED):
                steps = [entry.step for entry in self.client.get_metric_history(run.info.run_id, EPOCHS)]
                step = max(steps, default=0) + 1
                self._log(run.info.run_id, metrics=[Metric(name, value, told["time"], step) for name, value in told["values"].items()])

    def _finish(self, entries: Sequence[Mapping[str, Any]], _journal: Path, state: dict[str, Any]) -> None:
        (told,) = entries
        if monitor := self._monitors.pop(state["run"], None):
            monitor.finish()
        self.client.set_terminated(state["run"], told["status"], told["time"])
        if told["last"] or told["status"] != "FINISHED":
            self.client.set_terminated(state["parent"], told["status"], told["time"])
        if told["last"] and told["status"] == "FINISHED":
            self._conclude(state["parent"])

    def _conclude(self, pipeline: str) -> None:
        """The pipeline's run has all of its stages, as far as they are known: what it shows of them is told."""
        parent = self.client.get_run(pipeline)
        runs = {name.removeprefix(RUN_TAG): self.client.get_run(run) for name, run in parent.data.tags.items() if name.startswith(RUN_TAG)}
        params, metrics = conclude(self.client, parent, runs)
        self._log(pipeline, params={one.key: one.value for one in params}, metrics=metrics)

    def _link(self, entries: Sequence[Mapping[str, Any]], _journal: Path, _state: dict[str, Any]) -> None:
        for told in entries:
            parents = search(self.client, self.experiment, {EXECUTION_TAG: told["execution"], STAGE_TAG: PIPELINE})
            for one in told["stages"]:
                found = search(self.client, self.experiment, {STAGE_TAG: one["stage"], FINGERPRINT_TAG: one["fingerprint"]}, ENDED)
                for run in found:
                    named = {f"{OUTPUT_TAG}{path}": md5 for path, md5 in one["outputs"].items()}
                    self._log(run.info.run_id, tags=named | {f"{MD5_TAG}{md5}": path for path, md5 in one["outputs"].items()})
                for parent in parents if found else []:
                    self.client.set_tag(parent.info.run_id, f"{RUN_TAG}{one['stage']}", found[0].info.run_id)
            for parent in parents:
                if parent.info.status == "FINISHED":
                    self._conclude(parent.info.run_id)


def _name(name: str) -> str:
    """`name` without the characters that MLflow takes in no name; paths and layers may have them."""
    return re.sub(r"[^\w.:/ -]", "_", name)


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """`values`, as many at a time as MLflow takes."""
    for first in range(0, len(values), TOGETHER):
        yield values[first : first + TOGETHER]


def experiment_of(uri: str, name: str) -> str:
    """MLflow's number of the experiment `name`.

    Raises:
        SlimlineError: the store does not answer, or has no such experiment.
    """
    client = client_of(uri)
    with asked(without_password(uri)):
        found = client.get_experiment_by_name(name)
    if found is None:
        raise SlimlineError(f"MLflow at {without_password(uri)} has no experiment {name}; run make repro first, or mend tracking.experiment")
    return str(found.experiment_id)


def last_seconds(uri: str, experiment: str, stages: Iterable[str]) -> dict[str, float]:
    """How long the last finished run of each of `stages` took; a stage without one is left out.

    Raises:
        SlimlineError: the store does not answer.
    """
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).exists():
        return {}  # asking would make it
    client = client_of(uri)
    with asked(without_password(uri)):
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
