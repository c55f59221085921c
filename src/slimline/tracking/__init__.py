"""Where runs are recorded. Stages know the protocol below; which store stands behind it is settled once, where a stage starts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

Status = Literal["FINISHED", "FAILED", "KILLED"]
"""How a run ended; KILLED by a signal, to be gone on with."""


class Tracker(Protocol):
    """The record of one stage's run, as the stage sees it. No method ever raises: a store that fails must not cost a training."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Settings; nested mappings become dotted names."""

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Measured numbers, of one epoch where `step` is given."""

    def beside(self, stage: str, fingerprint: str, values: Mapping[str, float]) -> None:
        """Final numbers that belong to what another stage made: onto its last finished run with this fingerprint, where there is one."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Facts to search by."""

    def artifact(self, path: Path) -> None:
        """A file or folder that the stage made or used."""


class Recorder(Tracker, Protocol):
    """The same, as the script around the stage sees it."""

    def dataset(self, name: str, digest: str, facts: Mapping[str, Any]) -> None:
        """The images that the stage learned from or counted on."""

    def model(self, name: str, onnx: Path, example: Path) -> None:
        """A model that the stage made, with one image (a .npy file of float32 [1 channels height width]) that it can be tried on."""

    def finish(self, status: Status, *, last: bool) -> None:
        """Close the run; `last` closes the pipeline's run with it."""


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted names: {"fit": {"epochs": 3}} becomes {"fit.epochs": 3}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
