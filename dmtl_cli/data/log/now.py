"""Whether the files that were read of the log have changed since."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from dmtl_cli.config.data import Data
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.pattern import DayPattern
from dmtl_cli.data.log.reader import Log

Inputs = list[dict[str, Any]]  # of a manifest: path, rows, bytes and digest of each


class Now:
    """The files of some days of the log as they are now.

    Args:
        converted: as `Log` takes it.
    """

    def __init__(self, data: Data, days: Iterable[dt.date], converted: Path | None = None) -> None:
        joined = data.events.joined.values()
        tables = (data.events, data.users, data.items, *joined)
        self._patterns = [DayPattern(table.path) for table in tables if table is not None and table.is_dated]
        # of files whose rows tell their days each day has its own
        loose = (re.escape(table.path).replace(r"\*", "[^/]*") for table in joined if table.date_column is not None)
        self._loose = re.compile("|".join(f"{path}(?:/|$)" for path in loose) or "(?!)")
        self._has_places = data.events.date_column is None
        self._files: dict[str, dict[str, Any]] = {}
        self.unreadable: list[str] = []
        """what cannot be compared, a line each"""
        log = Log(data, (), converted=converted)
        for day in days:
            try:
                self._files |= {one["path"]: one for one in log.inputs(day)}
            except UserError as e:
                if e.code != Exit.NO_INPUT:  # a day that the log no longer has tells nothing
                    self.unreadable.append(f"{day}: {e.message}")
        self._places = self._by_place(self._files)

    def changed(self, then: Inputs) -> bool:
        """Whether a file was replaced, or one was added to or taken from a day's folder that is still there."""
        paths = {one["path"] for one in then if isinstance(one, dict) and "path" in one}
        known = [one for one in then if isinstance(one, dict) and one.get("path") in self._files]
        if any(self._files[one["path"]] != one for one in known):
            return True
        places = self._by_place(paths).items()
        return self._has_places and any(names != self._places[p] for p, names in places if p in self._places)

    def _by_place(self, paths: Iterable[str]) -> dict[str, set[str]]:
        """Paths by the day's folder or dated files (or the table's folder, where it has none of a day)."""
        found: dict[str, set[str]] = {}
        for path in paths:
            if self._loose.match(path):
                continue
            parts = PurePosixPath(path).parts
            heads = ["/".join(parts[: k + 1]) for k in range(len(parts))]
            dated = (f"{p.path}:{d}" for p in self._patterns for h in heads if (d := p.day_of(h)))
            hive = (head for head, part in zip(heads, parts, strict=True) if "=" in part)
            found.setdefault(next(dated, next(hive, "/".join(parts[:-1]))), set()).add(path)
        return found
