"""What is wrong with an MLflow store, asked without changing it."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import requests
import sqlalchemy

from slimline.tracking.finding import Finding
from slimline.tracking.journal import SQLITE, without_password
from slimline.tracking.mlflow import PATIENCE, SQL, MlflowClient, problem, reach

OPTUNA, MLFLOW = "studies", "experiments"
"""Tables by which their databases are known."""


def examined(uri: str, experiment: str) -> Iterator[Finding]:
    """Address, server, database and experiment of the store at `uri`."""
    shown = without_password(uri)
    if "MLFLOW_TRACKING_URI" in os.environ:
        yield Finding("tracking", f"MLFLOW_TRACKING_URI is set and goes before tracking.uri: {shown}")
    if uri.startswith("http"):
        yield from _server(uri)
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).exists():
        folder = Path(uri.removeprefix(SQLITE)).parent
        remedy = "" if os.access(folder, os.W_OK) else f"make {folder}, or let yourself write there"
        yield Finding("tracking", f"{shown} is not there yet; the first stage makes it", remedy)
        return
    if uri.startswith(SQL):
        yield from _database(uri)
    try:
        reach(uri)
        found = MlflowClient(tracking_uri=uri).get_experiment_by_name(experiment)
    except Exception as error:  # any store, any driver, any network
        yield Finding("tracking", f"{shown} cannot be asked", f"it {problem(error)}")
        return
    if found is None:
        yield Finding("tracking", f"{shown} has no experiment {experiment} yet; the first stage makes it")
    else:
        deleted = f"mlflow experiments restore --experiment-id {found.experiment_id}, or another tracking.experiment"
        yield Finding("tracking", f"{shown}, experiment {experiment}", "" if found.lifecycle_stage == "active" else f"it is deleted: {deleted}")


def _server(uri: str) -> Iterator[Finding]:
    try:
        alive = requests.get(f"{uri.rstrip('/')}/health", timeout=PATIENCE)
        answer = requests.get(f"{uri.rstrip('/')}/version", timeout=PATIENCE)
    except requests.RequestException:
        yield Finding("server", f"{without_password(uri)} does not answer", "start mlflow server there, or mend tracking.uri")
        return
    host = urlsplit(uri).hostname
    if "Invalid Host header" in answer.text:
        yield Finding("server", f"it lives, and refuses the name {host}", f"start mlflow server with --allowed-hosts '{host}:*,localhost:*'")
    elif not alive.ok:
        yield Finding("server", f"/health answers {alive.status_code}", "look into the server's log")
    else:
        yield Finding("server", f"it answers as {host}, MLflow {answer.text.strip()[:20]}")


def _database(uri: str) -> Iterator[Finding]:
    try:
        reach(uri)
        engine = sqlalchemy.create_engine(uri)
        tables = set(sqlalchemy.inspect(engine).get_table_names())
        engine.dispose()
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        yield Finding("database", "it cannot be opened", f"it {problem(error)}")
        return
    if {OPTUNA, MLFLOW} <= tables:
        yield Finding(
            "database", "MLflow and Optuna share it, and both keep their version in alembic_version", "give the sweep a database of its own"
        )
    if uri.startswith(SQLITE) and not os.access(uri.removeprefix(SQLITE), os.W_OK):
        yield Finding("database", f"{uri.removeprefix(SQLITE)} cannot be written", "mend its permissions; a container of root's may have made it")
