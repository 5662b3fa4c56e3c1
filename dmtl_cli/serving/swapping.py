"""The export that is served, and its successor, which is loaded beside it and takes its place at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl

from dmtl_cli.config.errors import ENDING, UserError
from dmtl_cli.runs.manifest import MANIFEST, Manifest
from dmtl_cli.serving.answers import Answers, Users
from dmtl_cli.serving.attributes import Attributes, in_pieces, of_items, read_more
from dmtl_cli.serving.export import Export
from dmtl_cli.serving.metrics import Metrics
from dmtl_cli.serving.opening import find

_LONGEST_PAUSE = 300.0  # seconds between two tries of an export that is refused
Stamp = tuple[int, int] | None


class Served:
    """What requests are answered from.

    Args:
        root: a workspace, its export/, or the folder of one export.
        items: a file of further columns to filter by.
        say: takes a line for whoever runs the server.
    """

    def __init__(self, root: Path, items: Path | None, metrics: Metrics, say: Callable[[str], None]) -> None:
        self.root, self.items, self._metrics, self._say = root, items, metrics, say
        self.now: Answers | None = None
        """exchanged as a whole; a request reads it once"""
        self.problem: str | None = None
        """why what is named now is not served"""
        self.items_problem: str | None = None
        """why the file of items is not read as it is now"""
        self._more: pl.DataFrame | None = None
        """the columns of that file when it could be read last"""
        self._stamp: Stamp = None

    def load(self) -> None:
        """The first export. Raises UserError: 66 there is none; 65 it, or the file of items, makes no sense; 74."""
        folder, self._stamp = find(self.root), self._stamped()
        manifest, export = self._read(folder)
        if self.items is not None:
            self._more = read_more(self.items, export.items[0].dtype)
        self._exchange(manifest, export)

    def look(self) -> None:
        """Follows LATEST and the file of items, neither of which keeps the other. What cannot be read is told once, and
        what is served stays served."""
        assert self.now is not None, "`load` comes first"
        self.items_problem = self._tried(self._follow_items, self.items_problem, "its columns as they were go on")
        self.problem = self._tried(self._follow_latest, self.problem, f"run {self.now.run_id} goes on")

    def _tried(self, follow: Callable[[Answers], None], told: str | None, goes_on: str) -> str | None:
        """Why something could not be followed; None where it could."""
        assert self.now is not None
        try:
            follow(self.now)
            return None
        except ENDING:
            raise
        except BaseException as e:  # whatever it is, the thread that follows must go on
            error = e if isinstance(e, UserError) else UserError(f"{type(e).__name__}: {e}")
            self._metrics.failed_swaps.inc()
            if error.line() != told:
                self._say(f"{error.line()}; {goes_on}")
            return error.line()

    def _follow_items(self, now: Answers) -> None:
        stamp = self._stamped()
        if self.items is not None and stamp != self._stamp:
            self._more = read_more(self.items, now.export.items[0].dtype)
            self.now = replace(now, attributes=self._attributes(now.export))
            self._stamp = stamp
            self._say(f"dmtl: {self.items} was read again")

    def _follow_latest(self, now: Answers) -> None:
        folder = find(self.root)
        if folder != now.export.folder:
            self._exchange(*self._read(folder))
            self._metrics.swaps.inc()
            self._say(self.line())

    def follow(self, poll: float, wait: Callable[[float], bool]) -> None:
        """Looks every `poll` seconds, less and less often while it fails, until `wait` is true: it waits so long."""
        pause = poll
        while not wait(pause):
            self.look()
            pause = min(2 * pause, max(poll, _LONGEST_PAUSE)) if self.problem else poll

    def line(self) -> str:
        """What is served, for whoever runs the server."""
        assert self.now is not None
        users, items = len(self.now.users), len(self.now.export.items[0])
        return f"dmtl: serves day {self.now.day}, run {self.now.run_id}: {users:,} users, {items:,} items"

    def _read(self, folder: Path) -> tuple[Manifest, Export]:
        return Manifest.read(folder / MANIFEST), Export.open(folder).load()

    def _attributes(self, export: Export) -> Attributes:
        ids = export.items[0]
        more = [] if self._more is None else [of_items(ids, self._more)]
        features = in_pieces(export.item_features, export.encoder.features_of_side("item"))
        return Attributes(ids, features, *more)

    def _exchange(self, manifest: Manifest, export: Export) -> None:
        attributes = self._attributes(export)
        users = Users(export)
        self.now = Answers(export, manifest.day, manifest.run_id, users, attributes, time.monotonic())
        self._metrics.serves(manifest.day, len(users), len(export.items[0]))

    def _stamped(self) -> Stamp:
        if self.items is None or not self.items.is_file():
            return None
        state = self.items.stat()
        return state.st_mtime_ns, state.st_size
