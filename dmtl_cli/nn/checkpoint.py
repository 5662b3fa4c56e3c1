"""Saves and loads models and optimizer state as safetensors, embedding by embedding, so that vocabularies can grow."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dmtl_cli.config.errors import UserError
from dmtl_cli.nn.optimizers import Optimizers
from dmtl_cli.nn.sharded import ShardedTable, randn
from dmtl_cli.nn.table import INIT_STD, EmbeddingTable
from dmtl_cli.nn.table_optimizers import TableAdam
from dmtl_cli.runs.contents import decoding

_TABLE = "embedding."
_TABLE_STEP = "step.embedding"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
_OTHER = (
    "dimensions, layers, experts, tasks, features or embedding_optimizer of the config changed: "
    "undo that, or use a new workspace"
)


def _key(state: str) -> str:
    """Prefix of the names under which an optimizer's state per row is stored; row-wise Adagrad's sum has none."""
    return "" if state == "sum" else f"{state}."


def _parts(table: EmbeddingTable, whole: Tensor) -> dict[str, Tensor]:
    return {_TABLE + name: whole[table.part(name)].contiguous() for name in table.rows}


def _dense(model: nn.Module, table: EmbeddingTable) -> dict[str, nn.Parameter]:
    return {n: p for n, p in model.named_parameters() if p is not table.weight}


def buffers(model: nn.Module) -> dict[str, Tensor]:
    """What a model keeps beside its weights, by name: running statistics of its layers."""
    kept = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name in kept}


def save(
    folder: Path,
    model: nn.Module,
    table: EmbeddingTable,
    optimizers: Optimizers | None = None,
    scratch: Path | None = None,
) -> None:
    """Writes model.safetensors and (with optimizers) optimizer.safetensors.

    Args:
        scratch: a folder that all ranks see, for a sharded table, whose files rank 0 writes.
    """
    whole = {"weight": table.weight.detach(), **(optimizers.table.by_row(table.weight) if optimizers else {})}
    if isinstance(table, ShardedTable):
        assert scratch is not None
        whole = _unsharded(table, scratch)
        if not whole:
            return
    dense = _dense(model, table)
    weights = {n: p.detach().cpu().contiguous() for n, p in (dense | buffers(model)).items()}
    save_file(weights | _parts(table, whole["weight"].cpu()), folder / "model.safetensors")
    if optimizers is None:
        return
    state: dict[str, Tensor] = {}
    for key, rows in whole.items():
        if key != "weight":
            state |= {_key(key) + name: part for name, part in _parts(table, rows.cpu()).items()}
    for n, p in dense.items():
        for key, value in optimizers.dense.state.get(p, {}).items():
            state[f"{key}.{n}"] = value.detach().cpu().contiguous()
    if isinstance(optimizers.table, TableAdam):
        state[_TABLE_STEP] = optimizers.table.state[table.weight]["step"].cpu()
    save_file(state, folder / "optimizer.safetensors")


def _unsharded(table: ShardedTable, scratch: Path) -> dict[str, Tensor]:
    """All rows of a sharded table and its accumulators, on rank 0; nothing on the others."""
    # imports torch's sharded tensors and sympy: a second, which one process does without
    from torch.distributed.checkpoint import state_dict_loader, state_dict_saver

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TorchRec's tensor type, and of one process that reads everything
        state_dict_saver.save(table.state, checkpoint_id=scratch / "sharded")
        if not table.ranks.first:
            return {}
        whole = {name: torch.empty(part.size()) for name, part in table.state.items()}
        state_dict_loader.load(whole, checkpoint_id=scratch / "sharded", no_dist=True)
    shutil.rmtree(scratch / "sharded")
    rows = sum(table.rows.values())  # behind them lie those that make all ranks have as many
    sums = whole["sum"].view(-1, *table.shape_of_sums)
    return {"weight": table.plain(whole["weight"])[:rows], "sum": sums[:rows]}


def load(folder: Path, model: nn.Module, table: EmbeddingTable, optimizers: Optimizers | None = None) -> None:
    """Fills a model, whose vocabularies may have grown since, and its optimizers.

    New rows start from their embedding's out-of-vocabulary row, with a little noise so that they can diverge.

    Raises:
        UserError: 65 the stored model has another architecture, or numbers that are not finite.
    """
    weights = _read(folder / "model.safetensors")
    kept = _dense(model, table) | buffers(model)
    expected = {*kept, *(_TABLE + name for name in table.rows)}
    if more := sorted(weights.keys() - expected):
        raise UserError(f"{folder}: weight {more[0]}: this model has none of that name", _OTHER)
    for n, p in kept.items():
        _copy(n, weights, p.data, folder)
    with torch.no_grad():
        for name in table.rows:
            _fill_weights(name, weights, table, folder)
        if optimizers is None:
            return
        state = _read(folder / "optimizer.safetensors")
        for key, whole in optimizers.table.by_row(table.weight).items():
            mine = {k.removeprefix(_key(key)): v for k, v in state.items() if k.startswith(_key(key) + _TABLE)}
            if key == "sum":
                mine = {name: _of_parts(sums, table.shape_of_sums) for name, sums in mine.items()}
            for name in table.rows:
                _fill(name, mine, table, whole, folder)
        if isinstance(optimizers.table, TableAdam):
            _copy(_TABLE_STEP, state, optimizers.table.state[table.weight]["step"], folder)
        for n, p in _dense(model, table).items():
            if moments := [k for k in _MOMENTS if f"{k}.{n}" in state]:
                optimizers.dense.state[p] = {k: _moment(f"{k}.{n}", state, p, folder) for k in moments}


def _moment(name: str, state: dict[str, Tensor], weight: nn.Parameter, folder: Path) -> Tensor:
    """What the optimizer of dense weights stored for one of them: a number of steps, or a tensor of its shape."""
    into = state[name].new_empty(() if name.startswith("step.") else weight.shape)
    _copy(name, state, into, folder)
    return into.to(weight.device)


def _read(file: Path) -> dict[str, Tensor]:
    with decoding(file):
        found = load_file(file)
        for name, part in found.items():
            if not torch.isfinite(part).all():
                raise ValueError(f"{name} has numbers that are not finite")
        return found


def _copy(name: str, stored: dict[str, Tensor], into: Tensor, folder: Path) -> None:
    if name not in stored or stored[name].shape != into.shape:
        came = "nothing" if name not in stored else f"{tuple(stored[name].shape)}"
        raise UserError(f"{folder}: weight {name}: expected {tuple(into.shape)}, got {came}", _OTHER)
    into.copy_(stored[name])


def _of_parts(sums: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Accumulators of parts, of a model that was trained when all parts of a row had one: each has that."""
    return sums.unsqueeze(1).expand(-1, *shape) if shape and sums.dim() == 1 else sums


def _fill_weights(name: str, stored: dict[str, Tensor], table: EmbeddingTable, folder: Path) -> None:
    """The rows of an embedding that this process has; those not stored begin near its out-of-vocabulary row."""
    old, known = _known(name, stored, table, (table.dim,), folder)
    here, mine = table.place(name)
    into = table.weight.data[here]
    into[: len(known)] = table.kept(known).to(into.device)
    if table.rows[name] > len(old):
        new = range(max(0, mine.start + len(known) - len(old)), max(0, mine.stop - len(old)))
        fresh = randn(table.rows[name] - len(old), table.dim, new) * INIT_STD
        into[len(known) :] = table.kept(old[0] + fresh).to(into.device)


def _fill(name: str, stored: dict[str, Tensor], table: EmbeddingTable, into: Tensor, folder: Path) -> None:
    """`into`: what an optimizer has of each row of the table in this process; of rows that are not stored it stays."""
    _, known = _known(name, stored, table, into.shape[1:], folder)
    into[table.place(name)[0]][: len(known)] = known.to(into.device)


def _known(
    name: str, stored: dict[str, Tensor], table: EmbeddingTable, shape: tuple[int, ...], folder: Path
) -> tuple[Tensor, Tensor]:
    """The stored rows of an embedding [rows, *shape], and those of them that this process has."""
    old, rows = stored.get(_TABLE + name), table.rows[name]
    if old is None or old.shape[1:] != shape or len(old) > rows:
        came = "nothing" if old is None else f"{tuple(old.shape)}"
        raise UserError(f"{folder}: embedding {name}: expected {(rows, *shape)}, got {came}", _OTHER)
    mine = table.place(name)[1]
    return old, old[mine.start : max(mine.start, min(mine.stop, len(old)))]
