"""What reading a day's files would hold in memory, told before a value is decoded: a small file can hold a lot.

Footers give the rows of a row group and the values of its columns, so what fixed widths decode to is known. Of text
they give the encoded size, which a dictionary makes small however often a long value is repeated: where that leaves
room for much, the column is read once as dictionary and indices, and its length is added up.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dmtl_cli.config.errors import UserError
from dmtl_cli.data.log.checked.checks import LONGEST
from dmtl_cli.data.log.files.schema import Schema
from dmtl_cli.data.log.files.table import Table
from dmtl_cli.data.log.formats.source import File
from dmtl_cli.data.log.values import sizes

SMALL = 256 << 20
"""bytes that any file may decode to"""
MANY = 1_000_000
"""rows that any file may have"""
EXPANDS = 1000
"""how many times its size a larger one may decode to: a log of long histories, sorted by user, reaches 300"""
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 8, "FLOAT": 4, "DOUBLE": 8}
_OFFSET = 4
_HEADERS = 1 << 20  # bytes of headers, at most
_REPEATING = {"PLAIN_DICTIONARY", "RLE_DICTIONARY"}
_PREFIXED = "DELTA_BYTE_ARRAY"
_AT_ONCE = 64 << 20  # bytes of text that shares prefixes, in one look: a value has at most what its column encodes
_CERTAIN = 65_536  # bytes that a column's text may take without a look at it
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def half_of_the_machine() -> int:
    """Bytes: half of the physical memory, or of what the control group allows."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    allowed = _CGROUP.read_text().strip() if _CGROUP.is_file() else "max"
    return min(whole, int(allowed)) // 2 if allowed.isdigit() else whole // 2


def check(schema: Schema, columns: dict[str, set[str]], groups: dict[File, range], limit: int) -> None:
    """Whether a day can be read: its side tables, which are held whole, and the largest share of the events at once.

    Args:
        columns: those that are read, of events, user and item.
        groups: row groups that are read, by file; of a file not named all.
        limit: bytes.

    Raises:
        UserError: 65 it would take more than `limit`, or a file decodes to far more than a log of its size.
    """
    held = sum(check_table(table, columns[side], limit=limit) for side, table in schema.sides.items())
    most = sizes.POOL * sizes.BLOCK
    for file in schema.events.footers:
        for rows, size in _groups(schema.events, file, columns["events"], groups.get(file)):
            share = held + size * min(most, rows) // max(1, rows)
            if share > limit:
                raise _too_large(file, share, limit)


def check_table(table: Table, columns: Collection[str], groups: dict[File, range] | None = None, *, limit: int) -> int:
    """Bytes that columns of a table that is held take; of `groups` see `check`. Raises UserError as `check` does."""
    held = 0
    for file in table.footers:
        held += sum(size for _, size in _groups(table, file, columns, (groups or {}).get(file)))
        if held > limit:
            raise _too_large(file, held, limit)
    return held


def _groups(table: Table, file: File, columns: Collection[str], some: range | None = None) -> list[tuple[int, int]]:
    """(rows, decoded bytes) of row groups of a file. Raises UserError 65 where no log has so many of its size."""
    footer = table.footers[file]
    meta = footer.meta
    if meta.num_rows > max(MANY, 8 * file.size):
        what = f"{file}: {meta.num_rows:,} rows in {file.size:,} bytes, less than a bit a row"
        raise UserError(what, "no log is like that: write it again")
    columns = file.computed.stored(columns) if file.computed else columns
    leaves = {path for c in columns for path in footer.paths.get(c, ())}
    known = {k: _by_footer(file, meta, k, leaves) for k in (range(meta.num_row_groups) if some is None else some)}
    total, most = sum(sum(decoded.values()) for decoded, _ in known.values()), max(SMALL, EXPANDS * file.size)
    out = []
    for k, (decoded, texts) in known.items():
        for at in texts:
            if total <= most:
                added, path = _text_bytes(table, file, k, at, most - total), meta.schema.column(at).path
                decoded[path], total = decoded[path] + added, total + added
        rows, before = footer.rows[k], max(1, meta.row_group(k).num_rows)
        beside = sum(size for path, size in decoded.items() if path not in footer.exploded)
        out.append((rows, sum(decoded.values()) - beside + (beside * rows // before if footer.exploded else beside)))
    if total > most:
        what = f"{file}: its columns take more than {_shown(total)} in memory, {total // file.size:,} times its size"
        raise UserError(what, "no log is like that: write it again")
    return out


def _by_footer(file: File, meta: pq.FileMetaData, k: int, leaves: Collection[str]) -> tuple[dict[str, int], list[int]]:
    """Bytes of a row group's leaves as its footer tells them, and the text columns that may have more."""
    group, known, texts = meta.row_group(k), dict[str, int](), list[int]()
    for at in range(group.num_columns):
        chunk, leaf = group.column(at), meta.schema.column(at)
        if leaf.path not in leaves:
            continue
        values, encoded = chunk.num_values, chunk.total_uncompressed_size
        if chunk.physical_type != "BYTE_ARRAY":
            known[leaf.path] = values * _WIDTHS.get(chunk.physical_type, max(1, leaf.length))
        elif encoded > values * (LONGEST + _OFFSET) + _HEADERS:
            what = f"{file}: column {leaf.path}: expected text of at most {LONGEST:,} bytes"
            raise UserError(f"{what}, its {values:,} values of row group {k} have {encoded:,}")
        elif not (_REPEATING | {_PREFIXED}).intersection(chunk.encodings):
            known[leaf.path] = encoded
        elif values * encoded <= _CERTAIN:
            known[leaf.path] = values * (encoded + _OFFSET)
        else:
            known[leaf.path] = values * _OFFSET
            texts.append(at)
    return known, texts


def _text_bytes(table: Table, file: File, group: int, column: int, enough: int) -> int:
    """Bytes of a text column in a row group; where they are more than `enough`, a number above it."""
    leaf = table.footers[file].meta.schema.column(column).path
    chunk = table.footers[file].meta.row_group(group).column(column)
    prefixed = _PREFIXED in chunk.encodings
    rows = min(1024, max(1, _AT_ONCE // chunk.total_uncompressed_size)) if prefixed else sizes.BLOCK
    total = 0
    with replace(file, explode=None, computed=None).open(() if prefixed else (leaf,)) as parquet:
        try:
            for batch in parquet.iter_batches(rows, [group], [leaf], use_threads=False):
                total += batch.nbytes if prefixed or not batch.num_columns else _length(batch.column(0))
                if total > enough:
                    break
        except (pa.ArrowException, OSError) as e:
            raise file.refusal(e, "damaged Parquet") from None
    return total


def _length(values: pa.Array) -> int:
    """Bytes of the text in a column that was read as a dictionary, in its lists too."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        lengths = pc.binary_length(values.dictionary).cast(pa.int64())
        return int(pc.sum(lengths.take(values.indices)).as_py() or 0)
    if pa.types.is_struct(kind):
        return sum(map(_length, values.flatten()))
    return _length(values.flatten())


def _too_large(file: File, needed: int, limit: int) -> UserError:
    what = f"{file}: with it {_shown(needed)} are in memory at once, expected at most {_shown(limit)}"
    return UserError(what, "write smaller row groups or fewer columns, or raise max_memory")


def _shown(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
