"""Rows of a file in any format, with values as precise as the text says and no more."""

from __future__ import annotations

import contextlib
import csv
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import polars as pl
import pyarrow as pa

from dmtl_cli.config.data import Csv
from dmtl_cli.config.errors import UserError
from dmtl_cli.data.log.places import SUFFIXES
from dmtl_cli.data.log.source import File
from dmtl_cli.data.log.text_rows import Rows, csv_rows, json_rows
from dmtl_cli.data.log.types import LISTS, booleans, floats, lists, without
from dmtl_cli.guess import types, words
from dmtl_cli.guess.values import FEW, decimals, says_yes_or_no

BYTES = 8 << 20
"""of rows of a text file"""
_SCANNED = 64 << 20  # bytes of a CSV in which quotes are looked for
_HEAD = 64 << 10  # bytes by which a CSV's separator and header are told
PARQUET, CSV, JSON, DELTA, ICEBERG = "parquet", "csv", "json", "delta", "iceberg"
_BROKEN = 0.1  # of the lines of a table may be none of its rows
_BESIDE = 3  # texts that a column has beside words for null
_FEW = 1_000  # texts by which it is told what lists hold
_INTEGER, _NUMBER = r"^-?(0|[1-9][0-9]{0,17})$", r"^-?(0|[1-9][0-9]*)?(\.[0-9]+)?([eE][+-]?[0-9]+)?$"


@dataclass(frozen=True)
class Text:
    """How a CSV is written."""

    separator: str = ","
    header: bool = True
    quoted: bool = True
    """false: a quote is a part of the text like any other character"""
    decimal: str = "."
    """before the decimals of numbers"""
    nulls: tuple[str, ...] = ()
    """words that stand for null: where other values are numbers or yes and no any such word, in text those that
    databases write"""
    alone: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    """(word, column): those of `nulls` that no list has, as they are the one text among the numbers of a column"""


def format_of(name: str) -> str | None:
    """The format that a file's name says, compressed or not; None: none that is known."""
    return next((form for form, ends in SUFFIXES.items() if name.lower().endswith(ends)), None)


def head(file: File, rows: int, text: Text | None = None) -> tuple[pl.DataFrame, Text | None]:
    """The first rows of a file as they will be read, and how it is written where it is a CSV.

    Args:
        text: how a CSV is written; None: as its first lines look.

    Raises:
        UserError: 65 it is not what its name says; 66 it is empty; 74 the storage fails.
    """
    form = format_of(file.path)
    if form == PARQUET:
        return of_group(file, None, rows), None
    if form == JSON:
        return first(parts(file), rows), None
    content = _beginning(file)
    plain = dialect(content, quoted=False) if text is None else replace(text, quoted=False)
    text = text or dialect(content)
    if text.quoted and has_lone_quotes(file, plain.separator):
        text = plain
    return as_typed(first(parts(file, text), rows), text)


def rows_of(file: File, text: Text | None = None, names: tuple[str, ...] | None = None) -> Generator[Rows]:
    """All rows of a text file, some at a time, with the lines that do not parse; values of a CSV are text.

    Args:
        text: how a CSV is written; None: JSON lines.
        names: of columns where there is no header; None: column_1 ...

    Raises:
        UserError: 65 more than a tenth of the lines do not parse; what `csv_rows` and `json_rows` raise.
    """
    if text is None:
        read: Iterable[Rows] = json_rows(file, _as_it_is, invalid="drop")
    else:
        if not text.header:
            names = names or tuple(f"column_{k + 1}" for k in range(_width(file, text)))
        quote = '"' if text.quoted else None
        options = Csv(separator=text.separator, quote_char=quote, columns=names)
        read = csv_rows(file, options, _as_it_is, invalid="drop")
    kept = lost = 0
    with contextlib.closing(iter(read)) as found:  # type: ignore[type-var]
        for rows in found:
            kept, lost = kept + len(rows.frame), lost + len(rows.lost)
            if rows.lost and lost > _BROKEN * (kept + lost):
                raise UserError(rows.lost[0].why, f"{lost:,} of {kept + lost:,} lines do not parse")
            yield rows


def parts(file: File, text: Text | None = None, names: tuple[str, ...] | None = None) -> Iterator[pl.DataFrame]:
    """The rows of `rows_of`, which see, that parse."""
    with contextlib.closing(rows_of(file, text, names)) as found:
        for rows in found:
            yield rows.frame


def first(read: Iterable[pl.DataFrame], rows: int) -> pl.DataFrame:
    """So many rows of those that are read, or as many as BYTES hold."""
    found: list[pl.DataFrame] = []
    with contextlib.closing(iter(read)) as some:  # type: ignore[type-var]
        for part in some:
            found.append(part)
            if sum(map(len, found)) >= rows or sum(f.estimated_size() for f in found) >= BYTES:
                break
    return types.joined(found).head(rows) if found else pl.DataFrame()


def _as_it_is(frame: pl.DataFrame, _: Sequence[int]) -> pl.DataFrame:
    return frame


def _beginning(file: File) -> bytes:
    with file.text() as read:
        content = read(_HEAD)
    return content[: content.rfind(b"\n") + 1] or content


def _width(file: File, text: Text) -> int:
    lines = _beginning(file).decode("utf-8-sig", "replace").splitlines()
    return len(next(_cells(lines[:1], text.separator, text.quoted), []))


def dialect(content: bytes, *, quoted: bool = True) -> Text:
    """Separator and header of a CSV, by its first lines.

    A header has no number and no value of another line where the other lines have numbers.
    """
    lines = [line for line in content.decode("utf-8-sig", "replace").splitlines()[:50] if line.strip()]
    separator = max(",\t;|", key=lambda s: (_even(lines, s, quoted), s == ","))
    first, *rest = list(_cells(lines, separator, quoted)) or [[]]
    numbers = any(_is_number(cell) for cell in first)
    distinct = len({cell.strip() for cell in first}) == len(first) and all(cell.strip() for cell in first)
    repeated = any(cell in {row[k] for row in rest if k < len(row)} for k, cell in enumerate(first))
    return Text(separator, distinct and not numbers and not repeated, quoted)


def _cells(lines: Sequence[str], separator: str, quoted: bool) -> Iterator[list[str]]:
    return csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)


def has_lone_quotes(file: File, separator: str) -> bool:
    """Whether quotes of a CSV are text: one begins a value that no quote ends in its line, or ends before the value
    does, and yet all lines have as many separators.

    Where quotes are what they seem, a separator or newline between two of them makes a line with another number.
    """
    sign = separator.encode()
    s = re.escape(sign)
    odd = re.compile(rb'(?:^|%b)"(?:[^"\n]|"")*+(?:\n|" *+[^" %b\r\n])' % (s, s), re.MULTILINE)
    each, lone = 0, False
    for text in _whole_lines(file):
        rows = text.strip(b"\r\n")
        each = each or rows.partition(b"\n")[0].count(sign)
        if each == 0 or rows.count(sign) != each * (rows.count(b"\n") + 1):
            return False
        if b'"' in rows and odd.search(text) is not None:
            if any(line.count(sign) != each for line in rows.split(b"\n")):
                return False
            lone = True
    return lone


def _whole_lines(file: File) -> Iterator[bytes]:
    """The first text of a file, some lines at a time."""
    done, rest = 0, b""
    with file.text() as read:
        while done < _SCANNED and (more := read(BYTES)):
            done += len(more)
            text, newline, rest = (rest + more).rpartition(b"\n")
            if text.strip():
                yield text + newline
    if rest.strip() and done < _SCANNED:
        yield rest + b"\n"


def as_typed(rows: pl.DataFrame, text: Text) -> tuple[pl.DataFrame, Text]:
    """Rows of a CSV as `typed` gives them, and how it is written, the words for null in it added."""
    if text.decimal == "." and text.separator != "," and _has_commas(rows):
        text = replace(text, decimal=",")
    alone = {word: c for c, word in one_words(rows, text.decimal).items()} | dict(text.alone)
    frame = typed(without(rows, [*alone]), text.decimal)
    found = {*text.nulls}
    for c in (c for c in frame.columns if rows[c].dtype == pl.String):
        gone = rows[c].filter(rows[c].is_not_null() & frame[c].is_null()).unique()
        found |= {text for text in gone if text.strip()}
    return frame, replace(text, nulls=tuple(sorted(found)), alone=tuple(sorted(alone.items())))


def _has_commas(rows: pl.DataFrame) -> bool:
    """Whether numbers have a decimal comma: more columns of texts have one, surely, than a decimal point. Three digits
    behind it in all rows may be thousands."""
    commas = points = 0
    for s in (rows[c] for c in rows.columns if rows[c].dtype == pl.String):
        known = s.filter(~s.str.strip_chars().is_in(words.NONE))
        if decimals(known) is not None:
            commas += not known.str.contains(r"^-?[1-9][0-9]{0,2}(,[0-9]{3})?$").all()
        elif len(known) and known.str.contains(_NUMBER).all():
            points += known.str.contains(".", literal=True).any()
    return commas > points


def one_words(rows: pl.DataFrame, decimal: str = ".") -> dict[str, str]:
    """The word of each column in which all other values are numbers, more than 20, and the word is in as many rows and
    has no digit: it stands for null, whatever the language. One that is a value of another column of texts, such as
    auto, stands for itself."""
    found: dict[str, str] = {}
    values: dict[str, set[str]] = {}
    for c in (c for c in rows.columns if rows[c].dtype == pl.String):
        known = rows[c].filter(~rows[c].is_in(words.NONE)).drop_nulls()
        texts = known.filter(known.str.contains(r"^\D+$"))
        values[c] = set(texts.unique().head(_FEW))
        if len(values[c]) == 1 and len(texts) >= FEW:
            rest = known.filter(known != texts[0])
            if rest.n_unique() > FEW and _typed(rest, decimal).dtype.is_numeric():
                found[c] = texts[0]
    others = set[str]().union(*(some for c, some in values.items() if c not in found))
    return {c: word for c, word in found.items() if word not in others}


def without_nulls(rows: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...], tuple[tuple[str, str], ...]]:
    """(rows of JSON lines with null for the texts that stand for it, these texts, and `Text.alone` of them). A column
    that has them has the type that its other values have; lists as text stay text."""
    alone = {word: c for c, word in one_words(rows).items()}
    found = {*alone}
    rows = without(rows, [*alone]).with_columns(_typed(rows[c].set(rows[c] == word, None)) for word, c in alone.items())
    for c in (c for c, kind in rows.schema.items() if kind == pl.String):
        known = _typed(rows[c])
        gone = rows[c].is_not_null() & known.is_null()
        if gone.any():
            found |= set(rows[c].filter(gone))
            rows = rows.with_columns(known if known.dtype != pl.List else rows[c].set(gone, None))
    return rows, tuple(sorted(found)), tuple(sorted(alone.items()))


def typed(frame: pl.DataFrame, decimal: str = ".") -> pl.DataFrame:
    """Text columns as what all their values are: integers, numbers or booleans; an id such as 007 stays text."""
    return frame.with_columns([_typed(frame[c], decimal) for c in frame.columns if frame[c].dtype == pl.String])


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
    if known.str.contains(_INTEGER).all():
        return values.cast(pl.Int64)
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
    some = known.filter(~known.str.contains(_NUMBER))
    if len(some) and not some.str.contains(rf"{_NUMBER[:-1]}\s?%$").all():
        return False
    return not known.str.contains(r"^-?[0-9]{19,}$").any()


def as_named(frame: pl.DataFrame) -> tuple[pl.DataFrame, frozenset[str]]:
    """Text columns of JSON whose texts are lists as lists, as `data.types` reads them; and which these are. Numbers of
    which some have a % behind them are numbers."""
    texts = [c for c in frame.columns if frame[c].dtype == pl.String]
    found = [s for c in texts if (s := as_lists(frame[c])) is not None]
    shares = [floats(frame[c]) for c in texts if _has_percents(frame[c].drop_nulls())]
    return frame.with_columns(*found, *shares), frozenset(s.name for s in found)


def _has_percents(known: pl.Series) -> bool:
    """Whether texts are numbers, some with a % behind them; without one they may be ids."""
    return known.str.ends_with("%").any() and _are_numbers(known)


def as_lists(values: pl.Series) -> pl.Series | None:
    """Texts that are all JSON arrays (or Python lists) of one type, as lists; None where they are not, or all empty."""
    known = values.drop_nulls()
    if not len(known) or not (known.str.starts_with("[") & known.str.ends_with("]")).all():
        return None
    full = known.filter(~known.is_in(["[]"]))  # the first rows of a log have empty histories
    for kind in LISTS:
        if len(full) and not lists(full.head(_FEW), kind).null_count():
            found = lists(values, kind)
            if found.null_count() == values.null_count() and (found.list.len() > 0).any():
                return found
    return None


def _is_number(cell: str) -> bool:
    return bool(cell.strip()) and re.match(_NUMBER, cell.strip()) is not None


def _even(lines: Sequence[str], separator: str, quoted: bool) -> int:
    """Columns where all lines have as many, else 0."""
    counts = [len(row) for row in _cells(lines, separator, quoted)]
    return counts[0] if counts and counts[0] > 1 and counts.count(counts[0]) >= 0.9 * len(counts) else 0


def of_group(file: File, group: int | None, rows: int) -> pl.DataFrame:
    """The first rows of a row group of a Parquet file, or (None) of the file. Raises UserError 65, 66, 74."""
    with file.open() as parquet:
        batches, have, groups = [], 0, None if group is None else [group]
        try:
            for batch in parquet.iter_batches(min(rows, 65_536), row_groups=groups, use_threads=False):
                batches.append(batch)
                have += len(batch)
                if have >= rows:
                    break
        except (pa.ArrowException, OSError) as e:
            raise file.refusal(e, "damaged Parquet") from None
        frame = pl.from_arrow(pa.Table.from_batches(batches, parquet.schema_arrow))
    assert isinstance(frame, pl.DataFrame)
    return frame.head(rows)
