"""Makes a teacher from the config's section."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.schema import Config
from dmtl_cli.config.stored import from_stored
from dmtl_cli.config.teacher import Teacher as TeacherConfig
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.nn.layers import BatchNorm, SideEmbedder
from dmtl_cli.nn.sharded import ShardedTable, TableOf
from dmtl_cli.nn.table import EmbeddingTable
from dmtl_cli.runs.contents import decoding
from dmtl_cli.runs.manifest import MANIFEST, Manifest
from dmtl_cli.runs.run import Parent
from dmtl_cli.scores.logits import log_odds
from dmtl_cli.teacher.labels import TeacherRows
from dmtl_cli.teacher.model import Teacher
from dmtl_cli.teacher.networks.network import Network


def build_teacher(
    encoder: Encoder,
    config: TeacherConfig,
    num_tasks: int,
    table_of: TableOf = EmbeddingTable,
    *,
    plain_autograd: bool = False,
) -> Teacher:
    """An untrained teacher around a table that `table_of` makes."""
    beside = (config.factor_dim + 1,) * num_tasks if config.factor_dim else ()
    parts = config.embedding_dim, *beside
    table = table_of(encoder.embedding_rows(), sum(parts), parts)
    layouts = [encoder.layout(s) for s in ("user", "item", "context")]
    user, item, context = (SideEmbedder(table, lay.ids, lay.sequences) for lay in layouts)
    u, i, c = (lay.width(config.embedding_dim) for lay in layouts)
    widths = u, i, c + 1 if c else 0  # of a context also whether it is known
    net = build_network(config, widths + ((len(config.crosses),) if config.crosses else ()), num_tasks)
    net.plain_autograd = plain_autograd
    for module in net.modules():
        if isinstance(module, BatchNorm) and isinstance(table, ShardedTable):
            module.ranks = table.ranks
    columns = tuple((encoder.columns(c.user), encoder.columns(c.item)) for c in config.crosses)
    return Teacher(table, user, item, context, net, config.embedding_dim, columns)


def build_network(config: TeacherConfig, widths: tuple[int, ...], num_tasks: int) -> Network:
    """The network of `teacher.model`: a module of that name in networks/, whose `build` takes the same arguments.

    Args:
        widths: lengths of the parts of its input.
    """
    module = importlib.import_module(f"dmtl_cli.teacher.networks.{config.model}")
    made: Network = module.build(config, widths, num_tasks)
    return made


def begin_at_rates(teacher: Teacher, rows: Iterable[TeacherRows]) -> None:
    """Begins each logit of an untrained network at the log-odds of its label in the first rows (Lin et al., ICCV 2017,
    section 3.3). A step of Adam moves a bias by its learning rate: few steps would take days to get there."""
    for some in filter(len, rows):
        for k, tower in enumerate(teacher.net.towers):
            label, kept = some.labels.of_task(k)
            *_, bias = tower.parameters()
            nn.init.constant_(bias, log_odds(label, some.labels.weight * kept))
        break


def stored_section(manifest: Manifest) -> TeacherConfig:
    """The `teacher` section that a published model was made with."""
    return from_stored(TeacherConfig, manifest.config["teacher"])


def refuse_other_tasks(folder: Path, manifest: Manifest, tasks: tuple[str, ...]) -> None:
    """Raises UserError 65 if a published model predicts other tasks than the config names."""
    stored = manifest.facts["tasks"]
    if list(tasks) != stored:
        what = f"{folder}: its tasks are {', '.join(stored)}, the config's {', '.join(tasks)}"
        raise UserError(what, "use a new workspace for other data.events.conversions")


def refuse_another_model(before: Parent | None, config: Config) -> None:
    """Raises UserError 65 if a warm start would read the weights of one task or cross as another's, since their order
    alone tells them apart."""
    if before is None:
        return
    refuse_other_tasks(*before, config.tasks.names)
    crosses: list[dict[str, Any]] = [cross.model_dump() for cross in config.teacher.crosses]
    with decoding(before[0] / MANIFEST):
        stored = before[1].config["teacher"]["crosses"]
    if stored != crosses:
        what = f"{before[0]}: the model's crosses are not the config's"
        raise UserError(what, "use a new workspace for other crosses")
