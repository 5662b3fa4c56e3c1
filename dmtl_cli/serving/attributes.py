"""What is known of items, to filter by: the export's items.parquet, and a file of further columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config.errors import Exit, UserError, did_you_mean
from dmtl_cli.config.features import Feature
from dmtl_cli.data.log.values.types import iso_times
from dmtl_cli.runs.disk import reading
from dmtl_cli.serving.given import with_near
from dmtl_cli.serving.ids import column_of_ids, is_integer, read_csv
from dmtl_cli.serving.requests import Range, Scalar

Mask = npt.NDArray[np.bool_]
Wanted = Mapping[str, "Range | list[Scalar] | Scalar"]
_ID = "item_id"
_PLAIN = "values"  # what a column is called while it is worked on: to polars `*` and `^p.*$` are patterns
_MASKS = 64  # kept: most requests of a page have the same filter


def read_more(file: Path, kind: pl.DataType) -> pl.DataFrame:
    """`item_id` and further columns of a Parquet or CSV file.

    Args:
        kind: of the items' ids.

    Raises:
        UserError: 66 there is no such file; 65 it is neither, or has no ids of the items' type, each once; 74.
    """
    if not file.is_file():
        raise UserError(f"--items {file}: there is no such file", "name a Parquet or CSV with item_id", Exit.NO_INPUT)
    try:
        with reading(file):
            frame = (
                read_csv(file, _ID)
                if file.suffix == ".csv"
                else pl.read_parquet(file, glob=False, hive_partitioning=False)
            )
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as e:
        said = " ".join(str(e).split())[:120]
        raise UserError(f"--items {file}: {type(e).__name__}: {said}", "give Parquet or CSV with item_id") from e
    found = column_of_ids(frame[_ID], kind) if _ID in frame.columns else None
    if found is None:
        what = f"--items {file}: {_ID}: expected {kind}, got {frame.schema.get(_ID) or 'no such column'}"
        raise UserError(what, "give ids in the type of the log")
    if found.null_count() or found.n_unique() < len(found):
        raise UserError(f"--items {file}: {_ID}: expected each once, as {kind}, no null", "write a row an item")
    return frame.with_columns(found.alias(_ID))


def of_items(ids: pl.Series, more: pl.DataFrame) -> pl.DataFrame:
    """The columns that `read_more` found, for each of some items [I], null where it has none."""
    return ids.alias(_ID).to_frame().join(more, on=_ID, how="left", maintain_order="left").drop(_ID)


def in_pieces(columns: pl.DataFrame, features: Iterable[Feature]) -> pl.DataFrame:
    """The columns with texts of several values, of features with a separator, as lists of them."""
    cut = {f.name: f.separator for f in features if f.separator is not None}
    texts = [name for name in cut if columns.schema.get(name) == pl.String]
    return columns.with_columns(pl.col(name).str.split(cut[name]) for name in texts)


class Attributes:
    """Columns of items, row by row of `Export.items`.

    Args:
        ids: [I]
        columns: [I] rows each; a later one replaces an earlier of its name.
    """

    def __init__(self, ids: pl.Series, *columns: pl.DataFrame) -> None:
        series = {s.name: _known(s.alias(_PLAIN)) for frame in columns for s in frame} | {_ID: ids}
        self.frame = pl.DataFrame(series)
        self._masks: dict[str, Mask] = {}

    def mask(self, wanted: Wanted) -> Mask:
        """[I] whether an item has a wanted value in every column; a list has one where any of its values is wanted.

        Raises:
            UserError: no such column; a value of another type than the column's.
        """
        told = json.dumps({n: w.model_dump() if isinstance(w, Range) else w for n, w in wanted.items()})
        mask = self._masks.get(told)  # once: another thread may clear what is remembered
        if mask is None:
            mask = np.ones(len(self.frame), np.bool_)
            for name, w in wanted.items():
                mask &= self._holds(name, w).fill_null(False).to_numpy()
            if len(self._masks) >= _MASKS:
                self._masks.clear()
            self._masks[told] = mask
        return mask

    def unknown(self, wanted: Wanted) -> list[str]:
        """A line for each column of which no item has some wanted value, with the one that it is perhaps.

        Args:
            wanted: what `mask` takes.
        """
        lines = []
        for name, w in wanted.items():
            if isinstance(w, Range):
                continue
            s = self.frame[name].alias(_PLAIN)
            there = (s.explode() if isinstance(s.dtype, pl.List) else s).drop_nulls().unique()
            values: list[Scalar] = [v for v in (w if isinstance(w, list) else [w]) if v is not None]
            typed = _typed(name, _as_written(values, there), there.dtype)
            if missing := [v for v, known in zip(values, typed.is_in(there.implode()), strict=True) if not known]:
                lines.append(f"filter {name}: no item of this export has {with_near(missing, there.sort())}")
        return lines

    def _holds(self, name: str, wanted: Range | list[Scalar] | Scalar) -> pl.Series:
        if name not in self.frame.columns:
            near = did_you_mean(name, self.frame.columns)
            raise UserError(f"filter: no column {name!r}{near}", f"expected one of {', '.join(self.frame.columns)}")
        column = self.frame[name].alias(_PLAIN)
        is_list = isinstance(column.dtype, pl.List)
        inner: Any = column.dtype.inner if isinstance(column.dtype, pl.List) else column.dtype
        if isinstance(wanted, Range):
            if is_list:
                raise UserError(f"filter: {name}: a range of lists", "expected a value or a list of values")
            ends = [(op, end) for op, end in (("ge", wanted.min), ("le", wanted.max)) if end is not None]
            if inner in (pl.String, pl.Categorical, pl.Enum):
                return _among_texts(name, column.cast(pl.String), ends)
            return _within(column, [(op, _bound(name, end, inner)) for op, end in ends])
        values = wanted if isinstance(wanted, list) else [wanted]
        some = _typed(name, _as_written([v for v in values if v is not None], column), inner)
        if is_list:
            hit = column.list.eval(pl.element().is_in(some.implode())).list.any()
        else:
            hit = column.is_in(some.implode())
        hit = hit.fill_null(False)
        return hit | column.is_null() if None in values else hit


def _known(values: pl.Series) -> pl.Series:
    """NaN is unknown, and a list of a fixed length a list."""
    values = values.arr.to_list() if isinstance(values.dtype, pl.Array) else values
    return values.fill_nan(None) if values.dtype.is_float() else values


def _within(values: pl.Series, ends: Iterable[tuple[str, pl.Series]]) -> pl.Series:
    """Whether values are at or above (ge), or at or below (le), each of some bounds [1]."""
    holds = pl.repeat(True, len(values), eager=True)
    for op, end in ends:
        holds &= getattr(values, op)(end)
    return holds


def _bound(name: str, end: Scalar, dtype: Any) -> pl.Series:
    """[1] the end of a range; whole numbers of a column may have any, beyond its type too."""
    if dtype.is_integer() and isinstance(end, int | float) and not isinstance(end, bool):
        dtype = pl.Int128() if isinstance(end, int) and abs(end) < 2**127 else pl.Float64()
    return _typed(name, [end], dtype)


def _among_texts(name: str, values: pl.Series, ends: Sequence[tuple[str, Scalar]]) -> pl.Series:
    """A range of a column of text [I]: of numbers, or of days and times, if all of it is. By its letters 2 is above 10,
    and 01.02.2026 below 31.01.2026. Raises UserError."""
    bounds = pl.Series([None if isinstance(end, bool) else str(end) for _, end in ends], dtype=pl.String)
    for read in (lambda s: s.cast(pl.Float64, strict=False), iso_times):
        found, low_high = read(values), read(bounds)
        if found.null_count() == values.null_count() and not low_high.null_count():
            return _within(found, [(op, low_high[k : k + 1]) for k, (op, _) in enumerate(ends)])
    expected = "expected numbers, or ISO 8601 (2026-01-31), in all of the column and in the filter"
    raise UserError(f"filter: {name}: a range of text", f"{expected}; or name the values that you want")


def _as_written(values: list[Scalar], column: pl.Series) -> list[Scalar]:
    """Values, true and false as a column of text has them, `False` in a CSV of pandas."""
    if column.dtype != pl.String or not any(isinstance(v, bool) for v in values):
        return values
    texts = {text.lower(): text for text in column.drop_nulls().unique().sort()}
    return [texts.get(str(v).lower(), v) if isinstance(v, bool) else v for v in values]


def _times(texts: pl.Series, dtype: Any) -> pl.Series:
    """ISO 8601 as days or times of a column; those without a zone are of the column's, and it is UTC where it names
    none. Raises ValueError, PolarsError."""
    if not isinstance(dtype, pl.Datetime):
        return texts.str.strptime(dtype, strict=True)
    zone = dtype.time_zone or "UTC"
    found = iso_times(texts, zone).dt.convert_time_zone(zone)
    if found.null_count():
        raise ValueError(texts)
    return (found if dtype.time_zone else found.dt.replace_time_zone(None)).cast(dtype)


def _typed(name: str, values: list[Scalar], dtype: Any) -> pl.Series:
    """Values in the type of their column. Ids of integers may be text, days and times are (ISO 8601); a whole number
    is the text that it is written as where the column is text, as a flag of 0 and 1 is in a CSV."""
    text = [v for v in values if isinstance(v, str)]
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    try:
        if dtype == pl.Boolean:
            fits = len(text) == len(numbers) == 0
        elif dtype.is_integer():
            fits = len(text) + len(numbers) == len(values) and all(map(is_integer, text))
            fits = fits and all(v == int(v) for v in numbers)  # JSON's 3.0 is 3
            values = list(map(int, values)) if fits else values  # type: ignore[arg-type]
        elif dtype.is_numeric():
            fits = len(numbers) == len(values)
            values = [float(v) for v in numbers]
        else:
            whole = [v for v in numbers if isinstance(v, int)] if dtype == pl.String else []
            fits = len(text) + len(whole) == len(values)
            values = [str(v) for v in values] if whole and fits else values
        if fits and dtype.is_temporal():
            return _times(pl.Series(values, dtype=pl.String), dtype)
        if fits:
            return pl.Series(values, dtype=dtype, strict=True)
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError):
        pass
    raise UserError(
        f"filter: {name}: expected {dtype}, got {', '.join(map(repr, values[:3]))}", "see the item's values"
    )
