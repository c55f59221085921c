"""The registered model: its versions, and who is challenger, champion and previous.

An alias moves only by a method below, and every move is a tag of the version: who, when, why.
"""

import getpass
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow.artifacts
from mlflow.entities import LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from slimline.errors import SlimlineError
from slimline.tracking.journal import md5, without_password
from slimline.tracking.mlflow import ENDED, FINGERPRINT_TAG, MD5_TAG, STAGE_TAG, client_of, experiment_of, search

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"
MOVE_TAG = "slimline.move."
SHIPPED_TAG, SCORECARD_TAG = "slimline.md5", "slimline.scorecard"
ROLLED_BACK_TAG, HELD_BACK_TAG = "slimline.rolled_back", "slimline.held_back"
"""Of a version: its last fall from champion, and the last reason why it was not made champion."""

ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""MLflow's words for an alias that nobody has."""


class Registry:
    """The model `name` in the registry of the MLflow store at `uri`.

    Raises:
        SlimlineError: the store does not answer, or has no such experiment.
    """

    def __init__(self, uri: str, experiment: str, name: str) -> None:
        self.address, self.uri, self.name = uri, without_password(uri), name
        self.client = client_of(uri)
        self.experiment = experiment_of(uri, experiment)

    def register(self, fingerprint: str, logged: str, shipped: Path, network: Path, card: Mapping[str, Any], why: str) -> ModelVersion:
        """A version of the model `logged` by the stage's run with `fingerprint`; one that is registered is not doubled.

        It becomes challenger, unless it is the champion.

        Args:
            shipped, network: the model's files, which are to be those that the run logged.
            card: the scorecard's entry of the model.

        Raises:
            SlimlineError: no such run, or none that has logged the model, or files that are others.
        """
        runs = search(self.client, self.experiment, {FINGERPRINT_TAG: fingerprint}, ENDED)
        if not runs:
            raise SlimlineError(f"no run at {self.uri} made this {logged} model; run slimline sync, or dvc repro")
        run = runs[0].info.run_id
        for file in (shipped, network):
            if f"{MD5_TAG}{md5(file)}" not in runs[0].data.tags:
                raise SlimlineError(f"{file} is not the file that run {run} logged (by md5): changed since; dvc checkout brings that back")
        models = self.client.search_logged_models([self.experiment], f"source_run_id = '{run}' and name = '{logged}'")
        ready = [one for one in models if one.status == LoggedModelStatus.READY]
        if not ready:
            raise SlimlineError(
                f"run {run} has logged no {logged} model (larger than tracking.largest_artifact_mb?); raise that, then dvc repro --force"
            )
        version = next((one for one in self._versions() if one.run_id == run), None)
        if version is None:
            if not self._known():
                self.client.create_registered_model(self.name, description="Models that slimline register has put here; docs/tracking.md")
            tags = {SHIPPED_TAG: md5(shipped), FINGERPRINT_TAG: fingerprint, STAGE_TAG: runs[0].data.tags[STAGE_TAG], SCORECARD_TAG: json.dumps(card)}
            # Its place, not models:/ID: that MLflow looks up in the store that the process is set to, not in this one.
            version = self.client.create_model_version(self.name, ready[0].artifact_location, run_id=run, tags=tags, model_id=ready[0].model_id)
        champion = self.holder(CHAMPION)
        if champion is None or champion.version != version.version:
            self._move(CHALLENGER, version, why)
        return version

    def holder(self, alias: str) -> ModelVersion | None:
        """The version that has `alias`, None where none has."""
        try:
            return self.client.get_model_version_by_alias(self.name, alias)
        except MlflowException as error:
            if error.error_code in ABSENT:
                return None
            raise  # a store that fails is no store without a champion

    def rolled_back(self, version: ModelVersion) -> str:
        """Who took the champion's place from `version`, when and why; empty where nobody did since it was champion."""
        return str(self.client.get_model_version(self.name, version.version).tags.get(ROLLED_BACK_TAG, ""))

    def hold_back(self, version: ModelVersion, reason: str) -> None:
        """Note why `version` stays challenger."""
        self.client.set_model_version_tag(self.name, version.version, HELD_BACK_TAG, f"{_now()} {_who()}: {reason}")

    def promote(self, version: ModelVersion, why: str) -> None:
        """Make `version` the champion; the one before stays as previous."""
        champion = self.holder(CHAMPION)
        if champion is not None and champion.version != version.version:
            self._move(PREVIOUS, champion, f"version {version.version} has taken its place")
        self._move(CHAMPION, version, why)
        self.settle(version)

    def settle(self, version: ModelVersion) -> None:
        """Take from the champion what it was before it was that; a kill may have come in between."""
        for tag in self.client.get_model_version(self.name, version.version).tags.keys() & {ROLLED_BACK_TAG, HELD_BACK_TAG}:
            self.client.delete_model_version_tag(self.name, version.version, tag)
        if (challenger := self.holder(CHALLENGER)) is not None and challenger.version == version.version:
            self.client.delete_registered_model_alias(self.name, CHALLENGER)

    def rollback(self, why: str) -> tuple[ModelVersion, ModelVersion]:
        """Champion and previous change places; which they are then.

        Raises:
            SlimlineError: one of them is not there.
        """
        champion, previous = self.holder(CHAMPION), self.holder(PREVIOUS)
        if champion is None or previous is None:
            raise SlimlineError(f"{self.name} at {self.uri} has no {PREVIOUS if champion else CHAMPION}, so there is nothing to go back to")
        self.client.set_model_version_tag(self.name, champion.version, ROLLED_BACK_TAG, f"{_now()} {_who()}: {why}")
        self._move(CHAMPION, previous, why)
        self._move(PREVIOUS, champion, f"rolled back: {why}")
        return previous, champion

    def network(self, version: ModelVersion, target: Path) -> Path:
        """The ONNX file of `version`, fetched into the folder `target`."""
        try:
            # Not by models:/NAME, which MLflow looks up in the store that the process is set to.
            place = self.client.get_model_version_download_uri(self.name, version.version)
            folder = mlflow.artifacts.download_artifacts(place, dst_path=str(target), tracking_uri=self.address)
        except Exception as error:  # any store, any driver, any network
            raise SlimlineError(f"version {version.version} of {self.name} cannot be fetched from {self.uri} ({str(error)[:200]})") from error
        return Path(folder) / "model.onnx"

    def _known(self) -> bool:
        return bool(self.client.search_registered_models(f"name = '{self.name}'"))

    def _versions(self) -> list[ModelVersion]:
        return list(self.client.search_model_versions(f"name = '{self.name}'"))

    def _move(self, alias: str, version: ModelVersion, why: str) -> None:
        if (holder := self.holder(alias)) is not None and holder.version == version.version:
            return
        now = _now()
        move = f"{now} {_who()} made version {version.version} {alias}: {why}"
        self.client.set_model_version_tag(self.name, version.version, f"{MOVE_TAG}{now}.{alias}", move)
        self.client.set_registered_model_alias(self.name, alias, version.version)


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"  # MLflow takes no + in the name of a tag


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user has no name where its number is the host's
        return f"user {os.getuid()}"
