"""Progress on a terminal (a bar on stderr), lines in the run's log otherwise; quiet under cron."""

from __future__ import annotations

import json
import re
import resource
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsFloat

if TYPE_CHECKING:
    from dmtl_cli.runs.manifest import Manifest

LOG_EVERY = 30.0  # seconds
MOST = 8 << 20  # bytes of a log file
SHOW_EVERY = 0.5
_RUN_ID = re.compile('"run_id": "([^"]*)"')
TICK = 1.0  # seconds between two looks at the clock of a bar that does not move
POINTS = 100  # of a training's loss that are kept for trackers
_CLOCK = "{desc}: {elapsed}"  # of work without a total
_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"  # of steps that are not of one length

Listener = Callable[[Path, "Manifest", "float | None"], None]
"""hears of each result, after it was published: its folder, its manifest, the seconds that it took to make, or None
where it was up to date"""


class Point(NamedTuple):
    """The loss of one step of a training."""

    rows: int
    """learned so far"""
    time: float
    loss: SupportsFloat
    """on the model's device until somebody reads it, as reading it waits for the device"""


@dataclass
class RunLog:
    """Details of a run as JSON lines. Times are written here and nowhere else."""

    path: Path | None = None
    quiet: bool = False
    seconds_by_run: dict[str, float] = field(default_factory=dict)
    """seconds that each run published by this process took, by run id"""
    place: str = ""
    """what a comparison is at; stands before every line and bar"""
    paint: Callable[[str], str] = str
    """a line with a terminal's colours"""
    listeners: list[Listener] = field(default_factory=list)
    losses: dict[str, list[Point]] | None = None
    """by name of a training up to POINTS of its steps, until somebody takes them; None: nobody wants them"""

    def write(self, event: str, **fields: Any) -> bool:
        """Appends a line to the log and returns whether it is there. A log that cannot be written stops no work. A file
        of MOST bytes becomes `<name>.1`, in place of the one before."""
        if self.path is None:
            return False
        entry = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, **fields}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and self.path.stat().st_size >= MOST:
                self.path.replace(self.path.with_name(f"{self.path.name}.1"))
            with self.path.open("a", encoding="utf-8") as f:
                f.write(json.dumps(entry, default=str) + "\n")
        except OSError:
            return False
        return True

    def published(self, seconds: float | None, **fields: Any) -> None:
        """Notes a run that took `seconds` to make, or (None) was found up to date."""
        if seconds is None:
            self.write("up_to_date", **fields)
        else:
            self.seconds_by_run[fields["run_id"]] = seconds = round(seconds, 2)
            self.write("published", seconds=seconds, peak_bytes=_peak_bytes(), **fields)

    @staticmethod
    def took(folder: Path, run_ids: Collection[str] | None = None) -> dict[str, float]:
        """Seconds by run id, as `published_in`."""
        return {run_id: entry["seconds"] for run_id, entry in RunLog.published_in(folder, run_ids).items()}

    @staticmethod
    def published_in(folder: Path, run_ids: Collection[str] | None = None) -> dict[str, dict[str, float]]:
        """By run id `seconds` and, where its log has it, `peak_bytes`, from all logs of a folder; lines that cannot be
        read are passed over.

        Args:
            run_ids: the only ones that are wanted; a line of another, which is long, is not parsed.
        """
        out: dict[str, dict[str, float]] = {}
        for file in (*sorted(folder.glob("*.jsonl.1")), *sorted(folder.glob("*.jsonl"))):
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                named = _RUN_ID.search(line) if '"published"' in line else None
                if named is None or (run_ids is not None and named[1] not in run_ids):
                    continue
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                if isinstance(entry, dict) and entry.get("event") == "published" and "seconds" in entry:
                    numbers = {name: float(entry[name]) for name in ("seconds", "peak_bytes") if name in entry}
                    out[str(entry["run_id"])] = numbers
        return out

    def say(self, text: str) -> None:
        """Shows a line on a terminal, unless the run is quiet; writes it to the log in any case."""
        text = f"{self.place}: {text}" if self.place else text
        self.write("say", text=text)
        if sys.stderr.isatty() and not self.quiet:
            from tqdm import tqdm

            tqdm.write(self.paint(text), file=sys.stderr)

    @contextmanager
    def at(self, place: str) -> Iterator[None]:
        """Within it every line and bar begins with what a comparison is at."""
        outer, self.place = self.place, place
        try:
            yield
        finally:
            self.place = outer

    @contextmanager
    def progress(self, what: str, total: int | None = None, unit: str = "row") -> Iterator[Progress]:
        """A bar over `total` rows (or users, steps, as `unit` says); at its end a line of the log with rows per second.

        Without a total it is a clock. It ticks while a step is long.
        """
        from tqdm import tqdm  # its import takes as long as all of --help

        shown = f"{self.place}: {what}" if self.place else what
        form = _CLOCK if total is None else _BAR if unit == "step" else None
        off = True if self.quiet else None
        bar = tqdm(
            total=total, desc=shown, unit=unit, unit_scale=unit != "step", leave=False, disable=off, bar_format=form
        )
        progress = Progress(bar, self, what)
        try:
            with _ticking(bar):
                yield progress
        finally:
            bar.close()
            if progress.rows:
                seconds = time.perf_counter() - progress.start
                self.write(
                    "done", what=what, rows=progress.rows, rows_per_second=round(progress.rows / max(seconds, 1e-9))
                )


SILENT = RunLog(quiet=True)
"""shows nothing and writes nothing"""


@contextmanager
def _ticking(bar: Any) -> Iterator[None]:
    """Draws a visible bar again each second, so that its clock shows that work goes on."""
    if bar.disable:
        yield
        return
    over = threading.Event()

    def tick() -> None:
        while not over.wait(TICK):
            bar.refresh()

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _peak_bytes() -> int:
    """The most memory that this process has had resident so far: all its stages up to now."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10  # Linux counts KiB


class Progress:
    """Rows done, rows per second, loss and seconds left: on a bar, and every LOG_EVERY seconds in the log."""

    def __init__(self, bar: Any, log: RunLog, what: str) -> None:
        self.bar, self.log, self.what = bar, log, what
        self.rows = self.begun = 0
        self.start = self.logged = self.shown = time.perf_counter()

    def next(self, what: str) -> None:
        """Counts the step before it, where there was one, as done, and shows the one that begins."""
        if self.rows < self.begun:
            self.step()
        self.begun += 1
        self.at(what)

    def expect(self, rows: int) -> None:
        """There are so many rows, more than was known."""
        self.bar.total = rows

    def at(self, what: str) -> None:
        """Shows which of several things is done now."""
        if not self.bar.disable:
            self.bar.set_postfix_str(what)

    def step(self, rows: int = 1, loss: SupportsFloat | None = None) -> None:
        """Counts rows that are done. `loss` is read only when it is shown: reading it may wait for a device."""
        self.rows += rows
        self.bar.update(rows)
        now = time.perf_counter()
        if loss is not None:
            self._keep(rows, loss)
            if not self.bar.disable and now - self.shown > SHOW_EVERY:
                self.shown = now
                self.bar.set_postfix(loss=f"{float(loss):.4f}", refresh=False)
        if now - self.logged > LOG_EVERY:
            self.logged = now
            self._write(now - self.start, loss)

    def _write(self, seconds: float, loss: SupportsFloat | None) -> None:
        rate, total = self.rows / max(seconds, 1e-9), self.bar.total
        left = round((total - self.rows) / rate) if total and self.rows <= total else None
        numbers = {"seconds": round(seconds, 1), "rows_per_second": round(rate), "seconds_left": left}
        loss = None if loss is None else round(float(loss), 5)
        self.log.write("progress", what=self.what, rows=self.rows, **numbers, loss=loss)

    def _keep(self, rows: int, loss: SupportsFloat) -> None:
        """Keeps the loss of the first step of each of POINTS parts of a training, where somebody wants it."""
        if self.log.losses is None or not self.bar.total:
            return
        part = self.bar.total / POINTS
        if self.rows == rows or self.rows // part > (self.rows - rows) // part:
            kept = self.log.losses.setdefault(self.what, [])
            if len(kept) <= POINTS:
                kept.append(Point(self.rows, time.time(), loss))
