"""Row-wise Adagrad for embedding tables: the cost of a step does not depend on the size of the table."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

EPS = 1e-8


class RowWiseAdagrad(torch.optim.Optimizer):
    """One accumulator a row: a += mean(g^2), w -= lr g / (sqrt(a) + eps).

    The rule of FBGEMM's EXACT_ROWWISE_ADAGRAD (Mudigere et al., ISCA 2022). Only rows with a gradient are read or
    written. An accumulator of 0 means that no step ever touched the row.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, eps: float = EPS) -> None:
        super().__init__(params, {"lr": lr, "eps": eps})
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["sum"] = torch.zeros(p.shape[0], device=p.device)

    def accumulator(self, p: nn.Parameter) -> Tensor:
        """[rows]"""
        return self.state[p]["sum"]  # type: ignore[no-any-return]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        if closure is not None:
            raise ValueError("RowWiseAdagrad takes no closure")
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                g = p.grad.coalesce()
                rows, values = g.indices()[0], g.values()
                total = self.state[p]["sum"]
                a = total[rows] + values.square().mean(1)
                total[rows] = a
                p.index_add_(0, rows, values * (-group["lr"] / (a.sqrt() + group["eps"])).unsqueeze(1))
