"""A tower as a list of ATen calls, recorded while it runs; its files are written from them.

The model's own `forward` is the one description of a tower. Recording it takes a millisecond and none of torch's
compiler, whose import alone takes a second.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

ROWS = -1
"""the number of rows in shapes and arguments, where any number is valid"""
_CAT = torch.ops.aten.cat.default


@dataclass(frozen=True)
class Ref:
    """A tensor among a call's arguments, by name."""

    name: str


@dataclass(frozen=True)
class Value:
    """What is known of a tensor before it is computed."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    """its first element within its storage"""

    @staticmethod
    def from_tensor(x: Tensor) -> Value:
        return Value(x.dtype, tuple(x.shape), x.stride(), int(x.storage_offset()))


@dataclass(frozen=True)
class Call:
    """One ATen operator: tensors among the arguments are `Ref`s."""

    op: OpOverload
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[str, ...]
    several: bool
    """whether the operator returns a list"""

    @property
    def inputs(self) -> list[str]:
        """Names of the tensors that it reads."""
        flat = [y for x in (*self.args, *self.kwargs.values()) for y in (x if isinstance(x, list | tuple) else [x])]
        return [y.name for y in flat if isinstance(y, Ref)]


@dataclass(frozen=True)
class Program:
    """Calls in their order, from inputs and weights to the one output."""

    inputs: tuple[str, ...]
    weights: dict[str, Tensor]
    """parameters and buffers that are read, by their names in the module"""
    calls: tuple[Call, ...]
    values: dict[str, Value]
    """by name, of inputs, weights and whatever a call returns"""
    output: str


def record(module: nn.Module, names: tuple[str, ...], two: tuple[Tensor, ...], three: tuple[Tensor, ...]) -> Program:
    """The calls of module(*inputs), for any number of rows.

    The module runs twice, and a size that differs is the number of rows.

    Args:
        names: the names of the inputs.
        two: inputs of two rows.
        three: inputs of three rows.
    """
    a, b = _recorded(module, names, two), _recorded(module, names, three)
    if [c.op for c in a.calls] != [c.op for c in b.calls]:
        raise NotImplementedError("what a tower computes depends on the number of rows: it has no file format")
    calls = [
        replace(c, args=_merged(c.args, d.args), kwargs={k: _merged(v, d.kwargs[k]) for k, v in c.kwargs.items()})
        for c, d in zip(a.calls, b.calls, strict=True)
    ]
    needed, used = {a.output}, []
    for call in reversed(calls):
        if needed & set(call.outputs):
            needed |= set(call.inputs)
            used.append(call)
    kept = {name for call in used for name in call.outputs} | needed | set(names)
    values = {n: replace(v, shape=_merged(v.shape, b.values[n].shape)) for n, v in a.values.items() if n in kept}
    weights = {name: weight for name, weight in a.weights.items() if name in needed}
    return Program(names, weights, tuple(reversed(used)), values, a.output)


def _recorded(module: nn.Module, names: tuple[str, ...], inputs: tuple[Tensor, ...]) -> Program:
    weights = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    recorder = _Recorder({**dict(zip(names, inputs, strict=True)), **weights})
    with torch.no_grad(), recorder:
        output = module(*inputs)
    values = {name: Value.from_tensor(x) for name, x in recorder.tensors.items()}
    return Program(names, weights, tuple(recorder.calls), values, recorder.names[id(output)])


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records each call and names its outputs. Parts without elements are left out of a concatenation."""

    def __init__(self, named: dict[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tensors = dict(named)  # kept, so that no id is given twice
        self.names = {id(x): name for name, x in named.items()}
        self.calls: list[Call] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Otherwise torch imports its compiler, which takes half a second, only to disable it here."""
        return False

    def __torch_dispatch__(self, op: OpOverload, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if op is _CAT and (parts := [x for x in args[0] if x.numel()]):
            if len(parts) == 1:
                return parts[0]
            args = (parts, *args[1:])
        result = op(*args, **kwargs)
        several = isinstance(result, list | tuple)
        outputs = []
        for x in result if several else [result]:
            if not isinstance(x, Tensor) or id(x) in self.names:
                raise NotImplementedError(f"{op} works in place or returns no tensor: it has no file format")
            outputs.append(f"{op.overloadpacket.__name__}_{len(self.tensors)}")
            self.names[id(x)], self.tensors[outputs[-1]] = outputs[-1], x
        named = {k: self._named(v) for k, v in kwargs.items()}
        self.calls.append(Call(op, self._named(tuple(args)), named, tuple(outputs), several))
        return result

    def _named(self, x: Any) -> Any:
        if isinstance(x, Tensor):
            return Ref(self.names[id(x)])
        return type(x)(map(self._named, x)) if isinstance(x, list | tuple) else x


def _merged(a: Any, b: Any) -> Any:
    """An argument or a shape, with ROWS where two recordings of other numbers of rows differ."""
    if isinstance(a, list | tuple):
        return type(a)(_merged(x, y) for x, y in zip(a, b, strict=True))
    if type(a) is int and a != b:
        return ROWS
    if a != b:
        raise NotImplementedError(f"{a!r} for two rows, {b!r} for three: it has no file format")
    return a
