"""A multi-gate mixture of experts over a first layer that is linear in [user, item, row], forward and backward by hand.

Plain autograd spends its time on memory: it keeps every intermediate of B rows for all experts at once, the sums of the
first layer among them. Here an expert after the other takes chunks of rows through its layers, so that its weights, its
outputs of the first layer for users and items, and its chunk stay in a core's cache. Several experts are at work at
once, on Python threads of one torch thread each: two products side by side beat one product on two threads. Only where
the number of threads does not divide that of experts do threads share experts, each with rows of its own.

Shapes: B rows, n rows of a chunk, U users, I items, V values of a side, R of a row alone, T tasks, E experts, H units
of an expert's layer, K = E H + T E outputs of the network's first layer: the experts', then the gates'.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dmtl_cli.nn.kernels.chunks import Spans, on_threads, spans, threads_of
from dmtl_cli.nn.kernels.products import across, even, product, product_dtype, relu_backward_
from dmtl_cli.nn.layers import FirstInput, FirstLayer, SplitLinear

CHUNK = 1024  # rows: enough for products to be efficient and for Python not to count
Shape = tuple[int, int]
"""T, E"""
Both = Callable[[slice], tuple[Tensor, Tensor]]
"""some of the first layer's outputs, for all items and for all users: [I, n], the bias included, and [U, n]"""


def mixture(
    x: FirstInput,
    first: SplitLinear,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    dropped: Tensor | None,
    shape: Shape,
) -> tuple[Tensor, Tensor]:
    """h_t = sum_e g_te expert_e(x), g_t = softmax of gate t; ReLU after every layer (Ma et al., KDD 2018).

    Args:
        first: over [user, item, row]; of the type of autocast, as the layers after it.
        weights, biases: of the experts' layers after the first, [E, H_in, H_out] and [E, 1, H_out] each.
        dropped: [B, T, E] bool, the experts that each gate drops.

    Returns:
        h [T, B, H], of the type of the layers, and g [B, T, E], float32, which takes no gradient.

    Raises:
        RuntimeError: backward runs twice.
    """
    tensors = *x, first.weights[0], first.weights[1], first.row_weight(2), first.bias, *weights, *biases
    out = _Mixture.apply(shape, dropped, product_dtype(x.user), torch.is_grad_enabled(), len(weights), *tensors)  # type: ignore[no-untyped-call]
    return out[0], out[1]


def mixture_of_sums(
    first: FirstLayer, weights: Sequence[Tensor], biases: Sequence[Tensor], shape: Shape
) -> tuple[Tensor, Tensor]:
    """`mixture` without gradients, where users' and items' parts of the first layer are there already."""
    like = first.item.dtype

    def both(at: slice) -> tuple[Tensor, Tensor]:
        return first.item[:, at], first.user[:, at]

    rows = _Rows(first.user_index, first.item_index, first.row.to(like), first.weight.to(like))
    later = [x.to(like) for x in weights], [x.to(like) for x in biases]
    mixed, gates = _Pass(both, rows, *later, *shape, None).forward(None)
    return mixed, gates.permute(2, 0, 1)


@dataclass(frozen=True)
class _Part:
    """What one thread computes: some of the experts, on some of the rows."""

    experts: range
    start: int
    end: int
    way: int
    """which of the parts of its experts it is"""

    @property
    def chunks(self) -> Spans:
        return spans(self.start, self.end, CHUNK)


def _parts(experts: int, rows: int, device: torch.device) -> list[_Part]:
    """One for each thread. Experts are divided first: parts of one expert need sums of their own for its gradients."""
    threads = threads_of(device)
    groups = math.gcd(experts, threads)
    each, length = experts // groups, max(1, -(-rows // (threads // groups)))
    starts = enumerate(range(0, max(1, rows), length))
    mine = [range(e, e + each) for e in range(0, experts, each)]
    return [_Part(some, start, min(start + length, rows), way) for way, start in starts for some in mine]


@dataclass(frozen=True)
class _Rows:
    """B rows, and what of the first layer no two of them share."""

    user: Tensor
    """[B] place of each row's user"""
    item: Tensor
    """[B] place of each row's item"""
    x: Tensor
    """[B, R]"""
    weight: Tensor
    """[K, R]"""


@dataclass
class _Pass:
    """One forward pass and its backward pass, an expert and a chunk at a time."""

    both: Both
    rows: _Rows
    weights: Sequence[Tensor]
    biases: Sequence[Tensor]
    tasks: int
    experts: int
    kept: dict[tuple[int, int], list[Tensor]] | None
    """outputs of all layers of an expert, [n, H] each, by the expert and a chunk's first row; None: nothing is kept"""

    @cached_property
    def parts(self) -> list[_Part]:
        return _parts(self.experts, len(self.rows.user), self.rows.user.device)

    def columns(self, e: int) -> slice:
        """Of the first layer's outputs, those of expert e; behind the last expert's are the gates'."""
        outputs = len(self.rows.weight)
        units = (outputs - self.tasks * self.experts) // self.experts
        return slice(e * units, (e + 1) * units if e < self.experts else outputs)

    # -- forward -------------------------------------------------------------------------------------------------------

    def forward(self, dropped: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mixtures [T, B, H] and gates [T, E, B]."""
        gates = self.gates(dropped)
        narrow = gates.to(self.rows.x.dtype)
        found = on_threads(self.parts, lambda part: self.mixed(part, narrow), gates.device)
        return _of_rows(self.parts, found, 1), gates

    def gates(self, dropped: Tensor | None) -> Tensor:
        """[T, E, B]; torch's softmax over a last axis of a few is thirty times as slow."""
        at = self.columns(self.experts)
        scores = self.sums(at, slice(None), *self.both(at))
        scores_TEB = _wide(scores).t().contiguous().view(self.tasks, self.experts, len(scores))
        if dropped is not None:
            scores_TEB.masked_fill_(dropped.permute(1, 2, 0), -torch.inf)
        return torch.softmax(scores_TEB, 1)

    def sums(self, at: slice, rows: slice, item: Tensor, user: Tensor) -> Tensor:
        """Some outputs of the first layer for some rows, [n, H].

        Args:
            item, user: these outputs' parts of all items and users, [I, H] and [U, H].
        """
        pre = item.index_select(0, self.rows.item[rows])
        pre += user.index_select(0, self.rows.user[rows])
        return pre.addmm_(self.rows.x[rows], self.rows.weight[at].t()) if self.rows.x.shape[1] else pre

    def mixed(self, part: _Part, gates: Tensor) -> Tensor:
        """[T, rows, H of the last layer]: what the part's experts add to the mixtures of its rows.

        Args:
            gates: [T, E, B], of the type of the layers.
        """
        units = self.weights[-1].shape[2] if self.weights else self.columns(0).stop
        mixed = gates.new_zeros(self.tasks, part.end - part.start, units)
        for e in part.experts:
            at = self.columns(e)
            both = self.both(at)
            for a, b in part.chunks:
                layers = [self.sums(at, slice(a, b), *both).relu_()]
                for weight, bias in zip(self.weights, self.biases, strict=True):
                    layers.append(product(layers[-1], weight[e].t(), bias[e, 0]).relu_())
                for t in range(self.tasks):
                    mixed[t, a - part.start : b - part.start].addcmul_(layers[-1], gates[t, e, a:b].unsqueeze(1))
                if self.kept is not None:
                    self.kept[e, a] = layers
        return mixed

    # -- backward ------------------------------------------------------------------------------------------------------

    def backward(self, part: _Part, gates: Tensor, d_mixed: Tensor, d_gates: Tensor, first: _First) -> _Gradients:
        """Those of the part's experts, from its rows.

        Args:
            gates: [T, E, B], of the type of the layers.
            d_gates: [T, E, B], filled in.
        """
        units, few = self.columns(0).stop, len(part.experts)
        later = [_wide(x).new_zeros(few, *x.shape[1:]) for x in (*self.weights, *self.biases)]
        out = first.zeros(part.end - part.start, few * units, later)
        for k, e in enumerate(part.experts):
            d_item, d_user = first.sums(units)
            for a, b in part.chunks:
                assert self.kept is not None
                *layers, last = self.kept.pop((e, a))
                d_gates[:, e, a:b] = (d_mixed[:, a:b] * last).sum(2)
                d = d_mixed[0, a:b] * gates[0, e, a:b].unsqueeze(1)
                for t in range(1, self.tasks):
                    d.addcmul_(d_mixed[t, a:b], gates[t, e, a:b].unsqueeze(1))
                relu_backward_(d, last)
                d = self.through_layers(d, layers, e, [x[k] for x in later])
                self.rest_of_first(d, self.columns(e), slice(a, b), part.start, self.columns(k), out)
                d_item.index_add_(0, self.rows.item[a:b], _wide(d))
                d_user.index_add_(0, self.rows.user[a:b], _wide(d))
            first.backward(self.columns(e), self.columns(k), d_item, d_user, out)
        return out

    def through_layers(self, d: Tensor, layers: Sequence[Tensor], e: int, into: Sequence[Tensor]) -> Tensor:
        """[n, H of the last layer] -> [n, H], the gradient of the first layer's sums.

        Args:
            layers: what all layers but the last gave.
            into: takes the gradients of the later layers' weights, then of their biases.
        """
        n = len(self.weights)
        for k, below in reversed([*enumerate(layers)]):
            into[k].add_(across(below, d))
            into[n + k].add_(d.sum(0, keepdim=True, dtype=into[n + k].dtype))
            d = product(d, self.weights[k][e])
            relu_backward_(d, below)
        return d

    def rest_of_first(self, d: Tensor, at: slice, rows: slice, start: int, here: slice, out: _Gradients) -> None:
        """Gradients of what rows do not share, from those of some outputs [n, H].

        Args:
            start: the first row of `out`.
            here: the outputs' place in `out`.
        """
        out.first[2][here] += across(self.rows.x[rows].to(d.dtype), d).t()
        if out.row.shape[1]:
            mine = slice(rows.start - start, rows.stop - start)
            out.row[mine] += product(d, self.rows.weight[at].to(d.dtype).t())

    def backward_of_gates(self, gates: Tensor, d_gates: Tensor, first: _First) -> _Gradients:
        """Those of the first layer's last outputs.

        Args:
            gates, d_gates: [T, E, B].
        """
        d_TEB = gates * (d_gates - (d_gates * gates).sum(1, keepdim=True))
        d = d_TEB.flatten(0, 1).t().contiguous()
        every = slice(0, len(d))
        out = first.zeros(len(d), d.shape[1], [])
        d_item, d_user = first.sums(d.shape[1])
        d_item.index_add_(0, self.rows.item, d)
        d_user.index_add_(0, self.rows.user, d)
        here = slice(0, d.shape[1])
        self.rest_of_first(d, self.columns(self.experts), every, 0, here, out)
        first.backward(self.columns(self.experts), here, d_item, d_user, out)
        return out


class _Gradients(NamedTuple):
    """Of some outputs of the first layer and of the experts behind them, from n rows: float32 (float64 for float64)."""

    user: Tensor
    """[U, V]"""
    item: Tensor
    """[I, V]"""
    row: Tensor
    """[n, R], or [n, 0] where none is needed"""
    first: tuple[Tensor, Tensor, Tensor, Tensor]
    """weights [outputs, V] of users and of items, [outputs, R] of rows, and the bias [outputs]"""
    later: list[Tensor]
    """[experts, ...] weights of later layers, then biases"""


@dataclass(frozen=True)
class _First:
    """The first layer's inputs and weights for items and users, whose U and I are padded: see `even`."""

    user: Tensor
    """[U, V]"""
    item: Tensor
    """[I, V]"""
    user_weight: Tensor
    """[K, V]"""
    item_weight: Tensor
    """[K, V]"""
    bias: Tensor
    """[K]"""
    row: int
    """R"""
    needs_row: bool
    dense: tuple[Tensor, Tensor]
    """`user` and `item` as `across` takes them without a copy"""

    @staticmethod
    def of(user: Tensor, item: Tensor, weights: tuple[Tensor, Tensor, Tensor], row: int, needs_row: bool) -> _First:
        user, item = even(user), even(item)
        return _First(user, item, *weights, row, needs_row, (user.t().contiguous().t(), item.t().contiguous().t()))

    def both(self, at: slice) -> tuple[Tensor, Tensor]:
        item = product(self.item, self.item_weight[at], self.bias[at])
        return item, product(self.user, self.user_weight[at])

    def zeros(self, rows: int, outputs: int, later: list[Tensor]) -> _Gradients:
        like = _wide(self.bias)
        user, item = like.new_zeros(self.user.shape), like.new_zeros(self.item.shape)
        row = like.new_zeros(rows, self.row if self.needs_row else 0)
        widths = self.user.shape[1], self.item.shape[1], self.row
        of_user, of_item, of_row = (like.new_zeros(outputs, width) for width in widths)
        return _Gradients(user, item, row, (of_user, of_item, of_row, like.new_zeros(outputs)), later)

    def sums(self, outputs: int) -> tuple[Tensor, Tensor]:
        """Zeros for gradients of some outputs, of all items and of all users: [I, n], [U, n]."""
        both = _wide(self.bias).new_zeros(len(self.item) + len(self.user), outputs)
        return both[: len(self.item)], both[len(self.item) :]

    def backward(self, at: slice, here: slice, d_item: Tensor, d_user: Tensor, out: _Gradients) -> None:
        """Takes gradients of some outputs to inputs and weights.

        Args:
            at, here: the outputs' place in the layer and in `out`.
        """
        user_weight, item_weight, _, bias = out.first
        bias[here] = d_item.sum(0)
        d_item, d_user = d_item.to(self.item.dtype), d_user.to(self.user.dtype)
        item_weight[here] = across(d_item, self.dense[1])
        user_weight[here] = across(d_user, self.dense[0])
        out.item.add_(product(d_item, self.item_weight[at].t()))
        out.user.add_(product(d_user, self.user_weight[at].t()))


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _of_rows(parts: Sequence[_Part], found: Sequence[Tensor], rows: int) -> Tensor:
    """What parts found of their rows, the sum over their experts, for all rows.

    Args:
        rows: the axis that rows are on.
    """
    ways: dict[int, Tensor] = {}
    for part, x in zip(parts, found, strict=True):
        ways[part.way] = ways[part.way].add_(x) if part.way in ways else x
    return torch.cat([*ways.values()], rows) if len(ways) > 1 else ways[0]


def _of_experts(parts: Sequence[_Part], found: Sequence[Tensor]) -> Tensor:
    """What parts found of their experts or outputs, the sum over their rows, for all of them."""
    ways: dict[int, list[Tensor]] = {}
    for part, x in zip(parts, found, strict=True):
        ways.setdefault(part.way, []).append(x)
    total, *others = (torch.cat(x) for x in ways.values())
    for other in others:
        total += other
    return total


class _Mixture(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, shape: Shape, dropped: Tensor | None, dtype: torch.dtype, grows: bool, n: int, *tensors: Tensor
    ) -> tuple[Tensor, Tensor]:
        user, item, user_index, item_index, row = tensors[:5]
        user_weight, item_weight, row_weight, bias = (x.to(dtype) for x in tensors[5:9])
        weights, biases = ([x.to(dtype) for x in xs] for xs in (tensors[9 : 9 + n], tensors[9 + n :]))
        of_sides = user_weight, item_weight, bias
        first = _First.of(user.to(dtype), item.to(dtype), of_sides, row.shape[1], ctx.needs_input_grad[9])
        rows = _Rows(user_index, item_index, row.to(dtype), row_weight)
        ctx.sizes = len(user), len(item)
        ctx.first, ctx.work = first, _Pass(first.both, rows, weights, biases, *shape, {} if grows else None)
        mixed, ctx.gates = ctx.work.forward(dropped)
        gates_BTE = ctx.gates.permute(2, 0, 1)
        ctx.mark_non_differentiable(gates_BTE)
        return mixed, gates_BTE

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_mixed: Tensor, _: Tensor) -> Any:
        if ctx.work is None:
            raise RuntimeError("mixture: backward runs once only, its activations are gone")
        work: _Pass = ctx.work
        ctx.work = None
        first, gates, d_mixed = ctx.first, ctx.gates, d_mixed.contiguous()
        narrow, d_gates = gates.to(d_mixed.dtype), torch.empty_like(gates)
        parts, device = work.parts, d_mixed.device
        found = on_threads(parts, lambda part: work.backward(part, narrow, d_mixed, d_gates, first), device)
        of_gates = work.backward_of_gates(gates, d_gates, first)
        sides = sum((x.user for x in found), of_gates.user), sum((x.item for x in found), of_gates.item)
        user, item = (x[:n] for x, n in zip(sides, ctx.sizes, strict=True))
        row = _of_rows(parts, [x.row for x in found], 0) + of_gates.row if first.needs_row else None
        whole = (torch.cat([_of_experts(parts, [x.first[k] for x in found]), of_gates.first[k]]) for k in range(4))
        later = (_of_experts(parts, [x.later[k] for x in found]) for k in range(2 * len(work.weights)))
        return None, None, None, None, None, user, item, None, None, row, *whole, *later
