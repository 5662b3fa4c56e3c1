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
from dmtl_cli.nn.kernels.products import across, product
from dmtl_cli.nn.layers import FirstLayer

CHUNK = 1024  # rows: enough for products to be efficient and for Python not to count


def mixture(
    first: FirstLayer,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    dropped: Tensor | None,
    shape: tuple[int, int],
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
    out = _Mixture.apply(shape, dropped, torch.is_grad_enabled(), len(weights), *first, *weights, *biases)  # type: ignore[no-untyped-call]
    return out[0], out[1]


@dataclass
class _Pass:
    """One forward pass and its backward pass, chunk by chunk."""

    first: FirstLayer
    weights: Sequence[Tensor]
    biases: Sequence[Tensor]
    dropped: Tensor | None
    tasks: int
    experts: int
    gates: Tensor
    """[B, T, E] float32"""
    kept: dict[tuple[int, int], list[Tensor]] | None
    """outputs of all layers of an expert, [n, H] each, by a chunk's first row and the expert; None: nothing is kept"""

    def columns(self, e: int) -> slice:
        """Of the first layer's outputs, those of expert e; behind the last expert's are the gates'."""
        units = (self.first.item.shape[1] - self.tasks * self.experts) // self.experts
        return slice(e * units, (e + 1) * units if e < self.experts else None)

    def sums(self, e: int, a: int, b: int) -> Tensor:
        """First-layer sums of rows a to b, the columns of expert e: [n, H]."""
        first, at = self.first, self.columns(e)
        pre = first.item[:, at].index_select(0, first.item_index[a:b])
        pre += first.user[:, at].index_select(0, first.user_index[a:b])
        if first.row.shape[1]:
            pre.addmm_(first.row[a:b].to(pre.dtype), first.weight[at].t())
        return pre

    def forward(self, mixed: Tensor, a: int, b: int) -> None:
        """Mixes rows a to b into `mixed` [T, B, H]."""
        scores = self.sums(self.experts, a, b).to(self.gates.dtype).view(b - a, self.tasks, self.experts)
        if self.dropped is not None:
            scores.masked_fill_(self.dropped[a:b], -torch.inf)
        self.gates[a:b] = torch.softmax(scores, 2)
        gates = self.gates[a:b].to(mixed.dtype)
        for e in range(self.experts):
            layers = [self.sums(e, a, b).relu_()]
            for weight, bias in zip(self.weights, self.biases, strict=True):
                layers.append(product(layers[-1], weight[e].t(), bias[e, 0]).relu_())
            for t in range(self.tasks):
                if e:
                    mixed[t, a:b].addcmul_(layers[-1], gates[:, t, e : e + 1])
                else:
                    torch.mul(layers[-1], gates[:, t, :1], out=mixed[t, a:b])
            if self.kept is not None:
                self.kept[a, e] = layers

    def backward(self, d_mixed: Tensor, sums: _Sums, a: int, b: int) -> None:
        """Adds up the gradients of rows a to b."""
        assert self.kept is not None
        first, gates, d_gates = self.first, self.gates[a:b].to(d_mixed.dtype), torch.empty_like(self.gates[a:b])
        d_pre = d_mixed.new_empty(b - a, first.item.shape[1])
        for e in range(self.experts):
            *layers, out = self.kept.pop((a, e))
            for t in range(self.tasks):
                d_gates[:, t, e] = (d_mixed[t, a:b] * out).sum(1)
            d = d_mixed[0, a:b] * gates[:, 0, e : e + 1]
            for t in range(1, self.tasks):
                d.addcmul_(d_mixed[t, a:b], gates[:, t, e : e + 1])
            relu_backward_(d, out)
            for k, below in reversed([*enumerate(layers)]):
                sums.weights[k][e] += across(below, d)
                sums.biases[k][e] += d.sum(0, keepdim=True, dtype=sums.biases[k].dtype)
                d = product(d, self.weights[k][e])
                relu_backward_(d, below)
            d_pre[:, self.columns(e)] = d
        g = self.gates[a:b]
        d_pre[:, self.columns(self.experts)] = (g * (d_gates - (d_gates * g).sum(2, keepdim=True))).flatten(1)
        if first.row.shape[1]:
            sums.weight += across(first.row[a:b].to(d_pre.dtype), d_pre)
        if sums.row is not None:
            sums.row[a:b] = product(first.weight.t(), d_pre).t()
        d_pre = d_pre.to(sums.user.dtype)
        sums.user.index_add_(0, first.user_index[a:b], d_pre)
        sums.item.index_add_(0, first.item_index[a:b], d_pre)


@dataclass
class _Sums:
    """Gradients of one thread's rows, float32 (float64 for float64)."""

    user: Tensor
    """[U, K]"""
    item: Tensor
    """[I, K]"""
    weight: Tensor
    """[R, K]"""
    row: Tensor | None
    """[B, R], shared by all threads: each fills in its rows; None where nothing needs it"""
    weights: list[Tensor]
    """[E, H_in, H_out] each"""
    biases: list[Tensor]
    """[E, 1, H_out] each"""

    @staticmethod
    def zeros(x: _Pass, row: Tensor | None) -> _Sums:
        def zeros(t: Tensor) -> Tensor:
            return torch.zeros(t.shape, dtype=x.gates.dtype)

        first = x.first
        each = [*map(zeros, x.weights)], [*map(zeros, x.biases)]
        return _Sums(zeros(first.user), zeros(first.item), zeros(first.weight.t()), row, *each)

    def add(self, other: _Sums) -> None:
        for name in ("user", "item", "weight"):
            getattr(self, name).add_(getattr(other, name))
        for mine, theirs in zip(self.weights + self.biases, other.weights + other.biases, strict=True):
            mine.add_(theirs)


class _Mixture(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, shape: tuple[int, int], dropped: Tensor | None, grows: bool, n: int, *tensors: Tensor
    ) -> tuple[Tensor, Tensor]:
        first, later = FirstLayer(*tensors[:6]), tensors[6:]
        like, (tasks, experts), rows = first.item, shape, len(first.user_index)
        first = first._replace(weight=first.weight.to(like.dtype))
        weights, biases = ([x.to(like.dtype) for x in xs] for xs in (later[:n], later[n:]))
        wide = torch.float64 if like.dtype == torch.float64 else torch.float32
        units = weights[-1].shape[2] if n else (like.shape[1] - tasks * experts) // experts
        mixed, gates = like.new_empty(tasks, rows, units), torch.empty(rows, tasks, experts, dtype=wide)
        x = _Pass(first, weights, biases, dropped, tasks, experts, gates, {} if grows else None)

        def work(spans: Spans) -> None:
            for a, b in spans:
                x.forward(mixed, a, b)

        side_by_side(rows, CHUNK, work, like.device)
        ctx.x, ctx.rows = x, rows
        ctx.mark_non_differentiable(gates)
        return mixed, gates

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_mixed: Tensor, _: Tensor) -> Any:
        if ctx.x is None:
            raise RuntimeError("mixture: backward runs once only, its activations are gone")
        x: _Pass = ctx.x
        ctx.x = None
        d_mixed = d_mixed.contiguous()
        row = torch.empty(x.first.row.shape, dtype=x.gates.dtype) if ctx.needs_input_grad[8] else None

        def work(spans: Spans) -> _Sums:
            sums = _Sums.zeros(x, row)
            for a, b in spans:
                x.backward(d_mixed, sums, a, b)
            return sums

        total, *others = side_by_side(ctx.rows, CHUNK, work, d_mixed.device)
        for other in others:
            total.add(other)
        like = x.first.item.dtype
        parts = [total.user.to(like), total.item.to(like), None, None, row, total.weight.t()]
        return None, None, None, None, *parts, *total.weights, *total.biases


def relu_backward_(gradient: Tensor, output: Tensor) -> None:
    """Sets the gradient of a ReLU's output to 0 where that output is 0, in place: the gradient of its input.

    torch has no public function for it, and masking would need another tensor. `threshold_backward` is the operator
    that torch's own ReLU calls (seen in 2.13; tests/test_private_names.py names the versions).
    """
    torch.ops.aten.threshold_backward.grad_input(gradient, output, 0, grad_input=gradient)
