"""Makes a student from flat numbers."""

from __future__ import annotations

from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.nn.layers import EmbeddingTable, SideEmbedder, mlp
from dmtl_cli.nn.sharded import TableOf
from dmtl_cli.student.dssm import DSSM


def build_student(
    encoder: Encoder,
    *,
    embedding_dim: int,
    hidden_units: tuple[int, ...],
    unit: bool,
    auxiliary: bool = False,
    table_of: TableOf = EmbeddingTable,
) -> DSSM:
    table = table_of(encoder.embedding_rows(), embedding_dim)
    layouts = [encoder.layout(s) for s in ("user", "item")]
    user, item = (SideEmbedder(table, lay.ids, lay.sequences) for lay in layouts)
    towers = [mlp(lay.width(embedding_dim), hidden_units, last_relu=False) for lay in layouts]
    return DSSM(table, user, item, towers[0], towers[1], unit=unit, auxiliary=auxiliary)
