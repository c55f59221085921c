"""Checks of a finished default run, for `.ci/run`: `python tests/sanity.py bounds | digests | trained-twice`, in the repository."""

import json
import sys
from pathlib import Path

from mlflow.tracking import MlflowClient
from ruamel.yaml import YAML

from slimline.paths import STAGES


def bounds() -> None:
    """What the default run promises."""
    models = json.loads(Path("metrics/scorecard.json").read_text())["models"]
    teacher, student, pruned, quantized = (models[name] for name in ("teacher", "student", "pruned", "quantized"))
    checks = {
        "teacher at least 98 %": teacher["accuracy"] >= 0.98,
        "quantized at least 96.5 %": quantized["accuracy"] >= 0.965,
        "pruned at most 0.6 of the student's parameters": pruned["params"] <= 0.6 * student["params"],
        "quantized at most 0.3 of the pruned model's bytes": quantized["packed_bytes"] <= 0.3 * pruned["packed_bytes"],
        "quantized at least 20 times smaller than the teacher": 20 * quantized["packed_bytes"] <= teacher["packed_bytes"],
        "at most ten numbers in the summary": len(json.loads(Path("metrics/summary.json").read_text())) <= 10,
    }
    for text, holds in checks.items():
        print(f"{'ok ' if holds else 'NOT'}  {text}")
    if not all(checks.values()):
        sys.exit(1)


def digests() -> None:
    """The md5 of every model in dvc.lock."""
    stages = YAML(typ="safe").load(Path("dvc.lock").read_text())["stages"]
    found = {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"] if out["path"].startswith("models/")}
    assert len(found) == 5, found
    for path, md5 in sorted(found.items()):
        print(path, md5)


def trained_twice() -> None:
    """Two finished runs of each training stage, with as many epochs in the second as in the first."""
    client = MlflowClient("sqlite:///mlflow.db")
    experiments = [e.experiment_id for e in client.search_experiments()]
    for stage in STAGES[1:6]:
        runs = client.search_runs(experiments, f"tags.`slimline.stage` = '{stage}' and attributes.status = 'FINISHED'")
        epochs = [len(client.get_metric_history(run.info.run_id, "train/loss")) for run in runs]
        assert len(epochs) == 2, f"{stage}: {len(epochs)} runs"
        assert epochs[0] == epochs[1] > 1, f"{stage}: {epochs} epochs"
        print(f"ok   {stage} took {epochs[1]} epochs twice")


if __name__ == "__main__":
    {"bounds": bounds, "digests": digests, "trained-twice": trained_twice}[sys.argv[1]]()
