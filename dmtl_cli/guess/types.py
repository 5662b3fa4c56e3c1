"""Columns as guesses look at them: the types that a config can name, and what the others are called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import polars as pl

from dmtl_cli.data.log.types import booleans, clock_seconds, formatted
from dmtl_cli.guess.values import is_clock, says_yes_or_no

_DATED = re.compile(
    r"\s*(?P<a>\d{1,4})(?P<sign>[./-])\d{1,2}(?P=sign)(?P<c>\d{4}|\d{1,2})"
    r"(?:(?P<gap>[ ,T]+)\d{1,2}:\d{2}(?P<s>:\d{2})?(?P<f>[.]\d+)?(?P<half>\s?)(?P<p>[AaPp][Mm])?)?\s*"
)
_FEW = 100  # texts that are tried before all are
_SINGLE = (
    pl.Boolean, pl.String, pl.Date, pl.Float32, pl.Float64,
    pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64,
)  # fmt: skip


def plain(frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, str]]:
    """The columns that something can be guessed of, and the types of the others, by name.

    Text in dictionaries becomes text, text that says yes and no in all rows that say something becomes booleans, fixed
    lists become lists. Maps, objects, binary values, durations, times of day
    and lists of these have no role and are no feature.
    """
    kept: list[pl.Series] = []
    others: dict[str, str] = {}
    for name, kind in frame.schema.items():
        target = _target(kind)
        if target is None:
            others[name] = _called(kind)
        else:
            kept.append(_flags(frame[name] if target == kind else frame[name].cast(target)))
    return pl.DataFrame(kept), others


def clocks(frame: pl.DataFrame) -> frozenset[str]:
    """The columns of a text file whose texts are lengths of time: see `values.is_clock`."""
    return frozenset(c for c in frame.columns if is_clock(frame[c]))


def in_seconds(frame: pl.DataFrame, columns: Iterable[str]) -> pl.DataFrame:
    """The frame with texts such as 3:45 of some columns as seconds."""
    return frame.with_columns(clock_seconds(frame[c].set(frame[c] == "", None)) for c in columns)


def formats(frame: pl.DataFrame) -> dict[str, str]:
    """The columns of a text file whose texts are days or times in a format that is not ISO 8601, with the type that
    reads them: see `formats_of`. A column is left out where two formats read it."""
    found = {c: formats_of(frame[c]) for c in frame.columns}
    return {c: kinds[0] for c, kinds in found.items() if len(kinds) == 1}


def formats_of(s: pl.Series) -> list[str]:
    """The types, such as datetime:%d.%m.%Y %H:%M, that read all texts of a column; none where they are no such days or
    times, or ISO 8601. Two where no number above 12 tells the day from the month; with points the day is first."""
    known = s.filter(s != "") if s.dtype == pl.String else s.head(0)
    shape = _DATED.fullmatch(known[0]) if len(known) else None
    if shape is None or (len(shape["a"]) < 3 and len(shape["c"]) < 4) or (len(shape["a"]) > 2 and shape["sign"] == "-"):
        return []
    orders = ("%Y {} %m {} %d",) if len(shape["a"]) > 2 else ("%d {} %m {} %Y", "%m {} %d {} %Y")
    clock = ""
    if shape["gap"]:
        clock = shape["gap"] + ("%I" if shape["p"] else "%H") + ":%M" + (":%S" if shape["s"] else "")
        clock += ("%.f" if shape["f"] else "") + (f"{shape['half']}%p" if shape["p"] else "")
    kind = "datetime" if clock else "date"
    types = [f"{kind}:{order.replace(' ', '').format(*2 * shape['sign'])}{clock}" for order in orders]
    fit = [t for t in types if not formatted(known.head(_FEW), t).null_count() and not formatted(known, t).null_count()]
    return fit[:1] if shape["sign"] == "." else fit


def dated(frame: pl.DataFrame, types: Mapping[str, str]) -> pl.DataFrame:
    """The frame with texts of the columns that `formats` gives as days and times."""
    return frame.with_columns(formatted(frame[c].set(frame[c] == "", None), kind) for c, kind in types.items())


def _flags(s: pl.Series) -> pl.Series:
    if s.dtype != pl.String or not says_yes_or_no(s.filter(s != "")):
        return s
    return booleans(s)


def joined(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """The rows of several files; text of yes or no is boolean where it is so in another file, a column whose types do
    not fit each other is text where it can be, else its rows of the first file's type alone have values."""
    flags = {name for frame in frames for name, kind in frame.schema.items() if kind == pl.Boolean}
    frames = [_with_flags(frame, flags) for frame in frames]
    try:
        return pl.concat(frames, how="diagonal_relaxed")
    except pl.exceptions.PolarsError:
        pass
    kinds: dict[str, list[pl.DataType]] = {}
    for frame in frames:
        for name, kind in frame.schema.items():
            if kind != pl.Null:
                kinds.setdefault(name, []).append(kind)
    mixed = {n for n, some in kinds.items() if len(set(some)) > 1 and not all(k.is_numeric() for k in some)}
    texts = {n for n in mixed if not any(k.is_nested() or k in (pl.Binary, pl.Object) for k in kinds[n])}
    out = []
    for frame in frames:
        lost = [n for n in mixed - texts if n in frame.columns and frame.schema[n] != kinds[n][0]]
        out.append(frame.drop(lost).with_columns(pl.col(*texts & {*frame.columns}).cast(pl.String)))
    return pl.concat(out, how="diagonal_relaxed")


def _with_flags(frame: pl.DataFrame, flags: set[str]) -> pl.DataFrame:
    """Where the first rows of a file have but one of two words."""
    texts = [frame[c] for c in frame.columns if c in flags and frame.schema[c] == pl.String]
    read = [booleans(s.set(s == "", None)) for s in texts]
    return frame.with_columns(
        r for r, s in zip(read, texts, strict=True) if r.null_count() <= (s.fill_null("") == "").sum()
    )


def _target(kind: pl.DataType) -> pl.DataType | None:
    """The type in which values are looked at; None where they are not."""
    if isinstance(kind, (pl.List, pl.Array)):
        inner = _target(kind.inner)  # type: ignore[arg-type]
        return None if inner is None or inner.is_nested() or inner.is_decimal() else pl.List(inner)
    if isinstance(kind, (pl.Categorical, pl.Enum)):
        return pl.String()
    if kind == pl.Float16:
        return pl.Float32()
    return kind if kind in _SINGLE or kind.is_decimal() or isinstance(kind, pl.Datetime) else None


def _called(kind: pl.DataType) -> str:
    """A type in a few words."""
    if kind == pl.Null:
        return "nothing but nulls"
    text = " ".join(str(kind).split())
    return text if len(text) <= 60 else text[:57] + "..."
