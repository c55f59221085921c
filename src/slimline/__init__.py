"""slimline: a small, fast classifier from a folder of images, with the proof."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from slimline.errors import SlimlineError

if TYPE_CHECKING:
    from torch import nn

    from slimline.export.runtime import Deployed

__version__ = "0.1.0"


@overload
def load(path: str | Path) -> "nn.Module": ...
@overload
def load(path: str | Path, *, runtime: Literal["torch"], threads: int = 1) -> "nn.Module": ...
@overload
def load(path: str | Path, *, runtime: Literal["onnxruntime", "xnor"], threads: int = 1) -> "Deployed": ...


def load(path: str | Path, *, runtime: Literal["torch", "onnxruntime", "xnor"] = "torch", threads: int = 1) -> "nn.Module | Deployed":
    """The network in a packed file, `model.slim`: images, float32 [batch channels height width] in [0, 1], to logits [batch classes].

    Args:
        runtime: `torch` gives a module, which takes and gives tensors; `onnxruntime` a session in integers where the network has them, which
            takes and gives arrays (making it takes seconds: the file is exported first; `model.onnx` beside it is the same); `xnor` such a
            session whose layers of ±1 run on packed bits.
        threads: of the session.

    Raises:
        SlimlineError: missing, truncated, altered or foreign; a network that ONNX Runtime cannot run, or that has no layers to run on bits;
            another runtime.
    """
    if runtime not in ("torch", "onnxruntime", "xnor"):
        raise SlimlineError(f"slimline.load: runtime is '{runtime}'; take torch, onnxruntime or xnor")
    from slimline.artifacts import load_packed  # imports torch, which `import slimline` should not cost

    manifest, model = load_packed(Path(path))
    if runtime == "torch":
        return model
    if runtime == "xnor":
        from slimline.export.xnor import XnorModel

        return XnorModel(model, manifest.input_shape, threads=threads)
    from slimline.export.onnx import to_onnx
    from slimline.export.runtime import OnnxModel

    return OnnxModel(to_onnx(model, manifest.input_shape, manifest.metadata), threads=threads)
