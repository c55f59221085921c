"""One trial: the student pruned and quantized by the stages' own functions, and measured. Nothing here knows Optuna."""

import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_safetensors
from torch import nn

from slimline import artifacts
from slimline.core.cost import measure
from slimline.core.quantized import stored_state
from slimline.data.batches import Ordered
from slimline.data.prepared import load_split
from slimline.errors import SlimlineError
from slimline.evaluation.latency import measure as side_by_side
from slimline.evaluation.latency import summarize
from slimline.export.runtime import deployed
from slimline.files import whole_folder, write_bytes, write_json
from slimline.params.changes import changed
from slimline.params.file import Params, load, plain
from slimline.params.hardware import Hardware
from slimline.params.prune import Prune
from slimline.params.quantize import Quantize
from slimline.paths import ModelFolder, Paths
from slimline.quantization.allocate import within_drop
from slimline.quantization.bits import Bits, Choice
from slimline.quantization.calibrate import plan
from slimline.quantization.sensitivity import sensitivity
from slimline.runtime import checkpoints
from slimline.runtime.clock import Clock
from slimline.runtime.outcome import accuracy, rightly
from slimline.runtime.settings import Settings
from slimline.runtime.world import ALONE, World
from slimline.stages.prune import Pruned, pruned
from slimline.stages.quantize import quantized
from slimline.sweep.asked import Asked, Found, Place
from slimline.sweep.objectives import ACCURACY
from slimline.sweep.together import together
from slimline.tracking.memory import MemoryTracker

ONE_SHOT = {"name": "one_shot"}
BATCH = 512
WARM_UP = 10


class Trials:
    """Runs trials, one after another.

    Args:
        world: the processes that run each trial together; where there is but this one, it starts others for trials that
            `hardware.devices` processes are to train.
    """

    def __init__(self, place: Place, world: World = ALONE) -> None:
        torch.set_num_threads(place.threads)
        torch.use_deterministic_algorithms(True)
        self.place, self.world = place, world
        self.params, self.fixed = load(Paths(place.base).params), place.fixed
        self.paths, self.judges, self.cache = Paths(place.chooses), Paths(place.judges), place.cache
        self._hardware = self.params.block("hardware", Hardware).model_copy(update={"threads": place.threads})
        self._validation = load_split(self.paths.prepared, "validation")

    def reference(self) -> dict[str, float]:
        """The student as it is, by objective."""
        return self._scores(*artifacts.load(self.paths.model("student")))

    def names(self) -> dict[str, list[str]]:
        """Of the student's layers with weights, and of the tensors between layers."""
        manifest, student = artifacts.load(self.paths.model("student"))
        record = plan(student, manifest.input_shape)
        return {"layer": list(record["weights"]), "tensor": list(record["activations"])}

    def allocated(self, widths: tuple[Bits, ...], drops: tuple[float, ...]) -> list[dict[str, Bits]]:
        """For each of `drops` the smallest widths of the student's layers that lose no more accuracy in sum (`quantization.allocate`).

        Of a drop that even the mildest widths exceed there are none: it was to give the search a start, which it can do without.
        """
        manifest, student = artifacts.load(self.paths.model("student"))
        weights = changed(self.params, self.fixed).block("quantize", Quantize).weights
        choice = Choice(8, symmetric=weights.symmetric, per_channel=weights.per_channel, codebook=weights.codebook is not None)
        batches = [(batch.images, batch.labels) for batch in Ordered(self._validation, BATCH)]
        rows = sensitivity(student, manifest.input_shape, batches, widths, scheme=weights.scheme, choice=choice, codebook=weights.codebook)
        found = []
        for drop in drops:
            try:
                found.append(within_drop(rows, drop))
            except SlimlineError as error:
                print(f"slimline: allocated {drop:g}: {error}; the search begins without it", file=sys.stderr)
        return found

    def run(self, asked: Asked) -> Found:
        """
        Raises:
            SlimlineError: values that do not go together, or that the student cannot bear.
        """
        clock, begun = Clock(), time.process_time()
        with clock.part("params"):
            changes = dict(asked.changes) if asked.bare else {**self.fixed, **asked.changes}
            params = changed(self.params, {**changes, **_retraining(self.params, changes, asked.epochs)})
        if self.world.alone and self._hardware.devices > 1 and _trains(params):
            return together(self.place, asked, self._hardware.devices)
        settings = Settings(params.seed, self._hardware, self.world, clock=clock)
        with clock.part("prune"):
            manifest, model = self._pruned(params.block("prune", Prune), settings)
        with clock.part("quantize"):
            how = params.block("quantize", Quantize)
            torch.manual_seed(params.seed)
            with self._kept(settings, "quantize", [plain(params.block("prune", Prune)), plain(how)]) as own:
                made = quantized(how, own, self.paths, MemoryTracker(), manifest, model)
        with clock.part("measure"):
            scores = self._scores(made.manifest, made.model)
        if asked.keep is not None and self.world.first:
            with clock.part("keep"):
                artifacts.save(ModelFolder(asked.keep), made.manifest, made.model)
        return Found(scores, {**clock.seconds, "processor": time.process_time() - begun})

    def judged(self, folder: Path | None) -> list[bool]:
        """Which of the images that judge the model in `folder`, or the student, names rightly."""
        _, network = artifacts.load(self.paths.model("student") if folder is None else ModelFolder(folder))
        found: list[bool] = rightly(network, load_split(self.judges.prepared, "validation")).tolist()
        return found

    def latencies(self, folders: Mapping[str, Path], rounds: int) -> dict[str, float]:
        """Milliseconds an image, the median of `rounds`, of models side by side; nothing else may run meanwhile."""
        images = next(iter(Ordered(self._validation, 1))).images.numpy()
        sessions = {}
        for name, folder in folders.items():
            manifest, network = artifacts.load(ModelFolder(folder))
            sessions[name] = deployed(manifest.forms, ModelFolder(folder).onnx, network, threads=1)
        seconds = side_by_side(sessions, images, rounds=rounds, warm_up=WARM_UP)
        return {name: summarize(found)["p50_ms"] for name, found in seconds.items()}

    def _pruned(self, params: Prune, settings: Settings) -> tuple[artifacts.Manifest, nn.Module]:
        """The student pruned as `params` says; one that another trial has pruned so is loaded."""
        kept = ModelFolder(self.cache / _digest(plain(params)))
        if not self.world.firsts(kept.folder.exists()):
            torch.manual_seed(settings.seed)
            with self._kept(settings, "prune", plain(params)) as own:
                made = pruned(params, own, self.paths, MemoryTracker())
            if self.world.first:
                _write(made, kept.folder)
            self.world.firsts(None)  # the others read what it has written
        # Also what was just made is loaded: a trial's bytes must not depend on who was there first.
        return artifacts.load(kept)

    @contextmanager
    def _kept(self, settings: Settings, stage: str, values: Any) -> Iterator[Settings]:
        """`settings` with a place for the checkpoints of a training, which goes when that has succeeded."""
        place = checkpoints.Place(self.cache.parent / "checkpoints" / stage, _digest([values, self.world.ranks]), self._hardware.checkpoint_seconds)
        yield replace(settings, place=place)
        if self.world.first:
            place.clear()

    def _scores(self, manifest: artifacts.Manifest, model: nn.Module) -> dict[str, float]:
        return {
            ACCURACY: accuracy(model, self._validation),
            "packed_bytes": len(artifacts.packed(manifest, model)),
            **asdict(measure(model, manifest.input_shape)),
        }


def _write(made: Pruned, target: Path) -> None:
    with whole_folder(target) as folder:
        files = ModelFolder(folder)
        write_json(files.manifest, made.manifest.model_dump(mode="json"))
        write_bytes(files.weights, to_safetensors({name: tensor.contiguous() for name, tensor in stored_state(made.model).items()}))


def _trains(params: Params) -> bool:
    return params.block("prune", Prune).fit is not None or params.block("quantize", Quantize).fit is not None


def _retraining(params: Params, changes: Mapping[str, Any], epochs: int | None) -> dict[str, Any]:
    """What becomes of retraining, as `params` with `changes` says it, with `epochs`."""
    if epochs is None:
        return {}
    if epochs == 0:
        return {
            "prune.fit": None,
            "prune.schedule": ONE_SHOT,
            "quantize.fit": None,
            "quantize.from_scratch": False,
            "quantize.weights.learn": None,
            "quantize.activations.learn": None,
        }
    varied = changed(params, changes)
    fits = {"prune": varied.block("prune", Prune).fit, "quantize": varied.block("quantize", Quantize).fit}
    shorter = {f"{block}.fit.epochs": min(epochs, fit.epochs) for block, fit in fits.items() if fit is not None}
    return {"prune.schedule": ONE_SHOT, **shorter}


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:24]
