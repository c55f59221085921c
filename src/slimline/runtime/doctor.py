"""`slimline doctor`: what could go wrong here, and what to do about it."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from slimline.params.hardware import Hardware
from slimline.paths import Paths, repository_root, store_root
from slimline.runtime.surroundings import machine
from slimline.tracking.finding import Finding
from slimline.tracking.journal import at_work, journals

SCARCE = 5e9
"""Bytes free below which a run may not end."""


def local(paths: Paths, hardware: Hardware) -> Iterator[Finding]:
    """All that can be found without MLflow."""
    yield from _folders(paths)
    yield from _disk(paths)
    yield from _dvc(paths)
    yield from _versions()
    yield from _machine(hardware)
    yield from _spool(paths)


def _folders(paths: Paths) -> Iterator[Finding]:
    written = [paths.root, paths.scratch, *(paths.root / name for name in ("data", "models", "metrics", "plots", "reports"))]
    closed = [folder for folder in written if folder.exists() and not os.access(folder, os.W_OK | os.X_OK)]
    foreign = [folder for folder in written if folder.exists() and folder.stat().st_uid != os.getuid()]
    if closed:
        yield Finding(
            "permissions", f"{', '.join(map(str, closed))} cannot be written", f"chown -R {os.getuid()}:{os.getgid()} them, or run as their owner"
        )
    elif foreign:
        remedy = f"chown -R {os.getuid()}:{os.getgid()} them, and give containers --user $(id -u):$(id -g)"
        yield Finding("permissions", f"{', '.join(map(str, foreign))} is another user's", remedy)
    else:
        yield Finding("permissions", "what stages write can be written")


def _disk(paths: Paths) -> Iterator[Finding]:
    free = shutil.disk_usage(paths.root).free
    remedy = "" if free >= SCARCE else "make room: dvc gc -w removes from the cache what no file here needs"
    yield Finding("disk", f"{free / 1e9:.1f} GB free at {paths.root}", remedy)


def _dvc(paths: Paths) -> Iterator[Finding]:
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo

    try:
        with Repo(str(repository_root(paths.root))) as repo:
            cache = Path(repo.cache.local.path)
            stages = len(repo.index.stages)
    except NotDvcRepoError:
        yield Finding("dvc", f"{paths.root} is in no DVC repository", "git clone it, or git init, dvc init")
        return
    except DvcException as error:
        yield Finding("dvc", "dvc.yaml or dvc.lock cannot be read", " ".join(str(error).split())[:200])
        return
    if cache.exists() and not os.access(cache, os.W_OK):
        yield Finding("dvc", f"the cache {cache} cannot be written", "mend its permissions, or dvc cache dir --local FOLDER")
    else:
        yield Finding("dvc", f"{stages} stages; cache {cache}")
    git = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], cwd=paths.root, capture_output=True, text=True, check=False)
    if git.returncode:
        remedy = f"git config --global --add safe.directory {paths.root}" if "dubious ownership" in git.stderr else "without git, runs name no commit"
        yield Finding("git", (git.stderr.strip().splitlines() or ["git does not answer"])[0], remedy)


def _versions() -> Iterator[Finding]:
    wrong = []
    for requirement in map(Requirement, requires("slimline") or ()):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found}, where {requirement.specifier} is needed")
    if wrong:
        yield Finding("versions", ", ".join(wrong), "make setup, or pip install -r requirements.lock")
    else:
        yield Finding("versions", "of all packages are within their ranges")


def _machine(hardware: Hardware) -> Iterator[Finding]:
    import torch

    facts = machine()
    yield Finding("machine", f"{facts['processor']}, {facts['cores']} cores, {facts['memory_gib']} GiB")
    if hardware.threads * (1 if hardware.on_cuda() else hardware.devices) > facts["cores"]:
        yield Finding(
            "machine", f"hardware asks for {hardware.devices} × {hardware.threads} threads", f"it has {facts['cores']} cores; lower hardware.threads"
        )
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    driver = shutil.which("nvidia-smi")
    seen = subprocess.run([driver, "-L"], capture_output=True, text=True, check=False).stdout if driver else ""
    if gpus:
        yield Finding("gpu", ", ".join(gpus))
    elif re.search(r"^GPU \d", seen, re.MULTILINE):
        remedy = (
            "install PyTorch's CUDA build, or in a container pass --gpus all"
            if torch.version.cuda is None
            else "the driver is too old for it: update it"
        )
        yield Finding("gpu", f"the driver sees one, torch {torch.__version__} does not", remedy)
    elif hardware.accelerator == "cuda":
        yield Finding("gpu", "none, and hardware.accelerator is cuda", "make it auto or cpu")
    else:
        yield Finding("gpu", "none; everything is computed on the processor")


def _spool(paths: Paths) -> Iterator[Finding]:
    spool = Paths(store_root(paths.root)).spool
    waiting, refused = len([one for one in journals(spool) if not at_work(one)]), len(list(spool.glob("refused-*")))
    if waiting:
        size = sum(file.stat().st_size for file in spool.rglob("*") if file.is_file())
        yield Finding(
            "spool", f"{waiting} record{'s' if waiting > 1 else ''} ({size / 1e6:.1f} MB) to be sent to MLflow in {spool}", "slimline sync sends them"
        )
    if refused:
        yield Finding("spool", f"MLflow refused parts of {refused} records, which lie in {spool}", "state.json there says why; delete them when read")
