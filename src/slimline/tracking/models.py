"""A model as MLflow keeps it: to be loaded as ONNX, and to be served so that it answers with class names."""

import json
import platform
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import mlflow.onnx
import numpy as np
import onnx
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec

SERVING = "slimline_serving"
REQUIREMENTS = ("mlflow", "numpy", "onnx", "onnxruntime", "pandas")
"""What serving needs; pinned as they are here. MLflow would find out by loading the model in another process, which takes seconds."""


def save(target: Path, model: Model, network: Path, example: Path) -> None:
    """Write the folder of `network`, an ONNX file, as MLflow's models are.

    Args:
        target: must not be there yet.
        model: what MLflow knows of it already.
        example: one image, .npy of float32 [1 channels height width].
    """
    content = onnx.load(network)
    classes = json.loads({entry.key: entry.value for entry in content.metadata_props}["classes"])
    image = np.load(example, allow_pickle=False)
    columns: list[ColSpec | TensorSpec] = [
        ColSpec("string", "class"),
        ColSpec("double", "probability"),
        *(ColSpec("double", f"p({name})") for name in classes),
    ]
    model.signature = ModelSignature(Schema([TensorSpec(np.dtype("float32"), (-1, *image.shape[1:]), "images")]), Schema(columns))
    spec = find_spec(f"slimline.export.{SERVING}")  # not imported: it stands above, and only its file is wanted
    assert spec is not None and spec.origin is not None
    mlflow.onnx.save_model(
        content,
        str(target),
        code_paths=[spec.origin],
        mlflow_model=model,
        input_example={"images": image},
        pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
        metadata={"classes": classes, "python": platform.python_version()},
    )
    model.flavors["python_function"]["loader_module"] = SERVING
    model.save(str(target / "MLmodel"))
