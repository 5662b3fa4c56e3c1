"""A recorded tower as ONNX: one node per ATen call, with operators that every runtime has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from dmtl_cli.runs.keyed import KEY, append_key
from dmtl_cli.student.export.program import Call, Program, Ref, Value

OPSET, IR = 20, 10
INLINE = 2**31 - 2**20
"""bytes of weights in the file itself: a protobuf message ends at 2 GiB. More are in a file beside it"""
_PAGE = 4_096  # where a weight may begin there, so that it can be mapped
_TYPES = {
    torch.float32: onnx.TensorProto.FLOAT,
    torch.int64: onnx.TensorProto.INT64,
    torch.bool: onnx.TensorProto.BOOL,
}


def write(file: Path, program: Program, key: str = "") -> None:
    """Writes an ONNX file; the same program gives the same bytes.

    Weights of more than `INLINE` bytes are written beside it, as ONNX external data: `file` with `.data` behind its
    name.

    Args:
        key: the run's, where the files are to carry it.

    Raises:
        NotImplementedError: the tower calls an operator that has no node here.
    """
    beside = file.with_name(f"{file.name}.data")
    large = sum(weight.nbytes for weight in program.weights.values()) > INLINE
    graph = _Graph(program, _write_beside(beside, program.weights, key) if large else _inline(program.weights))
    for call in program.calls:
        graph.add(call)
    inputs = [_value_info(name, program.values[name]) for name in program.inputs]
    output = _value_info("vector", program.values[program.output])
    model = helper.make_model(
        helper.make_graph(graph.nodes, "tower", inputs, [output], list(graph.initializers.values())),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
    )
    if key:
        helper.set_model_props(model, {KEY: key})
    written = model.SerializeToString(deterministic=True)
    file.write_bytes(written)
    onnx.checker.check_model(str(file) if large else written)


def _inline(weights: dict[str, Tensor]) -> dict[str, onnx.TensorProto]:
    return {name: numpy_helper.from_array(weight.detach().numpy(), name) for name, weight in weights.items()}


def _write_beside(file: Path, weights: dict[str, Tensor], key: str) -> dict[str, onnx.TensorProto]:
    """Writes weights one after the other; what the ONNX file has in their place."""
    out = {}
    with file.open("wb") as handle:
        for name, weight in weights.items():
            array = np.ascontiguousarray(weight.detach().numpy())
            handle.write(bytes(-handle.tell() % _PAGE))
            where = {"location": file.name, "offset": str(handle.tell()), "length": str(array.nbytes)}
            handle.write(array.data)
            out[name] = onnx.TensorProto(
                name=name,
                dims=array.shape,
                data_type=_TYPES[weight.dtype],
                data_location=onnx.TensorProto.EXTERNAL,
                external_data=[onnx.StringStringEntryProto(key=k, value=v) for k, v in where.items()],
            )
    append_key(file, key)
    return out


def _value_info(name: str, value: Value) -> onnx.ValueInfoProto:
    """The type and shape of an input or output."""
    return helper.make_tensor_value_info(name, _TYPES[value.dtype], ["rows", *value.shape[1:]])


class _Graph:
    def __init__(self, program: Program, weights: dict[str, onnx.TensorProto]) -> None:
        self.program = program
        self.nodes: list[onnx.NodeProto] = []
        self.initializers = weights
        self.transposed: dict[str, str] = {}
        """weights by the name of their transpose: a matrix product reads them untransposed"""

    def add(self, call: Call) -> None:
        operator = str(call.op)
        if operator == "aten.t.default":
            self.transposed[call.outputs[0]] = call.args[0].name
            return
        if operator not in _NODES:
            raise NotImplementedError(f"a tower with {operator}: add its ONNX node to student/export/onnx_file.py")
        if lost := call.kwargs.keys() - ({"dtype"} if operator == "aten._to_copy.default" else set()):
            raise NotImplementedError(f"a tower with {operator} and {min(lost)}: its ONNX node would leave that out")
        kind, inputs, attributes = _NODES[operator](self, call)
        outputs = ["vector" if name == self.program.output else name for name in call.outputs]
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=f"node_{outputs[0]}", **attributes))

    def constant(self, value: Any, dtype: type[np.generic] = np.int64) -> str:
        """Name of an initializer for a number or a list of integers."""
        array = np.asarray(value, dtype)
        name = f"{array.dtype}_{'x'.join(map(str, array.ravel()))}" + ("" if array.ndim else "_scalar")
        self.initializers.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def number_like(self, x: Ref, value: float) -> str:
        """Name of a scalar of the type of a tensor."""
        return self.constant(value, np.int64 if self.program.values[x.name].dtype == torch.int64 else np.float32)


_Node = tuple[str, list[str], dict[str, Any]]
"""operator, inputs, attributes"""


def _elementwise(kind: str) -> Callable[[_Graph, Call], _Node]:
    return lambda graph, call: (kind, call.inputs, {})


def _beside_number(kind: str) -> Callable[[_Graph, Call], _Node]:
    return lambda graph, call: (kind, [call.args[0].name, graph.number_like(*call.args)], {})


def _embedding(graph: _Graph, call: Call) -> _Node:
    return "Gather", call.inputs, {"axis": 0}


def _cat(graph: _Graph, call: Call) -> _Node:
    return "Concat", call.inputs, {"axis": call.args[1]}


def _split(graph: _Graph, call: Call) -> _Node:
    x, sizes, axis = call.args
    return "Split", [x.name, graph.constant(sizes)], {"axis": axis}


def _cast(graph: _Graph, call: Call) -> _Node:
    return "Cast", call.inputs, {"to": _TYPES[call.kwargs["dtype"]]}


def _unsqueeze(graph: _Graph, call: Call) -> _Node:
    x, axis = call.args
    return "Unsqueeze", [x.name, graph.constant([axis])], {}


def _sum(graph: _Graph, call: Call) -> _Node:
    x, axes, keep = call.args
    return "ReduceSum", [x.name, graph.constant(axes)], {"keepdims": int(keep)}


def _norm(graph: _Graph, call: Call) -> _Node:
    x, order, axes, keep = call.args
    assert order == 2.0
    return "ReduceL2", [x.name, graph.constant(axes)], {"keepdims": int(keep)}


def _view(graph: _Graph, call: Call) -> _Node:
    x, shape = call.args  # the number of rows is -1: what is left
    return "Reshape", [x.name, graph.constant(shape)], {"allowzero": 1}


def _expand(graph: _Graph, call: Call) -> _Node:
    x, shape = call.args  # a size of 1 leaves a tensor's own
    return "Expand", [x.name, graph.constant([max(1, size) for size in shape])], {}


def _addmm(graph: _Graph, call: Call) -> _Node:
    bias, x, weight = call.inputs
    return "Gemm", [x, graph.transposed[weight], bias], {"transB": 1}


_NODES: dict[str, Callable[[_Graph, Call], _Node]] = {
    "aten.add.Tensor": _elementwise("Add"),
    "aten.mul.Tensor": _elementwise("Mul"),
    "aten.div.Tensor": _elementwise("Div"),
    "aten.relu.default": _elementwise("Relu"),
    "aten.embedding.default": _embedding,
    "aten.cat.default": _cat,
    "aten.split_with_sizes.default": _split,
    "aten.gt.Scalar": _beside_number("Greater"),
    "aten._to_copy.default": _cast,
    "aten.unsqueeze.default": _unsqueeze,
    "aten.sum.dim_IntList": _sum,
    "aten.linalg_vector_norm.default": _norm,
    "aten.clamp_min.default": _beside_number("Clip"),
    "aten.view.default": _view,
    "aten.expand.default": _expand,
    "aten.addmm.default": _addmm,
}
