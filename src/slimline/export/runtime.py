"""Running a model as it is deployed: on ONNX Runtime, or on torch where ONNX Runtime cannot compute what it computes."""

import tempfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from jaxtyping import Float
from torch import nn

from slimline.errors import SlimlineError
from slimline.export.onnx import INPUT, OUTPUT
from slimline.export.session import session

Images = Float[np.ndarray, "batch channels height width"]
Logits = Float[np.ndarray, "batch classes"]


BY_TORCH = ("double",)
"""Forms of a network that ONNX Runtime has no convolutions for."""


class Deployed(ABC):
    """A network as it runs where it is shipped to."""

    runtime: str

    @abstractmethod
    def __call__(self, images: Images) -> Logits:
        """Logits of float32 images in [0, 1]."""


def check_images(images: Any, shape: tuple[int, ...]) -> None:
    """
    Args:
        shape: channels, height and width of an image.

    Raises:
        SlimlineError: no array of float32, or of images of another shape.
    """
    if not isinstance(images, np.ndarray) or images.dtype != np.float32 or images.shape[1:] != shape:
        found = f"{images.dtype} {list(images.shape)}" if isinstance(images, np.ndarray) else f"a {type(images).__name__}"
        raise SlimlineError(f"images: found {found}, where this network takes an array, float32 [batch {' '.join(map(str, shape))}]")


class OnnxModel(Deployed):
    """An ONNX file ready to run on the processor with `threads` threads."""

    runtime = "onnxruntime"

    def __init__(self, source: Path | bytes, *, threads: int, optimized: bool = True, spinning: bool = True) -> None:
        """
        Args:
            source: the file, or its content.
            optimized: whether ONNX Runtime may rewrite the graph; as it stands it computes integers as real numbers.
            spinning: whether its threads spin while they wait; see `session`.

        Raises:
            SlimlineError: no such file, or none that ONNX Runtime can run.
        """
        self._session = session(source, threads, optimized=optimized, spinning=spinning)
        self.input_shape: tuple[int, ...] = tuple(self._session.get_inputs()[0].shape[1:])
        """Channels, height and width of an image."""

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says of itself."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def __call__(self, images: Images) -> Logits:
        """
        Raises:
            SlimlineError: images of another type or shape.
        """
        check_images(images, self.input_shape)
        return np.asarray(self._session.run([OUTPUT], {INPUT: images})[0])


class TorchModel(Deployed):
    """A network ready to run in torch (with the process's threads)."""

    runtime = "torch"

    def __init__(self, model: nn.Module) -> None:
        self._model = model.eval()

    def __call__(self, images: Images) -> Logits:
        with torch.no_grad():
            return self._model(torch.from_numpy(images)).numpy()


def deployed(forms: Sequence[Mapping[str, Any]], path: Path, model: nn.Module, *, threads: int, spinning: bool = True) -> Deployed:
    """The ONNX file at `path`, or `model` where it took on a form that ONNX Runtime cannot run.

    Raises:
        SlimlineError: no such file, or none that ONNX Runtime can run.
    """
    return TorchModel(model) if any(form["form"] in BY_TORCH for form in forms) else OnnxModel(path, threads=threads, spinning=spinning)


def optimized_nodes(path: Path) -> Counter[str]:
    """How many nodes of each kind are left when ONNX Runtime has rewritten the graph for this machine.

    Raises:
        SlimlineError: no such file, or none that ONNX Runtime can run.
    """
    with tempfile.TemporaryDirectory() as folder:
        rewritten = Path(folder) / "optimized.onnx"
        session(path, 1, rewritten=rewritten)
        return Counter(node.op_type for node in onnx.load(rewritten).graph.node)
