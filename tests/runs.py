"""What an MLflow store holds, for tests to count."""

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from slimline.tracking.mlflow import STAGE_TAG, SUPERSEDED_TAG


def runs_of(uri: str, experiment: str = "test") -> list[Run]:
    """Every run of an experiment; none where there is no such experiment yet."""
    client = MlflowClient(uri)
    found = [one.experiment_id for one in client.search_experiments() if one.name == experiment]
    return list(client.search_runs(found)) if found else []


def counted(runs: list[Run]) -> dict[str, int]:
    """How many runs each stage has, and the pipeline."""
    stages = [run.data.tags[STAGE_TAG] for run in runs]
    return {stage: stages.count(stage) for stage in dict.fromkeys(stages)}


def standing(runs: list[Run], stage: str) -> Run:
    """The run of `stage` that no other has superseded."""
    (run,) = (run for run in runs if run.data.tags[STAGE_TAG] == stage and SUPERSEDED_TAG not in run.data.tags)
    return run
