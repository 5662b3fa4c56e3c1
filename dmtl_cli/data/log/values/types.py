"""Columns of the types that the config names, from text or from what JSON has."""

from __future__ import annotations

import ast
import datetime as dt
import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import polars as pl
import pyarrow as pa

from dmtl_cli.config.data import Data, Events
from dmtl_cli.config.errors import UserError
from dmtl_cli.config.table import Table, Type, names_no_zone
from dmtl_cli.data.log.values.lengths import LENGTHS, clock_seconds, not_negative
from dmtl_cli.data.log.values.written import floats, ungrouped

PAIRS = (
    ("true", "false"), ("yes", "no"), ("y", "n"), ("t", "f"), ("1", "0"), ("1.0", "0.0"),
    ("j", "n"), ("ja", "nein"), ("ja", "nej"), ("ja", "nee"), ("s", "n"), ("si", "no"), ("sí", "no"), ("sì", "no"),
    ("sim", "não"), ("sim", "nao"), ("o", "n"), ("oui", "non"), ("tak", "nie"), ("да", "нет"), ("так", "ні"),
    ("ano", "ne"), ("áno", "nie"), ("igen", "nem"), ("da", "nu"), ("kyllä", "ei"), ("k", "e"), ("ναι", "όχι"),
    ("ya", "tidak"), ("có", "không"), ("vrai", "faux"), ("wahr", "falsch"), ("verdadero", "falso"),
    ("verdadeiro", "falso"), ("vero", "falso"), ("waar", "onwaar"), ("sant", "falskt"), ("prawda", "fałsz"),
    ("pravda", "nepravda"), ("истина", "ложь"), ("doğru", "yanlış"), ("igaz", "hamis"), ("evet", "hayır"),
    ("はい", "いいえ"), ("是", "否"), ("예", "아니오"), ("+", "-"),
)  # fmt: skip
"""Texts of yes and no, in lower case; 1.0 is what pandas writes of 1 where some rows have none. None is yes in one pair
and no in another. O and N are French: the Greek N and O, of which N is the yes, are other letters."""
YES_OR_NO = {pair[k]: k == 0 for pair in PAIRS for k in (0, 1)}
"""what each of them says"""
WORDS = sorted({word for pair in PAIRS for word in pair})
_MIXED = dict.fromkeys((yes for yes, _ in PAIRS[:6]), True) | dict.fromkeys((no for _, no in PAIRS[:6]), False)
"""words that may stand beside each other in a column"""
_SAID = {
    "bool": "true, false, yes, no, Y, N, 1 or 0, or one pair such as J and N",
    "date": "a date as 2026-01-31",
    "datetime": "a time as 2026-01-31T23:59:59Z, or seconds or milliseconds since 1970",
    "clock": f"a length of time as {LENGTHS}",
    "list<text>": 'a list as ["a", "b"]',
    "list<int64>": "a list as [1, 2]",
    "list<float64>": "a list as [0.1, 2]",
}
_WORD = re.compile(r"[^0-9\[\]{}]{1,20}")  # may stand for null, as n/a does
LISTS: dict[Type, tuple[pl.DataType, tuple[type, ...]]] = {
    "list<text>": (pl.String(), (str,)),
    "list<int64>": (pl.Int64(), (int,)),
    "list<float64>": (pl.Float64(), (float, int)),
}
"""types of what a list holds, and what Python calls its values"""


SECONDS = 100_000_000_000
"""up to here a number that is an instant is seconds since 1970 (the year 5138), above it milliseconds, and above each
thousandfold microseconds and nanoseconds"""
LEAST = 100_000_000
"""seconds (1973): a smaller number of text may be anything, or yyyymmdd"""
_FIRST_YEAR = 1900
_ERA = 543
"""years of the Buddhist era before year 0 of ours"""


def types_of(data: Data, table: Table) -> dict[str, Type]:
    """The types of a table's columns: in a CSV file labels have one of their own."""
    given = data.types | table.types
    if not isinstance(table, Events) or data.format_of(table) != "csv":
        return given
    flags = [c for c in (table.click, table.conversion, *table.conversions.values()) if c]
    numbers = [c for c in (table.duration, table.weight) if c]
    own: dict[str, Type] = {**dict.fromkeys(flags, "bool"), **dict.fromkeys(numbers, "float64")}
    return own | given


def remedies_of(name: str, table: Table, csv: bool) -> dict[str, str]:
    """What to do with a value that does not parse, by column: of labels and times, which text would not serve. By
    `COLUMN?`, and `?` for those without one, with a text that may stand for null; and by `COLUMN:`, and `:`, the key
    that has the type of a column and may say text: that of the table where others may need the one of all.

    Args:
        name: of the table below data.
    """
    own = f"data.{name}.types"
    key = f"data.{'csv.' if csv else ''}null_values"
    null = f"correct it, or where it means unknown name it in {key}"
    if not isinstance(table, Events):
        return {"?": null, ":": own}
    row = f"correct it, or leave the row out: name it in {key}, and set data.events.invalid_rows: drop"
    optional = (table.duration, table.conversion, *table.conversions.values())
    required = (table.weight, table.time, table.date_column)
    found = {"?": null} | {c: null for c in optional if c} | {c: row for c in required if c}
    found |= {f"{c}:": own for c in table.types}
    if table.click:
        no_click = " and set data.events.null_click: no_click" if table.null_click == "refuse" else ""
        found[f"{table.click}?"] = f"correct it, or where it means no click name it in {key}{no_click}"
        found[table.click] = f"correct it, or set {_key(table.click, found)}: datetime, if it is the time of the click"
    return found


def without(frame: pl.DataFrame, nulls: Sequence[str]) -> pl.DataFrame:
    """The frame with null for each text that stands for it."""
    texts = [c for c, kind in frame.schema.items() if kind == pl.String] if nulls else []
    return frame.with_columns(frame[c].set(frame[c].is_in(list(nulls)), None) for c in texts)


def typed(
    frame: pl.DataFrame,
    numbers: Sequence[int],
    types: Mapping[str, Type],
    nulls: Sequence[str],
    where: str,
    remedies: Mapping[str, str],
    signs: tuple[str, str | None] = (".", None),
    zoneless: set[str] | None = None,
) -> pl.DataFrame:
    """The frame with its columns of the types that are named.

    Args:
        numbers: of its rows, for messages.
        nulls: texts that mean null where the type is not text.
        where: the file, for messages.
        remedies: as `remedies_of` gives them.
        signs: what stands before the decimals of numbers that are text, a point or a comma, and between thousands.
        zoneless: gets the columns of times in which a text names no zone: UTC is said of it, and not by it.

    Raises:
        UserError: 65 a value is none of its type.
    """
    decimal, thousands = signs
    casts = _CASTS | {"float64": partial(floats, decimal=decimal, thousands=thousands)}
    if thousands is not None:
        casts["int64"] = lambda values: _int64(ungrouped(values, ".", thousands))

    def column(name: str, kind: Type) -> pl.Series:
        cast = partial(formatted, kind=kind) if ":" in kind else casts[kind]
        rows, given = _elements(frame[name]) if _holds(frame[name], kind) else (None, frame[name])
        given = not_negative(given) if kind == "clock" else given
        values, out = _cast_to(given, cast, nulls if kind != "text" else None)
        bad = (out.is_null() & values.is_not_null()).arg_true()
        if len(bad):
            at, expected = int(bad[0]), _said(kind)
            got = given[at]
            if kind == "float64" and isinstance(got, str):
                expected += _signs(got, decimal, thousands)
            row = numbers[at if rows is None else int(rows[at])]
            what = f"{where}: row {row}, column {name}: expected {expected}, got {got!r}"
            raise UserError(what, _remedy(name, got, remedies))
        if zoneless is not None and ((kind == "datetime" and _is_zoneless(values)) or names_no_zone(kind)):
            zoneless.add(name)
        return out if rows is None else _as_lists(frame[name], out)

    return frame.with_columns(column(c, kind) for c, kind in types.items() if c in frame)


def _is_zoneless(values: pl.Series) -> bool:
    """Whether one is a text that names no zone; a number is an instant."""
    return values.dtype == pl.String and not values.drop_nulls().str.contains(f"{ZONE}|^[0-9]+$").all()


def _signs(got: str, decimal: str, thousands: str | None) -> str:
    """Which signs are expected in a number, where what stands there has others."""
    if not re.fullmatch(r"\s*-?\d[\d., '\u00a0\u202f]*\s*%?\s*", got):
        return ""
    keys = "data.csv.decimal"
    if thousands is None and re.search(r"\d[., '\u00a0\u202f]\d{3}(?!\d)", got):
        keys += "; is there a sign between thousands? data.csv.thousands"
    return f" with a decimal {'comma' if decimal == ',' else 'point'} ({keys})"


def _holds(values: pl.Series, kind: Type) -> bool:
    """Whether a type is that of what lists hold."""
    return isinstance(values.dtype, pl.List) and kind not in LISTS


def _elements(values: pl.Series) -> tuple[pl.Series, pl.Series]:
    """The number of its list of each element, and the elements."""
    rows = pl.DataFrame({"row": range(len(values)), "of": values}, schema_overrides={"row": pl.Int64})
    there = rows.filter(pl.col("of").list.len() > 0).explode("of")
    return there["row"], there["of"].rename(values.name)


def _as_lists(lists: pl.Series, elements: pl.Series) -> pl.Series:
    """Elements in the lists of some others, of which each has as many."""
    ends = lists.list.len().fill_null(0).cast(pl.Int64).cum_sum()
    offsets = pl.concat([pl.Series([0], dtype=pl.Int64), ends.rename("")]).to_arrow()
    mask = lists.is_null().to_arrow()
    values = elements.to_arrow(compat_level=pl.CompatLevel.oldest())
    return pl.Series(lists.name, pa.LargeListArray.from_arrays(offsets, values, mask=mask))


def _said(kind: Type) -> str:
    """What is expected, in words."""
    name, _, form = kind.partition(":")
    return f"{_SAID[name].split(' as ')[0]} as {form}" if form else _SAID.get(kind, kind)


def _cast_to(
    given: pl.Series, cast: Callable[[pl.Series], pl.Series], nulls: Sequence[str] | None
) -> tuple[pl.Series, pl.Series]:
    """(values, with null for texts that mean it; of another type, with null too where one is none of it)."""
    values = given
    if nulls is not None and values.dtype == pl.String:
        values = values.set(values.is_in(["", *nulls]), None)
    try:
        return values, cast(values) if values.dtype != pl.Null else values
    except pl.exceptions.PolarsError:  # a list, or a number where a date is named
        return values, pl.Series(given.name, [None] * len(values))


def _key(column: str, remedies: Mapping[str, str]) -> str:
    """The key of the config that has the type of a column."""
    return f"{remedies.get(f'{column}:') or remedies.get(':', 'data.types')}.{column}"


def _remedy(column: str, got: object, remedies: Mapping[str, str]) -> str:
    own, text = remedies.get(column), f"correct it, or set {_key(column, remedies)}: text"
    if isinstance(got, str) and _WORD.fullmatch(got):
        return remedies.get(f"{column}?") or own or remedies.get("?", text)
    return own or text


def _bool(values: pl.Series) -> pl.Series:
    if values.dtype == pl.String:
        return booleans(values)
    return values.cast(pl.Float64).replace_strict({0.0: False, 1.0: True}, default=None, return_dtype=pl.Boolean)


def booleans(values: pl.Series) -> pl.Series:
    """Texts of yes and no, in any case of their letters, as booleans; null where one is neither. English words may be
    mixed; those of another language count where the column has no others than its `PAIRS`."""
    text = values.str.to_lowercase()
    there = set(text.drop_nulls().unique())
    pair = next((pair for pair in PAIRS if there <= set(pair)), None)
    known = _MIXED if pair is None else {pair[0]: True, pair[1]: False}
    return text.replace_strict(known, default=None, return_dtype=pl.Boolean)


def instants(values: pl.Series, least: int | None = LEAST, zone: str = "UTC") -> pl.Series:
    """Numbers since 1970 in the unit that their size tells (see `SECONDS`), or texts in ISO 8601, as instants in UTC;
    null where one is neither.

    Args:
        least: a smaller number is none.
        zone: of texts that name none.
    """
    if values.dtype == pl.String:
        out = iso_times(values, zone)
        if out.null_count() == values.null_count():
            return out
        numbers = values.set(~values.str.contains(r"^[0-9]{9,19}$"), None)
        return out.fill_null(instants(numbers.cast(pl.Int64, strict=False)))  # 19 digits may be beyond int64
    x = pl.col("x")
    smallest = x / 1_000 if values.dtype.is_float() else x // 1_000
    larger = pl.when(x <= SECONDS * 1_000).then(x * 1_000).when(x <= SECONDS * 1_000_000).then(x).otherwise(smallest)
    us = pl.when(x <= SECONDS).then(x * 1_000_000).otherwise(larger)
    whole = values.cast(pl.Float64 if values.dtype.is_float() else pl.Int64, strict=False).alias("x").to_frame()
    made = whole.select(
        pl.when(True if least is None else x >= least)
        .then(us)
        .cast(pl.Int64, strict=False)
        .cast(pl.Datetime("us", "UTC"))
    )
    return made.to_series().alias(values.name)


def unit_of(x: float) -> int:
    """Which unit the size of a number since 1970 tells: 0 for seconds, 1 for milliseconds and so on."""
    return sum(abs(x) > SECONDS * 1_000**k for k in range(3))


def _int64(values: pl.Series) -> pl.Series:
    out = values.cast(pl.Int64, strict=False)
    return out if not values.dtype.is_float() else out.set(out.cast(pl.Float64) != values, None)


def days(values: pl.Series) -> pl.Series:
    """Texts as 2026-01-31 (2026-1-31 too), or texts or integers as 20260131, as days; null where one is neither. Other
    widths are none: 2026111 is of January or of November."""
    text = values.cast(pl.String) if values.dtype.is_integer() else values
    parted, whole = (text.set(~text.str.contains(form), None) for form in (r"^\s*[0-9]{4}-", r"^\s*[0-9]{8}$"))
    return parted.str.to_date("%Y-%m-%d", strict=False).fill_null(whole.str.to_date("%Y%m%d", strict=False))


def localized(values: pl.Series, zone: str) -> pl.Series:
    """Naive times of a zone as instants in UTC: of an hour that comes twice the later one, and a time that a clock
    passes over as an hour later. Those of no year from 1 to 9998 (1678 to 2261 of nanoseconds), as databases write
    infinity, are the first or last of these."""
    first, end = (1678, 2262) if values.dtype == pl.Datetime("ns") else (1, 9999)
    values = values.clip(dt.datetime(first, 1, 2), dt.datetime(end, 1, 1))
    there = values.dt.replace_time_zone(zone, ambiguous="latest", non_existent="null")
    if there.null_count() > values.null_count():
        later = (values + dt.timedelta(hours=1)).dt.replace_time_zone(zone, ambiguous="latest", non_existent="null")
        there = there.fill_null(later)
    return there.dt.convert_time_zone("UTC")


ZONE = r"[0-9:][ T]*(Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)$"
"""the end of a time that names its zone"""


def iso_times(values: pl.Series, zone: str = "UTC") -> pl.Series:
    """Texts in ISO 8601 as instants in UTC, null where one is not; a time that names no zone is one of `zone`. A zone
    may stand behind a space, and be called UTC or GMT, as BigQuery, Postgres and Go write it."""
    if not values.str.contains("-", literal=True).any():  # every time has some
        return pl.Series(values.name, dtype=pl.Datetime("us", "UTC")).clear(len(values))
    text = values.str.replace(" ", "T", literal=True)
    loose = bool(text.drop_nulls().head(1).str.contains(_LOOSE).any())
    found = _times(_strict(text) if loose else text, zone)
    if not loose and found.null_count() > text.null_count():
        left = text.set(found.is_not_null(), None)
        if ((strict := _strict(left)) != left).any():  # else they are no times, as was found
            found = found.fill_null(_times(strict, zone))
    return found


def _times(text: pl.Series, zone: str) -> pl.Series:
    found = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_unit="us", strict=False)
    for form in ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d"):
        if found.null_count() > text.null_count() and (naive := _naive(text, form)).count():
            found = found.fill_null(localized(naive, zone))
    if found.null_count() > text.null_count():
        found = found.fill_null(text.str.to_datetime("%Y-%m-%dT%H:%M%#z", time_unit="us", strict=False))
    return found


def _naive(text: pl.Series, form: str) -> pl.Series:
    if "H" in form:
        return text.str.to_datetime(form, time_unit="us", strict=False)
    return text.str.to_date(form, strict=False).cast(pl.Datetime("us"))


_LOOSE = r"[0-9][ T]*(?:UTC|GMT)$|[ T][+-][0-9:]+$|[ T]Z$|:[0-9]+,[0-9]"


def _strict(text: pl.Series) -> pl.Series:
    """Times with their zone as RFC 3339 has it, and a point before the decimals."""
    named = text.str.replace(r"[ T]*(?:\+0000[ T]*)?(?:UTC|GMT)$", "Z")
    return named.str.replace(r"[ T]+([+-][0-9:]+|Z)$", "${1}").str.replace(",", ".", literal=True)


def formatted(values: pl.Series, kind: Type) -> pl.Series:
    """Texts (or integers, as 20261002135536) in the format of a type such as date:%d.%m.%Y as days, or of one such as
    datetime:%d.%m.%Y %H:%M as instants in UTC; null where one is not so, or before 1900, as 27.03.26 is by %Y. %EY is a
    year of the Buddhist era, as Thai calendars have it: 2568 is 2025."""
    name, _, form = kind.partition(":")
    is_of_era, form = "%EY" in form, form.replace("%EY", "%Y")
    if values.dtype.is_integer():
        values = values.cast(pl.String)
    if values.dtype != pl.String:
        return pl.Series(
            values.name, [None] * len(values), dtype=pl.Date if name == "date" else pl.Datetime("us", "UTC")
        )
    values = _by_our_years(values) if is_of_era else values
    if name == "date":
        out = values.str.to_date(form, strict=False)
    else:
        out = values.str.to_datetime(form, time_unit="us", strict=False)
        out = out.dt.convert_time_zone("UTC") if "%z" in form else out.dt.replace_time_zone("UTC")
    return out.set((out.dt.year() < _FIRST_YEAR).fill_null(False), None)


def _by_our_years(texts: pl.Series) -> pl.Series:
    """Texts with the year of the Buddhist era that each has as ours, before they are read: in 2568 it has no 29
    February, and in 2567 one; null where there is none."""
    parts = texts.str.extract_groups(r"^(?<before>(?:.*?[^0-9])?)(?<year>2[3-6][0-9]{2})(?<behind>(?:[^0-9].*)?)$")
    ours = pl.col("year").cast(pl.Int64) - _ERA
    return parts.struct.unnest().select(pl.concat_str("before", ours, "behind")).to_series().alias(texts.name)


def lists(values: pl.Series, kind: Type) -> pl.Series:
    """Texts that are JSON arrays, or lists as Python, numpy or PostgreSQL write them, or lists of another type, as
    lists of a type; null where a text is none, or a value is not of the type."""
    inner, known = LISTS[kind]
    if values.dtype != pl.String:
        return _cast(values, inner)
    texts = values.drop_nulls().unique(maintain_order=True)
    found = pl.Series("list", [_list(text, known) for text in texts], dtype=pl.List(inner))
    return (
        values.to_frame("text")
        .join(pl.DataFrame([texts.alias("text"), found]), on="text", how="left", maintain_order="left")["list"]
        .alias(values.name)
    )


def _cast(values: pl.Series, inner: pl.DataType) -> pl.Series:
    """Lists of any type as those of another, null where one would lose a value; numbers are no booleans."""
    x = pl.element()
    cast = x.cast(inner, strict=False)
    lost = cast.is_null()
    if inner == pl.Int64:  # a float may have decimals
        lost |= cast.cast(pl.Float64) != x.cast(pl.Float64, strict=False)
    if values.dtype == pl.List(pl.Boolean) and inner != pl.String:
        lost = x.is_not_null()
    bad = values.list.eval(x.is_not_null() & lost.fill_null(True)).list.any()
    as_lists = values.cast(pl.List(inner), strict=False)
    return pl.select(pl.when(bad).then(None).otherwise(as_lists).alias(values.name)).to_series()


def _list(text: str, known: tuple[type, ...]) -> list[Any] | None:
    try:
        found = _as_postgres_writes(text.strip(), known) if text.lstrip()[:1] == "{" else json.loads(text)
    except (ValueError, RecursionError):
        found = _as_python_writes(text.strip(), known)
    if not isinstance(found, list) or not all(x is None or type(x) in known for x in found):
        return None
    try:
        "".join(x for x in found if isinstance(x, str)).encode()
    except UnicodeEncodeError:  # half a surrogate pair is no text
        return None
    return found if all(abs(x) < 2**63 for x in found if type(x) is int) else None


def _as_python_writes(text: str, known: tuple[type, ...]) -> Any:
    """A Python list or a numpy array, as pandas writes them; an array has no commas. None where it is neither."""
    if text[:1] != "[" or text[-1:] != "]":
        return None
    with suppress(ValueError, SyntaxError, MemoryError, RecursionError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Python thinks of an escape is nothing that a log could mend
        if str not in known:
            return ast.literal_eval(text)
        if _TEXTS.fullmatch(text):  # Python itself would join texts without a comma between them
            return [ast.literal_eval(x) for x in re.findall(_TEXT, text, re.DOTALL)]
        return None
    with suppress(ValueError):
        return [known[0](number) for number in text[1:-1].split()]
    return None


def _as_postgres_writes(text: str, known: tuple[type, ...]) -> Any:
    """An array as PostgreSQL's COPY writes it: {a,"b c",NULL}; None where a text is none, or has arrays within."""
    if not _ARRAY.fullmatch(text):
        return None
    found = []
    for element in re.findall(_ELEMENT, text[1:-1]):
        quoted = element[0] == '"'
        value = re.sub(r"\\(.)", r"\1", element[1:-1], flags=re.DOTALL) if quoted else element
        found.append(None if not quoted and value.upper() == "NULL" else value)
    with suppress(ValueError):
        return [None if value is None else known[0](value) for value in found]
    return None


_ELEMENT = r""""(?:[^"\\]|\\.)*"|[^"{},\\\s](?:[^"{},\\]*[^"{},\\\s])?"""
_ARRAY = re.compile(rf"\{{\s*(?:(?:{_ELEMENT})(?:\s*,\s*(?:{_ELEMENT}))*)?\s*\}}", re.DOTALL)
_TEXT = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|None"""
_TEXTS = re.compile(rf"\[\s*(?:(?:{_TEXT})(?:\s*,\s*|\s+|(?=\])))*\]", re.DOTALL)


_CASTS: dict[Type, Callable[[pl.Series], pl.Series]] = {
    "text": lambda values: values.cast(pl.String, strict=False),
    "int64": _int64,
    "float64": floats,
    "bool": _bool,
    "date": days,
    "datetime": instants,
    "clock": clock_seconds,
    **{kind: partial(lists, kind=kind) for kind in LISTS},
}
