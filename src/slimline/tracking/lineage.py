"""From one run to the runs before and after it: by what they read and made, which DVC's digests name."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT

from slimline.tracking.journal import without_password
from slimline.tracking.mlflow import ENDED, FINGERPRINT_TAG, INPUT_TAG, MD5_TAG, OUTPUT_TAG, PIPELINE, STAGE_TAG, SUPERSEDED_TAG, asked, client_of

ROLES = {
    "prepare": "data",
    "train_teacher": "teacher",
    "distill_student": "student",
    "train_alone": "student_alone",
    "prune": "pruned",
    "quantize": "quantized",
    "evaluate": "evaluation",
}
"""What a stage makes, in the order of the chain."""

SCORES = ("val/accuracy", "test/accuracy", "test/ece", "size/params", "size/packed_bytes", "cost/macs")
MOST = 50
"""Runs that are looked at where several made the same."""


@dataclass(frozen=True)
class Link:
    """One stage of a chain.

    Args:
        role: what it makes.
        run: MLflow's, None where the store has none.
        changes: digest of how the code differed from `commit`; None where it did not.
        params: of the stage, by dotted name.
        registered: versions of a registered model that are this run's, as texts.
    """

    role: str
    stage: str
    run: str | None = None
    url: str | None = None
    status: str | None = None
    started: str | None = None
    commit: str | None = None
    changes: str | None = None
    fingerprint: str | None = None
    data: str | None = None
    superseded_by: str | None = None
    params: dict[str, str] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    registered: list[dict[str, Any]] = field(default_factory=list)


class Archive:
    """All runs of an MLflow store, to be asked.

    Args:
        uri: of the store.
        model: name of the registered model that an alias alone is of.
    """

    def __init__(self, uri: str, model: str) -> None:
        self.uri, self.model = without_password(uri), model
        self.client = client_of(uri)
        with asked(self.uri):
            self.experiments = [one.experiment_id for one in self.client.search_experiments()]

    def _search(self, *conditions: str) -> list[Run]:
        """The newest runs of which `conditions` hold; those that no other superseded come first."""
        order = ["attributes.start_time DESC"]
        found = self.client.search_runs(self.experiments, " and ".join([*conditions, ENDED]), ViewType.ACTIVE_ONLY, MOST, order)
        return sorted((run for run in found if run.data.tags.get(STAGE_TAG) in ROLES), key=lambda run: SUPERSEDED_TAG in run.data.tags)

    def by_id(self, run: str) -> Run | None:
        """The run, or the first stage's of a pipeline's run that made a model."""
        try:
            found = self.client.get_run(run)
        except MlflowException:
            return None
        if found.data.tags.get(STAGE_TAG) != PIPELINE:
            return found if STAGE_TAG in found.data.tags else None
        children = self._search(f"tags.`mlflow.parentRunId` = '{run}'")
        return max(children, key=lambda one: list(ROLES).index(one.data.tags[STAGE_TAG]), default=None)

    def by_md5(self, md5: str) -> Run | None:
        """The run that made the file or folder with this md5: the earliest stage of those that name it, since later ones have read it."""
        found = self._search(f"tags.`{MD5_TAG}{md5}` LIKE '%'")
        return min(found, key=lambda one: list(ROLES).index(one.data.tags[STAGE_TAG]), default=None)

    def by_fingerprint(self, fingerprint: str) -> Run | None:
        """The run of a stage, by the beginning of its fingerprint."""
        return next(iter(self._search(f"tags.`{FINGERPRINT_TAG}` LIKE '{fingerprint}%'")), None)

    def by_alias(self, alias: str) -> Run | None:
        """The run of a registered version: `champion`, `name@champion` or `models:/name@champion`."""
        name, at, alias = alias.removeprefix("models:/").rpartition("@")
        try:
            version = self.client.get_model_version_by_alias(name if at else self.model, alias)
        except MlflowException:
            return None
        return self.by_id(version.run_id) if version.run_id else None

    def before(self, run: Run, known: Mapping[str, str]) -> tuple[list[Run], list[str]]:
        """The runs that made what `run` read, and theirs, the first first; and in words what nobody made.

        Args:
            known: fingerprints of the stages that made folders, by md5, where DVC at hand knows them.
        """
        found: dict[str, Run] = {run.info.run_id: run}
        missing: list[str] = []
        waiting = [run]
        while waiting:
            one = waiting.pop()
            for path, md5 in _tagged(one, INPUT_TAG):
                if not _made_by_a_stage(path):
                    continue
                maker = next(iter(self._search(f"tags.`{OUTPUT_TAG}{path}` = '{md5}'")), None)
                if maker is None and md5 in known:
                    maker = self.by_fingerprint(known[md5])
                if maker is None:
                    missing.append(f"no run here made {path} (md5 {md5}), which {one.data.tags[STAGE_TAG]} read; slimline sync links runs and files")
                elif maker.info.run_id not in found:
                    found[maker.info.run_id] = maker
                    waiting.append(maker)
        return sorted(found.values(), key=lambda one: list(ROLES).index(one.data.tags[STAGE_TAG])), list(dict.fromkeys(missing))

    def after(self, run: Run) -> list[Run]:
        """The newest run of each later stage that read what `run` made, and theirs."""
        found: dict[str, Run] = {}
        waiting = [run]
        while waiting:
            for path, md5 in _tagged(waiting.pop(), OUTPUT_TAG):
                if not _made_by_a_stage(path):
                    continue
                for reader in self._search(f"tags.`{INPUT_TAG}{path}` = '{md5}'"):
                    if reader.data.tags[STAGE_TAG] not in found:
                        found[reader.data.tags[STAGE_TAG]] = reader
                        waiting.append(reader)
        return sorted(found.values(), key=lambda one: list(ROLES).index(one.data.tags[STAGE_TAG]))

    def link(self, run: Run) -> Link:
        """What is to be told of `run`."""
        tags, info = run.data.tags, run.info
        web = self.uri if self.uri.startswith("http") else None
        return Link(
            role=ROLES[tags[STAGE_TAG]],
            stage=tags[STAGE_TAG],
            run=info.run_id,
            url=f"{web.rstrip('/')}/#/experiments/{info.experiment_id}/runs/{info.run_id}" if web else None,
            status=info.status,
            started=datetime.fromtimestamp(info.start_time / 1000, UTC).isoformat(timespec="seconds"),
            commit=tags.get(MLFLOW_GIT_COMMIT),
            changes=tags.get("git.changes"),
            fingerprint=tags.get(FINGERPRINT_TAG),
            data=tags.get("data.digest"),
            superseded_by=tags.get(SUPERSEDED_TAG),
            params=dict(run.data.params),
            scores={name: run.data.metrics[name] for name in SCORES if name in run.data.metrics},
            registered=list(self._registered(info.run_id)),
        )

    def _registered(self, run: str) -> Iterator[dict[str, Any]]:
        for version in self.client.search_model_versions(f"run_id = '{run}'"):
            whole = self.client.get_model_version(version.name, version.version)  # a search leaves aliases out
            yield {"model": whole.name, "version": int(whole.version), "aliases": sorted(whole.aliases), "tags": dict(whole.tags)}


def _tagged(run: Run, prefix: str) -> Iterable[tuple[str, str]]:
    return [(name.removeprefix(prefix), value) for name, value in sorted(run.data.tags.items()) if name.startswith(prefix)]


def _made_by_a_stage(path: str) -> bool:
    """Whether `path` is a prepared folder or a model, of the repository or of an experiment."""
    parts = path.split("/")
    return parts[-2:] == ["data", "prepared"] or parts[-2:-1] == ["models"]
