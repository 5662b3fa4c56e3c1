"""The export that is served, and its successor, which is loaded beside it and takes its place at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from dmtl_cli.config.errors import UserError
from dmtl_cli.runs.manifest import MANIFEST, Manifest
from dmtl_cli.serving.answers import Answers, Users
from dmtl_cli.serving.attributes import Attributes, in_pieces, read_more
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
        self._stamp: Stamp = None

    def load(self) -> None:
        """The first export. Raises UserError: 66 there is none; 65 it, or the file of items, makes no sense; 74."""
        self._stamp = self._stamped()
        self._exchange(self._opened(find(self.root)))

    def look(self) -> None:
        """Follows LATEST and the file of items. What cannot be read is told once, and what is served stays served."""
        assert self.now is not None, "`load` comes first"
        try:
            folder, stamp = find(self.root), self._stamped()
            if folder != self.now.export.folder:
                self._exchange(self._opened(folder))
                self._stamp = stamp
                self._metrics.swaps.inc()
                self._say(self.line())
            elif stamp != self._stamp:
                self.now = replace(self.now, attributes=self._attributes(self.now.export))
                self._stamp = stamp
                self._say(f"dmtl: {self.items} was read again")
            self.problem = None
        except Exception as e:  # whatever it is, the thread that follows must go on
            error = e if isinstance(e, UserError) else UserError(f"{type(e).__name__}: {e}")
            self._metrics.failed_swaps.inc()
            if error.line() != self.problem:
                self._say(f"{error.line()}; run {self.now.run_id} goes on")
            self.problem = error.line()

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

    def _opened(self, folder: Path) -> Answers:
        manifest = Manifest.read(folder / MANIFEST)
        export = Export.open(folder).load()
        return Answers(export, manifest.day, manifest.run_id, Users(export), self._attributes(export), time.monotonic())

    def _attributes(self, export: Export) -> Attributes:
        ids = export.items[0]
        more = [] if self.items is None else [read_more(self.items, ids)]
        features = in_pieces(export.item_features, export.encoder.features_of_side("item"))
        return Attributes(ids, features, *more)

    def _exchange(self, answers: Answers) -> None:
        self.now = answers
        self._metrics.serves(answers.day, len(answers.users), len(answers.export.items[0]))

    def _stamped(self) -> Stamp:
        if self.items is None or not self.items.is_file():
            return None
        state = self.items.stat()
        return state.st_mtime_ns, state.st_size
