"""The top items of many users as a table: users that an export knows, and users given by their raw features."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.log.column_types import words_of
from dmtl_cli.runs.disk import creating, reading, sync_dir
from dmtl_cli.runs.keyed import with_key
from dmtl_cli.serving.export import Export, raw_features

SLICE = 4_096  # users in memory at a time, and in a row group of the table
_ID = "user_id"


class Counts(NamedTuple):
    """How many users of a file got a list."""

    known: int
    """by the export"""
    cold: int
    """by the raw features that the file has"""
    unknown: list[str]
    """as text, sorted: neither"""


def read_users(file: Path, kind: pl.DataType, features: list[str]) -> pl.DataFrame:
    """Users to recommend to, once each, sorted: `user_id`, and raw features where the file has them.

    Args:
        file: Parquet or CSV by its name, with a column user_id and perhaps features by name; else an id a line.
        kind: of user ids: Int64 or String.
        features: what the user tower reads. A file that has some of them must have all.

    Raises:
        UserError: 66 there is no such file, or it has no user; 65 no column user_id, a null or an id of another type in
            it, a feature without a column, no Parquet or CSV.
    """
    if not file.is_file():
        raise UserError(
            f"--users {file}: there is no such file", "name a Parquet, a CSV or an id a line", Exit.NO_INPUT
        )
    frame = _read(file)
    if _ID not in frame.columns:
        raise UserError(
            f"--users {file}: no column {_ID} among {', '.join(frame.columns[:12])}", "rename the ids' column"
        )
    frame = frame.with_columns(_as_ids(file, frame[_ID], kind))
    if given := [name for name in features if name in frame.columns and name != _ID]:
        if missing := [name for name in features if name not in frame.columns]:
            what = f"--users {file}: it has the feature {given[0]}, but no column {', '.join(missing)}"
            raise UserError(what, "give all features of a user, null where one is not known, or none")
    elif {*features} != {_ID}:
        frame = frame.select(_ID)
    if not len(frame):
        raise UserError(f"--users {file}: it has no user", "write an id a line", Exit.NO_INPUT)
    return frame.unique(_ID, keep="first", maintain_order=True).sort(_ID)


def _read(file: Path) -> pl.DataFrame:
    with reading(file):
        raw = file.read_bytes() if file.suffix not in (".parquet", ".csv") else b""
    try:
        if file.suffix == ".parquet":
            return pl.read_parquet(file)
        if file.suffix == ".csv":
            return _csv(file)
        lines = (line.strip() for line in raw.decode("utf-8-sig").split("\n"))
        return pl.DataFrame({_ID: [line for line in lines if line]}, schema={_ID: pl.String})
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())[:120]
        raise UserError(
            f"--users {file}: {type(error).__name__}: {said}", "give Parquet, CSV, or an id a line"
        ) from error


def _csv(file: Path) -> pl.DataFrame:
    """Numbers where all values of a column are; a column with a value such as 007 is of text, and so are ids."""
    text = pl.read_csv(file, infer_schema=False)
    found = pl.read_csv(file, schema_overrides={_ID: pl.String}, infer_schema_length=None)
    whole = [c for c in found.columns if found[c].dtype.is_integer()]
    return found.with_columns(text[c] for c in whole if (found[c].cast(pl.String) != text[c]).any())


def _as_ids(file: Path, ids: pl.Series, kind: pl.DataType) -> pl.Series:
    """Ids in the type of the export's. Raises UserError 65, naming the first that has none."""
    found: pl.Series | None = None
    if ids.dtype == kind:
        found = ids
    elif kind == pl.String:
        found = ids.cast(pl.String) if ids.dtype.is_integer() or ids.dtype in (pl.Categorical, pl.Enum) else None
    elif ids.dtype == pl.String:
        whole = ids.str.contains(r"^[+-]?\d+$")
        found = pl.select(pl.when(whole).then(ids.str.to_integer(strict=False))).to_series()
    else:
        found = ids.cast(kind, strict=False) if ids.dtype.is_integer() else None
    if found is None:
        expected = "text" if kind == pl.String else "integers"
        what = f"--users {file}: {_ID}: expected {expected}, got {words_of(ids)}"
        raise UserError(what, "give ids in the type of the log")
    if found.null_count():
        row = int(found.is_null().arg_max() or 0)
        what = f"--users {file}: row {row + 1}: expected a user id ({kind}), got {ids[row]!r}"
        raise UserError(what, "give ids in the type of the log")
    return found.cast(kind).alias(_ID)


def recommend_to(
    export: Export, users: pl.DataFrame, out: Path, k: int, *, exclude_seen: bool = False, slice_size: int = SLICE
) -> Counts:
    """Writes the top k of each user as Parquet: user_id, rank, item_id, score, and with an exposure block `exposure`
    and `preference`; sorted by user_id and rank. The file appears whole, by rename.

    Args:
        users: as `read_users` gives them.
        exclude_seen: leave out the items that a known user clicked on the export's day.
        slice_size: users at a time: memory does not grow with users.

    Raises:
        UserError: 66 nobody is known and no features are given; 73, 74 the table cannot be written.
    """
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    known = cold = 0
    unknown: list[str] = []
    writer: pq.ParquetWriter | None = None
    try:
        with creating(out):
            for start in range(0, len(users), slice_size):
                mine, there = _with_features(export, users[start : start + slice_size])
                missing = users[start : start + slice_size].join(mine, on=_ID, how="anti")[_ID]
                unknown.extend(missing.cast(pl.String).to_list())
                known, cold = known + there, cold + len(mine) - there
                if len(mine):
                    table = _table(export, mine, k, exclude_seen)
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


def _with_features(export: Export, users: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Those of some users that have features, by id: `user_id`, `seen_items` and `feature.NAME`; how many are known."""
    stored = export.stored_users.among(users[_ID])
    names = [f.name for f in export.encoder.features_of_side("user")]
    if not {*names} <= {*users.columns}:
        return stored.sort(_ID), len(stored)
    rest = users.join(stored, on=_ID, how="anti")
    given = rest.select(_ID, *(pl.col(name).alias(f"feature.{name}") for name in names))
    return pl.concat([stored, given], how="diagonal_relaxed").sort(_ID), len(stored)


def _table(export: Export, users: pl.DataFrame, k: int, exclude_seen: bool) -> pa.Table:
    """Lists of users with features, sorted."""
    seen = users["seen_items"] if exclude_seen else None
    found = export.recommend_rows(raw_features(users), k, exclude=seen)
    found = found.with_columns(users[_ID].gather(found["row"]).alias(_ID))
    return found.select(_ID, pl.exclude("row", _ID)).to_arrow(compat_level=pl.CompatLevel.oldest())
