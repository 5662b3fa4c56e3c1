"""A recorded tower as a torch.export program: the archive that `torch.export.load` of one version of torch reads.

The names of fields are those of torch/_export/serde/schema.py in torch 2.13, the layout of the archive that of
torch/export/pt2_archive. Neither is public, so `pt2_file` uses this writer with that version only.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._export.serde import schema

from dmtl_cli.runs.keyed import KEY
from dmtl_cli.student.export.program import ROWS, Program, Ref, Value

SCHEMA = (8, 20)
_OPSET = 10  # of ATen, as torch stores it
_SYMBOL = "s0"  # of the number of rows: torch's compiler knows a size by such a name
_ROWS = {"as_expr": {"expr_str": f"Symbol('{_SYMBOL}', positive=True, integer=True)", "hint": {"as_int": 2}}}
_CPU = {"type": "cpu", "index": None}
_TYPES = {
    torch.float32: schema.ScalarType.FLOAT,
    torch.int64: schema.ScalarType.LONG,
    torch.bool: schema.ScalarType.BOOL,
}
_POSITIONAL, _KEYWORD = 1, 2


def write(file: Path, program: Program, key: str = "") -> None:
    """Writes the archive; the same program gives the same bytes, as torch's writer of archives stores no time.

    Args:
        key: the run's, where the file is to carry it: an extra file.
    """
    parameters = {n: w for n, w in program.weights.items() if isinstance(w, nn.Parameter)}
    buffers = {n: w for n, w in program.weights.items() if n not in parameters}
    archive: Any = torch._C.PyTorchFileWriter(str(file))
    archive.set_min_version(6)
    for kind, prefix, tensors in (("weights", "weight", parameters), ("constants", "tensor", buffers)):
        payload = {}
        for k, (name, tensor) in enumerate(tensors.items()):
            whole = tensor.detach().contiguous()
            if whole.untyped_storage().nbytes() != whole.nbytes:
                whole = whole.clone()  # alone in its storage
            archive.write_record(f"data/{kind}/{prefix}_{k}", whole.untyped_storage(), whole.nbytes)
            payload[name] = {
                "path_name": f"{prefix}_{k}",
                "is_param": kind == "weights",
                "use_pickle": False,
                "tensor_meta": _meta(Value.from_tensor(whole), kind == "weights"),
            }
        _write_json(archive, f"data/{kind}/model_{kind}_config.json", {"config": payload})
    _write_json(archive, "models/model.json", _exported_program(program))
    for name, content in {
        "data/sample_inputs/model.pt": b"",
        "archive_format": b"pt2",
        "archive_version": b"0",
        "byteorder": sys.byteorder.encode(),
        **({f"extra/{KEY}": key.encode()} if key else {}),
    }.items():
        archive.write_record(name, content, len(content))
    archive.write_end_of_file()


def read(file: Path) -> Callable[..., Tensor]:
    """A written program as a function of its inputs: its calls with its weights, as the archive has them."""
    archive: Any = torch._C.PyTorchFileReader(str(file))
    program = json.loads(archive.get_record("models/model.json"))["graph_module"]
    weights: dict[str, Tensor] = {}
    for kind in ("weights", "constants"):
        stored = json.loads(archive.get_record(f"data/{kind}/model_{kind}_config.json"))["config"]
        for name, entry in stored.items():
            weights[name] = _tensor_of(archive, f"data/{kind}/{entry['path_name']}", entry["tensor_meta"])
    specs = [next(iter(spec.items())) for spec in program["signature"]["input_specs"]]
    graph = program["graph"]

    def call(*inputs: Tensor) -> Tensor:
        given = iter(inputs)
        values: dict[str, Any] = {}
        for kind, spec in specs:
            arg = spec["arg"]
            name = arg["as_tensor"]["name"] if kind == "user_input" else arg["name"]
            values[name] = next(given) if kind == "user_input" else weights[spec[f"{kind}_name"]]
        for node in graph["nodes"]:
            _replay(node, values)
        out: Tensor = values[graph["outputs"][0]["as_tensor"]["name"]]
        return out

    return call


def _tensor_of(archive: Any, name: str, meta: dict[str, Any]) -> Tensor:
    dtype = next(t for t, code in _TYPES.items() if code == meta["dtype"])
    sizes = [size["as_int"] for size in meta["sizes"]]
    if not (numbers := math.prod(sizes)):
        return torch.zeros(sizes, dtype=dtype)
    read: Tensor = archive.get_storage_from_record(name, numbers, dtype)  # without a copy; it has no shape
    whole = torch.empty(0, dtype=dtype)
    whole.set_(read.untyped_storage(), 0, (numbers,), (1,))
    return whole.reshape(sizes)


def _replay(node: dict[str, Any], values: dict[str, Any]) -> None:
    """Runs one call and stores what it returns by name."""

    def value(arg: dict[str, Any]) -> Any:
        ((tag, x),) = arg.items()
        if tag == "as_tensor":
            return values[x["name"]]
        if tag == "as_tensors":
            return [values[y["name"]] for y in x]
        return next(t for t, code in _TYPES.items() if code == x) if tag == "as_scalar_type" else x

    namespace, operator, overload = node["target"].removeprefix("torch.ops.").split(".")
    function = getattr(getattr(getattr(torch.ops, namespace), operator), overload)
    positional = [value(i["arg"]) for i in node["inputs"] if i["kind"] == _POSITIONAL]
    named = {i["name"]: value(i["arg"]) for i in node["inputs"] if i["kind"] == _KEYWORD}
    result = function(*positional, **named)
    ((tag, names),) = node["outputs"][0].items()
    if tag == "as_tensors":
        values.update({n["name"]: x for n, x in zip(names, result, strict=True)})
    else:
        values[names["name"]] = result


def _write_json(archive: Any, name: str, content: dict[str, Any]) -> None:
    archive.write_record(name, encoded := json.dumps(content).encode(), len(encoded))


def _exported_program(program: Program) -> dict[str, Any]:
    """An `ExportedProgram` of the schema."""
    return {
        "graph_module": {
            "graph": _graph(program),
            "signature": _signature(program),
            "module_call_graph": [{"fqn": "", "signature": _calling(program)}],
            "metadata": {},
            "treespec_namedtuple_fields": {},
        },
        "opset_version": {"aten": _OPSET},
        "range_constraints": {_SYMBOL: {"min_val": 1, "max_val": None}},
        "schema_version": {"major": SCHEMA[0], "minor": SCHEMA[1]},
        "verifiers": ["TRAINING"],
        "torch_version": torch.__version__,
        "guards_code": [f"L['{x}'].size()[0] == L['{program.inputs[0]}'].size()[0]" for x in program.inputs[1:]],
    }


def _graph(program: Program) -> dict[str, Any]:
    names = {name: _placeholder(program, name) for name in program.weights}
    nodes: list[dict[str, Any]] = []
    for call in program.calls:
        arguments = [(a.name, x, _POSITIONAL) for a, x in zip(call.op._schema.arguments, call.args, strict=False)]
        arguments += [(name, x, _KEYWORD) for name, x in call.kwargs.items()]
        returned = [{"name": name} for name in call.outputs]
        nodes.append(
            {
                "target": f"torch.ops.{call.op}",
                "inputs": [{"name": name, "arg": _argument(x, names), "kind": kind} for name, x, kind in arguments],
                "outputs": [{"as_tensors": returned} if call.several else {"as_tensor": returned[0]}],
                "metadata": {},
                "is_hop_single_tensor_return": None,
                "name": f"{call.outputs[0]}_all" if call.several else call.outputs[0],
            }
        )
    metas = {
        names.get(name, name): _meta(value, isinstance(program.weights.get(name), nn.Parameter))
        for name, value in program.values.items()
    }
    return {
        "inputs": [_tensor(name) for name in (*names.values(), *program.inputs)],
        "outputs": [_tensor(program.output)],
        "nodes": nodes,
        "tensor_values": metas,
        "sym_int_values": {},
        "sym_bool_values": {},
        "is_single_tensor_return": False,
        "custom_obj_values": {},
        "sym_float_values": {},
    }


def _placeholder(program: Program, weight: str) -> str:
    """A weight's name among the graph's inputs."""
    kind = "p" if isinstance(program.weights[weight], nn.Parameter) else "b"
    return f"{kind}_{weight.replace('.', '_')}"


def _tensor(name: str) -> dict[str, Any]:
    return {"as_tensor": {"name": name}}


def _argument(x: Any, names: dict[str, str]) -> dict[str, Any]:
    """An operator's argument, tagged with its type.

    Args:
        names: the names of weights in the graph.
    """
    if isinstance(x, Ref):
        return _tensor(names.get(x.name, x.name))
    if isinstance(x, torch.dtype):
        return {"as_scalar_type": _TYPES[x]}
    if isinstance(x, list | tuple) and x and all(isinstance(y, Ref | int) for y in x):
        if all(isinstance(y, Ref) for y in x):
            return {"as_tensors": [{"name": names.get(y.name, y.name)} for y in x]}
        return {"as_ints": list(x)}
    tags = {bool: "as_bool", int: "as_int", float: "as_float"}
    if type(x) not in tags:
        raise NotImplementedError(f"a tower with an argument {x!r}: add its tag to student/export/pt2_archive.py")
    return {tags[type(x)]: x}


def _meta(value: Value, requires_grad: bool) -> dict[str, Any]:
    """A `TensorMeta`."""
    return {
        "dtype": _TYPES[value.dtype],
        "sizes": [_ROWS if size == ROWS else {"as_int": size} for size in value.shape],
        "requires_grad": requires_grad,
        "device": _CPU,
        "strides": [{"as_int": stride} for stride in value.strides],
        "storage_offset": {"as_int": value.offset},
        "layout": schema.Layout.Strided,
    }


def _signature(program: Program) -> dict[str, Any]:
    specs: list[dict[str, Any]] = []
    for name, weight in program.weights.items():
        arg = {"name": _placeholder(program, name)}
        if isinstance(weight, nn.Parameter):
            specs.append({"parameter": {"arg": arg, "parameter_name": name}})
        else:
            specs.append({"buffer": {"arg": arg, "buffer_name": name, "persistent": False}})
    specs += [{"user_input": {"arg": _tensor(name)}} for name in program.inputs]
    return {"input_specs": specs, "output_specs": [{"user_output": {"arg": _tensor(program.output)}}]}


def _calling(program: Program) -> dict[str, Any]:
    """How the program is called: with positional inputs."""
    leaf: dict[str, Any] = {"type": None, "context": None, "children_spec": []}
    given = {"type": "builtins.tuple", "context": "null", "children_spec": [leaf] * len(program.inputs)}
    named = {"type": "builtins.dict", "context": "[]", "children_spec": []}
    both = {"type": "builtins.tuple", "context": "null", "children_spec": [given, named]}
    return {
        "inputs": [],
        "outputs": [],
        "in_spec": json.dumps([schema.TREESPEC_VERSION, both]),
        "out_spec": json.dumps([schema.TREESPEC_VERSION, leaf]),
        "forward_arg_names": list(program.inputs),
    }
