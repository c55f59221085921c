"""Where a run takes place: its machine and the versions of what computes there."""

import os
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("slimline", "torch", "pytorch-lightning", "numpy", "torch-pruning", "onnx", "onnxscript", "onnxruntime", "dvc", "mlflow")
"""Those on which a result or its record may depend."""

FROM_DVC = {"DVC_STAGE": "dvc.stage", "DVC_EXP_NAME": "dvc.experiment", "DVC_EXP_BASELINE_REV": "dvc.baseline", "SLIMLINE_IMAGE": "image"}
"""What DVC, and whoever starts a container, say in the environment, and its tag."""


def machine() -> dict[str, Any]:
    """Processor, cores and memory, for beside a figure."""
    information = Path("/proc/cpuinfo")
    names = (
        [line.partition(":")[2].strip() for line in information.read_text().splitlines() if line.startswith("model name")]
        if information.exists()
        else []
    )
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 1,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
    }


def tags(environment: Mapping[str, str]) -> dict[str, str]:
    """Machine, versions, and what DVC says of the run, as tags."""
    told = {name: environment[key] for key, name in FROM_DVC.items() if environment.get(key)}
    return {
        **told,
        **{f"machine.{name}": str(value) for name, value in machine().items()},
        "machine.gpus": ", ".join(_gpus()) or "none",
        "version.python": platform.python_version(),
        **{f"version.{name}": _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _gpus() -> Iterator[str]:
    import torch

    yield from (torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
