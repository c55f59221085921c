"""From image files to classes and probabilities, by a model as it was shipped."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32

from slimline import artifacts
from slimline.data.batches import scaled
from slimline.data.prepare.decode import Form, Resize, decode, decoders
from slimline.data.sources.item import Unreadable
from slimline.errors import SlimlineError
from slimline.export.digests import check_digests
from slimline.export.runtime import OnnxModel, TorchModel
from slimline.paths import ModelFolder

BATCH = 64
"""Images decoded and classified together."""

LARGEST_PIXELS = 200_000_000
"""Of one image file."""

Images = Float32[np.ndarray, "batch channels height width"]


@dataclass(frozen=True)
class Shipped:
    """A model that is ready to classify.

    Args:
        run: images in [0, 1] to logits.
        shape: of an image: channels, height, width.
        resize, background: how an image of another size is brought to it, see `data.prepare.decode.Form`.
        file: that it came from.
    """

    run: Callable[[Images], Float[np.ndarray, "batch classes"]]
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    resize: Resize
    background: int
    file: Path


def shipped(path: Path, *, threads: int) -> Shipped:
    """The model at `path`: a file `model.onnx` or `model.slim`, or a folder that holds either (the first where it holds both).

    Raises:
        SlimlineError: no such file, one that was altered, or none of a model.
    """
    files = [path / "model.onnx", path / "model.slim"] if path.is_dir() else [path]
    file = next((file for file in files if file.exists()), None)
    if file is None:
        raise SlimlineError(f"{path}: no model here; name a folder that holds model.onnx or model.slim, or one of these files")
    check_digests(ModelFolder(file.parent), [file])
    if file.suffix == ".slim":
        manifest, model = artifacts.load_packed(file)
        return Shipped(TorchModel(model), manifest.classes, manifest.input_shape, manifest.resize, manifest.background, file)
    session = OnnxModel(file, threads=threads)
    try:
        classes = tuple(str(name) for name in json.loads(session.metadata["classes"]))
        how = json.loads(session.metadata["preprocessing"])
        channels, height, width = session.input_shape
        return Shipped(session, classes, (channels, height, width), how["resize"], how["background"], file)
    except (KeyError, TypeError, ValueError) as error:
        raise SlimlineError(
            f"{file}: not written by this slimline (it names no classes or no preprocessing); name a model.onnx or model.slim of a stage"
        ) from error


def probabilities(model: Shipped, images: Sequence[Path]) -> Float[np.ndarray, "images classes"]:
    """How probable each class is for each image, prepared as the stage `prepare` does it.

    Raises:
        SlimlineError: an image that cannot be read, or a model of images that are no squares.
    """
    channels, height, width = model.shape
    if height != width:
        raise SlimlineError(f"{model.file}: takes images of {height}×{width}, where slimline prepares squares")
    form = Form(height, channels, model.resize, model.background, LARGEST_PIXELS, 1)
    rows = []
    with decoders(form):
        for first in range(0, len(images), BATCH):
            pixels = np.stack([_pixels(path, form) for path in images[first : first + BATCH]])
            logits = model.run(scaled(torch.from_numpy(pixels)).numpy())
            rows.append(torch.from_numpy(logits).double().softmax(1).numpy())
    return np.concatenate(rows)


def _pixels(path: Path, form: Form) -> np.ndarray:
    decoded = decode(path, form)
    if isinstance(decoded, Unreadable):
        raise SlimlineError(f"{path}: {decoded.reason}")
    return decoded.pixels
