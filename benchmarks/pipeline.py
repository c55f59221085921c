"""What DVC, MLflow and Lightning's loop cost a whole run: `dvc repro` from nothing, against one script that does the same work without.

    python benchmarks/pipeline.py --rounds 1          # in the repository, environment active; several minutes a round

The pipeline runs in a clone of the repository with the working tree's changes, with nothing made, an empty cache and an empty store of
runs. The script (`--side plain`, in this file) makes the same models by the same functions of the library, with bare loops for trainings,
in one process. It goes through the stages' own modules, so it imports Lightning too and evaluates with its
test loop. The accuracies of both must be equal. With `--epochs 1` every training has one epoch: little but what does not depend on them is
left.

Each stage's seconds are taken apart by what its MLflow run says (`seconds/…`, see runtime/clock.py):
`start` interpreter and imports, `identify` asking DVC what the stage depends on, `track` MLflow, `fit` training; `rest` is what else the
stage did. What lies between the stages is DVC's. The last line is one JSON object.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from slimline.paths import MODELS, STAGES

PARTS = ("start", "identify", "track", "fit", "stage")


def tree(folder: Path, epochs: int | None) -> Path:
    """A clone of this repository with the working tree's files, and nothing that a run makes; every training of `epochs` where given."""
    here = Path(__file__).parents[1]
    subprocess.run(["git", "clone", "--quiet", str(here), str(folder)], check=True)
    changed = subprocess.run(
        ["git", "ls-files", "--modified", "--others", "--exclude-standard"], cwd=here, check=True, capture_output=True, text=True
    )
    for name in changed.stdout.splitlines():
        if (here / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(here / name, folder / name)
    if epochs is not None:
        params = folder / "params.yaml"
        # What hardly learnt may differ from its export on more images than a result may.
        text = re.sub(r"\bepochs: \d+", f"epochs: {epochs}", params.read_text())
        params.write_text(re.sub(r"\bparity: [\d.]+", "parity: 0.1", text))
    (folder / "dvc.lock").unlink(missing_ok=True)
    return folder


def environment(folder: Path) -> dict[str, str]:
    apart = ("MLFLOW_TRACKING_URI", "SLIMLINE_LAUNCH", "DVC_EXP_NAME")
    kept = {name: value for name, value in os.environ.items() if name not in apart}
    return {**kept, "PYTHONPATH": str(folder / "src"), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def piped(folder: Path) -> dict[str, Any]:
    """`dvc repro`, and its seconds by stage and part."""
    start = time.perf_counter()
    subprocess.run(["dvc", "repro", "--quiet"], cwd=folder, env=environment(folder), check=True)
    seconds = time.perf_counter() - start
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    table: dict[str, dict[str, float]] = {}
    ran = 0.0
    for run in runs:
        stage = run.data.tags["slimline.stage"]
        if stage not in STAGES:
            continue
        row = {part: run.data.metrics.get(f"seconds/{part}", 0.0) for part in PARTS}
        ran += sum(row[part] for part in ("start", "identify", "track", "stage"))
        row["rest"] = row.pop("stage") - row["fit"]
        table[stage] = {part: round(value, 2) for part, value in row.items()}
    total = {part: round(sum(row[part] for row in table.values()), 2) for part in next(iter(table.values()))}
    return {"seconds": round(seconds, 1), "stages": {stage: table[stage] for stage in STAGES}, "sum": total, "dvc_and_ends": round(seconds - ran, 1)}


def plain(folder: Path) -> None:
    """The same work in this process; its first moment is the interpreter's, so imports count."""
    seconds: dict[str, float] = {}
    import torch
    from overhead import Training, bare

    import slimline.stages.distill_student as distill_student
    import slimline.stages.prune as prune
    import slimline.stages.quantize as quantize
    import slimline.stages.train_alone as train_alone
    import slimline.stages.train_teacher as train_teacher
    from slimline.params.file import load
    from slimline.paths import Paths
    from slimline.runtime.settings import Settings
    from slimline.stages import evaluate, prepare
    from slimline.tracking.memory import MemoryTracker

    paths, params = Paths(folder), load(folder / "params.yaml")
    hardware: Any = params.blocks["hardware"]
    torch.set_num_threads(hardware.threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    settings, tracker = Settings(params.seed, hardware), MemoryTracker()
    seconds["imports"] = time.time() - float(os.environ["STARTED"])

    def loop(module: Any, prepared: Path, fit: Any, _settings: Settings, **_others: Any) -> None:
        """In the place of `fit`."""
        start = time.perf_counter()
        module.train()
        for _epoch in bare(Training({}, fit, prepared), module.model, module.objective, module):
            pass
        seconds["fit"] = seconds.get("fit", 0.0) + time.perf_counter() - start

    for stage in (train_teacher, distill_student, train_alone, prune, quantize):
        stage.fit = loop  # type: ignore[attr-defined]
    blocks = ("data", "teacher", "distill", "distill", "prune", "quantize", "evaluate")
    runs = (prepare, train_teacher, distill_student, train_alone, prune, quantize, evaluate)
    for name, stage, block in zip(STAGES, runs, blocks, strict=True):
        start = time.perf_counter()
        torch.manual_seed(params.seed)
        stage.run(params.blocks[block], settings, paths, tracker)  # type: ignore[attr-defined]
        seconds[name] = time.perf_counter() - start
    print(json.dumps({name: round(value, 2) for name, value in seconds.items()}))


def by_hand(folder: Path) -> dict[str, Any]:
    started = {"STARTED": str(time.time())}
    start = time.perf_counter()
    command = [sys.executable, str(folder / "benchmarks" / "pipeline.py"), "--side", "plain"]
    done = subprocess.run(command, cwd=folder, env={**environment(folder), **started}, check=True, stdout=subprocess.PIPE, text=True)
    return {"seconds": round(time.perf_counter() - start, 1), "parts": json.loads(done.stdout.splitlines()[-1])}


def accuracies(folder: Path) -> dict[str, float]:
    summary = json.loads((folder / "metrics" / "summary.json").read_text())
    return {name: summary[f"{name}_accuracy"] for name in MODELS}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="of every training, instead of those in params.yaml")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        plain(Path.cwd())
        return
    from slimline.evaluation.latency import machine

    rounds = []
    for number in range(given.rounds):
        with tempfile.TemporaryDirectory() as scratch:
            sides = {"dvc_repro": piped, "script": by_hand}
            row: dict[str, Any] = {}
            made = {}
            for side in sides if number % 2 == 0 else reversed(sides):
                folder = tree(Path(scratch) / side, given.epochs)
                row[side] = sides[side](folder)
                made[side] = accuracies(folder)
                print(side, row[side], flush=True)
            row["difference"] = round(row["dvc_repro"]["seconds"] - row["script"]["seconds"], 1)
            row["ratio"] = round(row["dvc_repro"]["seconds"] / row["script"]["seconds"], 3)
            row["same_accuracies"] = made["dvc_repro"] == made["script"]
            rounds.append(row)
    print(json.dumps({"epochs": given.epochs or "params.yaml", "rounds": rounds, "n": given.rounds, "machine": machine()}))


if __name__ == "__main__":
    main()
