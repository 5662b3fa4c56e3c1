"""The processes of one run under `torchrun`, called ranks. With one process every method returns its argument.

All ranks run the same stage on the same numbers. A step's work is cut among them and what they computed is gathered, so
that each of them sees the whole batch. Rank 0 alone publishes and prints.
"""

from __future__ import annotations

import datetime as dt
import functools
import importlib.util
import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from dmtl_cli.config.errors import Exit, UserError, short

if TYPE_CHECKING:  # imported where it is used: reading a day and serving start without torch
    from torch import Tensor, nn

# Longer than whatever rank 0 does alone. A process that dies closes its connections, which is noticed at once; only a
# machine that is cut off is waited for.
TIMEOUT = dt.timedelta(minutes=30)
# What torch's messages say when another rank is lost: it raises a plain RuntimeError.
_LOST = ("gloo", "nccl", "connection", "broken pipe", "timed out", "timeout", "socket")
T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among those of its run."""

    rank: int = 0
    size: int = 1
    local: int = 0
    """place among the ranks of this machine: the number of its GPU"""
    store: Any = None
    """torch's key-value store of the run, in which the first failure is noted"""

    @staticmethod
    def join(env: Mapping[str, str] = os.environ) -> Ranks:
        """The ranks that torchrun started; one, without torchrun.

        Raises:
            UserError: 2 a variable of torchrun's is not set, 69 TorchRec is not installed, 74 the others cannot be
                reached.
        """
        size = int(env.get("WORLD_SIZE", "1"))
        if size == 1:
            return Ranks()
        if missing := [k for k in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if k not in env]:
            what = f"WORLD_SIZE is {size}, but {missing[0]} is not set"
            raise UserError(what, "start many processes with torchrun", Exit.USAGE)
        if importlib.util.find_spec("torchrec") is None:
            what = f"{size} processes share the embeddings through TorchRec, which is not installed"
            raise UserError(what, "run scripts/install_torchrec.sh", Exit.NO_DEVICE)
        import torch
        import torch.distributed as dist

        rank = int(env["RANK"])
        try:
            store = _open_store(env)
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
        except RuntimeError as e:
            place = f"{env['MASTER_ADDR']}:{env['MASTER_PORT']}"
            what = f"rank {rank} of {size} cannot join the others at {place}: {_first_line(e)}"
            raise UserError(what, "run it again", Exit.IO) from None
        return Ranks(rank, size, int(env["LOCAL_RANK"]), store)

    def leave(self) -> None:
        """Closes the connections to the other ranks, after the run."""
        if self.size > 1:
            import torch.distributed as dist

            dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which publishes and prints."""
        return self.rank == 0

    # -- shares --------------------------------------------------------------------------------------------------------

    def slice(self, n: int) -> slice:
        """This rank's share of n rows; empty where there are fewer rows than ranks."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def mine(self, k: int) -> bool:
        """Whether the k-th of many blocks is this rank's."""
        return k % self.size == self.rank

    # -- tensors -------------------------------------------------------------------------------------------------------

    def gather(self, x_b: Tensor, n: int) -> Tensor:
        """Every rank's `slice(n)` along the first axis -> all n rows, on every rank.

        A rank that computes the whole loss from them gets the gradient of its own rows times `size`: averaged over
        ranks, as `mean_gradients` does, what was computed before the gather adds up and what comes after counts once.
        """
        if self.size == 1:
            return x_b
        whole: Tensor = _gather_function()(x_b, n, self)
        return whole

    def mean_gradients(self, model: nn.Module) -> None:
        """Averages the gradients of a model's dense weights, in one all-reduce."""
        if self.size == 1:
            return
        import torch
        import torch.distributed as dist

        params = [p for p in model.parameters() if p.requires_grad]
        there = [torch.full((1,), float(p.grad is not None), device=p.device) for p in params]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
        flat = torch.cat([*(g.flatten() for g in grads), *there])
        dist.all_reduce(flat)
        *means, counts = torch.split(flat, [*(g.numel() for g in grads), len(params)])
        for p, mean, count in zip(params, means, counts.tolist(), strict=True):
            p.grad = (mean / self.size).view_as(p) if count else None

    def sum(self, x: Tensor) -> Tensor:
        """The sum over ranks of a tensor of one shape."""
        if self.size > 1:
            import torch.distributed as dist

            dist.all_reduce(x)
        return x

    def total(self, x: Tensor) -> Tensor:
        """The sum over ranks of a tensor of one shape, for autograd: what other ranks make of it counts too."""
        if self.size == 1:
            return x
        out: Tensor = _total_function()(x)
        return out

    # -- anything else -------------------------------------------------------------------------------------------------

    def gather_objects(self, mine: T) -> list[T]:
        """The objects of all ranks, in order of ranks, on every rank."""
        if self.size == 1:
            return [mine]
        import torch.distributed as dist

        every: list[Any] = [None] * self.size
        dist.all_gather_object(every, mine)
        return every

    def on_first(self, make: Callable[[], T]) -> T:
        """Calls `make` on rank 0 and returns the result on every rank; a UserError is raised on every rank."""
        if self.size == 1:
            return make()
        import torch.distributed as dist

        box: list[Any] = [None]
        if self.first:
            try:
                box = [make()]
            except UserError as e:
                box = [e]
        dist.broadcast_object_list(box, 0)
        if isinstance(box[0], UserError):
            raise box[0]
        made: T = box[0]
        return made

    # -- failure -------------------------------------------------------------------------------------------------------

    @contextmanager
    def together(self) -> Iterator[None]:
        """Turns torch's RuntimeErrors about a lost rank into UserError 74."""
        try:
            yield
        except RuntimeError as e:
            if self.size == 1 or not any(word in str(e).lower() for word in _LOST):
                raise
            what = f"rank {self.rank} of {self.size} lost another one: {_first_line(e)}"
            raise UserError(what, "nothing is published, run it again", Exit.IO) from e

    def failed(self, code: int) -> tuple[int, bool]:
        """Notes a failure: (exit code of the run's first failure, whether this rank noted it and so prints it)."""
        if self.store is None:
            return code, True
        mine = f"{code} {self.rank}"
        try:
            noted = self.store.compare_set("failure", "", mine).decode()
        except RuntimeError:  # the store is gone with its host
            return code, True
        return int(noted.split()[0]), noted == mine


ALONE = Ranks()


def _open_store(env: Mapping[str, str]) -> Any:
    """The key-value store of this attempt at the run, in torchrun's agent or in rank 0.

    `TCPStore` and `PrefixStore` are in torch's documentation of `torch.distributed`, though not in its `__all__`.
    """
    import torch.distributed as dist

    hosts = env["RANK"] == "0" and env.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    place = (env["MASTER_ADDR"], int(env["MASTER_PORT"]))
    store = dist.TCPStore(*place, int(env["WORLD_SIZE"]), is_master=hosts, timeout=TIMEOUT)  # type: ignore[attr-defined]
    # after a restart by torchrun the addresses of the attempt before are still there, and gloo would wait for them
    attempt = f"attempt-{env.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    return dist.PrefixStore(attempt, store)  # type: ignore[attr-defined]


@functools.cache
def _gather_function() -> Any:
    """`Ranks.gather` as an autograd function, made when it is first called so that this module is light.

    `torch.distributed.all_gather_single` is the name since torch 2.13 of what was `all_gather_into_tensor`.
    """
    import torch
    import torch.distributed as dist

    class Gather(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x_b: Tensor, n: int, ranks: Ranks) -> Tensor:
            ctx.mine, ctx.size = ranks.slice(n), ranks.size
            cuts = [n * k // ranks.size for k in range(ranks.size + 1)]
            lengths = [b - a for a, b in itertools.pairwise(cuts)]
            longest = max(lengths)
            padded = x_b.new_zeros(longest, *x_b.shape[1:])
            padded[: len(x_b)] = x_b
            every = x_b.new_empty(ranks.size * longest, *x_b.shape[1:])
            dist.all_gather_single(every, padded)
            return torch.cat([part[:m] for part, m in zip(torch.split(every, longest), lengths, strict=True)])

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Any:
            return gradient[ctx.mine] * ctx.size, None, None

    return Gather.apply


@functools.cache
def _total_function() -> Any:
    """`Ranks.total` as an autograd function, made when it is first called."""
    import torch
    import torch.distributed as dist

    class Total(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            whole = x.clone(memory_format=torch.contiguous_format)
            dist.all_reduce(whole)
            return whole

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Any:
            whole = gradient.clone(memory_format=torch.contiguous_format)
            dist.all_reduce(whole)
            return whole

    return Total.apply


def _first_line(e: Exception) -> str:
    text = re.sub(r"\[/\S*\] ", "", str(e).strip().partition("\n")[0])  # without torch's source files
    return short(text, 160)
