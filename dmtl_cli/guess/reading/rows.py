"""Rows of a file in any format: of text as it stands, of Parquet a row group, of Avro a piece."""

from __future__ import annotations

import contextlib
import csv
import re
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.table import WHERE, Csv
from dmtl_cli.data.log.checked.checks import LARGEST
from dmtl_cli.data.log.files.rows import frames
from dmtl_cli.data.log.files.table import Table
from dmtl_cli.data.log.formats import avro
from dmtl_cli.data.log.formats.source import File
from dmtl_cli.data.log.formats.text_rows import Rows, csv_rows, json_rows
from dmtl_cli.guess.columns.values import FEW, is_id, share, time_unit
from dmtl_cli.guess.reading.ddl import Declared, likeliest
from dmtl_cli.guess.reading.encodings import LATIN, candidates, encoding_of, example
from dmtl_cli.guess.reading.files import AVRO, CSV, JSON, PARQUET, format_of
from dmtl_cli.guess.reading.texts import NUMBER, Text, as_typed, guessed, joined

ALIKE = 0.8
"""of the columns are those of another table, which are then files of the same one"""
NOT_UTF8 = "not UTF-8"
"""of a message about a file that cannot be read as it is"""
BYTES = 8 << 20
"""of rows of a text file"""
_SCANNED = 64 << 20  # bytes of a CSV in which quotes are looked for
_HEAD = 64 << 10  # bytes by which a CSV's separator and header are told
_BROKEN = 0.1  # of the lines of a table may be none of its rows
_ROWS = 20_000
_FIRST = 100  # rows by which the columns of a file are told
_FOLLOWED = 200_000  # rows by which what came of others is told
_OWN, _WITHIN = 0.9, 0.5  # of the rows have a value of their own; of what came of others have the ids of one of these
_SEPARATORS = ",\t;|\x01"  # the last is Hive's
_SEVERAL = ("|~|", "~|~", "^|^", "::", "||")
CONTROL = "".join(map(chr, range(1, 9)))
"""separators that no text has, so that no value is quoted"""
_ESCAPED, _BYTE = re.compile(r"\\."), re.compile(rb"\\(?s:.)")
_BINARY = re.compile(rb"[\x00\x05-\x08\x0e-\x1a]")  # no text has them, which may have the separators of Hive


def form_of(file: File) -> str | None:
    """The format of a file by its name, else by its first bytes; None: none, or damaged. Raises UserError 74."""
    if (form := format_of(file.path)) is not None:
        return form
    try:
        with file.text("latin-1") as read:
            content = read(_HEAD)
    except UserError as e:
        if e.code != Exit.DATA:
            raise
        return None
    if content.startswith(b"PAR1"):
        return PARQUET
    if content.startswith(avro.MAGIC):
        return AVRO
    if content.lstrip().startswith(b"{"):
        return JSON
    return CSV if content.strip() and not _BINARY.search(content) else None


def head(
    file: File, rows: int, text: Text | None = None, tables: Sequence[Declared] = ()
) -> tuple[pl.DataFrame, Text | None]:
    """The first rows of a file, those of text as they stand, and how text is written.

    Args:
        text: how a CSV is written; None: as its first lines look.
        tables: declared in files beside it, of which one may be a CSV's.

    Raises:
        UserError: 65 it is not what its name says; 66 it is empty; 74 the storage fails.
    """
    form = form_of(file)
    if form == PARQUET:
        return of_group(file, None, rows), None
    if form == AVRO:
        return first(parts(file, Text()), rows), None
    if form == CSV:
        coded = _coded(file) if text is None else text
        content = _beginning(file, coded.encoding)
        plain = dialect(content, quoted=False) if text is None else replace(text, quoted=False)
        text = text or _named(dialect(content), content, file.path, tables)
        if text.separator == plain.separator or text.names:
            plain = replace(plain, separator=text.separator, header=text.header, names=text.names, source=text.source)
        escaped = text.escaped or has_escapes(file, text.separator, coded.encoding)
        if text.quoted and (text.separator in CONTROL or has_lone_quotes(file, plain.separator, coded.encoding)):
            text = plain
        text = replace(text, encoding=coded.encoding, piece=coded.piece, escaped=escaped)
    text = text or Text()
    return first(parts(file, text), rows), text


def are_alike(of: Callable[[str], File], paths: Iterable[str]) -> bool:
    """Whether files are of one table by their columns. Raises what `head` does, but for 65 and 66: such a file is like
    no other."""
    try:
        first, *more = ({*head(of(path), _FIRST)[0].columns} for path in paths)
    except UserError as e:
        if e.code not in (Exit.DATA, Exit.NO_INPUT):
            raise
        return False
    return all(len(first & columns) >= ALIKE * len(first | columns) for columns in more)


def is_followed(of: Callable[[str], File], files: Sequence[tuple[str, int]]) -> bool:
    """Whether files of one day and the same columns are of what was shown and of what came of it: most rows of another
    one have the ids of a row of the largest, but for times and ids of their own. Raises as `are_alike`.

    Args:
        files: paths, each with its bytes.
    """
    (first, size), *more = sorted(files, key=lambda file: -file[1])
    try:
        shown = first_values(of(first), _FOLLOWED)
        for path, less in more:
            came = first_values(of(path), max(FEW, _FOLLOWED * less // max(1, size)))  # to about the same time
            if less < size and are_of(came, shown):
                return True
    except UserError as e:
        if e.code not in (Exit.DATA, Exit.NO_INPUT):
            raise
    return False


def are_of(rows: pl.DataFrame, shown: pl.DataFrame) -> bool:
    """Whether rows are what came of others: most have the ids, two at least, of one that was shown, and of those that
    would not by chance, as those of few users and items would."""
    alike = [c for c, kind in rows.schema.items() if shown.schema.get(c) == kind]
    ids = [c for c in alike if _names_others(rows[c]) and _names_others(shown[c])]
    if len(ids) < 2 or len(rows) < FEW:
        return False
    known = _hashed(shown, ids).unique().implode()
    met, order = share(_hashed(rows, ids).is_in(known)), np.random.default_rng(0).permutation(len(rows))
    mixed = (rows.with_columns(rows[c].gather(order)) for c in ids if met >= _WITHIN)
    chance = max((share(_hashed(other, ids).is_in(known)) for other in mixed), default=0.0)
    return met >= _WITHIN and met - chance >= _WITHIN * (1 - chance)


def _hashed(rows: pl.DataFrame, ids: Sequence[str]) -> pl.Series:
    return rows.select(pl.struct(ids).hash()).to_series()


def _names_others(s: pl.Series) -> bool:
    """Whether values are ids of what has several rows, such as users and items."""
    return is_id(s) and FEW < s.n_unique() < _OWN * len(s) and time_unit(s) is None


def first_values(file: File, rows: int, text: Text | None = None) -> pl.DataFrame:
    """The first rows of a file with texts of a CSV as what they are: see `head`."""
    frame, text = head(file, rows, text)
    frame = guessed(frame)[0]
    return as_typed(frame, text)[0] if text and form_of(file) == CSV else frame


def rows_of(file: File, text: Text, names: tuple[str, ...] | None = None) -> Generator[Rows]:
    """All rows of a text or Avro file, some at a time, with the lines that do not parse; values of a CSV are text.

    Args:
        text: how it is written, where it is a CSV.
        names: of columns where there is no header; None: column_1 ...

    Raises:
        UserError: 65 more than a tenth of the lines do not parse; what `csv_rows`, `json_rows` and `AvroFile` raise.
    """
    form = form_of(file)
    read: Iterable[Rows]
    if form == AVRO:
        read = avro.AvroFile(file).rows()
    elif form == JSON:
        read = json_rows(file, _as_it_is, invalid="drop")
    else:
        if not text.header:
            names = names or text.names or tuple(f"column_{k + 1}" for k in range(_width(file, text)))
        quote = '"' if text.quoted else None
        escape = "\\" if text.escaped else None
        options = Csv(
            encoding=text.encoding, separator=text.separator, quote_char=quote, escape_char=escape, columns=names
        )
        read = csv_rows(file, options, _as_it_is, invalid="drop")
    kept = lost = 0
    with contextlib.closing(iter(read)) as found:  # type: ignore[type-var]
        for rows in found:
            kept, lost = kept + len(rows.frame), lost + len(rows.lost)
            if rows.lost and lost > _BROKEN * (kept + lost):
                raise UserError(rows.lost[0].why, f"{lost:,} of {kept + lost:,} lines do not parse")
            yield rows


def parts(file: File, text: Text, names: tuple[str, ...] | None = None) -> Iterator[pl.DataFrame]:
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
    return joined(found).head(rows) if found else pl.DataFrame()


def _as_it_is(frame: pl.DataFrame, _: Sequence[int]) -> pl.DataFrame:
    return frame


def _coded(file: File) -> Text:
    """In which encoding a CSV is, by its first bytes. Raises UserError 65 where nothing tells it."""
    with file.text() as read:
        content = read(BYTES)
    encoding = encoding_of(content)
    if encoding is None:
        what = f"{file}: {NOT_UTF8}, and its bytes do not tell what it is: {' or '.join(candidates(content))}"
        raise UserError(what, "write it in UTF-8, as iconv -f ENCODING -t UTF-8 does")
    return Text(encoding=encoding, piece=example(content, encoding) if encoding in LATIN else "")


def _beginning(file: File, encoding: str) -> bytes:
    with file.text(encoding) as read:
        content = read(_HEAD)
    return content[: content.rfind(b"\n") + 1] or content


def _width(file: File, text: Text) -> int:
    lines = _beginning(file, text.encoding).decode("utf-8-sig", "replace").splitlines()
    return len(next(_cells(lines[:1], text.separator, text.quoted), []))


def dialect(content: bytes, *, quoted: bool = True) -> Text:
    """Separator and header of a CSV, by its first lines.

    A header has no number and no value of another line where the other lines have numbers. Its first name may be none,
    where the others are numbers: pandas writes its index so.
    """
    lines = [line for line in content.decode("utf-8-sig", "replace").splitlines()[:50] if line.strip()]
    separator = max(_SEPARATORS, key=lambda s: (_even(lines, s, quoted), _even(lines, s, quoted, 0.5), s == ","))
    for signs in _SEVERAL:
        n, one = _even(lines, signs, False), _even(lines, separator, quoted)
        if n and (one <= n or (separator in signs and one == 2 * n - 1)):  # 1||2 has a value between two |
            separator, quoted = signs, False
    first, *rest = list(_cells(lines, separator, quoted)) or [[]]
    numbers = any(_is_number(cell) or cell.strip().isdecimal() for cell in first)  # 0002844 too
    indexed = len(first) > 1 and not first[0] and all(row[0].isdecimal() for row in rest if row)
    distinct = len({cell.strip() for cell in first}) == len(first) and all(cell.strip() for cell in first[indexed:])
    repeated = any(cell in {row[k] for row in rest if k < len(row)} for k, cell in enumerate(first))
    return Text(separator, distinct and not numbers and not repeated, quoted)


def _named(text: Text, content: bytes, path: str, tables: Sequence[Declared]) -> Text:
    """How a CSV is written, with the names of its columns from the table that is declared for it, which has as many; of
    none that is named as its path is, the only one that has."""
    line = next(iter(content.decode("utf-8-sig", "replace").splitlines()), "")
    fits = []
    for table in likeliest(tables, path):
        for separator in dict.fromkeys((table.separator or text.separator, text.separator)):
            cells = next(_cells([_ESCAPED.sub("", line)], separator, separator not in CONTROL), [])
            if len(cells) == len(table.columns) > 1:
                header = [cell.lower() for cell in cells] == [name.lower() for name in table.columns]
                names = () if header else table.columns
                fits.append(replace(text, separator=separator, header=header, names=names, source=table.source))
                break
    alike = {one.names for one in fits}
    return fits[0] if len(alike) == 1 or (fits and len(likeliest(tables, path)) < len(tables)) else text


def has_escapes(file: File, separator: str, encoding: str = "utf-8") -> bool:
    """Whether a backslash stands before separators or newlines that are of a value: the lines with one have as many
    separators as the others without them, and none has as many with them."""
    sign = separator.encode()
    each, seen = 0, False
    for text in _whole_lines(file, encoding):
        rows = text.strip(b"\r\n")
        each = each or _BYTE.sub(b"", rows).partition(b"\n")[0].count(sign)
        if each == 0:
            return False
        if b"\\" + sign in rows or b"\\\n" in rows:
            whole = _BYTE.sub(b"", rows)
            if whole.count(sign) != each * (whole.count(b"\n") + 1):
                return False
            seen |= rows.count(sign) != each * (rows.count(b"\n") + 1)
    return seen


def _cells(lines: Sequence[str], separator: str, quoted: bool) -> Iterator[list[str]]:
    if len(separator) > 1:
        return (line.split(separator) for line in lines)
    return csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)


def has_lone_quotes(file: File, separator: str, encoding: str = "utf-8") -> bool:
    """Whether quotes of a CSV are text: one begins a value that no quote ends in its line, or ends before the value
    does, and yet all lines have as many separators.

    Where quotes are what they seem, a separator or newline between two of them makes a line with another number.
    """
    sign = separator.encode()
    s = re.escape(sign)
    odd = re.compile(rb'(?:^|%b)"(?:[^"\n]|"")*+(?:\n|" *+[^" %b\r\n])' % (s, s), re.MULTILINE)
    each, lone = 0, False
    for text in _whole_lines(file, encoding):
        rows = text.strip(b"\r\n")
        each = each or rows.partition(b"\n")[0].count(sign)
        if each == 0 or rows.count(sign) != each * (rows.count(b"\n") + 1):
            return False
        if b'"' in rows and odd.search(text) is not None:
            if any(line.count(sign) != each for line in rows.split(b"\n")):
                return False
            lone = True
    return lone


def _whole_lines(file: File, encoding: str) -> Iterator[bytes]:
    """The first text of a file, some lines at a time."""
    done, rest = 0, b""
    with file.text(encoding) as read:
        while done < _SCANNED and (more := read(BYTES)):
            done += len(more)
            text, newline, rest = (rest + more).rpartition(b"\n")
            if text.strip():
                yield text + newline
    if rest.strip() and done < _SCANNED:
        yield rest + b"\n"


def _is_number(cell: str) -> bool:
    return bool(cell.strip()) and re.match(NUMBER, cell.strip()) is not None


def _even(lines: Sequence[str], separator: str, quoted: bool, most: float = 0.9) -> int:
    """Columns where such a share of lines has as many as the first, as they stand or else without separators behind a
    backslash; else 0."""
    bare = [line.replace("\\" + separator, "") for line in lines]
    for some in dict.fromkeys((tuple(lines), tuple(bare))):
        counts = [len(row) for row in _cells(some, separator, quoted)]
        if counts and counts[0] > 1 and counts.count(counts[0]) >= most * len(counts):
            return counts[0]
    return 0


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
    frame.columns = parquet.schema_arrow.names  # polars gives a name to a column without one
    return frame.head(rows)


def _is_beyond(s: pl.Series) -> bool:
    values = s.explode() if s.dtype == pl.List(pl.UInt64) else s
    return values.dtype == pl.UInt64 and (values > LARGEST).any()


def hashes_in(frames: Iterable[pl.DataFrame]) -> tuple[str, ...]:
    """The columns of rows of Parquet in which integers, or those of lists, are beyond int64: ids, as hashes are."""
    return tuple(dict.fromkeys(s.name for frame in frames for s in frame if _is_beyond(s)))


def as_text(frame: pl.DataFrame, hashes: Collection[str]) -> pl.DataFrame:
    """The rows with the integers of some columns as text, as `data.types: text` reads them."""
    found = [s for s in frame if s.name in hashes and s.dtype != pl.String]
    return frame.with_columns(s.cast(pl.List(pl.String) if s.dtype == pl.List else pl.String) for s in found)


def names_of(table: Table) -> set[str]:
    """All columns of a table that have a name."""
    return {name for footer in table.footers.values() for name in footer.schema.names} - {WHERE, ""}


def first_rows(table: Table, names: Sequence[str], beside: str) -> pl.DataFrame | None:
    """The first rows of some columns and of the one beside them, as far as its first file has them; None where it has
    none."""
    file = table.first_with(beside)
    there = [c for c in dict.fromkeys((*names, beside)) if table.has_in(file, c)]
    if beside not in there:
        return None
    return next((frame for frame in frames(table, file, there, _ROWS) if len(frame)), None)


def head_of(table: Table, column: str) -> pl.Series | None:
    """The first values of a column; None where there are none."""
    frame = first_rows(table, (), column)
    return None if frame is None or column not in frame.columns else frame[column].drop_nulls()


def whole(table: Table, column: str) -> pl.Series:
    """All values of a column that is in the first file with it."""
    found = []
    for file in table.files:
        if table.has_in(file, column):
            found += [frame[column] for frame in frames(table, file, [column], _ROWS) if frame[column].dtype != pl.Null]
    alike = [s for s in found if s.dtype == found[0].dtype]
    return pl.concat(alike).drop_nulls()
