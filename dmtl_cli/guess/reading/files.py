"""Which files lie in a place, which are one table, and of which day each is."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from pyarrow import fs

from dmtl_cli.config.days import folder_day
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.log.files.day_files import SUCCESS
from dmtl_cli.data.log.files.places import SUFFIXES, without_settings
from dmtl_cli.data.log.formats.source import Store

_FAR = 0.1  # of the median: a day far smaller than the others
PARQUET, CSV, JSON, AVRO, DELTA, ICEBERG = "parquet", "csv", "json", "avro", "delta", "iceberg"
_NAMES = 8  # tables that have a file in a day's folder
FileKey = tuple[tuple[str, int], ...]
"""the files of a table, which tell it from others: (path below the root, bytes), sorted"""
_Members = list[tuple[str, int, dt.date | None]]
_Kinds = dict[tuple[str, str | None, str], _Members]
_Alike = Callable[[Sequence[str]], bool]
_Followed = Callable[[Sequence[tuple[str, int]]], bool]
_UNNAMED = re.compile(r"[^.]*[0-9][^.]*(\.gz|\.zst)?")


def may_be_rows(path: str) -> bool:
    """Whether a file whose name says no format may have rows: `000000_0` of Hive, `part-00000`, `users_0000_part_00.gz`
    of Redshift."""
    return format_of(path) is None and _UNNAMED.fullmatch(PurePosixPath(path).name) is not None


def format_of(name: str) -> str | None:
    """The format that a file's name says, compressed or not; None: none that is known."""
    return next((form for form, ends in SUFFIXES.items() if name.lower().endswith(ends)), None)


_HASH = r"(?<![0-9A-Za-z])(?=[0-9a-zA-Z]*(?:[0-9]+[a-zA-Z]+){3})(?:[0-9a-z]{16,}|[0-9A-Z]{16,})(?![0-9A-Za-z])"
"""sixteen letters and digits or more, which take turns"""
_REST = re.compile(
    r"(?:[-_.]+|[-_. ]*(?:to|till|until|bis|a|do|tot)[-_. ]*)(?:(?P<m>[0-9]{2})[-_.]?)?(?P<d>[0-9]{2})(?![0-9])"
)
"""of the last day of a span what its first one has not, month and day or the day"""
_NUMBERS = re.compile(rf"{_HASH}|[0-9a-f]{{8}}-[0-9a-f-]{{27}}|[0-9]+")
_HIVE = re.compile(r"(?<![^/])([^/=]+)=[^/]+(?=/)")
_DAY = re.compile(
    r"(?<![0-9])(?P<y>20[0-9]{2})(?P<a>[-_/.]?|/[a-z]+=)(?P<m>0[1-9]|1[0-2])(?P<b>[-_/.]?|/[a-z]+=)"
    r"(?P<d>0[1-9]|[12][0-9]|3[01])(?=(?:[01][0-9]|2[0-3])/|(?![0-9]))"  # a folder may have its hour: 2026013123/
)
_MONTH_FIRST = re.compile(r"\{day:%m.%d.%Y\}")
_YEAR_LAST = re.compile(r"(?<![0-9])(?P<a>[0-3][0-9])(?P<s>[-_.])(?P<b>[0-3][0-9])(?P=s)(?P<y>20[0-9]{2})(?![0-9])")


@dataclass(frozen=True)
class Files:
    """Files of one table: those that differ by a day, a number or a part alone."""

    path: str
    """below the root: a folder, or one file"""
    form: str
    files: FileKey
    partition: str | None = None
    """key of folders such as day=2026-01-31"""
    pattern: str | None = None
    """path of a day's files or folder as the config writes it, {day} in it, where names have the day"""
    days: tuple[tuple[dt.date, int], ...] = ()
    """(day, bytes) by folders or names, sorted"""
    together: bool = False
    """whether other tables are in its folder"""
    glob: str | None = None
    """path of its files alone, `*` for any text of a name, where it has several and others are in their folder or the
    names say no format"""

    @property
    def name(self) -> str:
        """For messages: what its files have in common, as a folder may have other tables too; of those that lie beside
        its tables' folders the first one."""
        alone = None if self.partition else self.glob
        rest = f" and {len(self.files) - 1} more" if len(self.files) > 1 else ""
        return self.pattern or alone or (f"{self.files[0][0]}{rest}" if self.path == "." else self.path)

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.files)

    def day_of(self, path: str) -> dt.date | None:
        """The day that a path of the table has, as its pattern reads it."""
        return _stem(path, _MONTH_FIRST.search(self.pattern or "") is not None)[2]


def usual(days: Iterable[tuple[dt.date, int]]) -> list[tuple[dt.date, int]]:
    """(day, size), sorted, without the days at the beginning and the end that are far smaller than that of the middle
    row of all but the largest, as those are of which late rows, or those of wrong clocks, alone are there."""
    ordered = sorted(days)
    sizes = sorted(size for _, size in ordered)[:-1]
    middle = next((size for size, n in zip(sizes, itertools.accumulate(sizes), strict=True) if 2 * n >= sum(sizes)), 0)
    least = _FAR * middle if len(ordered) > 2 else 0
    there = [k for k, (_, size) in enumerate(ordered) if size >= least]
    return ordered[there[0] : there[-1] + 1] if there else []


def complete_day(days: Iterable[tuple[dt.date, int]]) -> dt.date | None:
    """The newest usual day that is not far smaller than the others, as one that is still being written is."""
    ordered = usual(days)
    if len(ordered) > 2:
        sizes = sorted(size for _, size in ordered[:-1])
        if ordered[-1][1] < sizes[len(sizes) // 2] / 2:
            return ordered[-2][0]
    return ordered[-1][0] if ordered else None


def group(
    listed: list[tuple[str, int]],
    forms: Mapping[str, str] | None = None,
    are_alike: _Alike = bool,
    is_followed: _Followed = lambda _: False,
) -> list[Files]:
    """Files put together as tables: paths below a root and their bytes -> tables, by path.

    Args:
        forms: formats of the files whose names say none.
        are_alike: whether files have the same columns; asked where a word of their names alone tells tables apart.
        is_followed: whether of such files, with their bytes, one has what came of the rows of another.
    """
    whole = _whole_tables(listed)
    out = [Files(path, form, tuple(files)) for path, (form, files) in whole.items()]
    american = _month_first([path for path, _ in listed])
    kinds: _Kinds = {}
    for path, size in listed:
        form = format_of(path) or (forms or {}).get(path)
        if form is None or any(_below(path, table) for table in whole):
            continue
        stem, key, day = _stem(path, path in american)
        kinds.setdefault((stem, key, form), []).append((path, size, day))
    kinds = _by_words(_by_names(kinds, are_alike, is_followed), are_alike)
    out += [_files(stem, key, form, members) for (stem, key, form), members in kinds.items()]
    return sorted(out, key=lambda f: f.path)


def one_state(files: Files) -> Files:
    """A table of one day as one without days, which all days read."""
    path = files.files[0][0] if len(files.files) == 1 else _common(files.files)
    if not files.together:
        return Files(path, files.form, files.files)
    return _unnamed(Files(path, files.form, files.files), "", None)


def _by_names(kinds: _Kinds, are_alike: _Alike, is_followed: _Followed) -> _Kinds:
    """Files in folders of days put apart where most days have each of a few names, and these have other columns, as
    `2026-01-01/views.csv` and `2026-01-01/orders.csv` have, or are what came of one of them."""
    out: _Kinds = {}
    for (stem, key, form), members in kinds.items():
        named: dict[str, _Members] = {}
        for member in members if key or stem.endswith("}") else ():
            named.setdefault(re.sub("[0-9]+", "*", PurePosixPath(member[0]).name), []).append(member)
        days = len({day for *_, day in members})
        often = days > 1 and all(2 * len({day for *_, day in some}) >= days for some in named.values())
        if not (often and 2 <= len(named) <= _NAMES) or _is_one(list(named.values()), are_alike, is_followed):
            out[stem, key, form] = members
            continue
        for name, some in named.items():
            below = re.sub("[0-9]+", "*", some[0][0].partition(f"{key}=")[2].partition("/")[2]) if key else name
            place = stem if not key else f"{'' if stem == '.' else stem + '/'}{_day_folder(some[0][0], key)}"
            out[f"{place}/{below}", None, form] = some
    return out


def _is_one(named: Sequence[_Members], are_alike: _Alike, is_followed: _Followed) -> bool:
    """Whether files of a few names are one table: those of the last day that all names have tell it."""
    if not are_alike([some[0][0] for some in named]):
        return False
    shared = set.intersection(*({day for *_, day in some if day} for some in named))
    last = max(shared) if shared else None
    return not (shared and is_followed([next((p, n) for p, n, day in some if day == last) for some in named]))


def _day_folder(path: str, key: str) -> str:
    value = path.partition(f"{key}=")[2].partition("/")[0]
    return f"{key}={'{day:%Y%m%d}' if value.isdigit() else '{day}'}"


def _by_words(kinds: _Kinds, are_alike: _Alike) -> _Kinds:
    """Files of the same columns put together whose names differ in the day and in one word that the day tells, as
    `jeu 01-10-2026` and `ven 02-10-2026` do: of three words or more each stands on a weekday of its own, or of two each
    in a month of its own."""
    out, begun = dict(kinds), dict[tuple[str, str, str], list[str]]()
    for stem, key, form in kinds:
        if key is None and "{day" in stem:
            for found in re.finditer(r"[^\W\d_]+", re.sub(r"\{day.*?\}", lambda day: " " * len(day[0]), stem)):
                begun.setdefault((stem[: found.start()], stem[found.end() :], form), []).append(stem)
    for (before, after, form), stems in begun.items():
        days = [{day for *_, day in out.get((stem, None, form), []) if day} for stem in stems]
        weeks, months = (
            [{of(day) for day in some} for some in days] for of in (dt.date.weekday, lambda day: (day.year, day.month))
        )
        told = _tells(weeks, 3) or (_tells(months, 2) and min(map(len, days)) > 1)
        if told and are_alike([out[stem, None, form][0][0] for stem in stems]):
            out[f"{before}*{after}", None, form] = [member for stem in stems for member in out.pop((stem, None, form))]
    return out


def _tells(values: list[set[Any]], least: int) -> bool:
    """Whether each of some words, so many at least, has one value, which no other has."""
    return len(values) >= least and all(len(some) == 1 for some in values) and len(set.union(*values)) == len(values)


def _whole_tables(listed: list[tuple[str, int]]) -> dict[str, tuple[str, list[tuple[str, int]]]]:
    """Folders that are a Delta or Iceberg table, with their files."""
    roots: dict[str, str] = {}
    for path, _ in listed:
        parts = PurePosixPath(path).parts
        if "_delta_log" in parts:
            roots[joined_path(parts[: parts.index("_delta_log")])] = DELTA
        elif path.endswith(".metadata.json") and len(parts) > 1 and parts[-2] == "metadata":
            roots[joined_path(parts[:-2])] = ICEBERG
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
            above = joined_path(parts[:k])
            if not _HIVE.search(f"{above}/"):
                return above, key, day
            word = "{day:%Y%m%d}" if value.isdigit() else "{day}"
            return f"{_any_partition(above + '/')}{key}={word}", None, day
    if (dated := _dated(path, month_first)) is not None:
        found, word, day = dated
        rest = path[found.end() :].partition("/")[0]  # below a day's folder any files are the day's
        return _any_partition(path[: found.start()]) + word + re.sub("[0-9]+", "*", rest), None, day
    return _NUMBERS.sub("*", _any_partition(path)), None, None


def _dated(path: str, month_first: bool) -> tuple[re.Match[str], str, dt.date] | None:
    """Where a path has a day, how the config writes it, and the day."""
    hashes = [one.span() for one in re.finditer(_HASH, path)]
    days = (one for one in _DAY.finditer(path) if not any(a <= one.start() < b for a, b in hashes))
    if (found := next(days, None)) is not None:
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


def is_of_span(path: str) -> bool:
    """Whether a file's name has two days, one before the other: those of its first and its last rows."""
    found = list(_DAY.finditer(PurePosixPath(path).name)) or list(_YEAR_LAST.finditer(PurePosixPath(path).name))
    if len(found) != 2 or "m" not in found[0].groupdict():
        return len(found) == 2 and found[0].group() != found[1].group()
    first, last = ("".join(one.group("y", "m", "d")) for one in found)
    return first < last


def _is_of_short_span(path: str) -> bool:
    """The same where the later day lacks what both have, as in 2025-11-16_22: of one file alone, as among several it
    may be the hour."""
    name = PurePosixPath(path).name
    found = list(_DAY.finditer(name))
    rest = _REST.match(name, found[0].end()) if len(found) == 1 else None
    if rest is None:
        return False
    first = int(found[0]["m"]), int(found[0]["d"])
    last = int(rest["m"] or first[0]), int(rest["d"])
    return first < last and last[0] <= 12 and last[1] <= 31


def _any_partition(path: str) -> str:
    """A path with key=* in place of each folder key=value."""
    return _HIVE.sub(r"\1=*", path)


def partitions(files: Files) -> list[str]:
    """Keys of the folders by which a table is cut, beside those of its days."""
    pattern = files.pattern or f"{files.partition}={{day}}"
    keys = {found[1] for path, _ in files.files for found in _HIVE.finditer(path)}
    return sorted(key for key in keys if f"{key}={{day" not in pattern and f"{key}=%" not in pattern)


def _files(stem: str, key: str | None, form: str, members: _Members) -> Files:
    files = tuple(sorted((path, size) for path, size, _ in members))
    by_day: dict[dt.date, int] = {}
    for _, size, day in members:
        if day is not None:
            by_day[day] = by_day.get(day, 0) + size
    days = tuple(sorted(by_day.items()))
    if len(files) == 1 and key is None and (is_of_span(files[0][0]) or _is_of_short_span(files[0][0])):
        days = ()  # all of it is in one file
    if not format_of(files[0][0]):
        return _unnamed(Files(files[0][0], form, files, days=days), stem, key)
    if key is not None and stem != ".":
        return Files(stem, form, files, key, days=days)
    if key is not None:  # the root has no name of its own that a config could join to day=...
        return Files(stem, form, files, pattern=f"{key}={{day}}", days=days)
    if days:
        pattern = re.sub(r"(?<![^/])[^/=]+=\*(?=/)", "*", stem)
        return Files(_common(files) if len(files) > 1 else files[0][0], form, files, pattern=pattern, days=days)
    return Files(files[0][0] if len(files) == 1 else _common(files), form, files)


def _unnamed(files: Files, stem: str, key: str | None) -> Files:
    """A table of files whose names say no format, so that its path has to name them."""
    names = {re.sub("[0-9]+", "*", PurePosixPath(path).name) for path, _ in files.files}
    name = names.pop() if len(names) == 1 else "*"
    folders = {len(PurePosixPath(path).parts) for path, _ in files.files}
    if files.days:
        place = stem if key is None else f"{'' if stem == '.' else stem + '/'}{key}={{day}}"
        below = max(folders) - len(PurePosixPath(place).parts)
        pattern = "/".join(
            [re.sub(r"(?<![^/])[^/=]+=\*(?=/)", "*", place), *["*"] * (below - 1), *[name] * (below > 0)]
        )
        return replace(files, path=_common(files.files), pattern=pattern, together=True)
    if len(files.files) == 1:
        return replace(files, together=True)
    glob = glob_of(files, ()) or "/".join([*["*"] * (max(folders) - 1), name])
    return replace(files, path=_common(files.files), together=True, glob=glob)


def paths_of(files: Files, days: tuple[dt.date, dt.date] | None) -> list[str]:
    """The files from a first to a last day by their names, of a table without days in its names all, sorted."""
    if days is None or not files.days:
        return [path for path, _ in files.files]
    return [path for path, _ in files.files if (day := files.day_of(path)) is not None and days[0] <= day <= days[1]]


def _below(path: str, folder: str) -> bool:
    return folder == "." or path.startswith(f"{folder}/")


def _folder(path: str) -> str:
    return str(PurePosixPath(path).parent)


def _common(files: Sequence[tuple[str, int]]) -> str:
    """The folder that all of these files are below."""
    return os.path.commonpath([_folder(f"./{path}") for path, _ in files]) or "."


def glob_of(files: Files, others: Iterable[str]) -> str | None:
    """The path that means the files of a table and no others, `*` in it for any text of a name; None where there is
    none.

    Args:
        others: paths of other files, hidden ones left out.
    """
    paths = [path for path, _ in files.files]
    stems = {_stem(path)[0] for path in paths}
    found = [*stems] if len(stems) == 1 and "{" not in min(stems) else []
    folders = {_folder(path) for path in paths}
    if len(folders) == 1:
        names = [PurePosixPath(path).name for path in paths]
        begin, end = _begin(names).rstrip("0123456789"), _begin([name[::-1] for name in names])[::-1]
        found.append(f"{min(folders)}/{begin}*{end.lstrip('0123456789')}".removeprefix("./"))
    below = [*others]
    for path in found:
        regex = re.compile(re.escape(path).replace(r"\*", "[^/]*") + "(?=/|$)")
        if "*" in path and all(map(regex.match, paths)) and not any(map(regex.match, below)):
            return path
    return None


def _begin(names: Sequence[str]) -> str:
    """What all names begin with."""
    pairs = zip(min(names), max(names), strict=False)
    return "".join(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def base_of(files: Files) -> str:
    """The folder of a table, above its partitions."""
    stem = _folder(_any_partition(files.files[0][0]))
    return joined_path(tuple(itertools.takewhile(lambda part: "=" not in part, PurePosixPath(stem).parts)))


def joined_path(parts: tuple[str, ...]) -> str:
    return "/".join(parts) or "."


def root_of(root: str) -> tuple[str, str | None]:
    """The folder of a root, and the file in it that alone is meant."""
    if "://" in root:
        bare, _, query = root.rstrip("/").partition("?")
        if format_of(bare.rsplit("/", 1)[1]) is None:
            return root, None
        folder, _, name = bare.rpartition("/")
        return folder + (f"?{query}" if query else ""), name
    place = Path(root)
    if place.is_file():
        return str(place.parent), place.name
    if not place.is_dir():
        raise UserError(f"{root}: nothing there", "name the folder or the file of the log", Exit.NO_INPUT)
    return root, None


_ABOUT_FILES = re.compile(r"(?i)(?<![^\W_])manifests?(?![^\W_])")
"""in names of lists of files, as UNLOAD of Redshift and exports of DynamoDB write them"""
_PROSE = {"readme", "license", "licence", "changelog", "notes", "source"}
"""names of files that are read by people"""


def listed_in(store: Store) -> tuple[list[tuple[str, int]], frozenset[str]]:
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
        hidden |= path.stem.lower() in _PROSE and path.suffix in (".txt", ".md", "")
        hidden |= bool(_ABOUT_FILES.search(path.name)) and not path.name.lower().endswith(SUFFIXES[PARQUET])
        if info.type is fs.FileType.File and not hidden:
            out.append((str(path), info.size or 0))
    rows = without_settings([path for path, _ in out])
    return sorted(one for one in out if one[0] in rows), frozenset(marked)
