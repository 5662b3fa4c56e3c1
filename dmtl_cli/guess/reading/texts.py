"""Texts as the values that they are, as precise as they say and no more: numbers, yes and no, times, lists, words for
null."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from dmtl_cli.config.errors import short
from dmtl_cli.data.log.formats.envelopes import OP
from dmtl_cli.data.log.values.lengths import clock_seconds, not_negative
from dmtl_cli.data.log.values.types import booleans, formatted, lists, without
from dmtl_cli.data.log.values.written import floats, grouped_number, ungrouped
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.formats import formats_of
from dmtl_cli.guess.columns.values import FEW, decimals, is_clock, says_yes_or_no, span
from dmtl_cli.guess.reading.files import CSV, JSON

_BESIDE = 3  # texts that a column has beside words for null
_LISTS = ("list<int64>", "list<float64>", "list<text>")
"""the narrowest first: of PostgreSQL's any element may be a text"""
_FEW = 1_000  # texts by which it is told what lists hold
_INTEGER = r"^-?(0|[1-9][0-9]{0,17})$"
_NANOS = r"^1[0-9]{18}$"
"""nanoseconds since 1970, of 2001 to 2033"""
NUMBER = r"^-?((0|[1-9][0-9]*)(\.[0-9]+)?|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_COOKIE = r"^[0-9]{5,}\.[0-9]{6,}$"  # such as 288006717.396867054, a random number and when it was made
_TRIED = 100  # texts that are tried before all are
_DIGITS = 5  # that a code has at least
_PATTERN = re.compile(r"\*|\^.*\$", re.DOTALL)  # names that polars takes for those of other columns
_SINGLE = (
    pl.Boolean, pl.String, pl.Date, pl.Float32, pl.Float64,
    pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64,
)  # fmt: skip


@dataclass(frozen=True)
class Text:
    """How a CSV, or JSON lines, are written."""

    separator: str = ","
    """of a CSV, as `header`, `quoted` and `decimal`"""
    header: bool = True
    quoted: bool = True
    """false: a quote is a part of the text like any other character"""
    decimal: str = "."
    """before the decimals of numbers"""
    thousands: str | None = None
    """between their thousands"""
    encoding: str = "utf-8"
    """of the bytes"""
    escaped: bool = False
    """whether a backslash stands before a separator or newline of a value"""
    names: tuple[str, ...] = ()
    """of the columns, where there is no header and another file says them"""
    source: str = field(default="", compare=False)
    """that file"""
    piece: str = field(default="", compare=False)
    """of the text, to be looked at where its encoding is told by it"""
    nulls: tuple[str, ...] = ()
    """words that stand for null: where other values are numbers or yes and no any such word, in text those that
    databases write"""
    alone: Mapping[str, str] = field(default_factory=dict, compare=False)
    """those of `nulls` that no list has, as they are the one text among the numbers of a column, with that column"""
    lists: frozenset[str] = field(default=frozenset(), compare=False)
    """columns of JSON lines whose texts are lists"""
    clocks: frozenset[str] = field(default=frozenset(), compare=False)
    """columns whose texts are lengths of time, as 3:45: seconds where they are settled"""
    formats: Mapping[str, str] = field(default_factory=dict, compare=False)
    """types of the columns whose texts are days or times in a format that is not ISO 8601: see `formats_of`"""


def settled(rows: pl.DataFrame, form: str, text: Text, fields: Sequence[str] = ()) -> tuple[pl.DataFrame, Text]:
    """Rows of a text file, as they stand, with the values that its texts are; and how it is written, completed.

    Args:
        fields: columns that are of JSON objects, whatever the file's form.
    """
    if fields:
        own, text = settled(rows.drop(fields), form, text)
        made, text = of_elements(rows[[*fields]], fields, text)
        both = {s.name: s for s in (*own, *made)}
        return pl.DataFrame([both[c] for c in rows.columns]), text
    rows, text = as_typed(rows, text) if form == CSV else as_named(rows, text)
    clocks = frozenset(c for c in rows.columns if is_clock(rows[c]))
    found = {c: formats_of(rows[c]) for c in rows.columns}
    formats = {c: kinds[0] for c, kinds in found.items() if len(kinds) == 1}
    rows = rows.with_columns(rows[c].cast(pl.String) for c in formats)  # 20261002135536 is an integer by now
    times = [_time(rows[c].set(rows[c] == "", None), kind) for c, kind in formats.items()]
    return in_seconds(rows, clocks).with_columns(times), replace(text, clocks=clocks, formats=formats)


def timed(rows: pl.DataFrame, text: Text) -> pl.DataFrame:
    """The rows with times of the formats that are known, which those of a day may not tell: it may be 05/05/2025."""
    known = {c: kind for c, kind in text.formats.items() if rows.schema.get(c) == pl.String}
    return rows.with_columns(_time(rows[c].set(rows[c] == "", None), kind) for c, kind in known.items())


def _time(s: pl.Series, kind: str) -> pl.Series:
    """Texts of a format as days or times, without a zone where it names none."""
    made = formatted(s, kind)
    return made.dt.replace_time_zone(None) if made.dtype != pl.Date and "%z" not in kind else made


def as_typed(rows: pl.DataFrame, text: Text) -> tuple[pl.DataFrame, Text]:
    """Rows of a CSV as `typed` gives them, and how it is written, the words for null in it added."""
    if text.thousands is None and (signs := _signs(rows)) is not None:
        text = replace(text, decimal=signs[0], thousands=signs[1])
    if text.decimal == "." and text.separator != "," and text.thousands is None and _has_commas(rows, text.separator):
        text = replace(text, decimal=",")
    plain = rows if text.thousands is None else _ungrouped(rows, text.decimal, text.thousands)
    alone = {word: c for c, word in one_words(plain, text.decimal).items()} | dict(text.alone)
    frame = typed(without(plain, [*alone]), text.decimal)
    found = {*text.nulls}
    for c in _texts(rows):
        gone = rows[c].filter(rows[c].is_not_null() & frame[c].is_null()).unique()
        found |= {text for text in gone if text.strip()}
    return frame, replace(text, nulls=tuple(sorted(found)), alone=alone)


def as_named(rows: pl.DataFrame, text: Text) -> tuple[pl.DataFrame, Text]:
    """Rows of JSON lines: null for the texts that stand for it, and of the columns that have such texts the type of
    their other values; lists for texts that are lists, and numbers for those of which some have a % behind, and for
    numbers in quotes, as BigQuery writes integers, that are no ids. And which these are."""
    alone = {word: c for c, word in one_words(rows).items()}
    found, listed, made = {*alone}, set[str](), list[pl.Series]()
    for s in without(rows, [*alone]).select(_texts(rows)):
        known = _typed(s)
        gone = s.is_not_null() & known.is_null()
        found |= set(s.filter(gone))
        blank = s.set(gone, None)
        if (as_list := as_lists(blank)) is not None:
            listed.add(s.name)
            made.append(as_list)
        elif gone.any() or s.name in alone.values():
            made.append(known)
        elif _has_percents(blank.drop_nulls()):
            made.append(floats(blank))
        elif known.dtype.is_numeric() and _is_measure(known):
            made.append(known)
    return rows.with_columns(made), replace(text, nulls=tuple(sorted(found)), alone=alone, lists=frozenset(listed))


def of_elements(rows: pl.DataFrame, columns: Sequence[str], text: Text) -> tuple[pl.DataFrame, Text]:
    """The same of the columns of JSON among rows: lists of JSON lines that were exploded, or fields of objects."""
    made, own = settled(rows.select(columns), JSON, text)
    told = replace(
        own,
        nulls=tuple(sorted({*text.nulls, *own.nulls})),
        alone=dict(text.alone) | dict(own.alone),
        lists=text.lists | own.lists,
        clocks=text.clocks | own.clocks,
        formats=dict(text.formats) | dict(own.formats),
    )
    return rows.with_columns(made), told


def _is_measure(s: pl.Series) -> bool:
    """Whether numbers in quotes are no codes: neither by their name nor, where it is that of no measure or time, as all
    have as many digits, five or more."""
    c = s.name
    if words.is_named_id(c) or words.says(c.rsplit(".", 1)[-1], words.CODE):
        return False
    if s.dtype.is_float() or words.says(c, words.NUMBER) or words.is_when(c):
        return True
    low, high = (len(str(abs(int(x)))) for x in span(s))
    return low != high or low < _DIGITS


def _texts(rows: pl.DataFrame) -> list[str]:
    return [c for c, kind in rows.schema.items() if kind == pl.String]


def _has_commas(rows: pl.DataFrame, separator: str) -> bool:
    """Whether numbers have a decimal comma: more columns of texts have one, surely, than a decimal point, or as many
    behind semicolons, as a version (7.1) is no number. Three digits behind it in all rows may be thousands."""
    commas = points = 0
    for s in rows.select(_texts(rows)):
        known = s.filter(~s.str.strip_chars().is_in(words.NONE))
        if decimals(known) is not None:
            commas += not known.str.contains(r"^-?[1-9][0-9]{0,2}(,[0-9]{3})?$").all()
        elif len(known) and known.str.contains(NUMBER).all():
            points += known.str.contains(".", literal=True).any()
    return commas > points or (commas == points > 0 and separator == ";")


def _signs(rows: pl.DataFrame) -> tuple[str, str] | None:
    """What stands before the decimals and between the thousands of numbers, by the columns of numbers of which some
    have both, as 1.494,90 has; None where no column has, or as many have others."""
    found = [signs for s in rows.select(_texts(rows)) if (signs := signs_of(s)) is not None]
    most = sorted({*found}, key=found.count, reverse=True)
    others = len(most) > 1 and found.count(most[0]) == found.count(most[1])
    return None if others or not most or _has_other_points(rows, most[0][0]) else most[0]


def _has_other_points(rows: pl.DataFrame, decimal: str) -> bool:
    """Whether a column has numbers with a decimal point where others have a comma."""
    known = [s.drop_nulls() for s in rows.select(_texts(rows))] if decimal == "," else []
    return any(
        bool(len(s)) and s.str.contains(".", literal=True).any() and s.str.contains(NUMBER).all()
        and not s.str.contains(r"^-?([0-9]{1,3}(\.[0-9]{3})+|[0-9]{1,3})$").all()
        for s in known
    )  # fmt: skip


def signs_of(s: pl.Series) -> tuple[str, str] | None:
    """What stands before the decimals and between the thousands of texts that are all numbers, some with both; None
    where they are others."""
    known = s.filter(~s.str.strip_chars().is_in(words.NONE)).drop_nulls() if s.dtype == pl.String else s.head(0)
    if not len(known) or not known.head(_TRIED).str.contains(r"^\s*-?[0-9][0-9.,' \u00a0\u202f]*\s*%?\s*$").all():
        return None
    for decimal, thousands in ((",", "."), (".", ","), (",", " "), (".", "'"), (".", " ")):
        some = known.str.replace_all("[\u00a0\u202f]", " ") if thousands == " " else known
        both = grouped_number(decimal, thousands, "{1}")
        if some.str.contains(both).any() and not floats(known, decimal, thousands).null_count():
            return decimal, thousands
    return None


def _ungrouped(rows: pl.DataFrame, decimal: str, thousands: str) -> pl.DataFrame:
    """Rows without what stands between thousands, in the columns that are all numbers with it, or some of them."""
    made = []
    for s in rows.select(_texts(rows)):
        known = s.filter(~s.str.strip_chars().is_in(words.NONE)).drop_nulls()
        if len(known) and not floats(known, decimal, thousands).null_count():
            made.append(ungrouped(s, decimal, thousands).fill_null(s))
    return rows.with_columns(made)


def one_words(rows: pl.DataFrame, decimal: str = ".") -> dict[str, str]:
    """The word of each column in which all other values are numbers, more than 20, and the word is in as many rows and
    has no digit: it stands for null, whatever the language. One that is a value of another column of texts, such as
    auto, stands for itself."""
    found: dict[str, str] = {}
    values: dict[str, set[str]] = {}
    for c in _texts(rows):
        known = rows[c].filter(~rows[c].is_in(words.NONE)).drop_nulls()
        texts = known.filter(known.str.contains(r"^\D+$"))
        values[c] = set(texts.unique().head(_FEW))
        if len(values[c]) == 1 and len(texts) >= FEW:
            rest = known.filter(known != texts[0])
            if rest.n_unique() > FEW and _typed(rest, decimal).dtype.is_numeric():
                found[c] = texts[0]
    others = set[str]().union(*(some for c, some in values.items() if c not in found))
    return {c: word for c, word in found.items() if word not in others}


def typed(frame: pl.DataFrame, decimal: str = ".") -> pl.DataFrame:
    """Text columns as what all their values are: integers, numbers or booleans; an id such as 007 stays text."""
    return frame.with_columns([_typed(s, decimal) for s in frame.select(_texts(frame))])


def _typed(s: pl.Series, decimal: str = ".") -> pl.Series:
    stripped = s.str.strip_chars()
    text, values, said = (
        stripped.set(stripped.is_in(none), None) for none in (words.DATABASES, words.NONE, words.SAID)
    )
    text = said if said.drop_nulls().n_unique() >= _BESIDE else text
    known = values.drop_nulls()
    if "+" in known and says_yes_or_no(stripped.filter(stripped != "")):  # beside it - is no word for null
        return booleans(stripped.set(stripped == "", None))
    if not len(known):
        return text
    if known.str.contains(_INTEGER).all() or (known.str.contains(_NANOS).all() and not words.is_named_id(s.name)):
        return values.cast(pl.Int64)
    if words.is_named_id(s.name) and known.str.contains(_COOKIE).all():
        return text
    if decimal == "." and _are_numbers(known):
        return floats(values)
    if decimal != "." and (decimals(known) is not None or known.str.contains(rf"{_INTEGER[:-1]}\s?%$").all()):
        return floats(values, decimal)
    if says_yes_or_no(known):
        return booleans(values)
    found = as_lists(values)
    return text if found is None else found


def _are_numbers(known: pl.Series) -> bool:
    """Whether texts are numbers, perhaps with a % behind some; integers beyond int64 are none."""
    some = known.filter(~known.str.contains(NUMBER))
    if len(some) and not some.str.contains(rf"{NUMBER[:-1]}\s?%$").all():
        return False
    return not known.str.contains(r"^-?[0-9]{19,}$").any()


def _has_percents(known: pl.Series) -> bool:
    """Whether texts are numbers, some with a % behind them; without one they may be ids."""
    return known.str.ends_with("%").any() and _are_numbers(known)


def as_lists(values: pl.Series) -> pl.Series | None:
    """Texts that are all JSON arrays (or as Python or PostgreSQL writes lists) of one type, as lists; None where they
    are not, or all empty."""
    known = values.drop_nulls()
    begin = None if not len(known) else {"[": "]", "{": "}"}.get(known[0][:1])
    if begin is None or not (known.str.starts_with(known[0][:1]) & known.str.ends_with(begin)).all():
        return None
    full = known.filter(~known.is_in(["[]", "{}"]))  # the first rows of a log have empty histories
    for kind in _LISTS:
        if len(full) and not lists(full.head(_FEW), kind).null_count():
            found = lists(values, kind)
            if found.null_count() == values.null_count() and (found.list.len() > 0).any():
                return found
    return None


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


def guessed(frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, str]]:
    """The columns of which something is guessed by their names, and what the others are: those without a name, or with
    one that polars takes for those of other columns, and what became of a changed row, which is no part of it."""
    found = {"": "whatever it is: it has no name"} if "" in frame.columns else {}
    found |= {c: "whatever it is: its name stands for other columns" for c in frame.columns if _PATTERN.fullmatch(c)}
    found |= {OP: "text: what became of a row, as Debezium tells it"} if OP in frame.columns else {}
    return pl.DataFrame({s.name: s for s in frame if s.name not in found}) if found else frame, found


def in_seconds(frame: pl.DataFrame, columns: Iterable[str]) -> pl.DataFrame:
    """The frame with texts such as 3:45 of some columns as seconds."""
    return frame.with_columns(clock_seconds(not_negative(frame[c].set(frame[c] == "", None))) for c in columns)


def _flags(s: pl.Series) -> pl.Series:
    return booleans(s) if s.dtype == pl.String and says_yes_or_no(s.filter(s != "")) else s


def joined(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """The rows of several files; a column whose types do not fit each other is text where it can be, else its rows of
    the first file's type alone have values."""
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
        out.append(frame.drop(lost).with_columns(frame[c].cast(pl.String) for c in sorted(texts & {*frame.columns})))
    return pl.concat(out, how="diagonal_relaxed")


def is_deep(kind: pl.DataType) -> bool:
    """Whether values are lists of lists that have a type in which they are looked at."""
    return isinstance(kind, pl.List) and isinstance(_target(kind.inner), pl.List)  # type: ignore[arg-type]


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
    return short(" ".join(str(kind).split()), 60)
