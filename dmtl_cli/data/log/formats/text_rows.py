"""Rows of text files, a slice at a time: CSV as text and nulls, JSON lines as they are written.

A slice ends where a row ends (`row_ends`), so each is parsed by itself.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar

import polars as pl
import pyarrow as pa
import pyarrow.csv as arrow_csv

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.table import Csv
from dmtl_cli.data.log.formats.arrays import as_lines
from dmtl_cli.data.log.formats.envelopes import unwrapped
from dmtl_cli.data.log.formats.json_text import is_deep, parsed
from dmtl_cli.data.log.formats.row_ends import end_of_rows, row_of
from dmtl_cli.data.log.formats.source import File

SLICE = 8 << 20
"""bytes of text that are parsed at once"""
LONGEST_ROW = 64 << 20
"""bytes of a row"""
T = TypeVar("T")
_BOM = b"\xef\xbb\xbf"
DROP = "set data.events.invalid_rows: drop, which leaves out and counts lines that do not parse"
"""what to do about such a line"""
Invalid = Literal["refuse", "drop"] | None
"""`data.events.invalid_rows`: what becomes of a line that does not parse; None: it is refused without naming the key"""


class Lost(NamedTuple):
    """A line that does not parse, and was left out."""

    before: int
    """rows of its frame that lie before it"""
    why: str
    """its place, and what is wrong"""


@dataclass(frozen=True)
class Rows:
    """Some rows of a file.

    Args:
        numbers: of the rows in their file, for messages.
        lost: lines among them that were left out.
    """

    frame: pl.DataFrame
    numbers: Sequence[int]
    lost: tuple[Lost, ...] = ()

    @property
    def first(self) -> int:
        """Number of the first row."""
        return self.numbers[0] if len(self.numbers) else 1

    def only(self, mask: pl.Series) -> pl.DataFrame:
        """The rows that are true in the mask."""
        return self.frame.filter(mask)


Typed = Callable[[pl.DataFrame, Sequence[int]], pl.DataFrame]
"""Gives columns the types that the config names. Arguments: the frame, the numbers of its rows."""


@dataclass(frozen=True)
class JsonRows(Rows):
    """Rows of JSON lines, one after the other."""

    lines: list[bytes] = field(kw_only=True)
    file: File = field(kw_only=True)
    typed: Typed = field(kw_only=True)

    def only(self, mask: pl.Series) -> pl.DataFrame:
        """The rows that are true in the mask, of the types that their values alone have."""
        lines, numbers = list(itertools.compress(self.lines, mask)), list(itertools.compress(self.numbers, mask))
        return self.typed(_objects(self.file, lines, numbers), numbers)


# -- CSV ---------------------------------------------------------------------------------------------------------------


def csv_rows(
    file: File, options: Csv, typed: Typed, *, finished: bool = False, invalid: Invalid = None
) -> Iterator[Rows]:
    """Rows of a CSV file, null where nothing stands between two separators. Its first line is row 1.

    Args:
        typed: is given columns of text.
        finished: whether it is known to be written: a file without a byte then has no rows.
        invalid: what becomes of a line with another number of values than the columns, and of a last line that ends
            within a quoted text. A row of several lines is refused all the same: a quote that is missing, or one too
            many, has swallowed lines that may be good.

    Raises:
        UserError: 65 a row has another number of values than the columns, a quoted text has no end, a column's name is
            there twice, it is not UTF-8; 66 it is empty and not `finished`, gone or changed; 74 the storage fails.
    """
    separator = options.separator or separator_of(file.path)
    row = row_of(separator, options.quote_char, options.escape_char)
    names, number = list(options.columns or ()), 1
    try:
        ends = end_of_rows(row, (options.quote_char, options.escape_char))
        for text in _slices(file, ends, finished, options.encoding):
            _require_utf8(file, text, number, "name its encoding, as cp1252, in data.csv.encoding or its table's csv")
            if not names:
                head = row.match(text)
                assert head is not None
                names, number = _names(file, head[0], separator, options), 2
                text = text[head.end() :]
            ragged = _Ragged(file, number, invalid)
            frame = pl.from_arrow(_table(file, text, names, number, separator, options, ragged))
            assert isinstance(frame, pl.DataFrame)
            numbers = ragged.numbers(len(frame))
            yield Rows(typed(frame, numbers), numbers, tuple(ragged.lost))
            number += len(frame) + len(ragged.lost)
    except _UnendedError as e:
        if e.lines > 1 or not names:
            raise
        if invalid != "drop":
            raise UserError(e.message, f"{e.hint}; or {DROP}" if invalid else e.hint) from None
        none = pl.DataFrame(schema=dict.fromkeys(filter(None, names), pl.String()))
        yield Rows(typed(none, ()), (), (Lost(0, e.message),))


class _Ragged:
    """What becomes of rows with another number of values than the columns, as Arrow comes to them."""

    def __init__(self, file: File, first: int, invalid: Invalid) -> None:
        self.file, self.first, self.invalid = file, first, invalid
        self.lost: list[Lost] = []
        self.refused: UserError | None = None

    def __call__(self, row: arrow_csv.InvalidRow) -> str:
        at, lines = row.number - 1, row.text.strip("\r\n").count("\n") + 1
        what = f"{self.file}: row {self.first + at}: expected {row.expected_columns} values, got {row.actual_columns}"
        if lines == 1 and self.invalid == "drop":
            self.lost.append(Lost(at - len(self.lost), what))
            return "skip"
        hint = "correct it, or data.csv (separator, quote_char, columns)"
        if lines > 1:
            self.refused = UserError(f"{what}, in {lines} lines that a quote holds together", hint)
        else:
            self.refused = UserError(what, f"{hint}; or {DROP}" if self.invalid else hint)
        return "error"

    def numbers(self, rows: int) -> Sequence[int]:
        """Of the rows that were not left out."""
        if not self.lost:
            return range(self.first, self.first + rows)
        gone = {lost.before + k for k, lost in enumerate(self.lost)}
        return [self.first + k for k in range(rows + len(gone)) if k not in gone]


def separator_of(path: str) -> str:
    """What stands between two values of a CSV file where the config does not say it."""
    return "\t" if re.search(r"\.tsv(\.gz|\.zst)?$", path.lower()) else ","


def _slices(
    file: File, end_of_rows: Callable[[bytes], int], finished: bool, encoding: str = "utf-8"
) -> Iterator[bytes]:
    """All text of a file in UTF-8, cut where rows end; a last row without a newline gets one. Raises UserError 65, 66,
    74."""
    rest, row = b"", 1
    with file.text(encoding) as read:
        while True:
            more = read(SLICE)
            if row == 1 and not rest:
                more = more.removeprefix(_BOM)
            if not more and not rest:
                break
            text = rest + more if more or rest.endswith(b"\n") else rest + b"\n"
            end = end_of_rows(text)
            hint = "correct it, or set data.csv.quote_char: null"
            if end == 0 and not more:
                raise _UnendedError(f"{file}: from row {row} on a quoted text has no end", hint, text.count(b"\n"))
            if end == 0 and len(text) > LONGEST_ROW:
                raise UserError(f"{file}: from row {row} on a row has more than {LONGEST_ROW >> 20} MiB", hint)
            if end:
                yield text[:end]
                row += text.count(b"\n", 0, end)
            rest = text[end:]
    if row == 1 and not finished:
        raise unfinished(file)


class _UnendedError(UserError):
    """A row that does not end.

    Args:
        lines: that it has.
    """

    def __init__(self, message: str, hint: str, lines: int) -> None:
        super().__init__(message, hint)
        self.lines = lines


def unfinished(file: File) -> UserError:
    """What is said of a file without a byte, which may still be written."""
    hint = "retry when it is written, or remove it; a success_file would say that it is (data.events.success_file)"
    return UserError(f"{file}: empty", hint, Exit.NO_INPUT)


def _names(file: File, head: bytes, separator: str, options: Csv) -> list[str]:
    """The names of the columns, the first of which may be none: that of the index which pandas writes. Raises UserError
    65 where another is missing or one is there twice."""
    hint = "correct its first line, or give data.csv.columns where it has no names"
    text = head.decode().rstrip("\r\n")
    quote, escape = options.quote_char, options.escape_char
    if quote is None and escape is None:
        names = text.split(separator)
    else:
        quoting: Literal[0, 3] = csv.QUOTE_NONE if quote is None else csv.QUOTE_MINIMAL
        lines = io.StringIO(text)
        sign = quote or '"'
        rows = csv.reader(lines, delimiter=separator, quotechar=sign, quoting=quoting, escapechar=escape)
        try:
            names = next(rows, [])
        except csv.Error as e:  # a line that ends in \r, a name of more than 128 KiB
            raise UserError(f"{file}: row 1: {e}", hint) from None
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{file}: column {twice[0]!r} appears more than once", hint)
    if not all(names[1:] or names):
        raise UserError(f"{file}: row 1: expected names of columns, got {text[:80]!r}", hint)
    return names


def _table(
    file: File, text: bytes, names: list[str], number: int, separator: str, options: Csv, ragged: _Ragged
) -> pa.Table:
    named = [name for name in names if name]
    if not text:
        return pa.table({name: pa.array([], pa.string()) for name in named})
    quote, escape = options.quote_char, options.escape_char
    if len(separator) > 1:  # of which Arrow takes one
        text, separator = text.replace(separator.encode(), b"\x1f"), "\x1f"
    if escape == "\\":  # \N is null, of which Arrow would read N
        s = re.escape(separator.encode())
        null = rb"((?:\\(?!N)(?s:.))+(?:\\N)*)|(?<![^\n%b])\\N(?=[%b\r\n])" % (s, s)  # what is escaped stays
        text = re.sub(null, rb"\1", text)
    try:
        return arrow_csv.read_csv(
            pa.BufferReader(text),
            arrow_csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=names),
            arrow_csv.ParseOptions(
                delimiter=separator,
                quote_char=quote or False,
                escape_char=escape or False,
                newlines_in_values=quote is not None or escape is not None,
                invalid_row_handler=ragged,
            ),
            arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(named, pa.string()),
                include_columns=named,
                null_values=["", *options.null_values],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as e:
        if ragged.refused is None:
            raise UserError(f"{file}: from row {number} on: {e}", "is data.csv as the file is written?") from None
        raise ragged.refused from None


def _require_utf8(file: File, text: bytes, number: int, hint: str) -> None:
    try:
        text.decode()
    except UnicodeDecodeError as e:
        at = number + text.count(b"\n", 0, e.start)
        said = f"{file}: line {at}: not UTF-8 (byte 0x{text[e.start]:02x})"
        raise UserError(said, hint) from None


# -- JSON lines --------------------------------------------------------------------------------------------------------


def json_rows(file: File, typed: Typed, *, finished: bool = False, invalid: Invalid = None) -> Iterator[Rows]:
    """Rows of a file with a JSON object a line, or that is one array of them. Fields of an object are columns, `a.b`. A
    column of numbers and texts is text; of a list of objects each field is a column of lists. What carries rows is
    unwrapped (`envelopes`).

    Args:
        typed: is given the columns as they are written.
        finished: as of `csv_rows`.
        invalid: what becomes of a line that is no JSON object.

    Raises:
        UserError: 65 a line is no JSON object, a column has values of several types or an integer beyond int64; 66 it
            is empty and not `finished`, gone or changed; 74 the storage fails.
    """
    number = 1
    for text in as_lines(file, _slices(file, lambda text: text.rfind(b"\n") + 1, finished)):
        _require_utf8(file, text, number, "write it in UTF-8, e.g. iconv -f LATIN1 -t UTF-8")
        lines = text.split(b"\n")[:-1]
        numbers: Sequence[int] = range(number, number + len(lines))
        number += len(lines)
        if blank := [k for k, line in enumerate(lines) if not line.strip()]:
            lines, numbers = _but(lines, blank), _but(numbers, blank)
        if lines:
            yield _json_rows(file, lines, numbers, typed, invalid)


def _json_rows(file: File, lines: list[bytes], numbers: Sequence[int], typed: Typed, invalid: Invalid) -> Rows:
    lost: list[Lost] = []
    try:
        frame = _objects(file, lines, numbers)
    except _NotParsedError as e:
        if invalid is None:
            raise
        if invalid == "refuse":
            raise UserError(e.message, f"{e.hint}, or {DROP}") from None
        bad = [(k, wrong) for k, line in enumerate(lines) if (wrong := _wrong(line)) is not None]
        lost = [Lost(k - n, _said(file, numbers[k], wrong)) for n, (k, wrong) in enumerate(bad)]
        gone = [k for k, _ in bad]
        lines, numbers = _but(lines, gone), _but(numbers, gone)
        if not lines:
            return Rows(pl.DataFrame(), (), tuple(lost))
        frame = _objects(file, lines, numbers)
    return JsonRows(typed(frame, numbers), numbers, tuple(lost), lines=lines, file=file, typed=typed)


def _but(some: Sequence[T], places: Sequence[int]) -> list[T]:
    """Without those at some places."""
    gone = set(places)
    return [one for k, one in enumerate(some) if k not in gone]


class _NotParsedError(UserError):
    """A line that is no JSON object."""


def _objects(file: File, lines: list[bytes], numbers: Sequence[int]) -> pl.DataFrame:
    deep = any(map(is_deep, lines))  # of these polars is told nothing: see `DEEPEST`
    try:
        frame = pl.DataFrame() if deep else pl.read_ndjson(io.BytesIO(b"\n".join(lines)), infer_schema_length=None)
    except pl.exceptions.PolarsError as e:
        raise _wrong_line(file, lines, numbers) or _mixed(file, numbers[0], e) from None
    if len(frame) != len(lines):
        raise _wrong_line(file, lines, numbers) or _mixed(file, numbers[0], "a line is not one object")
    return flat_columns(str(file), unwrapped(frame), paths(json.loads(lines[0])), numbers[0])


def flat_columns(where: str, frame: pl.DataFrame, names: Iterable[str], number: int) -> pl.DataFrame:
    """Columns of what JSON has: the fields of objects as columns of their own, and of lists of objects as lists.

    Args:
        where: the file, for messages.
        names: of its columns as they are to stand.
        number: of the first row, for messages.

    Raises:
        UserError: 65 an integer beyond int64, a column and a field of its name.
    """
    flat = _in_order(_flat(where, frame), names)
    if large := [name for name, kind in flat.schema.items() if _inner(kind) == pl.Int128]:
        raise UserError(
            f"{where}: column {large[0]}, from line {number} on: an integer beyond int64", "write it as text"
        )
    return flat.with_columns(_without_fields(flat[name]) for name, kind in flat.schema.items() if _is_object(kind))


def _in_order(frame: pl.DataFrame, names: Iterable[str]) -> pl.DataFrame:
    """Its columns in the order of some names, others by name: polars may give many in another order each time."""
    ranks = {name: k for k, name in enumerate(names)}
    every, last = frame.columns, len(ranks)
    every.sort(key=lambda c: (c.count("."), ranks.get(c.rpartition(".")[0], last), ranks.get(c, last), c))
    return frame[every]  # `select` takes * for all of them


def paths(value: Any, above: str = "") -> Iterator[str]:
    """Names of the fields of an object, or of the first of a list, and of those in it."""
    first = value[0] if isinstance(value, list) and value else value
    for name, inner in first.items() if isinstance(first, dict) else ():
        yield f"{above}{name}"
        yield from paths(inner, f"{above}{name}.")


def _flat(where: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The fields of an object as columns of their own, `b` of the object `a` is `a.b`, and those of a list of objects
    as lists. Raises UserError 65."""
    while objects := [name for name, kind in frame.schema.items() if _is_object(kind)]:
        fields = [field for name in objects for field in _fields(frame[name])]
        kept = [s for s in frame if s.name not in objects]
        names = [s.name for s in (*kept, *fields)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"{where}: column {twice[0]} and a field of that name", "give one of them another name")
        frame = pl.DataFrame({s.name: s for s in (*kept, *fields)})
    return frame


def _is_object(kind: pl.DataType) -> bool:
    return isinstance(_inner(kind), pl.Struct)


def _fields(s: pl.Series) -> list[pl.Series]:
    """Those of objects; of lists of objects, or of lists of such lists, lists of each."""
    if s.dtype != pl.List:
        return [f.rename(f"{s.name}.{f.name}") for f in s.struct.unnest()]
    names = [of.name for of in _inner(s.dtype).fields]  # type: ignore[attr-defined]
    return [s.list.eval(_field(s.dtype.inner, name)).rename(f"{s.name}.{name}") for name in names]  # type: ignore[attr-defined]


def _field(kind: pl.DataType, name: str) -> pl.Expr:
    """A field of an element that is an object, or a list of such elements."""
    if isinstance(kind, pl.List):
        return pl.element().list.eval(_field(kind.inner, name))  # type: ignore[arg-type]
    return pl.element().struct.field(name)


def _wrong_line(file: File, lines: list[bytes], numbers: Sequence[int]) -> UserError | None:
    """What is wrong with the first line that is no JSON object; None where all are."""
    for line, number in zip(lines, numbers, strict=True):
        if (wrong := _wrong(line)) is not None:
            return _NotParsedError(_said(file, number, wrong), "write one object a line")
    return None


def _wrong(line: bytes) -> str | None:
    try:
        found = parsed(line)
    except ValueError as e:
        return str(e)
    return None if isinstance(found, dict) else f"got {line[:40]!r}"


def _said(file: File, number: int, wrong: str) -> str:
    return f"{file}: line {number}: expected a JSON object: {wrong}"


def _mixed(file: File, number: int, error: object) -> UserError:
    what = f"{file}: from line {number} on a column has values that no type holds: {error}"
    return UserError(what, "write one type in all lines")


def _inner(kind: pl.DataType) -> pl.DataType:
    """What lists hold, or lists of lists."""
    while isinstance(kind, pl.List):
        kind = kind.inner  # type: ignore[assignment]
    return kind


def _without_fields(objects: pl.Series) -> pl.Series:
    """What stands for objects: no kind of feature takes it. Their fields may differ from line to line."""
    there = pl.DataFrame({"object": objects.is_not_null()})
    return there.select(pl.when("object").then(pl.struct("object")).alias(objects.name)).to_series()
