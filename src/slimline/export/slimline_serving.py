"""How a logged model answers where only MLflow is: class names and probabilities, from `model.onnx` alone.

This file travels within the model (MLflow's `code_paths`), so it imports nothing of slimline.
"""

import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd

EXACT_FLAGS = {"avx512_vnni", "avx_vnni", "amx_int8"}
"""As in `export.session`: x86 processors with none of these add products of 8 by 8 bits in 16 bits, unless they are told not to."""


class Classifier:
    """A model, ready to answer.

    Args:
        path: an ONNX file that names its classes.
    """

    def __init__(self, path: str) -> None:
        flags = Path("/proc/cpuinfo")
        options = onnxruntime.SessionOptions()
        if platform.machine().lower() in ("x86_64", "amd64") and flags.exists() and not EXACT_FLAGS.intersection(flags.read_text().split()):
            options.add_session_config_entry("session.x64quantprecision", "1")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"], disabled_optimizers=["WeightBiasQuantization"])
        self.classes = json.loads(self.session.get_modelmeta().custom_metadata_map["classes"])

    def predict(self, images: Any, params: Any = None) -> pd.DataFrame:
        """The likeliest class of each image, how probable it is, and how probable each other one.

        Args:
            images: float32 [batch channels height width] in [0, 1].
        """
        name = self.session.get_inputs()[0].name
        pixels = images[name] if isinstance(images, dict) else images  # MLflow hands over what the signature names
        (logits,) = self.session.run(None, {name: np.asarray(pixels, dtype=np.float32)})
        shifted = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
        shares = shifted / shifted.sum(1, keepdims=True)
        answers = pd.DataFrame({"class": [self.classes[place] for place in shares.argmax(1)], "probability": shares.max(1)})
        return pd.concat([answers, pd.DataFrame(shares, columns=[f"p({name})" for name in self.classes])], axis=1)


def _load_pyfunc(path: str) -> Classifier:
    """What MLflow calls."""
    return Classifier(path)
