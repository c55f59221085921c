"""Running an exported model as it is deployed: on ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnxruntime
from jaxtyping import Float

from slimline.errors import SlimlineError
from slimline.export.onnx import INPUT, OUTPUT

Images = Float[np.ndarray, "batch channels height width"]
Logits = Float[np.ndarray, "batch classes"]


class OnnxModel:
    """An ONNX file ready to run on the processor with `threads` threads."""

    def __init__(self, path: Path, *, threads: int) -> None:
        """
        Raises:
            SlimlineError: no such file, or none that ONNX Runtime can run.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Processors without VNNI add products of 8 by 8 bits in 16 bits, which overflow. With this they take the exact way instead.
        options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises classes of its C layer that share no public base
            raise SlimlineError(f"{path}: ONNX Runtime cannot load it ({str(error).splitlines()[0]}); run the stage that writes it again") from error

    def __call__(self, images: Images) -> Logits:
        """Logits of float32 images in [0, 1]."""
        return np.asarray(self._session.run([OUTPUT], {INPUT: images})[0])
