"""Running a model as it is deployed: on ONNX Runtime, or on torch where ONNX Runtime cannot compute what it computes."""

import platform
import tempfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from jaxtyping import Float
from torch import nn

from slimline.errors import SlimlineError
from slimline.export.onnx import INPUT, OUTPUT

Images = Float[np.ndarray, "batch channels height width"]
Logits = Float[np.ndarray, "batch classes"]


INEXACT = ["WeightBiasQuantization"]
"""Optimizations that change the function: this one rounds real weights (those of a codebook) to 8 bits where their inputs are integers."""


BY_TORCH = ("double",)
"""Forms of a network that ONNX Runtime has no convolutions for."""


CPU_FLAGS = Path("/proc/cpuinfo")

EXACT_FLAGS = ("avx512_vnni", "avx_vnni", "amx_int8")
"""Processors with one of these add products of 8 by 8 bits in 32 bits."""


def adds_in_16_bits(flags: Path = CPU_FLAGS) -> bool:
    """Whether this is an x86 processor without VNNI, which adds two products of 8 by 8 bits in 16 before it goes on in 32."""
    if platform.machine().lower() not in ("x86_64", "amd64") or not flags.exists():
        return False
    words = set(flags.read_text().split())
    return not words.intersection(EXACT_FLAGS)


SATURATING = (
    "this processor lacks VNNI: products of 8 by 8 bits are added in 16 bits, where two can overflow. slimline asks ONNX Runtime for its exact, "
    "slower way; other programs must set session.x64quantprecision to 1, or give weights a reduced range: quantize.weights.bits 7"
)


class Deployed(ABC):
    """A network as it runs where it is shipped to."""

    runtime: str

    @abstractmethod
    def __call__(self, images: Images) -> Logits:
        """Logits of float32 images in [0, 1]."""


class OnnxModel(Deployed):
    """An ONNX file ready to run on the processor with `threads` threads."""

    runtime = "onnxruntime"

    def __init__(self, source: Path | bytes, *, threads: int, optimized: bool = True) -> None:
        """
        Args:
            source: the file, or its content.
            optimized: whether ONNX Runtime may rewrite the graph; as it stands it computes integers as real numbers.

        Raises:
            SlimlineError: no such file, or none that ONNX Runtime can run.
        """
        self._session = _session(source, threads, optimized=optimized)

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says of itself."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Channels, height and width of an image."""
        return tuple(self._session.get_inputs()[0].shape[1:])

    def __call__(self, images: Images) -> Logits:
        return np.asarray(self._session.run([OUTPUT], {INPUT: images})[0])


class TorchModel(Deployed):
    """A network ready to run in torch (with the process's threads)."""

    runtime = "torch"

    def __init__(self, model: nn.Module) -> None:
        self._model = model.eval()

    def __call__(self, images: Images) -> Logits:
        with torch.no_grad():
            return self._model(torch.from_numpy(images)).numpy()


def deployed(forms: Sequence[Mapping[str, Any]], path: Path, model: nn.Module, *, threads: int) -> Deployed:
    """The ONNX file at `path`, or `model` where it took on a form that ONNX Runtime cannot run.

    Raises:
        SlimlineError: no such file, or none that ONNX Runtime can run.
    """
    return TorchModel(model) if any(form["form"] in BY_TORCH for form in forms) else OnnxModel(path, threads=threads)


def optimized_nodes(path: Path) -> Counter[str]:
    """How many nodes of each kind are left when ONNX Runtime has rewritten the graph for this machine.

    Raises:
        SlimlineError: no such file, or none that ONNX Runtime can run.
    """
    with tempfile.TemporaryDirectory() as folder:
        rewritten = Path(folder) / "optimized.onnx"
        _session(path, 1, rewritten=rewritten)
        return Counter(node.op_type for node in onnx.load(rewritten).graph.node)


def _session(source: Path | bytes, threads: int, *, optimized: bool = True, rewritten: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if rewritten is not None:
        options.optimized_model_filepath = str(rewritten)
    if adds_in_16_bits():
        # The exact way instead. Where there is VNNI it would bring nothing, and take more than twice the time.
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return onnxruntime.InferenceSession(
            source if isinstance(source, bytes) else str(source), options, providers=["CPUExecutionProvider"], disabled_optimizers=INEXACT
        )
    except Exception as error:  # onnxruntime raises classes of its C layer that share no public base
        what = "the exported model" if isinstance(source, bytes) else source
        raise SlimlineError(f"{what}: ONNX Runtime cannot load it ({str(error).splitlines()[0]}); run the stage that writes it again") from error
