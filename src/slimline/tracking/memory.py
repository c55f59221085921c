"""A tracker that keeps everything in memory: for tests, and for runs that are not recorded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slimline.tracking import Status, flattened


class MemoryTracker:
    """What was recorded, to look at."""

    def __init__(self) -> None:
        self.recorded_params: dict[str, Any] = {}
        self.recorded_metrics: list[tuple[str, float, int | None]] = []
        self.recorded_beside: dict[str, dict[str, float]] = {}
        self.recorded_tags: dict[str, str] = {}
        self.recorded_artifacts: list[Path] = []
        self.recorded_datasets: dict[str, str] = {}
        self.recorded_models: dict[str, Path] = {}
        self.status: Status | None = None

    def params(self, values: Mapping[str, Any]) -> None:
        self.recorded_params |= flattened(values)

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        self.recorded_metrics += [(name, value, step) for name, value in values.items()]

    def beside(self, stage: str, fingerprint: str, values: Mapping[str, float]) -> None:
        self.recorded_beside.setdefault(stage, {}).update(values)

    def tags(self, values: Mapping[str, str]) -> None:
        self.recorded_tags |= values

    def artifact(self, path: Path) -> None:
        self.recorded_artifacts.append(path)

    def dataset(self, name: str, digest: str, facts: Mapping[str, Any]) -> None:
        self.recorded_datasets[name] = digest

    def model(self, name: str, onnx: Path, example: Path) -> None:
        self.recorded_models[name] = onnx

    def finish(self, status: Status, *, last: bool) -> None:
        self.status = status
