"""Makes a student's blocks from the config's section, untrained or as they were published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dmtl_cli.config.stored import from_stored
from dmtl_cli.config.student import Student as StudentConfig
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.nn import checkpoint
from dmtl_cli.nn.layers import SideEmbedder, TowerLayers
from dmtl_cli.nn.sharded import TableOf
from dmtl_cli.nn.table import EmbeddingTable
from dmtl_cli.runs.contents import decoding
from dmtl_cli.runs.manifest import MANIFEST, Manifest
from dmtl_cli.student.dssm import DSSM

EXPOSURE = "exposure"
"""the folder of the exposure block in a published student"""


@dataclass(frozen=True)
class Blocks:
    """A student as it is served: two models side by side, which share nothing but the features they read."""

    preference: DSSM
    exposure: DSSM | None = None
    """what is shown to whom: log P(item | user shown something) up to a number of the user; None: not learned"""


def build_exposure(encoder: Encoder, config: StudentConfig, table_of: TableOf = EmbeddingTable) -> DSSM:
    """An untrained exposure block around a table that `table_of` makes."""
    table, sides, widths = _inputs(encoder, config.exposure_block, table_of)
    user, item = (TowerLayers(width, config.exposure_block.hidden_units, wide=True) for width in widths)
    return DSSM(table, *sides, user, item, unit=False)


def build_student(encoder: Encoder, config: StudentConfig, table_of: TableOf = EmbeddingTable) -> DSSM:
    """An untrained preference around a table that `table_of` makes."""
    table, sides, widths = _inputs(encoder, config, table_of)
    user, item = (TowerLayers(width, config.hidden_units, wide=config.towers == "wide_and_deep") for width in widths)
    unit, auxiliary = config.vectors == "unit", config.distill.head == "auxiliary"
    return DSSM(table, *sides, user, item, unit=unit, auxiliary=auxiliary)


def _inputs(
    encoder: Encoder, config: StudentConfig, table_of: TableOf
) -> tuple[EmbeddingTable, tuple[SideEmbedder, SideEmbedder], list[int]]:
    """A table, and of users and items what reads it and the length of a tower's input."""
    table = table_of(encoder.embedding_rows(), config.embedding_dim)
    layouts = [encoder.layout(s) for s in ("user", "item")]
    user, item = (SideEmbedder(table, lay.ids, lay.sequences) for lay in layouts)
    return table, (user, item), [lay.width(config.embedding_dim) for lay in layouts]


def stored_section(manifest: Manifest) -> StudentConfig:
    """The `student` section that a published model was made with."""
    return from_stored(StudentConfig, manifest.config["student"])


def stored_student(folder: Path, manifest: Manifest, encoder: Encoder) -> Blocks:
    """The blocks of a published student.

    Raises:
        UserError: 65 a file is damaged.
    """
    with decoding(folder / MANIFEST):
        section = stored_section(manifest)
    preference = build_student(encoder, section)
    checkpoint.load(folder, preference, preference.table)
    if not (folder / EXPOSURE).is_dir():
        return Blocks(preference)
    exposure = build_exposure(encoder, section)
    checkpoint.load(folder / EXPOSURE, exposure, exposure.table)
    return Blocks(preference, exposure)
