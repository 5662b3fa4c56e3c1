"""A multi-gate mixture of experts over first-layer sums that are never formed as a whole: forward and backward by hand.

Plain autograd spends its time on memory: it keeps every intermediate of B rows, in fresh tensors whose pages are
faulted in each step. Here rows go through all experts chunk by chunk, in buffers that are kept, several chunks at once
on Python threads of one torch thread each: two products side by side beat one product on two threads.

Shapes: B rows, n rows of a chunk, U users, I items, R inputs of a row alone, T tasks, E experts, H units of an expert's
layer, K = E H + T E outputs of the network's first layer: the experts', then the gates'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dmtl_cli.nn.kernels.chunks import Spans, side_by_side
from dmtl_cli.nn.layers import FirstLayer

CHUNK = 1024  # rows: enough for products to be efficient and for Python not to count


def mixture(
    first: FirstLayer,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    dropped: Tensor | None,
    shape: tuple[int, int],
    buffers: Buffers,
) -> tuple[Tensor, Tensor]:
    """h_t = sum_e g_te expert_e(x), g_t = softmax of gate t; ReLU after every layer (Ma et al., KDD 2018).

    Args:
        weights, biases: of the experts' layers after the first, [E, H_in, H_out] and [E, 1, H_out] each.
        dropped: [B, T, E] bool, the experts that each gate drops.
        shape: T, E.

    Returns:
        h [T, B, H], of the type of `first`, and g [B, T, E], float32, which takes no gradient.

    Raises:
        RuntimeError: backward runs twice.
    """
    kept = buffers if torch.is_grad_enabled() else None
    out = _Mixture.apply(shape, dropped, kept, len(weights), *first, *weights, *biases)  # type: ignore[no-untyped-call]
    return out[0], out[1]


class Buffers:
    """Activations of a step, kept for the next one: a fresh tensor above 32 MB costs its page faults each time."""

    def __init__(self) -> None:
        self._free: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Uninitialised memory of the type of `like`."""
        n = torch.Size(shape).numel()
        buffer = self._free.pop(name, None)
        if buffer is None or buffer.numel() < n or buffer.dtype != like.dtype:
            buffer = like.new_empty(n)
        return buffer[:n].view(shape)

    def give(self, name: str, tensor: Tensor) -> None:
        """Gives back what was taken; it may not be read any more."""
        self._free[name] = tensor.new_empty(0).set_(tensor.untyped_storage())  # the whole buffer, not the part in use


@dataclass
class _Pass:
    """One forward pass and its backward pass, chunk by chunk."""

    first: FirstLayer
    weights: Sequence[Tensor]
    biases: Sequence[Tensor]
    dropped: Tensor | None
    tasks: int
    experts: int
    pre: Tensor
    """[B, K] the experts' first layer after its ReLU, in the end the gradient of the sums; [n, K] without gradients"""
    later: list[Tensor]
    """[E, B, H] each, or [E, n, H]: the experts' later layers"""
    gates: Tensor
    """[B, T, E] float32"""

    @property
    def width(self) -> int:
        """Number of units that all experts have in their first layer."""
        return self.pre.shape[1] - self.tasks * self.experts

    def layer(self, k: int, e: int, a: int, b: int) -> Tensor:
        """Output of expert e's layer k, places a to b: [n, H]."""
        if k:
            return self.later[k - 1][e, a:b]
        units = self.width // self.experts
        return self.pre[a:b, e * units : (e + 1) * units]

    def forward(self, mixed: Tensor, a: int, b: int, at: int) -> None:
        """Mixes rows a to b into `mixed` [T, B, H] and keeps their activations from place `at` on."""
        first, to = self.first, at + b - a
        pre = self.pre[at:to]
        torch.index_select(first.item, 0, first.item_index[a:b], out=pre)
        pre.add_(first.user.index_select(0, first.user_index[a:b]))
        if first.row.shape[1]:
            pre.addmm_(first.row[a:b].to(pre.dtype), first.weight.t())
        scores = pre[:, self.width :].to(self.gates.dtype).view(b - a, self.tasks, self.experts)
        if self.dropped is not None:
            scores.masked_fill_(self.dropped[a:b], -torch.inf)
        gates = torch.softmax(scores, 2)
        self.gates[a:b] = gates
        gates = gates.to(pre.dtype)
        pre[:, : self.width].relu_()
        for e in range(self.experts):
            for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
                torch.addmm(bias[e], self.layer(k, e, at, to), weight[e], out=self.layer(k + 1, e, at, to)).relu_()
            out = self.layer(len(self.weights), e, at, to)
            for t in range(self.tasks):
                if e:
                    mixed[t, a:b].addcmul_(out, gates[:, t, e : e + 1])
                else:
                    torch.mul(out, gates[:, t, :1], out=mixed[t, a:b])

    def backward(self, d_mixed: Tensor, sums: _Sums, a: int, b: int) -> None:
        """Adds up the gradients of rows a to b."""
        gates = self.gates[a:b].to(self.pre.dtype)
        d_gates = torch.empty_like(self.gates[a:b])
        for e in range(self.experts):
            out = self.layer(len(self.weights), e, a, b)
            for t in range(self.tasks):
                d_gates[:, t, e] = (d_mixed[t, a:b] * out).sum(1)
            d = d_mixed[0, a:b] * gates[:, 0, e : e + 1]
            for t in range(1, self.tasks):
                d.addcmul_(d_mixed[t, a:b], gates[:, t, e : e + 1])
            relu_backward_(d, out)
            for k in reversed(range(len(self.weights))):
                below = self.layer(k, e, a, b)
                _add_product(sums.weights[k][e], below.t(), d)
                sums.biases[k][e] += d.sum(0, keepdim=True, dtype=sums.biases[k].dtype)
                d = d @ self.weights[k][e].t()
                relu_backward_(d, below)
            self.layer(0, e, a, b).copy_(d)
        g, pre, first = self.gates[a:b], self.pre[a:b], self.first
        pre[:, self.width :] = (g * (d_gates - (d_gates * g).sum(2, keepdim=True))).flatten(1)
        if sums.row is not None:
            _add_product(sums.weight, pre.t(), first.row[a:b].to(pre.dtype))
            sums.row[a:b] = pre @ first.weight
        whole = pre.to(sums.user.dtype)
        sums.user.index_add_(0, first.user_index[a:b], whole)
        sums.item.index_add_(0, first.item_index[a:b], whole)


@dataclass
class _Sums:
    """Gradients of one thread's rows, float32 (float64 for float64)."""

    user: Tensor
    """[U, K]"""
    item: Tensor
    """[I, K]"""
    weight: Tensor
    """[K, R]"""
    row: Tensor | None
    """[B, R], shared by all threads: each fills in its rows; None where R is 0"""
    weights: list[Tensor]
    """[E, H_in, H_out] each"""
    biases: list[Tensor]
    """[E, 1, H_out] each"""

    @staticmethod
    def zeros(x: _Pass, row: Tensor | None) -> _Sums:
        def zeros(t: Tensor) -> Tensor:
            return torch.zeros(t.shape, dtype=x.gates.dtype)

        each = [[zeros(w) for w in ws] for ws in (x.weights, x.biases)]
        return _Sums(zeros(x.first.user), zeros(x.first.item), zeros(x.first.weight), row, *each)

    def add(self, other: _Sums) -> None:
        for name in ("user", "item", "weight"):
            getattr(self, name).add_(getattr(other, name))
        for mine, theirs in zip(self.weights + self.biases, other.weights + other.biases, strict=True):
            mine.add_(theirs)


class _Mixture(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, shape: tuple[int, int], dropped: Tensor | None, buffers: Buffers | None, n: int, *tensors: Tensor
    ) -> tuple[Tensor, Tensor]:
        first, later = FirstLayer(*tensors[:6]), tensors[6:]
        like, (tasks, experts), rows = first.item, shape, len(first.user_index)
        first = first._replace(weight=first.weight.to(like.dtype))
        weights, biases = ([x.to(like.dtype) for x in xs] for xs in (later[:n], later[n:]))
        wide = torch.float64 if like.dtype == torch.float64 else torch.float32
        units = weights[-1].shape[2] if n else (like.shape[1] - tasks * experts) // experts
        mixed, gates = like.new_empty(tasks, rows, units), torch.empty(rows, tasks, experts, dtype=wide)

        def memory(name: str, *shape: int) -> Tensor:
            return buffers.take(name, shape, like) if buffers else like.new_empty(shape)

        def a_pass(rows: int) -> _Pass:
            later = [memory(f"later{k}", experts, rows, w.shape[2]) for k, w in enumerate(weights)]
            pre = memory("pre", rows, like.shape[1])
            return _Pass(first, weights, biases, dropped, tasks, experts, pre, later, gates)

        ctx.x, ctx.buffers = a_pass(rows) if buffers else None, buffers

        def work(spans: Spans) -> None:
            x = ctx.x or a_pass(max((b - a for a, b in spans), default=0))
            for a, b in spans:
                x.forward(mixed, a, b, a if buffers else 0)

        side_by_side(rows, CHUNK, work, like.device)
        ctx.mark_non_differentiable(gates)
        return mixed, gates

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_mixed: Tensor, _: Tensor) -> Any:
        if ctx.x is None:
            raise RuntimeError("mixture: backward runs once only, its activations are gone")
        x: _Pass = ctx.x
        d_mixed = d_mixed.contiguous()
        row = torch.empty(x.first.row.shape, dtype=x.gates.dtype) if x.first.row.shape[1] else None

        def work(spans: Spans) -> _Sums:
            sums = _Sums.zeros(x, row)
            for a, b in spans:
                x.backward(d_mixed, sums, a, b)
            return sums

        total, *others = side_by_side(len(x.pre), CHUNK, work, x.pre.device)
        for other in others:
            total.add(other)
        like = x.first.item.dtype
        _give_back(ctx)
        parts = [total.user.to(like), total.item.to(like), None, None, row, total.weight if row is not None else None]
        return None, None, None, None, *parts, *total.weights, *total.biases


def _give_back(ctx: Any) -> None:
    ctx.buffers.give("pre", ctx.x.pre)
    for k, buffer in enumerate(ctx.x.later):
        ctx.buffers.give(f"later{k}", buffer)
    ctx.x = None


def relu_backward_(gradient: Tensor, output: Tensor) -> None:
    """Sets the gradient of a ReLU's output to 0 where that output is 0, in place: the gradient of its input.

    torch has no public function for it, and masking would need another tensor. `threshold_backward` is the operator
    that torch's own ReLU calls (seen in 2.13; tests/test_private_names.py names the versions).
    """
    torch.ops.aten.threshold_backward.grad_input(gradient, output, 0, grad_input=gradient)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b, summed in the type of `total` if the factors have another."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b
