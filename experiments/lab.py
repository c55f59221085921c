"""What experiments share that train many networks in one process: prepared data, trainings that go on where they were, a growing record.

Their scripts run as modules from the repository: `python -m experiments.NAME.measure`.
"""

import argparse
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from slimline import artifacts
from slimline.core.cost import measure as cost_of
from slimline.data.batches import Ordered
from slimline.data.prepare.arrays import prepare
from slimline.data.prepared import Description, describe, load_split
from slimline.data.sources.images import images
from slimline.data.transfer import transfer_set
from slimline.distillation.taught import Taught
from slimline.evaluation.latency import machine
from slimline.evaluation.statistics import Comparison, compare
from slimline.files import whole_file, whole_folder, write_text
from slimline.models.network import network
from slimline.params.base import Block
from slimline.params.data import Data
from slimline.params.fit import Fit
from slimline.params.hardware import Hardware
from slimline.paths import ModelFolder, Paths
from slimline.registry import Spec
from slimline.report.record import between
from slimline.runtime.checkpoints import Place, key
from slimline.runtime.classifier import Classifier
from slimline.runtime.fingerprint import git_state
from slimline.runtime.fit import fit
from slimline.runtime.objectives import LabelsAlone
from slimline.runtime.settings import Settings
from slimline.runtime.stopping import STOP
from slimline.runtime.world import ALONE
from slimline.stages import prune, quantize
from slimline.tracking.memory import MemoryTracker

EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Network:
    """A trained network.

    Args:
        curve: a row [train loss, validation loss, validation accuracy] an epoch.
        identity: digest of what its training was given.
    """

    model: nn.Module
    curve: list[list[float]]
    identity: str


@dataclass(frozen=True)
class Kept:
    """A model on disk.

    Args:
        identity: digest of what it was made of.
    """

    folder: ModelFolder
    identity: str


@dataclass(frozen=True)
class Stage:
    """A stage of the pipeline, as an experiment runs it.

    Args:
        name: of its metrics.
        leaves: its model.
    """

    run: Callable[..., Any]
    name: str
    leaves: str


PRUNE, QUANTIZE = Stage(prune.run, "prune", "pruned"), Stage(quantize.run, "quantize", "quantized")


@dataclass
class Lab:
    """One experiment's workspace.

    Args:
        folder: of the experiment; `results.json` in it grows, and `.slimline` holds what can be made again.
        prepared: the prepared data.
        source: what the data is called in the record.
        threads: of the processor.
    """

    folder: Path
    prepared: Path
    source: str
    threads: int = 1
    values: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        torch.set_num_threads(self.threads)
        torch.use_deterministic_algorithms(True)
        STOP.listen()
        results = self.folder / "results.json"
        self.values = json.loads(results.read_text()) if results.exists() else {"sessions": [], "records": []}
        if (now := self._session()) not in self.values["sessions"]:
            self.values["sessions"].append(now)

    @property
    def data(self) -> Description:
        return describe(self.prepared)

    @property
    def hardware(self) -> Hardware:
        return Hardware(threads=self.threads, accelerator="auto", checkpoint_seconds=60)

    def _session(self) -> dict[str, Any]:
        """What all records of this run share."""
        commit, dirty = git_state(self.folder)
        date = datetime.now(UTC).date().isoformat()
        about = {"commit": commit, "dirty": dirty, "date": date, "torch": torch.__version__, "machine": machine()}
        return {**about, "source": self.source, "images": self.data.counts, "digest": self.data.digest}

    def record(self, name: str, seed: int) -> dict[str, Any] | None:
        """What was measured of `name` with `seed`; None where nothing was."""
        return next((record for record in self.values["records"] if (record["name"], record["seed"]) == (name, seed)), None)

    def add(self, name: str, seed: int, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Write a record at once."""
        made = {"name": name, "seed": seed, **facts}
        self.values["records"].append(made)
        self.write()
        return made

    def write(self) -> None:
        write_text(self.folder / "results.json", written(self.values))

    def measured(self, name: str, seed: int, network: "Network", further: Mapping[str, Any] | None = None) -> None:
        """Record what `network` is on both splits, and `further` facts, where results.json lacks it."""
        if self.record(name, seed) is not None:
            return
        wrong = self.wrong(self.logits(network.model, "test"), "test")
        facts = {
            "validation_accuracy": float(np.mean(self.logits(network.model, "validation").argmax(1) == self.labels("validation"))),
            "errors": len(wrong),
            "wrong": packed(wrong, self.data.counts["test"]),
            "parameters": sum(p.numel() for p in network.model.parameters()),
            "curve": network.curve,
        }
        self.add(name, seed, {**facts, **(further or {})})
        print(f"{name} {seed}: {len(wrong)} test errors, validation accuracy {facts['validation_accuracy']:.2%}", flush=True)

    def trained(
        self,
        name: str,
        seed: int,
        spec: Spec,
        params: Mapping[str, Any],
        teacher: "Network | None" = None,
        loss: Spec | None = None,
        without: Sequence[str] = (),
        formed: Callable[[nn.Module], nn.Module] | None = None,
    ) -> "Network":
        """A network of the zoo from the weights that `seed` draws, trained on labels, or by `loss` under `teacher`, on all classes but `without`.

        It goes on from its last checkpoint, and a training that was finished is not repeated: weights lie in `.slimline/weights` under the
        digest of all these arguments and the data. (Code is not in it; after an edit that changes results, delete the folder.) `formed`, which
        `name` stands for, brings the network into another form before it is trained.
        """
        data = self.data
        torch.manual_seed(seed)
        model = network(spec, data.input_shape, len(data.classes), data.mean, data.std)
        model = model if formed is None else formed(model)
        identity = _digest([name, seed, spec, params, loss, None if teacher is None else teacher.identity, list(without), data.digest])
        kept = self.folder / ".slimline" / "weights" / f"{name}-{seed}-{identity}.pt"
        if not kept.exists():
            schema = Fit.model_validate_json(json.dumps(params))
            taught = teacher is not None and loss is not None
            objective = Taught(model, teacher.model, loss, data.input_shape) if taught else LabelsAlone(schema.label_smoothing)
            place = Place(kept.with_suffix(""), key(identity, self.hardware, ALONE), self.hardware.checkpoint_seconds)
            module = Classifier(model, schema, objective)
            settings, images = Settings(seed, self.hardware, ALONE, place), transfer_set(self.prepared, without, unlabelled=False)
            fit(module, self.prepared, schema, settings, tracker=MemoryTracker(), name=name, train_on=images)
            curve = [[row.train_loss, row.val_loss, row.val_accuracy] for row in module.history]
            with whole_file(kept) as file:
                torch.save({"weights": module.model.state_dict(), "curve": curve}, file)
            place.clear()
        saved = torch.load(kept, weights_only=True)
        model.float().load_state_dict(saved["weights"])
        return Network(model.eval(), saved["curve"], identity)

    def kept(self, network: Network, spec: Spec) -> Kept:
        """`network`, which `spec` describes, as a folder from which a stage can start."""
        folder = ModelFolder(self.folder / ".slimline" / "models" / network.identity)
        if not folder.folder.exists():
            folder.folder.parent.mkdir(parents=True, exist_ok=True)
            artifacts.save(folder, artifacts.Manifest.of(spec, self.data), network.model)
        return Kept(folder, network.identity)

    def staged(self, stage: Stage, name: str, seed: int, params: Block, **models: Kept) -> Kept:
        """What `stage` makes of `models`, which it looks for under their names here, in a workspace under `.slimline`.

        As with `trained`, what ended is not done again, what was interrupted goes on, and the digest is of the arguments, not of the code.
        """
        facts = [stage.name, name, seed, params.model_dump(mode="json"), {role: model.identity for role, model in models.items()}, self.data.digest]
        identity = _digest(facts)
        paths = Paths(self.folder / ".slimline" / "workspaces" / f"{name.replace(' ', '-').replace('/', '')}-{seed}-{identity}")
        made = Kept(paths.model(stage.leaves), identity)
        if paths.stage_metrics(stage.name).exists():  # the last that a stage writes
            return made
        for link, target in ((paths.prepared, self.prepared), *((paths.model(role).folder, model.folder.folder) for role, model in models.items())):
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(target)
        place = Place(paths.scratch / stage.name, key(identity, self.hardware, ALONE), self.hardware.checkpoint_seconds)
        stage.run(params, Settings(seed, self.hardware, ALONE, place), paths, MemoryTracker())
        place.clear()
        return made

    def shipped(self, model: Kept) -> dict[str, Any]:
        """What the packed file of `model` is, and what the network in it knows."""
        manifest, network = artifacts.load_packed(model.folder.packed)
        wrong = self.wrong(self.logits(network, "test"), "test")
        return {
            "validation_accuracy": float(np.mean(self.logits(network, "validation").argmax(1) == self.labels("validation"))),
            "errors": len(wrong),
            "wrong": packed(wrong, self.data.counts["test"]),
            "nonzero_parameters": cost_of(network, manifest.input_shape).nonzero_params,
            "packed_bytes": model.folder.packed.stat().st_size,
        }

    def logits(self, model: nn.Module, split: str) -> np.ndarray:
        """What `model` answers to every image of `split`, [n classes]."""
        with torch.no_grad():
            return np.concatenate([model.eval()(batch.images).numpy() for batch in Ordered(load_split(self.prepared, split), EVALUATION_BATCH)])

    def labels(self, split: str) -> np.ndarray:
        return load_split(self.prepared, split).labels.numpy()

    def wrong(self, logits: np.ndarray, split: str) -> list[int]:
        """The numbers of the images of `split` that `logits` call by another name."""
        return [int(n) for n in np.flatnonzero(logits.argmax(1) != self.labels(split))]


def prepared(archive: Path, home: Path, params: Mapping[str, Any], only: str | None = None) -> Path:
    """The folder of the prepared images of `archive`, made under `home` where it is not there.

    Args:
        params: block `data`, without its source.
        only: a pattern (regular expression) of the beginnings of the paths that are taken; None: all.
    """
    form = {"source": {"name": "images", "path": archive.name}, "label_noise": False, **params}
    facts = form if only is None else {**form, "only": only}
    folder = home / ".slimline" / hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        items = (item for item in images(archive.parent, path=archive.name) if only is None or re.match(only, item.origin))
        with whole_folder(folder) as made:
            prepare(items, Data.model_validate(form), made, seed=0)
    return folder


def written(values: Mapping[str, Any]) -> str:
    """`values` as JSON, lists of numbers on one line each: there are thousands of wrong images."""
    number = r"-?\d[\d.e+-]*"
    whole = json.dumps(values, indent=2, allow_nan=False)
    return re.sub(rf"\[\s+{number}(?:,\s+{number})*\s+\]", lambda found: json.dumps(json.loads(found[0])), whole) + "\n"


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def shortened(fit: Mapping[str, Any], epochs: int | None) -> dict[str, Any]:
    """`fit` for a trial of `epochs`; None: as it is."""
    return {**fit, **({} if epochs is None else {"epochs": epochs})}


Record = dict[str, Any]
Records = dict[str, dict[int, Record]]
"""By name and seed."""


def by_name(values: Mapping[str, Any]) -> Records:
    """The records of results.json, by name and seed."""
    found: Records = {}
    for record in values["records"]:
        found.setdefault(record["name"], {})[record["seed"]] = record
    return found


def command(
    doc: str | None, archive: str, home: Path, seeds: int, measure: Callable[[Path, Path, int, int | None], None], tables: Callable[[], str]
) -> int:
    """The command line that such an experiment has.

    Args:
        archive: where its data lie, if nothing else is said.
        measure: from archive, folder of the results, seeds and epochs (None: as many as the experiment has).
        tables: README.md anew.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=("measure", "record"), default="measure")
    parser.add_argument("--data", type=Path, default=Path("data/raw") / archive, help="archive of the image files (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--epochs", type=int, help="of every training, for a trial")
    parser.add_argument("--home", type=Path, default=home, help="where results.json and .slimline lie (default: beside the script)")
    given = parser.parse_args()
    if given.command == "record":
        write_text(home / "README.md", tables())
        return 0
    given.home.mkdir(parents=True, exist_ok=True)
    measure(given.data.resolve(), given.home.resolve(), given.seeds, given.epochs)
    return 0


def packed(wrong: Sequence[int], images: int) -> str:
    """Which of `images` images were called by another name, a bit an image, in hexadecimal digits."""
    bits = np.zeros(images, dtype=bool)
    bits[list(wrong)] = True
    return np.packbits(bits).tobytes().hex()


def unpacked(wrong: str | list[int]) -> list[int]:
    """The inverse of `packed`; older records hold the numbers themselves."""
    if isinstance(wrong, list):
        return wrong
    return [int(n) for n in np.flatnonzero(np.unpackbits(np.frombuffer(bytes.fromhex(wrong), dtype=np.uint8)))]


def pooled(records: Iterable[tuple[dict[str, Any], dict[str, Any]]], images: int, confidence: float) -> Comparison:
    """The first of each pair of records against the second, on the test images of all seeds together (each has `wrong`)."""

    def right(record: dict[str, Any]) -> np.ndarray:
        answers = np.ones(images, dtype=bool)
        answers[unpacked(record["wrong"])] = False
        return answers

    pairs = [(right(first), right(second)) for first, second in records]
    return compare(np.concatenate([first for first, _ in pairs]), np.concatenate([second for _, second in pairs]), confidence)


def said(results: Path, parts: Callable[[Records, int], list[str]]) -> str:
    """The tables of an experiment, and how they came to be.

    Args:
        parts: from records and number of test images to paragraphs and tables.
    """
    if not results.exists():
        return "Not run in full yet."
    values = json.loads(results.read_text())
    return "\n\n".join([*parts(by_name(values), values["sessions"][-1]["images"]["test"]), made(values)])


def readme(folder: Path, tables: str) -> str:
    """README.md of the experiment in `folder` with `tables` in their place."""
    begin = f"<!-- results: made by `python -m experiments.{folder.name}.measure record` from results.json -->"
    return between((folder / "README.md").read_text(), begin, "<!-- end of results -->", tables)


def mean_error(of: Mapping[int, Mapping[str, Any]], images: int) -> str:
    """The test error of the seeds' records, mean ± standard deviation."""
    errors = np.array([record["errors"] for record in of.values()]) / images
    return f"{errors.mean():.2%}" + (f" ± {errors.std(ddof=1):.2%}" if len(errors) > 1 else "")


def made(values: Mapping[str, Any]) -> str:
    """How the figures came to be, in a sentence."""
    last = values["sessions"][-1]
    commits = ", ".join(dict.fromkeys(f"{s['commit'][:12]}{' with changes' if s['dirty'] else ''}" for s in values["sessions"]))
    counts = ", ".join(f"{count:,} {split}" for split, count in last["images"].items())
    seeds = len({record["seed"] for record in values["records"]})
    return (
        f"Commits {commits}; {last['date']}; {seeds} seeds; {last['source']}: {counts} images; "
        f"{last['machine']['processor']}, {last['machine']['cores']} cores, torch {last['torch']}."
    )
