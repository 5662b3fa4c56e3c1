"""Rows of text files, a slice at a time: CSV as text and nulls, JSON lines as they are written.

A slice ends where a row ends, so each is parsed by itself. Where rows end in a CSV is told by its quotes as Arrow reads
them: one that begins a value holds newlines until the one that ends it, one within a value is a character of it.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pyarrow.csv as arrow_csv

from dmtl_cli.config.data import Csv
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.log.source import File

SLICE = 8 << 20
"""bytes of text that are parsed at once"""
LONGEST_ROW = 64 << 20
"""bytes of a row"""
_BOM = b"\xef\xbb\xbf"
_RAGGED = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)")


@dataclass(frozen=True)
class Rows:
    """Some rows of a file.

    Args:
        first: number of the first row in its file, for messages.
    """

    frame: pl.DataFrame
    first: int

    def only(self, mask: pl.Series) -> pl.DataFrame:
        """The rows that are true in the mask."""
        return self.frame.filter(mask)


Typed = Callable[[pl.DataFrame, int], pl.DataFrame]
"""Gives columns the types that the config names. Arguments: the frame, the number of its first row."""


@dataclass(frozen=True)
class JsonRows(Rows):
    """Rows of JSON lines, one after the other."""

    lines: list[bytes]
    file: File
    typed: Typed

    @staticmethod
    def of(file: File, lines: list[bytes], first: int, typed: Typed) -> JsonRows:
        return JsonRows(typed(_objects(file, lines, first), first), first, lines, file, typed)

    def only(self, mask: pl.Series) -> pl.DataFrame:
        """The rows that are true in the mask, of the types that their values alone have."""
        lines = [line for line, keep in zip(self.lines, mask, strict=True) if keep]
        return self.typed(_objects(self.file, lines, self.first), self.first)


# -- CSV ---------------------------------------------------------------------------------------------------------------


def csv_rows(file: File, options: Csv, typed: Typed, *, finished: bool = False) -> Iterator[Rows]:
    """Rows of a CSV file, null where nothing stands between two separators. Its first line is row 1.

    Args:
        typed: is given columns of text.
        finished: whether it is known to be written: a file without a byte then has no rows.

    Raises:
        UserError: 65 a row has another number of values than the columns, a quoted text has no end, a column's name is
            there twice, it is not UTF-8; 66 it is empty and not `finished`, gone or changed; 74 the storage fails.
    """
    separator = options.separator or separator_of(file.path)
    row = _row(separator, options.quote_char)
    names, number = list(options.columns or ()), 1
    for text in _slices(file, _end_of_rows(row, options.quote_char), finished):
        _require_utf8(file, text, number)
        if not names:
            head = row.match(text)
            assert head is not None
            names, number = _names(file, head[0], separator, options.quote_char), 2
            text = text[head.end() :]
        frame = pl.from_arrow(_table(file, text, names, number, separator, options))
        assert isinstance(frame, pl.DataFrame)
        yield Rows(typed(frame, number), number)
        number += len(frame)


def separator_of(path: str) -> str:
    """What stands between two values of a CSV file where the config does not say it."""
    return "\t" if re.search(r"\.tsv(\.gz|\.zst)?$", path.lower()) else ","


def _row(separator: str, quote: str | None) -> re.Pattern[bytes]:
    """A whole row, its newline included."""
    if quote is None:
        return re.compile(rb"[^\n]*+\n")
    s, q = re.escape(separator.encode()), re.escape(quote.encode())
    quoted = rb"%b(?:[^%b]++|%b%b)*+%b[^%b\n]*+" % (q, q, q, q, q, s)
    value = rb"(?:%b|[^%b%b\n][^%b\n]*+)?+" % (quoted, q, s, s)
    return re.compile(rb"(?:%b%b)*+%b\n" % (value, s, value))


def _end_of_rows(row: re.Pattern[bytes], quote: str | None) -> Callable[[bytes], int]:
    """Where the last whole row of a text ends."""
    rows = re.compile(rb"(?:%b)*+" % row.pattern)

    def end(text: bytes) -> int:
        if quote is None or quote.encode() not in text:
            return text.rfind(b"\n") + 1
        found = rows.match(text)
        return found.end() if found else 0

    return end


def _slices(file: File, end_of_rows: Callable[[bytes], int], finished: bool) -> Iterator[bytes]:
    """All text of a file, cut where rows end; a last row without a newline gets one. Raises UserError 65, 66, 74."""
    rest, row = b"", 1
    with file.text() as read:
        while True:
            more = read(SLICE)
            if row == 1 and not rest:
                more = more.removeprefix(_BOM)
            if not more and not rest:
                break
            text = rest + more if more or rest.endswith(b"\n") else rest + b"\n"
            end = end_of_rows(text)
            if end == 0 and (not more or len(text) > LONGEST_ROW):
                what = "a quoted text has no end" if not more else f"a row has more than {LONGEST_ROW >> 20} MiB"
                raise UserError(f"{file}: from row {row} on {what}", "correct it, or set data.csv.quote_char: null")
            if end:
                yield text[:end]
                row += text.count(b"\n", 0, end)
            rest = text[end:]
    if row == 1 and not finished:
        raise unfinished(file)


def unfinished(file: File) -> UserError:
    """What is said of a file without a byte, which may still be written."""
    hint = "retry when it is written, or remove it; a success_file would say that it is (data.events.success_file)"
    return UserError(f"{file}: empty", hint, Exit.NO_INPUT)


def _names(file: File, head: bytes, separator: str, quote: str | None) -> list[str]:
    """The names of the columns. Raises UserError 65 where one is missing or there twice."""
    text = head.decode().rstrip("\r\n")
    if quote is None:
        names = text.split(separator)
    else:
        names = next(csv.reader(io.StringIO(text), delimiter=separator, quotechar=quote), [])
    hint = "correct its first line, or give data.csv.columns where it has no names"
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{file}: column {twice[0]!r} appears more than once", hint)
    if not all(names):
        raise UserError(f"{file}: row 1: expected names of columns, got {text[:80]!r}", hint)
    return names


def _table(file: File, text: bytes, names: list[str], number: int, separator: str, options: Csv) -> pa.Table:
    if not text:
        return pa.table({name: pa.array([], pa.string()) for name in names})
    quote = options.quote_char
    try:
        return arrow_csv.read_csv(
            pa.BufferReader(text),
            arrow_csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=names),
            arrow_csv.ParseOptions(
                delimiter=separator, quote_char=quote or False, newlines_in_values=quote is not None
            ),
            arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=["", *options.null_values],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as e:
        found = _RAGGED.search(str(e))
        if found is None:
            raise UserError(f"{file}: from row {number} on: {e}", "is data.csv as the file is written?") from None
        at, wanted, got = map(int, found.groups())
        hint = "correct it, or data.csv (separator, quote_char, columns)"
        raise UserError(f"{file}: row {number + at - 1}: expected {wanted} values, got {got}", hint) from None


def _require_utf8(file: File, text: bytes, number: int) -> None:
    try:
        text.decode()
    except UnicodeDecodeError as e:
        at = number + text.count(b"\n", 0, e.start)
        said = f"{file}: line {at}: not UTF-8 (byte 0x{text[e.start]:02x})"
        raise UserError(said, "write it in UTF-8, e.g. iconv -f LATIN1 -t UTF-8") from None


# -- JSON lines --------------------------------------------------------------------------------------------------------


def json_rows(file: File, typed: Typed, *, finished: bool = False) -> Iterator[JsonRows]:
    """Rows of a file with a JSON object a line. Fields of an object are columns, `a.b`. A column of numbers and texts
    is text, one of lists of objects holds no values.

    Args:
        typed: is given the columns as they are written.
        finished: as of `csv_rows`.

    Raises:
        UserError: 65 a line is no JSON object, a column has values of several types or an integer beyond int64; 66 it
            is empty and not `finished`, gone or changed; 74 the storage fails.
    """
    number = 1
    for text in _slices(file, lambda text: text.rfind(b"\n") + 1, finished):
        _require_utf8(file, text, number)
        lines = text.split(b"\n")[:-1]
        if not all(
            line.strip() for line in lines
        ):  # a number names a line of the file, so one that is left out ends a slice
            yield from _between_blanks(file, lines, number, typed)
        else:
            yield JsonRows.of(file, lines, number, typed)
        number += len(lines)


def _between_blanks(file: File, lines: list[bytes], number: int, typed: Typed) -> Iterator[JsonRows]:
    some: list[bytes] = []
    for k, line in enumerate([*lines, b""]):
        if line.strip():
            some.append(line)
        elif some:
            yield JsonRows.of(file, some, number + k - len(some), typed)
            some = []


def _objects(file: File, lines: list[bytes], number: int) -> pl.DataFrame:
    try:
        frame = pl.read_ndjson(io.BytesIO(b"\n".join(lines)), infer_schema_length=None)
    except pl.exceptions.PolarsError as e:
        raise _wrong_line(file, lines, number) or _mixed(file, number, e) from None
    if len(frame) != len(lines):
        raise _wrong_line(file, lines, number) or _mixed(file, number, "a line is not one object")
    if large := [name for name, kind in frame.schema.items() if kind == pl.Int128]:
        raise UserError(
            f"{file}: column {large[0]}, from line {number} on: an integer beyond int64", "write it as text"
        )
    flat = _flat(file, frame)
    return flat.with_columns(_without_fields(flat[name]) for name, kind in flat.schema.items() if _has_fields(kind))


def _flat(file: File, frame: pl.DataFrame) -> pl.DataFrame:
    """The fields of an object as columns of their own: `b` of the object `a` is `a.b`. Raises UserError 65."""
    while objects := [name for name, kind in frame.schema.items() if isinstance(kind, pl.Struct)]:
        fields = [f for name in objects for f in frame[name].struct.unnest().rename(lambda f: f"{name}.{f}")]  # noqa: B023
        frame = frame.drop(objects)
        if twice := sorted({f.name for f in fields} & {*frame.columns}):
            raise UserError(f"{file}: column {twice[0]} and a field of that name", "give one of them another name")
        frame = frame.with_columns(fields)
    return frame


def _wrong_line(file: File, lines: list[bytes], number: int) -> UserError | None:
    """What is wrong with the first line that is no JSON object; None where all are."""
    for k, line in enumerate(lines):
        try:
            if not isinstance(json.loads(line, parse_constant=_refuse_constant), dict):
                raise ValueError(f"got {line[:40]!r}")
        except ValueError as e:
            return UserError(f"{file}: line {number + k}: expected a JSON object: {e}", "write one object a line")
    return None


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _mixed(file: File, number: int, error: object) -> UserError:
    what = f"{file}: from line {number} on a column has values that no type holds: {error}"
    return UserError(what, "write one type in all lines")


def _has_fields(kind: pl.DataType) -> bool:
    inner = kind
    while isinstance(inner, pl.List):
        inner = inner.inner  # type: ignore[assignment]
    return isinstance(inner, pl.Struct)


def _without_fields(objects: pl.Series) -> pl.Series:
    """What stands for objects: no kind of feature takes it. Their fields may differ from line to line."""
    there = pl.DataFrame({"object": objects.is_not_null()})
    return there.select(pl.when("object").then(pl.struct("object")).alias(objects.name)).to_series()
