"""Makes a student from the config's section."""

from __future__ import annotations

from dmtl_cli.config.stored import from_stored
from dmtl_cli.config.student import Student as StudentConfig
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.nn.layers import SideEmbedder, mlp
from dmtl_cli.nn.sharded import TableOf
from dmtl_cli.nn.table import EmbeddingTable
from dmtl_cli.runs.manifest import Manifest
from dmtl_cli.student.dssm import DSSM


def build_student(encoder: Encoder, config: StudentConfig, table_of: TableOf = EmbeddingTable) -> DSSM:
    """An untrained student around a table that `table_of` makes."""
    table = table_of(encoder.embedding_rows(), config.embedding_dim)
    layouts = [encoder.layout(s) for s in ("user", "item")]
    user, item = (SideEmbedder(table, lay.ids, lay.sequences) for lay in layouts)
    towers = [mlp(lay.width(config.embedding_dim), config.hidden_units, last_relu=False) for lay in layouts]
    unit, auxiliary = config.vectors == "unit", config.distill.head == "auxiliary"
    return DSSM(table, user, item, towers[0], towers[1], unit=unit, auxiliary=auxiliary)


def stored_section(manifest: Manifest) -> StudentConfig:
    """The `student` section that a published model was made with."""
    return from_stored(StudentConfig, manifest.config["student"])
