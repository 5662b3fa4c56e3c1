"""The one training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.training import Optimizer
from dmtl_cli.nn.layers import EmbeddingTable
from dmtl_cli.nn.optimizers import RowWiseAdagrad, TableAdam
from dmtl_cli.nn.sharded import Fused, ShardedTable
from dmtl_cli.runs.progress import Progress
from dmtl_cli.runs.ranks import ALONE, Ranks

_FAST = ("log_scale", "bias", "auxiliary.log_scale", "auxiliary.bias")  # scalars that a whole DSSM waits for
_FAST_RATE = 10.0
_LOOK_EVERY = 16  # steps between looks at the loss: each waits for the device
B = TypeVar("B", bound=Sized)


@dataclass(frozen=True)
class Optimizers:
    """Adam for dense weights, and one that knows rows for the table."""

    dense: torch.optim.Adam
    table: RowWiseAdagrad | TableAdam | Fused

    @staticmethod
    def of(model: nn.Module, table: EmbeddingTable, config: Optimizer) -> Optimizers:
        named = [(n, p) for n, p in model.named_parameters() if p is not table.weight]
        groups = [
            {"params": [p for n, p in named if n not in _FAST], "lr": config.learning_rate},
            {"params": [p for n, p in named if n in _FAST], "lr": config.learning_rate * _FAST_RATE},
        ]
        dense = torch.optim.Adam([g for g in groups if g["params"]], lr=config.learning_rate, fused=True)
        table.sparse = config.embedding_optimizer != "adam"
        if isinstance(table, ShardedTable):
            if not table.sparse:
                what = "embedding_optimizer: adam needs the whole table in one process"
                raise UserError(what, "use rowwise_adagrad, or run it without torchrun", Exit.CONFIG)
            return Optimizers(dense, Fused(table))
        if table.sparse:
            return Optimizers(dense, RowWiseAdagrad([table.weight], config.table_rate))
        return Optimizers(dense, TableAdam([table.weight], config.table_rate))

    def step(self) -> None:
        for optimizer in (self.dense, self.table):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def refuse_precision(key: str, precision: str, device: torch.device) -> None:
    """Raises UserError 69 where bf16 is asked for and the processor has no such products: torch computes them there one
    number at a time, hundreds of times slower than fp32."""
    if precision == "fp32" or has_bf16(device):
        return
    what = f"{key}: bf16, but this {'GPU' if device.type == 'cuda' else 'CPU'} has no bfloat16 products"
    raise UserError(what, "use fp32", Exit.NO_DEVICE)


def has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    there: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return there and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def products(precision: str, device: torch.device) -> torch.autocast:
    """A context in which matrix products are of that precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def fit(
    learners: Sequence[tuple[nn.Module, Optimizers]],
    batches: Iterable[B],
    loss_of: Callable[[B], tuple[Tensor, dict[str, float | Tensor]]],
    progress: Progress,
    ranks: Ranks = ALONE,
) -> dict[str, float]:
    """Trains on every batch once.

    Args:
        learners: models that share the loss, each with its optimizers.
        loss_of: a batch -> its mean loss, and numbers to average over rows and report; under several ranks the same on
            each, made of what they gathered.

    Returns:
        Row-weighted means of the loss and of the reported numbers over the whole stream, and `rows`.

    Raises:
        UserError: the loss is not finite; nothing of this run may be published.
    """
    for model, _ in learners:
        model.train()
    rows = 0
    sums: dict[str, Tensor] = {}  # on the device: a step does not wait for its numbers
    for k, batch in enumerate(batches):
        loss, parts = loss_of(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        for model, optimizers in learners:
            ranks.mean_gradients(model)
            optimizers.step()
        rows += len(batch)
        for name, value in {"loss": loss, **parts}.items():
            now = len(batch) * torch.as_tensor(value, dtype=torch.float64).detach()
            sums[name] = sums[name] + now if name in sums else now
        progress.step(len(batch), loss.detach())
        if k % _LOOK_EVERY == 0:
            _refuse_divergence(float(sums["loss"]), rows)
    if rows:
        _refuse_divergence(float(sums["loss"]), rows)
    for model, _ in learners:
        model.eval()
    return {name: float(total) / max(1, rows) for name, total in sums.items()} | {"rows": float(rows)}


def _refuse_divergence(total: float, rows: int) -> None:
    if not math.isfinite(total):
        hint = "lower learning_rate and embedding_learning_rate, or look for extreme feature values with dmtl check"
        raise UserError(f"training diverged: the loss is {total} within the first {rows} rows", hint)


@torch.no_grad()
def forget_untouched(table: EmbeddingTable, optimizer: RowWiseAdagrad | TableAdam | Fused, ranks: Ranks = ALONE) -> int:
    """Overwrites rows that no step touched by their embedding's unknown row, and counts them.

    An untrained random vector must never be served as if it were learned: it floats to the top of a retrieval.
    """
    untouched = ~optimizer.touched(table.weight)
    total = 0
    for name, unknown in table.unknown().items():
        here, rows = table.place(name)
        mine = untouched[here].clone()
        if rows.start == 0:
            mine[:1] = False
        table.weight.data[here][mine] = unknown
        total += int(mine.sum())
    return int(ranks.sum(torch.tensor(total)))
