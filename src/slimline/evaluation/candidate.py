"""A model that is evaluated: as it is deployed, and as it is rebuilt from its tensors."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import nn

from slimline import artifacts
from slimline.attacks.attack import Victim
from slimline.core.cost import measure
from slimline.data.batches import Ordered
from slimline.data.prepared import Description, Images
from slimline.errors import SlimlineError
from slimline.evaluation.scorecard import Answers
from slimline.export.runtime import Deployed, deployed
from slimline.paths import ModelFolder


@dataclass(frozen=True)
class Candidate:
    """One model, as deployed and as rebuilt."""

    manifest: artifacts.Manifest
    files: ModelFolder
    deployed: Deployed
    rebuilt: nn.Module

    @classmethod
    def read(cls, files: ModelFolder, data: Description, threads: int) -> "Candidate":
        """
        Raises:
            SlimlineError: files that are missing or damaged, or a model of other classes or of images prepared in another way than the data.
        """
        manifest, model = artifacts.load(files)
        again = "run the pipeline from its start (dvc repro), or name a model of these data"
        if manifest.classes != data.classes:
            raise SlimlineError(f"{files.folder} knows the classes {_listed(manifest.classes)}, the data {_listed(data.classes)}; {again}")
        for what in ("input_shape", "resize", "background"):
            theirs, ours = getattr(manifest, what), getattr(data, what)
            if theirs != ours:
                raise SlimlineError(f"{files.folder} was made for images with {what} {_plain(theirs)}, the data have {_plain(ours)}; {again}")
        return cls(
            manifest, files, deployed(manifest.forms, files.onnx, model, threads=threads, spinning=False), model.requires_grad_(requires_grad=False)
        )

    def timed(self, threads: int) -> Deployed:
        """A session of its own, with as many threads as latencies are measured with."""
        return deployed(self.manifest.forms, self.files.onnx, self.rebuilt, threads=threads)

    @property
    def cost(self) -> dict[str, int]:
        """Its entries of a scorecard that no image decides: counts, and bytes of its files."""
        counts = asdict(measure(self.rebuilt, self.manifest.input_shape))
        return {**counts, "packed_bytes": self.files.packed.stat().st_size, "onnx_bytes": self.files.onnx.stat().st_size}

    @property
    def victim(self) -> Victim:
        return Victim(self.rebuilt, lambda images: torch.from_numpy(self.deployed(images.contiguous().numpy())))


def _listed(classes: tuple[str, ...], most: int = 20) -> str:
    return ", ".join(classes[:most]) + (f" and {len(classes) - most} more" if len(classes) > most else "")


def _plain(value: object) -> str:
    return "×".join(map(str, value)) if isinstance(value, tuple) else str(value)


def answers(candidates: Mapping[str, Candidate], images: Images, batch_size: int) -> dict[str, Answers]:
    """What each candidate, as deployed, answers to `images`."""
    logits: dict[str, list[np.ndarray]] = {name: [] for name in candidates}
    for batch in Ordered(images, batch_size):
        for name, one in candidates.items():
            logits[name].append(one.deployed(batch.images.numpy()))
    return {name: Answers(np.concatenate(parts), images.labels.numpy()) for name, parts in logits.items()}
