"""A network as ONNX, by torch's exporter, with our own operators written as QuantizeLinear and DequantizeLinear."""

import json
import logging
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxscript import opset20
from torch import nn

from slimline.core.affine import PER_TENSOR
from slimline.core.floats import largest

# Its functions are typed for onnxscript's own compiler; here they note down nodes while the exporter traces.
op: Any = opset20

INPUT, OUTPUT = "images", "logits"

INT8, UINT8 = (-128, 127), (0, 255)

FLOATS: Mapping[str, int] = {
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "e4m3": TensorProto.FLOAT8E4M3FN,
    "e5m2": TensorProto.FLOAT8E5M2,
}
NARROW = tuple(FLOATS.values())


def _fake_quantize(x: Any, scale: Any, zero_point: Any, axis: int, low: int, high: int) -> Any:
    along = {} if axis == PER_TENSOR else {"axis": axis}
    codes = op.QuantizeLinear(x, scale, zero_point, **along)
    if (low, high) != (INT8 if low < 0 else UINT8):
        # QuantizeLinear saturates at the limits of int8 or uint8; codes of fewer bits are cut as codes, so that no real numbers lie
        # between a convolution and them and a runtime can still compute in integers.
        kind = TensorProto.INT8 if low < 0 else TensorProto.UINT8
        codes = op.Clip(codes, *(op.Cast(op.Constant(value_int=end), to=kind) for end in (low, high)))
    return op.DequantizeLinear(codes, scale, zero_point, **along)


def _fake_cast(x: Any, name: str) -> Any:
    if name == "float16":  # the shorter formats saturate, this one would give infinities
        x = op.Clip(x, -largest(name), largest(name))
    return op.Cast(op.Cast(x, to=FLOATS[name]), to=TensorProto.FLOAT)


def _round_to_step(x: Any, step: Any) -> Any:
    return op.DequantizeLinear(op.Cast(op.Round(op.Div(x, step)), to=TensorProto.INT32), step, axis=0)


def _sign(x: Any, weight: bool = False) -> Any:
    signs = op.Where(op.GreaterOrEqual(x, 0.0), 1.0, -1.0)
    if not weight:
        return signs
    return op.DequantizeLinear(op.Cast(signs, to=TensorProto.INT8), 1.0)


TRANSLATIONS: dict[Any, Any] = {
    torch.ops.slimline.fake_quantize.default: _fake_quantize,
    torch.ops.slimline.fake_cast.default: _fake_cast,
    torch.ops.slimline.round_to_step.default: _round_to_step,
    torch.ops.slimline.sign.default: _sign,
}


def to_onnx(model: nn.Module, input_shape: tuple[int, int, int], metadata: Mapping[str, Any]) -> bytes:
    """The bytes of an ONNX file: images, float32 [batch channels height width] in [0, 1], to logits [batch classes].

    The same network gives the same bytes, in any folder: traces and paths that the exporter notes are taken out.

    Args:
        input_shape: channels, height, width.
        metadata: written into the file as JSON texts.
    """
    exporter_log = logging.getLogger("torch.onnx")
    level = exporter_log.level
    try:
        exporter_log.setLevel(logging.ERROR)  # it warns of torchvision's absence at every call
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch.export against itself
            warnings.simplefilter("ignore", DeprecationWarning)
            program = torch.onnx.export(
                model.eval(),
                (torch.zeros(2, *input_shape),),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                input_names=[INPUT],
                output_names=[OUTPUT],
                custom_translation_table=TRANSLATIONS,
                verbose=False,
            )
    finally:
        exporter_log.setLevel(level)
    assert program is not None
    proto = program.model_proto
    _fold(proto.graph)
    _cast_signs(proto.graph)
    _own_zero_points(proto.graph)
    _pool(proto.graph)
    _strip(proto)
    helper.set_model_props(proto, {key: json.dumps(value) for key, value in metadata.items()})
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString(deterministic=True)


def _fold(graph: onnx.GraphProto) -> None:
    """Carry out every node that reads constants alone, but those that make a weight of what is stored of it: its codes stay in the file."""
    constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    types = {i.name: i.data_type for i in graph.initializer}
    readers: dict[str, list[str]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    kept = []
    for node in graph.node:
        inputs = [name for name in node.input if name]
        if any(name not in constants for name in inputs) or _restores(node, types, constants, readers):
            kept.append(node)
            continue
        outputs = [helper.make_empty_tensor_value_info(name) for name in node.output]
        given = [numpy_helper.from_array(constants[n], n) for n in inputs]
        single = helper.make_model(helper.make_graph([node], "constant", [], outputs, given), opset_imports=[helper.make_opsetid("", 20)])
        values: list[Any] = ReferenceEvaluator(single).run(None, {})  # type: ignore[assignment]
        for name, value in zip(node.output, values, strict=True):
            constants[name] = np.asarray(value)
            types[name] = helper.np_dtype_to_tensor_dtype(constants[name].dtype)
    used = {name for node in kept for name in node.input} | {o.name for o in graph.output}
    del graph.node[:]
    graph.node.extend(kept)
    del graph.initializer[:]
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items() if name in used)


def _restores(node: onnx.NodeProto, types: Mapping[str, int], constants: Mapping[str, np.ndarray], readers: Mapping[str, list[str]]) -> bool:
    """Whether `node` makes real numbers of codes: of integers, of signs, of narrow floating-point numbers, of numbers in a codebook."""
    match node.op_type:
        case "DequantizeLinear":
            return True
        case "Gather":
            return types[node.input[0]] == TensorProto.FLOAT and constants[node.input[0]].ndim == 1
        case "Cast":
            return types[node.input[0]] in NARROW or readers.get(node.output[0]) == ["Gather"]
    return False


def _cast_signs(graph: onnx.GraphProto) -> None:
    """Write what makes real numbers of signs, codes of 8 bits with neither step nor zero point, as a cast.

    ONNX Runtime carries out a cast of constants once, where it would keep DequantizeLinear and do it anew for every batch.
    """
    types = {i.name: i.data_type for i in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and len(node.input) == 2 and types.get(node.input[0]) == TensorProto.INT8:
            node.op_type = "Cast"
            del node.input[1:]
            del node.attribute[:]
            node.attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
    _drop_unused(graph)


def _own_zero_points(graph: onnx.GraphProto) -> None:
    """Give every weight a zero point of its own; the exporter lets equal ones be one tensor.

    On processors without VNNI, ONNX Runtime rewrites signed weights as unsigned ones, tensor by tensor, and fails at one that it meets twice.
    """
    constants = {i.name: i for i in graph.initializer}
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in constants or len(node.input) < 3:
            continue
        own = f"{node.input[0]}.zero_point"
        graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(constants[node.input[2]]), own))
        node.input[2] = own
    _drop_unused(graph)


def _pool(graph: onnx.GraphProto) -> None:
    """Write means over whole maps as GlobalAveragePool, which ONNX Runtime computes of integers; ReduceMean it does not."""
    constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    for node in graph.node:
        keeps = all(a.i == 1 for a in node.attribute if a.name == "keepdims")
        if node.op_type != "ReduceMean" or not keeps or len(node.input) < 2 or node.input[1] not in constants:
            continue
        if sorted(int(axis) % 4 for axis in constants[node.input[1]]) == [2, 3] and _rank(graph, node.input[0]) == 4:
            node.op_type = "GlobalAveragePool"
            del node.input[1:]
            del node.attribute[:]
    _drop_unused(graph)


def _rank(graph: onnx.GraphProto, name: str) -> int | None:
    """Dimensions of a tensor, as the exporter noted them."""
    return next((len(value.type.tensor_type.shape.dim) for value in graph.value_info if value.name == name), None)


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [i for i in graph.initializer if i.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _strip(proto: onnx.ModelProto) -> None:
    del proto.graph.value_info[:]
    del proto.functions[:]
    del proto.metadata_props[:]
    proto.producer_name, proto.producer_version, proto.doc_string = "slimline", "", ""
    proto.graph.doc_string = ""
    del proto.graph.metadata_props[:]
    for part in (*proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
