"""Which tables lie in a place: their formats, how they are cut into days, and some rows of each."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import polars as pl
from pyarrow import fs

from dmtl_cli.config.days import folder_day
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.log import lake
from dmtl_cli.data.log.day_files import SUCCESS
from dmtl_cli.data.log.source import Store
from dmtl_cli.guess import samples, types
from dmtl_cli.guess.samples import Text

ROWS, ENOUGH = 200_000, 5_000
"""rows of a sample at most, and at least where there are as many: keys of tables are compared"""
_MOST, _AWAY = 8, 6_000  # files of a sample's day; rows of a file of the first day, and of one between
_HIVE = re.compile(r"(?<![^/])([^/=]+)=[^/]+(?=/)")
_DAY = re.compile(
    r"(?<![0-9])(?P<y>20[0-9]{2})(?P<a>[-_/.]?|/[a-z]+=)(?P<m>0[1-9]|1[0-2])(?P<b>[-_/.]?|/[a-z]+=)"
    r"(?P<d>0[1-9]|[12][0-9]|3[01])(?![0-9])"
)
_MONTH_FIRST = re.compile(r"\{day:%m.%d.%Y\}")
_YEAR_LAST = re.compile(r"(?<![0-9])(?P<a>[0-3][0-9])(?P<s>[-_.])(?P<b>[0-3][0-9])(?P=s)(?P<y>20[0-9]{2})(?![0-9])")


@dataclass(frozen=True)
class Files:
    """Files of one table: those that differ by a day, a number or a part alone."""

    path: str
    """below the root: a folder, or one file"""
    form: str
    files: tuple[tuple[str, int], ...]
    """(path below the root, bytes), sorted"""
    partition: str | None = None
    """key of folders such as day=2026-01-31"""
    pattern: str | None = None
    """path of a day's files or folder as the config writes it, {day} in it, where names have the day"""
    days: tuple[tuple[dt.date, int], ...] = ()
    """(day, bytes) by folders or names, sorted"""
    together: bool = False
    """whether other tables are in its folder"""

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.files)

    def day_of(self, path: str) -> dt.date | None:
        """The day that a path of the table has, as its pattern reads it."""
        return _stem(path, _MONTH_FIRST.search(self.pattern or "") is not None)[2]


@dataclass(frozen=True)
class Table:
    """A table with some of its rows."""

    files: Files
    frame: pl.DataFrame
    text: Text | None
    """how it is written, where it is a CSV"""
    day: dt.date | None
    """the newest complete day, of which most rows are, where folders or names have days"""
    other: dict[str, str] = field(default_factory=dict)
    """types of the columns that are not in `frame`, as nothing can be guessed of them: see `types.plain`"""
    pieces: tuple[tuple[dt.date, frozenset[str], int], ...] = ()
    """(day, columns that have values, rows) of the rows of each day, where folders or names have days"""
    nulls: tuple[str, ...] = ()
    """texts of JSON lines that stand for null"""
    alone: tuple[tuple[str, str], ...] = ()
    """those of them that are the one text among numbers: see `samples.Text`"""
    lists: frozenset[str] = frozenset()
    """columns of JSON lines whose texts are lists"""
    clocks: frozenset[str] = frozenset()
    """columns of a text file whose texts are lengths of time, as 3:45; seconds in `frame`"""
    formats: dict[str, str] = field(default_factory=dict)
    """types of the columns of a text file whose texts are days or times in a format of their own, by name: see
    `types.formats`"""

    def of_day(self, day: dt.date) -> pl.DataFrame | None:
        """The rows of a day; None where there are none. The newest day is first in `frame`."""
        at = 0
        for other, _, rows in reversed(self.pieces):
            if other == day:
                return self.frame.slice(at, rows)
            at += rows
        return None


@dataclass(frozen=True)
class Found:
    """What lies in a place."""

    root: str
    """the folder that paths are below"""
    tables: list[Table]
    """the largest first"""
    unreadable: list[tuple[str, str]]
    """(path, why): smaller than a table that is one, such as a README.txt"""
    marked: frozenset[str] = frozenset()
    """folders with a `SUCCESS`"""

    def is_marked(self, files: Files, until: dt.date) -> bool:
        """Whether the folder of every day up to one has a `SUCCESS`."""
        place = files.pattern or f"{files.path}/{files.partition}={{day}}"
        deep = len(PurePosixPath(place).parts)
        folders = {
            _joined(PurePosixPath(f).parts[:deep]) for f, _ in files.files if (files.day_of(f) or until) <= until
        }
        return bool(files.days) and folders <= self.marked


def tables(root: str) -> Found:
    """The tables in a place.

    Args:
        root: a folder or a file; local or s3://.

    Raises:
        UserError: 66 there is nothing, or nothing of a known format; 65 the largest table is damaged; 74 the storage
            fails.
    """
    root, one = _root_of(given := root)
    store = Store(root)
    every, marked = _listed(store)
    listed = [f for f in every if one is None or f[0] == one]
    found = group(listed)
    if not found:
        none = "nothing there" if not listed else f"no Parquet, CSV, JSON lines, Delta or Iceberg{' in it' * (not one)}"
        what = f"{given}: {none}"
        raise UserError(what, "name the folder or the file of the log", Exit.NO_INPUT)
    read: list[Table] = []
    unreadable: list[tuple[str, str]] = []
    for files in sorted(found, key=lambda f: (-f.bytes, f.path)):
        try:
            read.append(_read(root, store, files))
        except UserError as e:
            if not read or e.code not in (Exit.DATA, Exit.NO_INPUT):
                raise
            unreadable.append((files.path, e.message))
    read.sort(key=lambda t: t.files.path)
    largest = sorted(_united(read), key=lambda t: (-t.files.bytes, t.files.path))
    return Found(root, largest, unreadable, marked)


def _united(read: list[Table]) -> list[Table]:
    """Files of one folder with the same columns are one table, whatever they are called."""
    out: dict[tuple[object, ...], Table] = {}
    for k, table in enumerate(read):
        files = table.files
        same = files.form, tuple(table.frame.columns), _base(files), None if not files.days else k
        if (first := out.get(same)) is not None:
            every = tuple(sorted(first.files.files + files.files))
            table = replace(first, files=replace(first.files, path=_base(first.files), files=every))
        out[same] = table
    united = list(out.values())
    folders = [_base(t.files) for t in united]
    shared = [folders.count(folder) > 1 for folder in folders]
    return [replace(t, files=replace(t.files, together=x)) for t, x in zip(united, shared, strict=True)]


def complete_day(days: Iterable[tuple[dt.date, int]]) -> dt.date | None:
    """The newest day that is not far smaller than the others, as one that is still being written is."""
    ordered = sorted(days)
    if len(ordered) > 2:
        sizes = sorted(size for _, size in ordered[:-1])
        if ordered[-1][1] < sizes[len(sizes) // 2] / 2:
            return ordered[-2][0]
    return ordered[-1][0] if ordered else None


def group(listed: list[tuple[str, int]]) -> list[Files]:
    """Files put together as tables: paths below a root and their bytes -> tables, by path."""
    whole = _whole_tables(listed)
    out = [Files(path, form, tuple(files)) for path, (form, files) in whole.items()]
    american = _month_first([path for path, _ in listed])
    kinds: dict[tuple[str, str | None, str], list[tuple[str, int, dt.date | None]]] = {}
    for path, size in listed:
        form = samples.format_of(path)
        if form is None or any(_below(path, table) for table in whole):
            continue
        stem, key, day = _stem(path, path in american)
        kinds.setdefault((stem, key, form), []).append((path, size, day))
    out += [_files(stem, key, form, members) for (stem, key, form), members in kinds.items()]
    return sorted(out, key=lambda f: f.path)


def _root_of(root: str) -> tuple[str, str | None]:
    """The folder of a root, and the file in it that alone is meant."""
    if "://" in root:
        bare, _, query = root.rstrip("/").partition("?")
        if samples.format_of(bare.rsplit("/", 1)[1]) is None:
            return root, None
        folder, _, name = bare.rpartition("/")
        return folder + (f"?{query}" if query else ""), name
    place = Path(root)
    if place.is_file():
        return str(place.parent), place.name
    if not place.is_dir():
        raise UserError(f"{root}: nothing there", "name the folder or the file of the log", Exit.NO_INPUT)
    return root, None


def _listed(store: Store) -> tuple[list[tuple[str, int]], frozenset[str]]:
    """Paths below the root and bytes of all files but hidden ones; a Delta table's log and Iceberg's metadata stay.
    And the folders with a `SUCCESS`."""
    where = fs.FileSelector(str(store.root), allow_not_found=True, recursive=True)
    try:
        found = store.fs.get_file_info(where)
    except OSError as e:
        raise UserError(
            f"{store.where('')}: cannot be listed: {e}", "check the path and credentials", Exit.IO
        ) from None
    out, marked = [], set()
    for info in found:
        path = PurePosixPath(info.path).relative_to(store.root)
        if path.name == SUCCESS:
            marked.add(str(path.parent))
        hidden = any(part[0] in "._" and part != "_delta_log" for part in path.parts)
        if info.type is fs.FileType.File and not hidden:
            out.append((str(path), info.size or 0))
    return sorted(out), frozenset(marked)


def _whole_tables(listed: list[tuple[str, int]]) -> dict[str, tuple[str, list[tuple[str, int]]]]:
    """Folders that are a Delta or Iceberg table, with their files."""
    roots: dict[str, str] = {}
    for path, _ in listed:
        parts = PurePosixPath(path).parts
        if "_delta_log" in parts:
            roots[_joined(parts[: parts.index("_delta_log")])] = samples.DELTA
        elif path.endswith(".metadata.json") and len(parts) > 1 and parts[-2] == "metadata":
            roots[_joined(parts[:-2])] = samples.ICEBERG
    return {root: (form, [f for f in listed if _below(f[0], root)]) for root, form in roots.items()}


def _month_first(paths: Sequence[str]) -> set[str]:
    """Paths with days such as 03-27-2026. Of the files of a table no day is above 12 where the month is, or, where all
    of either are at most 12, their days lie closer together than as 27-03-2026."""
    tables: dict[str, list[tuple[str, int, int]]] = {}
    for path in paths:
        if (found := _YEAR_LAST.search(path)) is not None and not _DAY.search(path):
            rest = re.sub("[0-9]+", "*", path[: found.start()] + path[found.end() :])
            tables.setdefault(rest, []).append((path, int(found["a"]), int(found["b"])))
    out: set[str] = set()
    for members in tables.values():
        first, second = max(a for _, a, _ in members), max(b for _, _, b in members)
        if first > 12 >= second:
            continue
        spans = [[_stem(path, month_first)[2] for path, *_ in members] for month_first in (False, True)]
        known = [[day for day in days if day] for days in spans]
        closer = all(known) and max(known[1]) - min(known[1]) < max(known[0]) - min(known[0])
        if second > 12 >= first or (max(first, second) <= 12 and closer):
            out |= {path for path, *_ in members}
    return out


def _stem(path: str, month_first: bool = False) -> tuple[str, str | None, dt.date | None]:
    """What the files of one table have in common, with {day} in place of one and * in place of the values of other
    partitions; the key of day folders; the day.

    Args:
        month_first: whether 03-04-2026 is the fourth of March.
    """
    parts = PurePosixPath(path).parts
    for k, part in enumerate(parts[:-1]):
        key, equals, value = part.partition("=")
        if equals and (day := folder_day(value)) is not None:
            above = _joined(parts[:k])
            if not _HIVE.search(f"{above}/"):
                return above, key, day
            word = "{day:%Y%m%d}" if value.isdigit() else "{day}"
            return f"{_any_partition(above + '/')}{key}={word}", None, day
    if (dated := _dated(path, month_first)) is not None:
        found, word, day = dated
        rest, slash, _ = path[found.end() :].partition("/")  # below a day's folder any files are the day's
        named = _any_partition(path[: found.start()]) + word + (rest if slash else re.sub("[0-9]+", "*", rest))
        return named, None, day
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9]+", "*", _any_partition(path)), None, None


def _dated(path: str, month_first: bool) -> tuple[re.Match[str], str, dt.date] | None:
    """Where a path has a day, how the config writes it, and the day."""
    if (found := _DAY.search(path)) is not None:
        a, b = found["a"], found["b"]
        word = "{day}" if a == b and a in ("", "-") else f"{{day:%Y{a}%m{b}%d}}"
        month, day = found["m"], found["d"]
    elif (found := _YEAR_LAST.search(path)) is not None:
        between = found["s"]
        word = f"{{day:%m{between}%d{between}%Y}}" if month_first else f"{{day:%d{between}%m{between}%Y}}"
        month, day = (found["a"], found["b"]) if month_first else (found["b"], found["a"])
    else:
        return None
    with suppress(ValueError):
        return found, word, dt.date(int(found["y"]), int(month), int(day))
    return None


def _any_partition(path: str) -> str:
    """A path with key=* in place of each folder key=value."""
    return _HIVE.sub(r"\1=*", path)


def partitions(files: Files) -> list[str]:
    """Keys of the folders by which a table is cut, beside those of its days."""
    pattern = files.pattern or f"{files.partition}={{day}}"
    keys = {found[1] for path, _ in files.files for found in _HIVE.finditer(path)}
    return sorted(key for key in keys if f"{key}={{day" not in pattern and f"{key}=%" not in pattern)


def _files(stem: str, key: str | None, form: str, members: list[tuple[str, int, dt.date | None]]) -> Files:
    files = tuple(sorted((path, size) for path, size, _ in members))
    by_day: dict[dt.date, int] = {}
    for _, size, day in members:
        if day is not None:
            by_day[day] = by_day.get(day, 0) + size
    days = tuple(sorted(by_day.items()))
    if key is not None and stem != ".":
        return Files(stem, form, files, key, days=days)
    if key is not None:  # the root has no name of its own that a config could join to day=...
        return Files(stem, form, files, pattern=f"{key}={{day}}", days=days)
    if days:
        pattern = re.sub(r"(?<![^/])[^/=]+=\*(?=/)", "*", stem)
        return Files(_common(files) if len(files) > 1 else files[0][0], form, files, pattern=pattern, days=days)
    return Files(files[0][0] if len(files) == 1 else _common(files), form, files)


def _read(root: str, store: Store, files: Files) -> Table:
    """The table with rows of a complete day, of the first day and one between them, or of its first and last files."""
    if files.form in (samples.DELTA, samples.ICEBERG):
        frame, other = types.plain(_of_library(root, store, files))
        return Table(files, frame, None, None, other)
    day = complete_day(files.days)
    text: Text | None = None
    frames: list[tuple[dt.date | None, pl.DataFrame]] = []
    missing: UserError | None = None
    before = 0
    for path, of, more in _chosen(files, day):
        if not more and day is not None and before >= ENOUGH:
            continue
        try:
            frame, text = samples.head(store.file(path), more or ROWS // _MOST, text)
        except UserError as e:  # an empty file is no reason to stop where others have rows
            if e.code != Exit.NO_INPUT:
                raise
            missing = e
            continue
        before += 0 if more and of != day else len(frame)
        frames.append((of, frame))
    if missing is not None and not frames:
        raise missing
    rows = types.joined([frame for _, frame in frames])
    nulls, alone, lists = tuple[str, ...](), tuple[tuple[str, str], ...](), frozenset[str]()
    if files.form == samples.JSON:
        rows, nulls, alone = samples.without_nulls(rows)
        rows, lists = samples.as_named(rows)
    clocks, formats = frozenset[str](), dict[str, str]()
    if files.form in (samples.CSV, samples.JSON):
        clocks, formats = types.clocks(rows), types.formats(rows)
    frame, other = types.plain(types.dated(types.in_seconds(rows, clocks), formats))
    return Table(files, frame, text, day, other, _pieces(frames), nulls, alone, lists, clocks, formats)


def _chosen(files: Files, day: dt.date | None) -> list[tuple[str, dt.date | None, int]]:
    """(file, day, rows) of a sample, the newest day first; rows 0: only as far as there are too few rows before it."""
    if day is None:
        ends = [f for f, _ in files.files[:: max(1, len(files.files) - 1)]]
        return [(f, None, ROWS // len(ends[:2])) for f in ends[:_MOST]]
    of: dict[dt.date, list[str]] = {}
    for path, _ in files.files:
        if (found := files.day_of(path)) is not None and found <= day:
            of.setdefault(found, []).append(path)
    newest, *older = sorted(of, reverse=True)
    mine = _spread(of[newest], _MOST)
    away = {older[-1], older[len(older) // 2]} if older else set[dt.date]()
    out: list[tuple[str, dt.date | None, int]] = [(f, newest, ROWS // max(2, len(mine))) for f in mine]
    for d in older:
        out += [(f, d, _AWAY if d in away else 0) for f in _spread(of[d], 2 if d in away else _MOST)]
    return [chosen for k, chosen in enumerate(out) if chosen[2] or k < 8 * _MOST]


def _spread(paths: list[str], most: int) -> list[str]:
    """So many of the paths, the last and others evenly before it."""
    k = min(most, len(paths))
    return [paths[len(paths) - 1 - i * len(paths) // k] for i in range(k)]


def _pieces(frames: list[tuple[dt.date | None, pl.DataFrame]]) -> tuple[tuple[dt.date, frozenset[str], int], ...]:
    known: dict[dt.date, tuple[set[str], int]] = {}
    for day, frame in frames:
        if day is not None:
            columns, rows = known.get(day, (set(), 0))
            there = {c for c in frame.columns if frame[c].null_count() < len(frame)}
            known[day] = columns | there, rows + len(frame)
    return tuple((day, frozenset(columns), rows) for day, (columns, rows) in sorted(known.items()))


def columns_of(root: str, files: Files, day: dt.date, text: Text | None, rows: int = 2_000) -> frozenset[str]:
    """The columns that have values in the first rows of a day's files. Raises what `tables` does."""
    store, there = Store(root), set()
    for path in _spread([f for f, _ in files.files if files.day_of(f) == day], 2):
        frame, _ = samples.head(store.file(path), rows, text)
        there |= {c for c in frame.columns if frame[c].null_count() < len(frame)}
    return frozenset(there)


def paths_of(files: Files, days: tuple[dt.date, dt.date] | None) -> list[str]:
    """The files from a first to a last day by their names, of a table without days in its names all, sorted."""
    if days is None or not files.days:
        return [path for path, _ in files.files]
    return [path for path, _ in files.files if (day := _stem(path)[2]) is not None and days[0] <= day <= days[1]]


def _of_library(root: str, store: Store, files: Files) -> pl.DataFrame:
    live = lake.delta_files if files.form == samples.DELTA else lake.iceberg_files
    return samples.first((rows.frame for file in live(root, store, files.path) for rows in file.rows()), ROWS)


def _below(path: str, folder: str) -> bool:
    return folder == "." or path.startswith(f"{folder}/")


def _folder(path: str) -> str:
    return str(PurePosixPath(path).parent)


def _common(files: Sequence[tuple[str, int]]) -> str:
    """The folder that all of these files are below."""
    return os.path.commonpath([_folder(f"./{path}") for path, _ in files]) or "."


def _base(files: Files) -> str:
    """The folder of a table, above its partitions."""
    stem = _folder(_any_partition(files.files[0][0]))
    return _joined(tuple(itertools.takewhile(lambda part: "=" not in part, PurePosixPath(stem).parts)))


def _joined(parts: tuple[str, ...]) -> str:
    return "/".join(parts) or "."
