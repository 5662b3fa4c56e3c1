"""The files of an export: both towers, item vectors, users, and how raw values become inputs.

One run id for all of it, so that towers of two versions are never mixed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.layout import Encoded
from dmtl_cli.data.log.day import ID, Day
from dmtl_cli.serving.search import Floats
from dmtl_cli.student.build import Blocks
from dmtl_cli.student.doubts import spread
from dmtl_cli.student.export.towers import Served, towers_of, vectors, write_towers

_SPREAD = 4_096  # users, and items, whose vectors are compared: enough for two digits


class Catalogue(NamedTuple):
    """The items of an export."""

    items: int
    unknown_share: float
    """of them, those served by content alone"""
    spread: dict[str, float]
    """`doubts.spread` of some served vectors by `<side>.<block>`"""
    norm: dict[str, float]
    """mean length of some served vectors by side"""
    towers: dict[str, Served]
    served: pl.DataFrame
    """raw features of its items"""
    vectors: Floats
    """[I, d] of its items"""


def write_export(
    folder: Path, student: Blocks, encoder: Encoder, day: Day, kappa: float, retired: pl.Series | None = None
) -> Catalogue:
    """All files of an export; returns what its items are.

    Args:
        retired: ids of items that are not served any more.
        kappa: how much of what is shown is served beside the preference; 0: none, whatever the student learned.

    Raises:
        UserError: 65 kappa is above 0 and the student did not learn what is shown.
    """
    towers = towers_of(student, encoder, kappa)
    write_towers(folder, towers)
    served = day.items if retired is None else day.items.filter(~pl.col(ID).is_in(retired.implode()))
    items = encoder.encode(served, "item", False)
    stored = write_items(folder, served[ID], towers["item"], items)
    write_users(folder, day.users, _seen(day))
    facts = score_facts(student, kappa)
    encoder.write(folder, facts)
    spreads: dict[str, float] = {}
    norms: dict[str, float] = {}
    for side, rows in (("user", day.users), ("item", served)):
        made = vectors(towers[side], encoder.encode(_some(rows), side))
        blocks = facts.get("blocks", {"preference": [0, None]})
        spreads |= {f"{side}.{name}": spread(made[:, slice(*span)]) for name, span in blocks.items()}
        norms[side] = float(np.linalg.norm(made.astype(np.float64), axis=1).mean()) if len(made) else 0.0
    return Catalogue(len(items), _oov_share(encoder, items), spreads, norms, towers, served, stored)


def write_items(folder: Path, ids: pl.Series, tower: Served, encoded: Encoded) -> Floats:
    """Writes item_vectors.parquet: item_id and vector, a FixedSizeList<float32>; returns the vectors."""
    made = vectors(tower, encoded)
    flat = pa.array(made.reshape(-1), pa.float32())
    table = pa.table(
        {
            "item_id": ids.to_arrow(compat_level=pl.CompatLevel.oldest()),
            "vector": pa.FixedSizeListArray.from_arrays(flat, made.shape[1]),
        }
    )
    pq.write_table(table, folder / "item_vectors.parquet", compression="zstd")
    return made


def write_users(folder: Path, users: pl.DataFrame, seen: pl.DataFrame) -> None:
    """users.parquet: user_id, `seen_items` (what they clicked lately) and the raw features that they are served with.

    Args:
        users: column `:id` and raw features by name.
        seen: `:id` and `seen_items`.
    """
    # features get their published names before the join, as they may be called user_id or seen_items too
    features = [pl.col(name).alias(f"feature.{name}") for name in sorted(users.columns) if name != ID]
    served = users.select(ID, *features).join(seen, on=ID, how="left").sort(ID)
    out = served.select(pl.col(ID).alias("user_id"), "seen_items", pl.exclude(ID, "seen_items"))
    pq.write_table(out.to_arrow(compat_level=pl.CompatLevel.oldest()), folder / "users.parquet", compression="zstd")


def score_facts(student: Blocks, kappa: float) -> dict[str, Any]:
    """What features.json has besides features: how two vectors give a score; of two blocks where each is in them."""
    preference, exposure = student.preference, student.exposure if kappa else None
    facts: dict[str, Any] = {
        "score": "scale * dot(user_vector, item_vector) + bias",
        "scale": 1.0 if exposure else float(preference.scale.detach()),
        "bias": float(preference.bias.detach()),
        "vectors": "unit" if preference.unit and not exposure else "plain",
    }
    if exposure:
        first, second = exposure.length, preference.length
        blocks = {"exposure": [0, first], "preference": [first, first + second]}
        facts |= {"kappa": kappa, "blocks": blocks}
    return facts


def _seen(day: Day) -> pl.DataFrame:
    """What each user clicked that day: `:id`, `seen_items`."""
    user, item = np.divmod(day.clicked, len(day.items))
    pairs = pl.DataFrame({ID: day.users[ID].gather(user), "seen_items": day.items[ID].gather(item)})
    return pairs.group_by(ID, maintain_order=True).agg("seen_items")


def _some(rows: pl.DataFrame) -> pl.DataFrame:
    """At most _SPREAD rows, evenly from a table sorted by id."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), _SPREAD)).astype(np.int64)]


def _oov_share(encoder: Encoder, items: Encoded) -> float:
    """Share of the catalogue whose every id is out of vocabulary: served by content alone."""
    ids = np.asarray(encoder.layout("item").is_id, np.bool_)
    return float((items.ids[:, ids] == 0).all(1).mean()) if ids.any() and len(items) else 0.0
