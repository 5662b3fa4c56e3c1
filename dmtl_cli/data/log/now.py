"""What the log has now: its days, and whether the files that were read of it have changed since."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from dmtl_cli.config.data import Data
from dmtl_cli.config.days import folder_day
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.log.source import Store

Inputs = list[dict[str, Any]]  # of a manifest: path, rows, bytes and digest of each


def is_local(data: Data) -> bool:
    """Whether looking at the log costs no request."""
    return "://" not in data.root


def days_of(data: Data) -> set[dt.date] | None:
    """Days that have a folder in the log; None where a column tells the day, or the log cannot be listed."""
    key, found = data.events.hive_key, set()
    if key is None:
        return None
    try:
        folders = Store(data.root).folders(data.events.path)
    except UserError:
        return None
    for folder in folders:
        name, _, value = PurePosixPath(folder).name.partition("=")
        if name == key and (day := folder_day(value)) is not None:
            found.add(day)
    return found or None


class Now:
    """The files of some days of the log as they are now."""

    def __init__(self, data: Data, days: Iterable[dt.date]) -> None:
        self._by_folder = data.events.hive_key is not None
        self._files: dict[str, dict[str, Any]] = {}
        self.unreadable: list[str] = []
        """what cannot be compared, a line each"""
        log = Log(data, ())
        for day in days:
            try:
                self._files |= {one["path"]: one for one in log.inputs(day)}
            except UserError as e:
                if e.code != Exit.NO_INPUT:  # a day that the log no longer has tells nothing
                    self.unreadable.append(f"{day}: {e.message}")
        self._folders = _by_folder(self._files)

    def changed(self, then: Inputs) -> bool:
        """Whether a file was replaced, or one was added to or taken from a day's folder that is still there."""
        paths = {one["path"] for one in then if isinstance(one, dict) and "path" in one}
        known = [one for one in then if isinstance(one, dict) and one.get("path") in self._files]
        if any(self._files[one["path"]] != one for one in known):
            return True
        folders = _by_folder(paths).items()
        return self._by_folder and any(names != self._folders[f] for f, names in folders if f in self._folders)


def _by_folder(paths: Iterable[str]) -> dict[str, set[str]]:
    """Paths by the day's folder (or the table's, where it has none)."""
    found: dict[str, set[str]] = {}
    for path in paths:
        parts = PurePosixPath(path).parts
        ends = next((k for k, part in enumerate(parts) if "=" in part), len(parts) - 2)
        found.setdefault("/".join(parts[: ends + 1]), set()).add(path)
    return found
