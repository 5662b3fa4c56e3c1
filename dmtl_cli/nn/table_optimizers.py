"""Optimizers of embedding tables. A step of row-wise Adagrad costs the rows it touches; one of Adam the whole table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from dmtl_cli.nn.eager import EagerAdam, EagerOptimizer

EPS = 1e-8


class RowWiseAdagrad(EagerOptimizer):
    """One accumulator per row, or per row and part: a += mean(g^2), w -= lr g / (sqrt(a) + eps).

    The rule of FBGEMM's EXACT_ROWWISE_ADAGRAD (Mudigere et al., ISCA 2022), for each part of the columns as for a table
    of its own: parts' gradients differ in size, and one accumulator would have some learn too fast and others too
    slowly. Only rows with a gradient are read or written. Accumulators of 0 mean that no step ever touched the row.

    Args:
        parts: columns of each part. Default: one part.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, eps: float = EPS, *, parts: Sequence[int] = ()
    ) -> None:
        super().__init__(params, {"lr": lr, "eps": eps})
        self.parts = tuple(parts)
        for group in self.param_groups:
            for p in group["params"]:
                shape = (p.shape[0], len(parts)) if len(parts) > 1 else p.shape[:1]
                self.state[p]["sum"] = torch.zeros(shape, device=p.device)

    def accumulator(self, p: nn.Parameter) -> Tensor:
        """[rows] or [rows, parts] sums of mean squared gradients."""
        return self.state[p]["sum"]  # type: ignore[no-any-return]

    def _by_part(self, p: nn.Parameter) -> Tensor:
        """[rows, parts] the same numbers."""
        return self.accumulator(p).view(len(p), max(1, len(self.parts)))

    def touched(self, p: nn.Parameter) -> Tensor:
        """[rows] bool: whether a step ever changed the row."""
        return (self._by_part(p) > 0).any(1)

    def by_row(self, p: nn.Parameter) -> dict[str, Tensor]:
        """The optimizer's state by name, [rows] or [rows, parts] each."""
        return {"sum": self.accumulator(p)}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        if closure is not None:
            raise ValueError("RowWiseAdagrad takes no closure")
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                rows, values = _by_distinct_row(p.grad)
                parts = torch.split(values, [*self.parts] or p.shape[1], 1)
                means = torch.stack([g.square().mean(1) for g in parts], 1)
                a = self._by_part(p).index_add_(0, rows, means)[rows]
                rates = (-group["lr"] / (a.sqrt() + group["eps"])).split(1, 1)
                p.index_add_(0, rows, torch.cat([g * rate for g, rate in zip(parts, rates, strict=True)], 1))


def _by_distinct_row(g: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of a sparse gradient, each once, [n], and their values [n, D]. A table's own lookup gives them so, which
    autograd does not know: `coalesce` alone would sort and copy them. On another device than a CPU that lookup is
    relied on, as to look would be to wait: what it gives again there has values of 0."""
    rows = g._indices()[0]
    if rows.device.type == "cpu" and not g.is_coalesced() and (rows[1:] <= rows[:-1]).any():
        g = g.coalesce()
    return g._indices()[0], g._values()


class TableAdam(EagerAdam):
    """Adam over whole tables, for comparison: every row has its moments, and each step updates all of them."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(params, lr=lr, fused=True)
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p] = {"step": torch.zeros((), device=p.device)}
                self.state[p] |= {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}

    def touched(self, p: nn.Parameter) -> Tensor:
        """[rows] bool: whether the row ever had a gradient."""
        second_moment: Tensor = self.state[p]["exp_avg_sq"]
        return (second_moment > 0).any(1)

    def by_row(self, p: nn.Parameter) -> dict[str, Tensor]:
        """The optimizer's state by name, [rows, D] each."""
        return {name: self.state[p][name] for name in ("exp_avg", "exp_avg_sq")}
