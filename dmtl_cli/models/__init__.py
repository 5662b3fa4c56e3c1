"""Teacher and student networks, and builders that make them from flat numbers."""

from __future__ import annotations

from dmtl_cli.data.encode import Encoder
from dmtl_cli.models.dssm import DSSM
from dmtl_cli.models.layers import EmbeddingTable, SideEmbedder, mlp
from dmtl_cli.models.mmoe import MMoE, Teacher


def build_teacher(
    encoder: Encoder,
    *,
    embedding_dim: int,
    num_experts: int,
    expert_hidden_units: tuple[int, ...],
    tower_hidden_units: tuple[int, ...],
    gate_dropout: float = 0.0,
) -> Teacher:
    table = EmbeddingTable(encoder.embedding_rows(), embedding_dim)
    layouts = [encoder.layout(s) for s in ("user", "item", "context")]
    user, item, context = (SideEmbedder(table, lay.ids, lay.sequences) for lay in layouts)
    widths = tuple(lay.width(embedding_dim) for lay in layouts)
    mmoe = MMoE(
        (widths[0], widths[1], widths[2]),
        num_experts=num_experts,
        expert_hidden_units=expert_hidden_units,
        tower_hidden_units=tower_hidden_units,
        gate_dropout=gate_dropout,
    )
    return Teacher(table, user, item, context, mmoe)


def build_student(encoder: Encoder, *, embedding_dim: int, hidden_units: tuple[int, ...], unit: bool) -> DSSM:
    table = EmbeddingTable(encoder.embedding_rows(), embedding_dim)
    layouts = [encoder.layout(s) for s in ("user", "item")]
    user, item = (SideEmbedder(table, lay.ids, lay.sequences) for lay in layouts)
    towers = [mlp(lay.width(embedding_dim), hidden_units, last_relu=False) for lay in layouts]
    return DSSM(table, user, item, towers[0], towers[1], unit=unit)
