"""What every script in `pipelines/` does around its stage."""

import argparse
import hashlib
import os
import random
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import psutil

from slimline.errors import SlimlineError
from slimline.files import whole_file, write_bytes, write_text
from slimline.params.base import Block
from slimline.params.file import Params, load, plain
from slimline.params.hardware import Hardware
from slimline.params.tracking import Tracking
from slimline.paths import Paths, repository_root, store_root
from slimline.runtime.checkpoints import Place, key
from slimline.runtime.clock import Clock
from slimline.runtime.fingerprint import Identity, git_changes, identify
from slimline.runtime.launch import SUPERVISOR, own_command, run_together
from slimline.runtime.locks import held
from slimline.runtime.refusal import refusing
from slimline.runtime.settings import Made, Settings
from slimline.runtime.stopping import STOP, Stopped, end_with, starters
from slimline.runtime.surroundings import tags
from slimline.runtime.world import World
from slimline.tracking import Recorder, Status, Tracker
from slimline.tracking.journal import Journal, Opening, resolved_uri
from slimline.tracking.memory import MemoryTracker

Run = Callable[[Any, Settings, Paths, Tracker], Made]

CONTEXTS = {"prepare": "preparation", "evaluate": "evaluation"}
"""What a stage uses the images for, where it is not training."""

LOCK_PATIENCE = 30.0
"""Seconds to wait for another process that is at the same stage: one whose parent was killed is gone after ten."""


def main(stage: str, block: str, schema: type[Block], run: Run, *, last: bool = False, together: bool = True) -> None:
    """Check params.yaml, run the stage on its block, record it; on bad input print one line and exit with 2.

    Args:
        stage: name of the stage.
        block: its block of params.yaml, of type `schema`.
        last: whether this stage ends the pipeline.
        together: whether several processes share the work; if not, the first one does it.
    """
    parser = argparse.ArgumentParser(description=f"The stage {stage}.")
    parser.add_argument("--workspace", type=Path, default=Path(), help="folder that holds params.yaml (default: the current one)")
    workspace: Path = parser.parse_args().workspace.resolve()
    # Users' own methods, named by import path, may lie beside params.yaml.
    sys.path.insert(0, str(workspace))
    with refusing(), ending(stage):
        STOP.listen()
        _watch_starters()
        _start(stage, block, schema, run, workspace, last, together)


@contextmanager
def ending(stage: str) -> Iterator[None]:
    """A signal ends the block with one line, whatever it was at, and the exit code that shells know it by."""
    try:
        yield
    except Stopped as stopped:
        if World.of(os.environ).first:
            print(f"slimline: {stage} {stopped}; run again, and it goes on from there", file=sys.stderr, flush=True)
        sys.exit(128 + stopped.signum)


def _watch_starters() -> None:
    if SUPERVISOR in os.environ:
        end_with([int(os.environ[SUPERVISOR])])
    elif "DVC_STAGE" in os.environ:
        end_with(starters())


def _start(stage: str, block: str, schema: type[Block], run: Run, workspace: Path, last: bool, together: bool) -> None:
    paths = Paths(workspace)
    world = World.of(os.environ)
    params = load(paths.params)
    hardware = params.block("hardware", Hardware)
    if together:
        _refuse_what_is_not_there(hardware, world)
    elif not world.first:
        return
    # Not even a process that nobody waits for any more may be at the same stage.
    lock = held(paths.scratch / f"{stage}.lock", f"{stage} in {paths.root}", patience=LOCK_PATIENCE)
    if together and world.alone and hardware.devices > 1:
        with lock:
            sys.exit(run_together(own_command(), hardware.devices))
    world = world if together else World()
    with lock if world.first and SUPERVISOR not in os.environ else nullcontext():
        _run(stage, params, block, schema, run, paths, world, last)


def _refuse_what_is_not_there(hardware: Hardware, world: World) -> None:
    """
    Raises:
        SlimlineError: more devices than this machine has, or more machines than were started.
    """
    there, kind = os.cpu_count() or 1, "processors"
    if hardware.accelerator == "cuda" or (hardware.devices > 1 and hardware.on_cuda()):
        import torch

        there, kind = torch.cuda.device_count(), "CUDA devices"
        if hardware.accelerator == "cuda" and there == 0:
            raise SlimlineError("hardware.accelerator is cuda, but torch finds no CUDA device here; make it auto or cpu")
    if hardware.devices > there:
        raise SlimlineError(f"hardware.devices is {hardware.devices}, but this machine has {there} {kind}; lower it")
    asked = hardware.devices * hardware.nodes
    if world.alone and hardware.nodes > 1:
        raise SlimlineError(
            f"hardware.nodes is {hardware.nodes}: start the stage on each of them, "
            f"SLIMLINE_LAUNCH='torchrun --nnodes={hardware.nodes} --nproc-per-node={hardware.devices} --node-rank=N --master-addr=FIRST "
            "--master-port=PORT'"
        )
    if not world.alone and asked not in (1, world.ranks):
        raise SlimlineError(
            f"hardware asks for {hardware.devices} devices on {hardware.nodes} nodes, the launcher started {world.ranks} processes; make them equal"
        )


def _run(stage: str, params: Params, block: str, schema: type[Block], run: Run, paths: Paths, world: World, last: bool) -> None:
    clock = Clock()
    clock.seconds["start"] = time.time() - psutil.Process().create_time()
    own = params.block(block, schema)
    hardware = params.block("hardware", Hardware)
    _use(params.seed, hardware)
    with clock.part("join"):
        world.join()
    with clock.part("identify"):
        identity = _identified(stage, paths, world)
    place = None
    if identity is not None:
        place = Place(paths.scratch / "checkpoints" / stage, key(identity.fingerprint, hardware, world), hardware.checkpoint_seconds)
    place = world.firsts(place)
    provenance = world.firsts(None if identity is None else identity.fingerprint)
    settings = Settings(params.seed, hardware, world, place, provenance, clock)
    with clock.part("track"):
        tracker = MemoryTracker() if identity is None else _journal(stage, params.block("tracking", Tracking), paths, identity)
    world.firsts(None)  # whoever refuses from here on does not break off the opening of the record
    status: Status = "FAILED"
    try:
        with clock.part("track"):
            tracker.params({"seed": params.seed, block: plain(own)})
            tracker.tags({f"hardware.{name}": str(value) for name, value in plain(hardware).items()} | {"ranks": str(world.ranks)})
            tracker.artifact(paths.params)
        with clock.part("stage"):
            made = run(own, settings, paths, tracker)
        if identity is not None:
            _refuse_what_changed(identity, stage, paths)
        with clock.part("track"):
            tracker.tags(made.tags)
            # DVC enters a stage in dvc.lock after its end: this is the pipeline's state that the stage met.
            for file in (*made.files, *(lock for lock in paths.locks if lock.exists())):
                tracker.artifact(file)
            if identity is not None:
                _describe(tracker, stage, made, paths, identity)
        tracker.metrics(made.metrics | {f"seconds/{name}": seconds for name, seconds in clock.seconds.items()})
        if place is not None and world.first:
            place.clear()
        status = "FINISHED"
    except Stopped:
        status = "KILLED"
        raise
    finally:
        tracker.finish(status, last=last)


def _identified(stage: str, paths: Paths, world: World) -> Identity | None:
    """Who this run is, for the first process.

    Raises:
        SlimlineError: another machine has other code, parameters or data.
    """
    own = identify(stage, paths) if world.local_rank == 0 else None
    fingerprints = world.everyones(None if own is None else own.fingerprint)
    for rank, other in enumerate(fingerprints):
        if other not in (None, fingerprints[0]):
            raise SlimlineError(
                f"{paths.root}: what {stage} depends on (code, parameters, data) differs between the machine of process 0 and that of "
                f"process {rank}; bring both to the same commit and data"
            )
    return own if world.first else None


def _refuse_what_changed(identity: Identity, stage: str, paths: Paths) -> None:
    """DVC hashes what a stage depends on after its end, and would take what was edited meanwhile for what made the result.

    Raises:
        SlimlineError: code, parameters or inputs are no longer those that the stage started with.
    """
    if changed := identity.changed(stage, paths):
        raise SlimlineError(f"{changed} changed while {stage} ran, so its result is not what dvc.lock would say; run it again")


def _use(seed: int, hardware: Hardware) -> None:
    import numpy as np
    import torch

    torch.set_num_threads(hardware.threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # it guards against reading what was never written, at a price in time
    torch.backends.cudnn.benchmark = False
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _journal(stage: str, params: Tracking, paths: Paths, identity: Identity) -> Journal:
    root = store_root(paths.root)
    changes = git_changes(paths.root) if identity.dirty else b""
    state = {"git.dirty": str(identity.dirty).lower()} | ({"git.changes": hashlib.sha256(changes).hexdigest()} if changes else {})
    opening = Opening(
        resolved_uri(params.uri, root),
        params.experiment,
        stage=stage,
        execution=identity.execution,
        fingerprint=identity.fingerprint,
        workspace=_name(paths.scratch),
        commit=identity.commit,
        tags=tags(os.environ) | state,
    )
    journal = Journal(Paths(root).spool, opening, largest_artifact=params.largest_artifact_mb * 1_000_000)
    journal.tags({f"input.{path}": md5 for path, md5 in identity.inputs.items()})
    if changes:
        patch = paths.scratch / f"{stage}.changes.patch"
        write_bytes(patch, changes)
        journal.artifact(patch)
    return journal


def _name(scratch: Path) -> str:
    """The name of the workspace that `scratch` is of, made once: folders are called alike on many machines."""
    file = scratch / "workspace"
    if not file.exists():
        write_text(file, uuid.uuid4().hex)
    return file.read_text()


def _describe(tracker: Recorder, stage: str, made: Made, paths: Paths, identity: Identity) -> None:
    """Record the images, and the models with one of them that they can be tried on."""
    import numpy as np

    if made.data:
        data = os.path.relpath(paths.prepared, repository_root(paths.root))
        facts = {"context": CONTEXTS.get(stage, "training"), "source": {"path": data, "md5": identity.inputs.get(data)}}
        tracker.dataset(made.data["name"], made.data["digest"], made.data | facts)
    if made.example is not None:
        example = paths.scratch / "example.npy"
        with whole_file(example) as file:
            np.save(file, made.example)
        for name, onnx in made.models.items():
            tracker.model(name, onnx, example)
