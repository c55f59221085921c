"""What every script in `pipelines/` does around its stage."""

import argparse
import os
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimline.params.base import Block
from slimline.params.file import load, plain
from slimline.params.hardware import Hardware
from slimline.params.tracking import Tracking
from slimline.paths import Paths, repository_root
from slimline.runtime.refusal import refusing
from slimline.tracking import Tracker


@dataclass(frozen=True)
class Settings:
    """What stands beside a stage's own block: the seed of everything random, and where the work is done."""

    seed: int
    hardware: Hardware


@dataclass(frozen=True)
class Made:
    """What a stage did.

    Args:
        files: files and folders it made, to be recorded.
        metrics: its final numbers, by the names that every stage shares.
        tags: facts to search runs by.
    """

    files: tuple[Path, ...]
    metrics: dict[str, float]
    tags: dict[str, str]


Run = Callable[[Any, Settings, Paths, Tracker], Made]


def main(stage: str, block: str, schema: type[Block], run: Run, *, last: bool = False) -> None:
    """Check params.yaml, run the stage on its block, record it; on bad input print one line and exit with 2.

    Args:
        stage: name of the stage.
        block: its block of params.yaml, of type `schema`.
        last: whether this stage ends the pipeline.
    """
    parser = argparse.ArgumentParser(description=f"The stage {stage}.")
    parser.add_argument("--workspace", type=Path, default=Path(), help="folder that holds params.yaml (default: the current one)")
    workspace: Path = parser.parse_args().workspace.resolve()
    # Users' own methods, named by import path, may lie beside params.yaml.
    sys.path.insert(0, str(workspace))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with refusing():
        _run(stage, block, schema, run, Paths(workspace), last)


def _run(stage: str, block: str, schema: type[Block], run: Run, paths: Paths, last: bool) -> None:
    params = load(paths.params)
    own = params.block(block, schema)
    settings = Settings(params.seed, params.block("hardware", Hardware))
    _use(settings)
    tracker = _tracker(stage, params.block("tracking", Tracking), paths)
    succeeded = False
    try:
        tracker.params({"seed": params.seed, block: plain(own)})
        tracker.tags({f"hardware.{name}": str(value) for name, value in plain(settings.hardware).items()})
        tracker.artifact(paths.params)
        made = run(own, settings, paths, tracker)
        tracker.metrics(made.metrics)
        tracker.tags(made.tags)
        # DVC enters a stage in dvc.lock after its end: this is the pipeline's state that the stage met.
        for file in (*made.files, *(lock for lock in paths.locks if lock.exists())):
            tracker.artifact(file)
        succeeded = True
    finally:
        tracker.finish(succeeded=succeeded, last=last)


def _use(settings: Settings) -> None:
    import numpy as np
    import torch

    torch.set_num_threads(settings.hardware.threads)
    torch.use_deterministic_algorithms(True)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    random.seed(settings.seed)
    np.random.seed(settings.seed)
    torch.manual_seed(settings.seed)


def _tracker(stage: str, params: Tracking, paths: Paths) -> Tracker:
    from slimline.runtime.fingerprint import identify
    from slimline.tracking.mlflow import MlflowTracker, resolved_uri

    identity = identify(stage, paths)
    tracker = MlflowTracker(
        resolved_uri(params.uri, repository_root(paths.root)),
        params.experiment,
        largest_artifact=params.largest_artifact_mb * 1_000_000,
        stage=stage,
        execution=identity.execution,
        fingerprint=identity.fingerprint,
        commit=identity.commit,
    )
    tracker.tags({"git.dirty": str(identity.dirty).lower()})
    return tracker
