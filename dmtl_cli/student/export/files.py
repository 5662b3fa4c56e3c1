"""The files of an export: both towers, item vectors, users, items, and how raw values become inputs.

One run id for all of it, so that towers of two versions are never mixed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from dmtl_cli.config.evaluate import TOPK
from dmtl_cli.config.export import Export, Numbers, Seen
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.layout import Encoded
from dmtl_cli.data.log.checked.day import ID, Day
from dmtl_cli.runs.keyed import with_key
from dmtl_cli.serving import vectors as stored
from dmtl_cli.serving.files import ITEMS, USERS
from dmtl_cli.serving.opening import UNSEEN
from dmtl_cli.serving.search import Floats
from dmtl_cli.student.build import Blocks
from dmtl_cli.student.doubts import spread
from dmtl_cli.student.export.kept import Kept, write_index
from dmtl_cli.student.export.towers import Served, Shown, block_vectors, towers_of, vectors, write_towers

FLOAT32 = Export(index="exact")
"""what is written where a config has no say: vectors as the tower makes them"""
_GROUP = 8_192  # rows in a row group
SPREAD = 4_096  # users, and items, whose vectors are compared: enough for two digits


class Catalogue(NamedTuple):
    """The items of an export."""

    items: int
    unknown_share: float
    """of them, those served by content alone"""
    spread: dict[str, float]
    """`doubts.spread` of some vectors by `<side>.<block>`"""
    norm: dict[str, float]
    """mean length of some vectors by side, as they were learned: without kappa and the weights of what is shown"""
    towers: dict[str, Served]
    facts: dict[str, Any]
    """as `score_facts` says"""
    served: pl.DataFrame
    """raw features of its items"""
    vectors: Floats
    """[I, d] of its items, as stored"""
    kept: Kept
    """what stored numbers and an index keep of exact search"""


def write_export(
    folder: Path,
    student: Blocks,
    encoder: Encoder,
    day: Day,
    shown: Shown,
    retired: pl.Series | None = None,
    settings: Export = FLOAT32,
    seen: Sequence[pl.DataFrame] = (),
    unseen: Mapping[str, float] = MappingProxyType({}),
    key: str = "",
    k: int = TOPK[0],
) -> Catalogue:
    """All files of an export; returns what its items are.

    Args:
        retired: ids of items that are not served any more.
        shown: how much of what is shown is served beside the preference, and what it is made of.
        settings: of stored vectors and their index.
        seen: what users saw on days before and on this one, as `seen_items` has it; none: what they clicked on this
            one.
        unseen: by feature what it is of a user or item whom no profile knows, where it is not null.
        key: the run's, which every file carries.
        k: items at which it is measured what an index keeps of exact search.

    Raises:
        UserError: 65 kappa is above 0 and the student did not learn what is shown.
    """
    shown = _over_users(shown, student, encoder, day)
    towers = towers_of(student, encoder, shown)
    write_towers(folder, towers, key)
    served = day.items if retired is None else day.items.filter(~pl.col(ID).is_in(retired.implode()))
    items = encoder.encode(served, "item", False)
    exact = vectors(towers["item"], items)
    as_stored = write_items(folder, served[ID], exact, settings.vectors, key)
    write_item_features(folder, served, encoder, key)
    own = clicked_items(day)
    write_users(folder, day.users, _lists(seen, own) if seen else _lists([own]), key)
    facts = score_facts(student, shown)
    encoder.write(folder, facts | ({UNSEEN: dict(unseen)} if unseen else {}), key)
    blocks = facts.get("blocks", {"preference": [0, None]})
    if "exposure" in blocks and shown.numbers is not None:  # whose last column is one number of all users
        blocks = blocks | {"exposure": [0, blocks["exposure"][1] - 1]}
    some = {"user": vectors(towers["user"], encoder.encode(_some(day.users), "user")), "item": exact[_places(served)]}
    learned = {side: {name: made[:, slice(*at)] for name, at in blocks.items()} for side, made in some.items()}
    if "exposure" in blocks:  # which counts for more or less from day to day, as reads tell
        learned["user"]["exposure"] = shown.learned(learned["user"]["exposure"])
    spreads = {f"{side}.{name}": spread(part) for side, parts in learned.items() for name, part in parts.items()}
    norms = {side: _mean_length(np.concatenate([*parts.values()], 1)) for side, parts in learned.items()}
    kept = write_index(folder, settings, some["user"], exact, as_stored, key, k)
    return Catalogue(len(items), _oov_share(encoder, items), spreads, norms, towers, facts, served, as_stored, kept)


def _over_users(shown: Shown, student: Blocks, encoder: Encoder, day: Day) -> Shown:
    """With the mean user's vector where it is needed: of those with an event that day, or where none had one of all."""
    if not shown.kappa or shown.popularity == 1 or student.exposure is None:
        return shown
    active = day.users.filter(day.user_events > 0)
    users = encoder.encode(_some(active if len(active) else day.users), "user")
    return shown.over(block_vectors(student, "user", users, encoder).exposure)


def _mean_length(vectors: Floats) -> float:
    return float(np.linalg.norm(vectors.astype(np.float64), axis=1).mean()) if len(vectors) else 0.0


def write_items(folder: Path, ids: pl.Series, made: Floats, numbers: Numbers = "float32", key: str = "") -> Floats:
    """Writes both files of item vectors [I, d]; returns the vectors that the stored numbers stand for."""
    found = stored.quantised(made, numbers)
    stored.write(folder, ids, found, key)
    return found.floats()


def write_users(folder: Path, users: pl.DataFrame, seen: pl.DataFrame, key: str = "") -> None:
    """users.parquet: user_id, `seen_items` (what they clicked) and the raw features that they are served with;
    sorted by user_id, in row groups so small that one user's row is read in a moment.

    Args:
        users: column `:id` and raw features by name.
        seen: `:id` and `seen_items`, and where these are of several days `clicked_items`, those of the last.
    """
    # features get their published names before the join, as they may be called user_id or seen_items too
    features = [pl.col(name).alias(f"feature.{name}") for name in sorted(users.columns) if name != ID]
    served = users.select(ID, *features).join(seen, on=ID, how="left").sort(ID)
    own = [name for name in ("seen_items", "clicked_items") if name in seen.columns]
    out = served.select(pl.col(ID).alias("user_id"), *own, pl.exclude(ID, *own))
    _write_table(out, folder / USERS, key)


def write_item_features(folder: Path, items: pl.DataFrame, encoder: Encoder, key: str = "") -> None:
    """items.parquet: item_id and raw features, by which a server filters, in the order of the vectors. Those of kind
    vector, which nobody filters by, are left out: they may be larger than all the rest of an export.

    Args:
        items: column `:id` and raw features by name.
    """
    names = sorted(f.name for f in encoder.features_of_side("item") if f.kind != "vector")
    features = [pl.col(name).alias(f"feature.{name}") for name in names if name in items.columns]
    _write_table(items.select(pl.col(ID).alias("item_id"), *features), folder / ITEMS, key)


def _write_table(frame: pl.DataFrame, file: Path, key: str) -> None:
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    pq.write_table(table.cast(with_key(table.schema, key)), file, compression="zstd", row_group_size=_GROUP)


def score_facts(student: Blocks, shown: Shown) -> dict[str, Any]:
    """What features.json has besides features: how two vectors give a score; of two blocks where each is in them."""
    preference, exposure = student.preference, student.exposure if shown.kappa else None
    facts: dict[str, Any] = {
        "score": "scale * dot(user_vector, item_vector) + bias",
        "scale": 1.0 if exposure else float(preference.scale.detach()),
        "bias": float(preference.bias.detach()),
        "vectors": "unit" if preference.unit and not exposure else "plain",
    }
    if exposure:
        first, second = exposure.length + (shown.numbers is not None), preference.length
        blocks = {"exposure": [0, first], "preference": [first, first + second]}
        facts |= {"kappa": shown.kappa, "blocks": blocks}
        facts |= {} if shown.mean is None else {"popularity": shown.popularity, "mean_user": shown.mean.tolist()}
    return facts


def clicked_items(day: Day) -> pl.DataFrame:
    """What each user clicked that day: a row a user and item, `:id` and `seen_items`."""
    return _pairs(day, day.clicked)


def seen_items(day: Day, what: Seen, threshold: float | None) -> pl.DataFrame:
    """What each user clicked that day, or what was a good click of theirs: as `clicked_items`.

    Args:
        threshold: seconds from which on a read is long, where a duration tells it.
    """
    if what == "click":
        return clicked_items(day)
    good = [
        b.user.astype(np.int64)[z] * len(day.items) + b.item[z] for b in day.blocks() for z in b.labels(threshold)[:1]
    ]
    return _pairs(day, np.unique(np.concatenate([np.zeros(0, np.int64), *good])))


def _pairs(day: Day, pairs: npt.NDArray[np.int64]) -> pl.DataFrame:
    user, item = np.divmod(pairs, len(day.items))
    return pl.DataFrame({ID: day.users[ID].gather(user), "seen_items": day.items[ID].gather(item)})


def _lists(days: Sequence[pl.DataFrame], clicked: pl.DataFrame | None = None) -> pl.DataFrame:
    """`:id` and the distinct `seen_items` of each user, those of the first days first.

    Args:
        clicked: what is told by itself too, as `clicked_items`: what they clicked on the last day.
    """

    def listed(pairs: pl.DataFrame, name: str) -> pl.DataFrame:
        return pairs.rename({"seen_items": name}).group_by(ID, maintain_order=True).agg(name)

    every = listed(pl.concat(days).unique(maintain_order=True) if len(days) > 1 else days[0], "seen_items")
    if clicked is None:
        return every
    return every.join(listed(clicked, "clicked_items"), on=ID, how="full", coalesce=True, maintain_order="left_right")


def _places(rows: pl.DataFrame) -> npt.NDArray[np.int64]:
    """At most SPREAD places, evenly in a table sorted by id."""
    return np.linspace(0, len(rows) - 1, min(len(rows), SPREAD)).astype(np.int64)


def _some(rows: pl.DataFrame) -> pl.DataFrame:
    return rows[_places(rows)]


def _oov_share(encoder: Encoder, items: Encoded) -> float:
    """Share of the catalogue whose every id is out of vocabulary: served by content alone."""
    ids = np.asarray(encoder.layout("item").is_id, np.bool_)
    return float((items.ids[:, ids] == 0).all(1).mean()) if ids.any() and len(items) else 0.0
