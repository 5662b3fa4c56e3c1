"""The optimizers of one model: Adam for dense weights, and one by rows for the embedding table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.training import Training
from dmtl_cli.nn.eager import EagerAdam
from dmtl_cli.nn.sharded import Fused, ShardedTable
from dmtl_cli.nn.table import EmbeddingTable
from dmtl_cli.nn.table_optimizers import RowWiseAdagrad, TableAdam
from dmtl_cli.runs.ranks import ALONE, Ranks

_FAST = ("log_scale", "bias", "auxiliary.log_scale", "auxiliary.bias")  # a DSSM's scalars, which all rows share
_FAST_RATE = 10.0
_LONGEST = 2.0  # times as long as the gradients that Adam remembers


@dataclass(frozen=True)
class Optimizers:
    """The optimizers of the dense weights and of the embedding table."""

    dense: EagerAdam
    table: RowWiseAdagrad | TableAdam | Fused

    @staticmethod
    def build(model: nn.Module, table: EmbeddingTable, config: Training) -> Optimizers:
        """Raises UserError 78 if the config asks for dense Adam on a sharded table."""
        named = [(n, p) for n, p in model.named_parameters() if p is not table.weight]
        groups = [
            {"params": [p for n, p in named if n not in _FAST], "lr": config.learning_rate},
            {"params": [p for n, p in named if n in _FAST], "lr": config.learning_rate * _FAST_RATE},
        ]
        dense = EagerAdam([g for g in groups if g["params"]], lr=config.learning_rate, fused=True)
        table.sparse = config.embedding_optimizer != "adam"
        if isinstance(table, ShardedTable):
            if not table.sparse:
                what = "embedding_optimizer: adam needs the whole table in one process"
                raise UserError(what, "use rowwise_adagrad, or run it without torchrun", Exit.CONFIG)
            return Optimizers(dense, Fused(table))
        if table.sparse:
            return Optimizers(dense, RowWiseAdagrad([table.weight], config.table_rate, parts=table.parts))
        return Optimizers(dense, TableAdam([table.weight], config.table_rate))

    def step(self) -> None:
        _shorten(self.dense)
        for optimizer in (self.dense, self.table):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """All that is kept of a parameter from step to step; nothing before its first step. Not of a sharded table."""
        assert not isinstance(self.table, Fused)
        mine = self.table if parameter in self.table.state else self.dense
        return dict(mine.state.get(parameter, {}))

    def restore(self, parameter: nn.Parameter, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_of` gave."""
        assert not isinstance(self.table, Fused)
        mine = self.table if parameter in self.table.state else self.dense
        mine.state[parameter] = {name: value.to(parameter.device, copy=True) for name, value in state.items()}


@torch.no_grad()
def _shorten(adam: EagerAdam) -> None:
    """Makes a gradient no longer than _LONGEST times the root mean square of those before, which Adam knows: it is the
    root of the sum of its second moments.

    A student near its teacher has gradients of almost nothing, and Adam divides by their size. A batch that is unlike
    those before then moves every weight as far as if it were among the first: what was learned is lost in a few steps
    (Wortsman et al., NeurIPS 2023, tell of such spikes, and measure a gradient by the second moments as well).
    """
    mine = [p for group in adam.param_groups for p in group["params"] if p.grad is not None and adam.state[p]]
    if not mine:
        return
    gradients, states = [p.grad for p in mine], [adam.state[p] for p in mine]
    sums = torch.stack([s["exp_avg_sq"].sum() for s in states])
    decay = adam.defaults["betas"][1]
    before = (sums / (1 - decay ** torch.stack([s["step"] for s in states]))).sum().sqrt()
    longest = _LONGEST * torch.where(before > 0, before, torch.inf)
    share = longest / torch.stack(torch._foreach_norm(gradients)).norm()
    if share.device.type != "cpu" or share < 1:  # to look at a number of another device is to wait for it
        torch._foreach_mul_(gradients, share.clamp(max=1))


@torch.no_grad()
def forget_untouched(table: EmbeddingTable, optimizer: RowWiseAdagrad | TableAdam | Fused, ranks: Ranks = ALONE) -> int:
    """Overwrites rows that no step touched with their embedding's out-of-vocabulary row, and counts them.

    An untrained random vector must never be served as if it were learned: some of its dot products are the largest.
    """
    untouched = ~optimizer.touched(table.weight)
    total = 0
    for name, oov in table.oov_rows().items():
        here, rows = table.place(name)
        mine: Tensor = untouched[here].clone()
        if rows.start == 0:
            mine[:1] = False
        table.weight.data[here][mine] = oov
        total += int(mine.sum())
    return int(ranks.sum(torch.tensor(total)))
