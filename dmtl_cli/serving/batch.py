"""The top items of many users as a table: users that an export knows, and users given by their raw features."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.log.values.column_types import words_of
from dmtl_cli.runs.disk import creating, reading, sync_dir
from dmtl_cli.runs.keyed import with_key
from dmtl_cli.serving.export import Export, raw_features
from dmtl_cli.serving.ids import column_of_ids, read_csv

SLICE = 4_096  # users in memory at a time, and in a row group of the table
_ID, _ROW = "user_id", "row"
_KNOWN = ":known"


class Counts(NamedTuple):
    """How many users of a file got a list."""

    known: int
    """by the export"""
    cold: int
    """by the raw features that the file has"""
    unknown: list[str]
    """as text, sorted: neither"""


def read_users(file: Path, kind: pl.DataType, features: list[str], own: str = _ID) -> pl.DataFrame:
    """Users to recommend to: `row` (of the file, from 0), `user_id`, and the raw features that the file has; each id
    once with the same features, sorted, and behind them those without one.

    Args:
        file: Parquet or CSV by its name, with a column user_id, or features by name, or both; else an id a line.
        kind: of user ids: Int64 or String.
        features: what the user tower reads.
        own: what the log calls the ids, which a file that was cut out of it does too: as a feature alone they would be
            of people whom the export does not know.

    Raises:
        UserError: 66 there is no such file, or it has no user; 65 neither a column user_id nor a feature, an id of
            another type, or a null among ids without features; no Parquet or CSV.
    """
    if not file.is_file():
        raise UserError(
            f"--users {file}: there is no such file", "name a Parquet, a CSV or an id a line", Exit.NO_INPUT
        )
    frame = _read(file, own)
    if _ID not in frame.columns and own in frame.columns:
        frame = frame.rename({own: _ID})
    given = [name for name in features if name in frame.columns and name != _ID]
    if _ID in frame.columns:
        frame = frame.with_columns(_as_ids(file, frame[_ID], kind, nulls=bool(given)))
    elif given:
        frame = frame.with_columns(pl.lit(None, kind).alias(_ID))
    else:
        what = f"--users {file}: no column {_ID} among {', '.join(frame.columns[:12])}"
        raise UserError(what, "rename the ids' column, or give users without an id by their features")
    if not len(frame):
        raise UserError(f"--users {file}: it has no user", "write an id a line", Exit.NO_INPUT)
    frame = frame.select(_ID, *given).with_row_index(_ROW).with_columns(pl.col(_ROW).cast(pl.Int64))
    once = frame.filter(pl.col(_ID).is_null() | pl.struct(_ID, *given).is_first_distinct())
    return once.sort(_ID, _ROW, nulls_last=True)


def _read(file: Path, own: str) -> pl.DataFrame:
    with reading(file):
        raw = file.read_bytes() if file.suffix not in (".parquet", ".csv") else b""
    try:
        if file.suffix == ".parquet":
            return pl.read_parquet(file, glob=False)
        if file.suffix == ".csv":
            return read_csv(file, _ID, own)  # beside user_id the log's own is a feature
        lines = (line.removesuffix("\r") for line in raw.decode("utf-8-sig").split("\n"))
        return pl.DataFrame({_ID: [line for line in lines if line.strip()]}, schema={_ID: pl.String})
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())[:120]
        raise UserError(
            f"--users {file}: {type(error).__name__}: {said}", "give Parquet, CSV, or an id a line"
        ) from error


def _as_ids(file: Path, ids: pl.Series, kind: pl.DataType, nulls: bool) -> pl.Series:
    """Ids in the type of the export's, null where there is none and there may be none. Raises UserError 65, naming the
    first that does not fit."""
    if (found := column_of_ids(ids, kind)) is None:
        expected = "text" if kind == pl.String else "integers"
        what = f"--users {file}: {_ID}: expected {expected}, got {words_of(ids)}"
        raise UserError(what, "give ids in the type of the log")
    wrong = found.is_null() & (ids.is_not_null() if nulls else True)
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        what = f"--users {file}: row {row + 1}: expected a user id ({kind}), got {ids[row]!r}"
        raise UserError(what, "give ids in the type of the log")
    return found.alias(_ID)


def recommend_to(
    export: Export,
    users: pl.DataFrame,
    out: Path,
    k: int,
    *,
    exclude_seen: bool = False,
    among: npt.NDArray[np.bool_] | None = None,
    kappa: float | None = None,
    slice_size: int = SLICE,
) -> Counts:
    """Writes the top k of each user as Parquet: user_id, rank, item_id, score, and with an exposure block `exposure`
    and `preference`; sorted by user_id and rank. Where some have no id, or one is there with several features, as of
    several requests, `row` too, of the file; those without an id come last. The file appears whole, by rename.

    A user is served as over HTTP: one who is known as the export has them, but for the features that the file gives; of
    others what the file does not give is what `Export.unseen` has, or unknown.

    Args:
        users: as `read_users` gives them.
        exclude_seen: leave out what a known user has seen, as `export.seen` and `seen_days` say.
        among: [I] whether an item of the export may be given at all.
        kappa: how much of what is shown counts, in place of the export's.
        slice_size: users at a time: memory does not grow with users.

    Raises:
        UserError: 66 nobody is known and no features are given; 65 a feature is of another type; 73, 74 the table
            cannot be written.
    """
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    known = cold = 0
    with_rows = users[_ID].is_duplicated().any() or users[_ID].null_count() > 0
    unknown: list[str] = []
    writer: pq.ParquetWriter | None = None
    try:
        with creating(out):
            for start in range(0, len(users), slice_size):
                some = users[start : start + slice_size]
                mine, given, there = _with_features(export, some)
                missing = some.filter(~pl.col(_ROW).is_in(mine[_ROW].implode()))[_ID]
                unknown.extend(missing.cast(pl.String).to_list())
                known, cold = known + there, cold + len(mine) - there
                if len(mine):
                    seen = mine["seen_items"] if exclude_seen else None
                    rows = raw_features(mine)
                    lists = export.recommend_rows(rows, k, given=given, exclude=seen, among=among, kappa=kappa)
                    table = _table(mine, lists, with_rows)
                    writer = writer or pq.ParquetWriter(
                        draft, with_key(table.schema, export.key or ""), compression="zstd"
                    )
                    writer.write_table(table.cast(writer.schema), row_group_size=max(1, len(table)))
            if writer is None:
                stored = export.stored_users
                hint = f"users.parquet of the export holds {len(stored)} users, e.g. {stored.example}"
                raise UserError(f"none of {len(users)} users is in the export {export.folder}", hint, Exit.NO_INPUT)
            writer.close()
            with draft.open("rb") as handle:
                os.fsync(handle.fileno())
            draft.replace(out)
            sync_dir(out.parent)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
    return Counts(known, cold, unknown)


def _with_features(export: Export, users: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Those of some users that have features, in their order: `row`, `user_id`, `seen_items` and `feature.NAME` as the
    export has them, or as of who is not there; by feature name what the file gives in place of these, whose types may
    be others; how many are known. Raises UserError 65."""
    stored = export.stored_users.among(users[_ID]).with_columns(pl.lit(True).alias(_KNOWN))
    found = users.select(_ROW, _ID).join(stored, on=_ID, how="left", maintain_order="left")
    names = [f.name for f in export.encoder.features_of_side("user")]
    given = users.select(name for name in names if name in users.columns and name not in (_ID, _ROW))
    known = found[_KNOWN].fill_null(False)
    if not given.columns and {*names} != {_ID}:
        return found.filter(known), given, int(known.sum())
    new = {_ID: pl.col(_ID)} if _ID in names else {}
    new |= {name: pl.lit(value) for name, value in export.unseen("user").items()}
    absent = {f"feature.{name}" for name in (*new, *given.columns)}.difference(found.columns)
    found = found.with_columns(pl.lit(None).alias(c) for c in absent)
    found = found.with_columns(
        pl.when(_KNOWN).then(f"feature.{name}").otherwise(value).alias(f"feature.{name}") for name, value in new.items()
    )
    return found, given, int(known.sum())


def _table(users: pl.DataFrame, lists: pl.DataFrame, with_rows: bool) -> pa.Table:
    """Lists of some users, as `recommend_rows` gives them, in their order."""
    found = lists.rename({"row": ":place"})
    found = found.with_columns(users[name].gather(found[":place"]).alias(name) for name in (_ID, _ROW))
    shown = [_ID, *([_ROW] if with_rows else [])]
    return found.select(*shown, pl.exclude(":place", _ID, _ROW)).to_arrow(compat_level=pl.CompatLevel.oldest())
