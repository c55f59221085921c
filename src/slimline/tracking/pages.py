"""What MLflow's pages show of runs without set-up: descriptions, a link to the report, and numbers by which executions compare."""

from collections.abc import Mapping

from mlflow.entities import Metric, Param, Run
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE
from mlflow.utils.time import get_current_time_millis

PIPELINE = "pipeline"
DID = {
    PIPELINE: "One execution of the pipeline; a run a stage lies below it. Its numbers are those of the quantized model.",
    "prepare": "Images, decoded and divided into training, validation and test.",
    "train_teacher": "The teacher, trained on labels: what every later model is held against.",
    "distill_student": "The student, trained under the teacher.",
    "train_alone": "The student's control: the same network and budget on labels alone.",
    "prune": "The student, pruned and retrained.",
    "quantize": "The pruned student on its grids: the model that is shipped.",
    "evaluate": "All models side by side, on test images, and the report.",
}
"""What a run is, by its stage."""

EXPERIMENT = """Runs of slimline: one a pipeline execution, below it one a stage.

Tick runs and press Compare. Names are the same in all of them:
`test/accuracy`, `size/packed_bytes`, `size/params`, `cost/macs`, `cost/bops`, `latency/…`; `train/loss` and `val/accuracy` are by epoch.
Two `pipeline` runs compare two executions; the `train_teacher` and `quantize` runs below one compare its teacher with what is shipped.
"""

RESULT, JUDGE = "quantize", "evaluate"
"""The stages whose numbers the pipeline's run has, and whose run has the report."""

REPORT = "index.html"
OF_THE_WORK = ("seconds/", "system/", "train/")
"""How names begin that tell of a stage's work, not of its model."""


def description(stage: str, report: Run | None = None) -> str:
    """Of a run, as Markdown.

    Args:
        report: the run that has the report of the same pipeline execution.
    """
    told = DID.get(stage, stage)
    if report is None:
        return told
    return f"{told}\n\n[Report](#/experiments/{report.info.experiment_id}/runs/{report.info.run_id}/artifacts/{REPORT})"


def conclude(client: MlflowClient, parent: Run, runs: Mapping[str, Run]) -> tuple[list[Param], list[Metric]]:
    """Give the runs of a pipeline execution their link to the report; what its own run lacks, to be logged.

    A description that somebody wrote over stays.

    Args:
        runs: by stage, those that made what the execution has.
    """
    judge = runs.get(JUDGE)
    report = judge if judge is not None and any(one.rpartition("/")[2] == REPORT for one in judge.data.tags.values()) else None
    for stage, run in {PIPELINE: parent, **runs}.items():
        now, wanted = run.data.tags.get(MLFLOW_RUN_NOTE, ""), description(stage, report)
        ours = not now or now.startswith(description(stage))
        if ours and now != wanted:
            client.set_tag(run.info.run_id, MLFLOW_RUN_NOTE, wanted)
    params = {name: value for run in runs.values() for name, value in run.data.params.items() if name not in parent.data.params}
    return [Param(name, value) for name, value in params.items()], _metrics(parent, runs.get(RESULT))


def _metrics(parent: Run, result: Run | None) -> list[Metric]:
    """The final numbers of `result` that `parent` has not, or others."""
    if result is None:
        return []
    now = get_current_time_millis()
    return [
        Metric(name, value, now, 0)
        for name, value in result.data.metrics.items()
        if not name.startswith(OF_THE_WORK) and parent.data.metrics.get(name) != value
    ]
