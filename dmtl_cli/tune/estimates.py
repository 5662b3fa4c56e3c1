"""What a run of a day will take, before anything is trained: guesses, and shown as such."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import polars as pl

from dmtl_cli.config.schema import Config
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.layout import Layout
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.nn.table import EmbeddingTable
from dmtl_cli.teacher.build import build_teacher
from dmtl_cli.teacher.rows import rows_per_epoch
from dmtl_cli.tune.memory import Side, Sizes, peak
from dmtl_cli.tune.plan import SECONDS_A_STEP, epochs_of

_TEACHER_FLOPS = 2e10  # per second and thread, forward and backward: a cautious guess


def estimates(config: Config, day: Day, encoder: Encoder) -> dict[str, Any]:
    """Guesses: rows of the embedding table, memory and disk in MB, minutes of a teacher's training."""
    teacher = config.teacher
    size = _sizes(config, day, encoder)
    epoch = rows_per_epoch([day], teacher)
    seconds = seconds_a_row(config, encoder) + SECONDS_A_STEP / teacher.rows_a_step(epoch)
    trained = size.embeddings * (size.wide + size.preference + size.exposure + 3) * 4
    exported = size.embeddings * (size.preference + size.exposure) * 4 * 2
    disk = day.spool.bytes + size.scores * 20 * 2 + trained + exported + size.item.rows * size.vector * 4
    return {
        "table_rows": size.embeddings,
        "memory_mb": round(peak(size) / 1e6),
        "disk_mb": round(disk / 1e6),
        "teacher_minutes": round(epoch * epochs_of(config) * seconds / 60, 1),
    }


def _sizes(config: Config, day: Day, encoder: Encoder) -> Sizes:
    """What decides the memory of a run of the day, where the chain goes on as it is."""
    teacher, student = config.teacher, config.student
    small = build_teacher(encoder, teacher, len(config.tasks.names), _small)
    blocks = 2 if student.exposure.kappa else 1
    return Sizes(
        rows=len(day),
        user=_side(day.users, encoder.layout("user")),
        item=_side(day.items, encoder.layout("item")),
        days=teacher.window_days,
        embeddings=sum(encoder.embedding_rows().values()),
        wide=small.table.dim,
        outputs=len(small.net.first.bias),
        expert=teacher.expert_hidden_units[0],
        batch=teacher.rows_a_step(rows_per_epoch([day], teacher)),
        scored=config.scores.batch_size,
        scores=len(day) * (1 + config.scores.negatives),
        preference=student.embedding_dim,
        exposure=student.exposure.embedding_dim if blocks > 1 else 0,
        hidden=sum(student.hidden_units),
        vector=student.hidden_units[-1] * blocks,
        threads=config.threads,
        adam=teacher.embedding_optimizer == "adam",
    )


def _side(table: pl.DataFrame, layout: Layout) -> Side:
    places = len(layout.ids) + sum(length for _, length in layout.sequences)
    columns, size = len(layout.ids) + len(layout.sequences), int(table.estimated_size())
    return Side(len(table), places, columns, layout.floats, size)


def _small(rows: dict[str, int], dim: int, parts: Sequence[int] = ()) -> EmbeddingTable:
    """A table without the rows: what a model's other sizes are does not depend on them."""
    return EmbeddingTable(dict.fromkeys(rows, 1), dim, parts)


def seconds_a_row(config: Config, encoder: Encoder) -> float:
    """Of a teacher's training."""
    teacher = config.teacher
    width = sum(encoder.layout(s).width(teacher.embedding_dim) for s in ("user", "item", "context"))
    first, *later = teacher.expert_hidden_units
    multiplied = teacher.num_experts * (width * first + sum(a * b for a, b in itertools.pairwise((first, *later))))
    return multiplied * 6 / (_TEACHER_FLOPS * config.threads)
