"""Journals that are sent by a thread of this process, and the smallest network that can be registered."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from slimline.tracking.journal import Journal, Opening
from slimline.tracking.mlflow import Store
from slimline.tracking.sender import serve

Open = Callable[..., Journal]


@contextmanager
def recording(root: Path) -> Iterator[Open]:
    """Journals as stages write them, into `root`/mlflow.db. A thread saves the seconds that another process needs to import MLflow."""
    spool, uri = root / "spool", f"sqlite:///{root / 'mlflow.db'}"
    spool.mkdir()
    Store(uri, "tests")  # which takes longer than anybody waits, on a machine that has other work

    def sending() -> None:
        with suppress(FileNotFoundError):  # the spool's end
            while spool.exists():
                serve(spool)

    thread = threading.Thread(target=sending)
    thread.start()

    def start(stage: str, execution: str, **changes: Any) -> Journal:
        known = {"fingerprint": f"{stage} of {execution}", "commit": "abc123", "workspace": "here"} | changes
        return Journal(spool, Opening(uri, "tests", stage=stage, execution=execution, **known), largest_artifact=1_000_000)

    try:
        yield start
    finally:
        shutil.rmtree(spool.rename(root / "over"), ignore_errors=True)
        thread.join()


def network(path: Path, favourite: int, *, scale: float = 10.0) -> None:
    """An ONNX file of three classes which takes pixel `favourite` of three for the likeliest."""
    weight = numpy_helper.from_array(scale * np.roll(np.eye(3, dtype=np.float32), favourite, 0), "weight")
    nodes = [helper.make_node("Flatten", ["images"], ["flat"]), helper.make_node("MatMul", ["flat", "weight"], ["logits"])]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, 1, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph(nodes, "tiny", [images], [logits], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    told = {"classes": ["cat", "dog", "fish"], "preprocessing": {"resize": "fit", "background": 255}}
    helper.set_model_props(model, {name: json.dumps(value) for name, value in told.items()})
    onnx.save(model, path)
