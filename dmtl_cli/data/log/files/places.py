"""Where the days of a table lie: a folder a day, dated files, or one place for all days."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

from dmtl_cli.config.data import Data, Events, SideTable
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.pattern import DayPattern
from dmtl_cli.config.table import Format, Joined
from dmtl_cli.data.log.formats.source import PARQUET, File, Store

_TEXT = {
    "csv": (".csv", ".tsv", ".txt", ".tab", ".dat", ".inter", ".item", ".user"),  # the last three are RecBole's
    "json": (".json", ".jsonl", ".ndjson"),
}
SUFFIXES: dict[str, tuple[str, ...]] = {"parquet": PARQUET, "avro": (".avro",)} | {
    kind: tuple(s + c for s in some for c in ("", ".gz", ".zst")) for kind, some in _TEXT.items()
}
"""how names of files end, by format"""


_OF_INDEX = re.compile(r"_(mapping|settings|analyzer|alias|template)(?=\.json)")


def without_settings(paths: Collection[str]) -> set[str]:
    """The paths but those of what elasticdump writes about an index beside its rows: `clicks_mapping.json`."""
    there = {*paths}
    return {path for path in there if (bare := _OF_INDEX.sub("", path)) == path or bare not in there}


def span(days: Collection[dt.date]) -> str:
    """Which days there are, at least one, for messages."""
    first, last = min(days), max(days)
    return f"the log has {first} .. {last}" if first < last else f"the log has {first} alone"


class Places:
    """The places of a table's days. Methods raise UserError 74 where the storage fails.

    Args:
        name: events, users, items or events.joined.NAME, for messages.
    """

    def __init__(self, store: Store, name: str, table: Events | SideTable | Joined, kind: Format) -> None:
        self.store, self.name, self.table = store, name, table
        self.suffixes = SUFFIXES.get(kind, ())
        key = table.hive_key
        self.pattern = (
            DayPattern(table.path)
            if table.is_dated
            else DayPattern(f"{table.path}/{key}={{day}}")
            if key is not None and kind in SUFFIXES
            else None
        )

    def days(self) -> dict[dt.date, list[str]]:
        """Paths by day, of folders or files; none where a column tells the day or all days have one place."""
        found: dict[dt.date, list[str]] = {}
        for path in self._matching():
            if self.pattern and (day := self.pattern.day_of(path)) is not None:
                found.setdefault(day, []).append(path)
        return found

    def files(self, day: dt.date) -> list[File]:
        """The files that may have rows of a day.

        Raises:
            UserError: 66 a folder or file is not there, or the day is not finished; 65 a day has two places; 78
                success_file names no day where files do.
        """
        if self.table.is_glob:
            return self._matched(day)
        if self.pattern is None:
            return self._below(self.table.path, day)
        if not self.table.is_dated and not self.store.is_folder(self.table.path):
            raise self._no_folder(self.table.path, "")
        by_day = self.days()
        if day not in by_day:
            raise self._no_day(day, by_day)
        places = by_day[day]
        if len(places) > 1 and "*" not in self.table.path:  # which is right, and whether rows are in both, is unknown
            one, other = map(self.store.where, places[:2])
            raise UserError(f"{self.name}: {one} and {other} are of one day", "keep one of them")
        return [file for place in places for file in self._below(place, day)]

    def is_marked(self, day: dt.date, success: str) -> bool:
        """Whether a folder of the day has a file of this name that the config does not look for."""
        if self.table.success_file is not None or self.pattern is None:
            return False
        return any(self.store.is_file(f"{place}/{success}") for place in self.days().get(day, ()))

    def _matching(self) -> list[str]:
        """Paths that the pattern may mean."""
        if self.pattern is None:
            return []
        above, last = self._expanded(self.pattern.parts[:-1]), self.pattern.parts[-1]
        if DayPattern.is_literal(last):
            return [f"{path}/{last}".lstrip("/") for path in above]
        listed = self.store.entries if self.table.is_dated else self.store.folders
        return [entry for path in above for entry in listed(path or ".") if self._is_meant(last, entry)]

    def _expanded(self, parts: Sequence[str]) -> list[str]:
        """The folders that the parts of a path may mean."""
        paths = [""]
        for part in parts:
            if DayPattern.is_literal(part):
                paths = [f"{path}/{part}".lstrip("/") for path in paths]
                continue
            names = (entry for path in paths for entry in self.store.folders(path or "."))
            paths = [entry for entry in names if self._is_meant(part, entry)]
        return paths

    def _matched(self, day: dt.date) -> list[File]:
        """The files that a path with `*` means, and those below folders that it means. Raises UserError 66."""
        *above, last = (part for part in self.table.path.split("/") if part)
        found = list[File]()
        for path in self._expanded(above):
            folders, files = self.store.children(path or ".")
            if mine := [file for file in files if self._is_meant(last, file.path)]:
                self._require_finished(mine[0].path, True, day)
                found += mine
            for folder in (f for f in folders if self._is_meant(last, f)):
                self._require_finished(folder, False, day)
                found += self.store.files(folder, self.suffixes)
        rows = without_settings([file.path for file in found])
        found = [file for file in found if file.path in rows]
        if not found:
            what = f"{self.name}: no file {self.store.where(self.table.path)}"
            raise UserError(
                what, "set data.root and the path below it, in which * is any text of a name", Exit.NO_INPUT
            )
        return sorted(found, key=lambda file: PurePosixPath(file.path))

    def _is_meant(self, part: str, path: str) -> bool:
        name = PurePosixPath(path).name
        hidden = name[0] in "._" and part[0] != name[0]
        return not hidden and DayPattern.matches(part, name)

    def _below(self, place: str, day: dt.date) -> list[File]:
        """The place itself where it is a file, else the files below it."""
        is_file = (self.pattern is None or self.table.is_dated) and self.store.is_file(place)
        if not is_file and not self.store.is_folder(place):
            raise self._no_folder(place, "")
        self._require_finished(place, is_file, day)
        if is_file:
            return [self.store.file(place)]
        if files := self.store.files(place, self.suffixes):
            rows = without_settings([file.path for file in files])
            return [file for file in files if file.path in rows]
        expected = " or ".join(f"*{s}" for s in self.suffixes[:2])
        what = f"{self.name}: {self.store.where(place)} contains no {expected} file"
        raise UserError(what, "retry when it is written", Exit.NO_INPUT)

    def _require_finished(self, place: str, is_file: bool, day: dt.date) -> None:
        success = self.table.success_file
        if success is None:
            return
        if "{" in success:
            success = DayPattern(success).text(day)
        elif is_file and self.pattern is not None:
            hint = "write {day} in it, as in path"
            raise UserError(f"data.{self.name}.success_file: {success} is the same for all days", hint, Exit.CONFIG)
        folder = str(PurePosixPath(place).parent) if is_file else place
        if not self.store.is_file(f"{folder}/{success}"):
            where = self.store.where(place)
            what = f"{self.name}: {where} has no {success}: not finished"
            raise UserError(what, "retry when it is written", Exit.NO_INPUT)

    def _no_day(self, day: dt.date, by_day: dict[dt.date, list[str]]) -> UserError:
        table, hint = self.table, "retry when the day has arrived"
        path = table.path if table.is_dated else f"{table.path}/{table.hive_key}={{day}}"
        have = (
            f"no {PurePosixPath(path.replace('{day}', 'YYYY-MM-DD')).name} {'' if table.is_dated else 'folder '}there"
        )
        if by_day:
            have = span(by_day)
            if day < min(by_day):
                hint = "put its files back, or name a later day"
            elif day < max(by_day) and not isinstance(table, Joined):
                copied = isinstance(table, SideTable)  # a day that the events lack is left out of the chain
                hint += f"; where it never will, {'copy the day before it there' if copied else 'run the day after it'}"
        elif not table.is_dated:
            names = (PurePosixPath(f).name for f in self.store.folders(table.path))
            if other := next((n for n in names if "=" in n), None):
                have, hint = f"{have}, but {other}", f"set partition: {other.partition('=')[0]} of this table"
        text = DayPattern(path).text(day)
        if by_day and all(str(day) not in place for day, some in by_day.items() for place in some):
            text = text.replace(str(day), f"{day:%Y%m%d}")  # as its neighbours are written
        return self._no_folder(text, f" ({have})", hint)

    def _no_folder(self, path: str, have: str, hint: str = "") -> UserError:
        hint = hint or "set data.root and the path below it (a local one is relative to the current folder)"
        if not self.table.is_dated and (file := self.store.file_in_place_of(path)):
            said = f"{self.name}: {file} is a file, expected a folder of *{self.suffixes[0]} files"
            return UserError(said, "name the folder that contains it", Exit.NO_INPUT)
        what = "folder" if not self.table.is_dated else "folder or file"
        return UserError(f"{self.name}: no {what} {self.store.where(path)}{have}", hint, Exit.NO_INPUT)


def is_local(data: Data) -> bool:
    """Whether looking at the log costs no request."""
    return "://" not in data.root


def days_of(data: Data) -> set[dt.date] | None:
    """Days that have a folder or file in the log; None where a column tells the day, or the log cannot be listed."""
    try:
        places = Places(Store(data.root), "events", data.events, data.format_of(data.events))
        return set(places.days()) or None
    except UserError:
        return None
