"""Every file name the pipeline reads or writes."""

from dataclasses import dataclass
from pathlib import Path

STAGES = ("prepare", "train_teacher", "distill_student", "train_alone", "prune", "quantize", "evaluate")
"""The chain, in order."""

MODELS = ("teacher", "student", "student_alone", "pruned", "quantized")
"""The models a run leaves, in the order in which a reader compares them; `teacher` is the reference."""

MADE_BY = {"teacher": "train_teacher", "student": "distill_student", "student_alone": "train_alone", "pruned": "prune", "quantized": "quantize"}
"""The stage that makes each model."""


@dataclass(frozen=True)
class ModelFolder:
    """One model on disk: four files that describe the same network, and their digests."""

    folder: Path

    @property
    def manifest(self) -> Path:
        return self.folder / "model.json"

    @property
    def weights(self) -> Path:
        return self.folder / "model.safetensors"

    @property
    def onnx(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def packed(self) -> Path:
        return self.folder / "model.slim"

    @property
    def digests(self) -> Path:
        return self.folder / "model.sha256"

    @property
    def files(self) -> tuple[Path, ...]:
        """All that describe the network."""
        return self.manifest, self.weights, self.onnx, self.packed

    @property
    def curve(self) -> Path:
        """Training curve of a repeat, which has none under `plots/`."""
        return self.folder / "curve.csv"

    @property
    def early(self) -> Path:
        """Weights of an early step of its training, where they were asked for; no part of the model."""
        return self.folder / "model.early.safetensors"


@dataclass(frozen=True)
class Paths:
    """The files of one workspace: the repository itself, or one folder under `experiments/`."""

    root: Path

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def locks(self) -> tuple[Path, Path]:
        """Where DVC keeps the state of this workspace's stages: beside it, or above it for an experiment."""
        return self.root / "dvc.lock", self.root.parent / "dvc.lock"

    @property
    def scratch(self) -> Path:
        """What a run leaves for the next one and neither git nor DVC know: checkpoints and locks."""
        return self.root / ".slimline"

    @property
    def spool(self) -> Path:
        """Of a repository: what is not told to MLflow yet."""
        return self.scratch / "spool"

    @property
    def results(self) -> Path:
        return self.root / "results.json"

    @property
    def readme(self) -> Path:
        return self.root / "README.md"

    @property
    def raw(self) -> Path:
        """Where data sets that were fetched lie, as a user's own do."""
        return self.root / "data" / "raw"

    @property
    def prepared(self) -> Path:
        return self.root / "data" / "prepared"

    @property
    def data_page(self) -> Path:
        return self.root / "reports" / "data.html"

    @property
    def origin(self) -> Path:
        """Where the prepared images came from: the source as params.yaml names it."""
        return self.root / "data" / "origin.json"

    @property
    def files(self) -> Path:
        """The file that each prepared image was made of."""
        return self.root / "data" / "files.csv"

    @property
    def bits_table(self) -> Path:
        """What `slimline bits` found, for no stage."""
        return self.root / "plots" / "bits.csv"

    @property
    def bits_picture(self) -> Path:
        return self.root / "plots" / "bits.png"

    def model(self, name: str) -> ModelFolder:
        return ModelFolder(self.root / "models" / name)

    def repeat(self, name: str, place: int) -> ModelFolder:
        """The same model trained once more, from another seed; `place` counts from 1, since the model itself is the first."""
        return ModelFolder(self.model(name).folder / "repeats" / str(place))

    def stage_metrics(self, stage: str) -> Path:
        return self.root / "metrics" / f"{stage}.json"

    @property
    def summary(self) -> Path:
        return self.root / "metrics" / "summary.json"

    @property
    def scorecard(self) -> Path:
        return self.root / "metrics" / "scorecard.json"

    @property
    def latency(self) -> Path:
        return self.root / "metrics" / "latency.json"

    @property
    def gates(self) -> Path:
        """What `slimline gate` goes by: each limit of `evaluate.gates`, and whether it holds."""
        return self.root / "metrics" / "gates.json"

    def curve(self, name: str) -> Path:
        """Training curve of a model: one row an epoch."""
        return self.root / "plots" / "curves" / f"{name}.csv"

    @property
    def tradeoff(self) -> Path:
        """Accuracy against packed bytes: one row a model."""
        return self.root / "plots" / "tradeoff.csv"

    @property
    def calls(self) -> Path:
        """Latency of each model, and its accuracy: one row a model and batch size."""
        return self.root / "plots" / "latency.csv"

    @property
    def layers(self) -> Path:
        """What compression left of each layer: one row a layer of the quantized model."""
        return self.root / "plots" / "layers.csv"

    def calibration(self, name: str) -> Path:
        """How often a model is right where it is how sure: one row a bin."""
        return self.root / "plots" / "calibration" / f"{name}.csv"

    @property
    def robustness(self) -> Path:
        """Accuracy of each model under attack: one row a budget."""
        return self.root / "plots" / "robustness.csv"

    @property
    def sensitivity(self) -> Path:
        """What each layer costs when it alone is pruned: one row a layer and fraction."""
        return self.root / "reports" / "sensitivity.csv"

    @property
    def sensitivity_picture(self) -> Path:
        return self.root / "reports" / "sensitivity.png"

    @property
    def confusion(self) -> Path:
        """Actual and predicted class of every test image under the quantized model."""
        return self.root / "plots" / "confusion.csv"

    @property
    def report(self) -> Path:
        return self.root / "reports" / "index.html"


def repository_root(start: Path) -> Path:
    """The nearest folder at or above `start` that DVC manages, else `start` itself.

    Experiments lie below the repository but share its run store.
    """
    resolved = start.resolve()
    for folder in (resolved, *resolved.parents):
        if (folder / ".dvc").is_dir():
            return folder
    return resolved


def store_root(start: Path) -> Path:
    """The repository to which the runs of `start` belong: `repository_root`, or for a copy that `dvc exp run --temp` works in, its origin."""
    root = repository_root(start)
    for folder in root.parents:
        if folder.name == "tmp" and folder.parent.name == ".dvc":
            return store_root(folder.parent.parent)
    return root
