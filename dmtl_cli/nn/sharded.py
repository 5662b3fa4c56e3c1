"""An embedding table sharded by rows: TorchRec moves the rows that a step needs, FBGEMM stores and updates them.

`scripts/install_torchrec.sh` installs both.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.nn.table import INIT_STD, EmbeddingTable
from dmtl_cli.nn.table_optimizers import EPS
from dmtl_cli.runs.ranks import Ranks

_BLOCK = 1 << 20  # random numbers at a time; a multiple of 16, which torch draws together
_NAME = "table"


class TableOf(Protocol):
    """Builds a model's table from the number of rows of each embedding, and of columns, all and in each part."""

    def __call__(self, rows: dict[str, int], dim: int, parts: Sequence[int] = ()) -> EmbeddingTable: ...


def table_of(ranks: Ranks, device: torch.device, learning_rate: float) -> TableOf:
    """The constructor of a model's table: whole in one process, sharded over several."""
    return EmbeddingTable if ranks.size == 1 else partial(ShardedTable, ranks, device, learning_rate)


class ShardedTable(EmbeddingTable):
    """A table split into one range of rows per rank; its initial values are those of an unsharded one.

    The rows that a batch needs are fetched once. Gradients go back to the rank that owns a row, are summed over ranks
    and applied: backward is the step. TorchRec divides them by the number of ranks, by which `Ranks.gather` multiplied.

    FBGEMM has one accumulator a row, wants a multiple of 4 columns, and takes the mean square of a gradient over all.
    So each part of a row is a row of its own there, as wide as the widest, padded with 0. A part of d of W columns is
    kept as w / s, s = sqrt(d / W), and its gradient is 1 / s times that of w: accumulators are those of d columns, and
    so are steps.
    """

    sums: Tensor
    """[rows of this rank] or [rows of this rank, parts] accumulators"""

    def __init__(
        self,
        ranks: Ranks,
        device: torch.device,
        learning_rate: float,
        rows: dict[str, int],
        dim: int,
        parts: Sequence[int] = (),
    ) -> None:
        self.ranks, self.device, self.learning_rate = ranks, device, learning_rate
        super().__init__(rows, dim, parts)

    def _weight(self) -> nn.Parameter:
        total, parts = len(self.local), len(self.parts)
        self._width = -(-max(self.parts) // 4) * 4
        self._scale = (torch.tensor(self.parts, device=self.device) / self._width).sqrt()
        each = -(-total // self.ranks.size)
        module = _sharded(self.ranks, self.device, each * self.ranks.size * parts, self._width, self.learning_rate)
        self._torchrec = (module,)  # in a tuple it is no submodule, so its weights are not Adam's
        name = f"embeddings.{_NAME}.weight"
        sums = module.fused_optimizer.state_dict()["state"][name][f"{_NAME}.momentum1"]
        self.state = {"weight": module.state_dict()[name], "sum": sums}
        self.local = range(min(total, self.ranks.rank * each), min(total, (self.ranks.rank + 1) * each))
        weight, mine = (x.local_shards()[0].tensor for x in self.state.values())
        weight = weight.view(each, parts * self._width)[: len(self.local)]
        self.sums = mine.view(each, *self.shape_of_sums)[: len(self.local)]
        with torch.no_grad():
            weight.copy_(self.kept(randn(total, self.dim, self.local) * INIT_STD))
        return nn.Parameter(weight, requires_grad=False)

    def kept(self, weight: Tensor) -> Tensor:
        each = zip(torch.split(weight.to(self.device), [*self.parts], 1), self._scale, strict=True)
        return torch.cat([F.pad(part / s, (0, self._width - part.shape[1])) for part, s in each], 1)

    def plain(self, kept: Tensor) -> Tensor:
        """The rows [n, D] of what TorchRec keeps of them, [n * parts, W]."""
        by_row = kept.view(len(kept) // len(self.parts), len(self.parts), self._width)
        each = zip(by_row.unbind(1), self._scale.to(kept.device), self.parts, strict=True)
        return torch.cat([part[:, :columns] * s for part, s, columns in each], 1)

    def oov_rows(self) -> dict[str, Tensor]:
        mine = torch.zeros(len(self.start), self.weight.shape[1], device=self.device)
        for k, at in enumerate(self.start.values()):
            if at in self.local:
                mine[k] = self.weight[at - self.local.start]
        return dict(zip(self.start, self.ranks.sum(mine), strict=True))

    def forward(self, *rows: Tensor) -> tuple[Tensor, ...]:
        return self._at_once(rows)

    def _fetch(self, distinct: Tensor) -> Tensor:
        parts = torch.arange(len(self.parts), device=distinct.device)
        rows = (distinct.unsqueeze(1) * len(self.parts) + parts).flatten()
        fetched = _lookup(self._torchrec[0], rows)
        if fetched.requires_grad:
            more = self._scale.square().reciprocal().repeat(len(distinct)).unsqueeze(1)
            fetched.register_hook(lambda gradient: gradient * more)  # type: ignore[no-untyped-call]
        return self.plain(fetched)


def _sharded(ranks: Ranks, device: torch.device, rows: int, width: int, learning_rate: float) -> Any:
    """TorchRec's collection of one table, its rows cut evenly. Raises UserError 69 where TorchRec does not import."""
    with warnings.catch_warnings(), torch.random.fork_rng([]):  # the initial values that TorchRec draws are not used
        warnings.simplefilter("ignore")  # FBGEMM warns about kernels that this build lacks
        try:
            from fbgemm_gpu.split_embedding_configs import EmbOptimType
            from torchrec import EmbeddingCollection, EmbeddingConfig
            from torchrec.distributed.embedding import EmbeddingCollectionSharder
            from torchrec.distributed.embedding_types import EmbeddingComputeKernel
            from torchrec.distributed.sharding_plan import construct_module_sharding_plan, row_wise
            from torchrec.distributed.types import ShardingEnv
        except (ImportError, OSError) as e:
            what = f"TorchRec cannot be imported beside torch {torch.__version__}: {e}".splitlines()[0]
            raise UserError(what, "run scripts/install_torchrec.sh", Exit.NO_DEVICE) from None

        logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)  # about a name that TorchRec uses
        config = EmbeddingConfig(num_embeddings=rows, embedding_dim=width, name=_NAME, feature_names=[_NAME])
        whole = EmbeddingCollection(tables=[config], device=torch.device("meta"))
        sharder = EmbeddingCollectionSharder(
            fused_params={
                "optimizer": EmbOptimType.EXACT_ROWWISE_ADAGRAD,
                "learning_rate": learning_rate,
                "eps": EPS,
            }
        )
        plan = construct_module_sharding_plan(
            whole,
            {_NAME: row_wise(compute_kernel=EmbeddingComputeKernel.FUSED.value)},
            sharder=sharder,
            world_size=ranks.size,
            local_size=ranks.size,
            device_type=device.type,
        )
        env = ShardingEnv.from_process_group(dist.group.WORLD)
        return sharder.shard(whole, plan, env, device)


def _lookup(module: Any, rows: Tensor) -> Tensor:
    """[n] distinct rows of the table -> [n, width], from whichever ranks own them."""
    from torchrec import KeyedJaggedTensor

    lengths = torch.tensor([len(rows)], device=rows.device)
    found = module(KeyedJaggedTensor(keys=[_NAME], values=rows, lengths=lengths))
    values: Tensor = found.wait()[_NAME].values()
    return values


class Fused:
    """The optimizer inside a sharded table, which steps in backward, with the interface of other table optimizers."""

    def __init__(self, table: ShardedTable) -> None:
        self.table = table

    def touched(self, p: nn.Parameter) -> Tensor:
        """[rows of this rank] bool: whether a step ever changed the row."""
        return (self.table.sums.view(len(self.table.local), len(self.table.parts)) > 0).any(1)

    def by_row(self, p: nn.Parameter) -> dict[str, Tensor]:
        """The optimizer's state by name, [rows of this rank, ...] each."""
        return {"sum": self.table.sums}

    def step(self) -> None:
        """Does nothing: backward was the step."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Does nothing: the table has no gradient."""


def randn(rows: int, dim: int, local: range) -> Tensor:
    """torch.randn(rows, dim)[local] with the same state of the generator after it, in the memory of a block and these
    rows."""
    out = torch.empty(len(local), dim)
    # a last block of fewer than 16 numbers would be drawn in another way
    step = max(1, _BLOCK // dim // 16) * 16
    starts = list(range(0, max(1, rows - step + 1), step))
    for start, stop in zip(starts, [*starts[1:], rows], strict=True):
        block = torch.randn(stop - start, dim)
        low, high = max(start, local.start), min(stop, local.stop)
        if low < high:
            out[low - local.start : high - local.start] = block[low - start : high - start]
    return out
