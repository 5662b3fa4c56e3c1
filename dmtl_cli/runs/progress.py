"""Progress on a terminal (a bar on stderr), lines in the run's log otherwise; quiet under cron."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsFloat

from tqdm import tqdm

LOG_EVERY = 30.0  # seconds
MOST = 8 << 20  # bytes of a log file
SHOW_EVERY = 0.5


@dataclass
class RunLog:
    """Details of a run as JSON lines. Times are written here and nowhere else."""

    path: Path | None = None
    quiet: bool = False
    seconds_by_run: dict[str, float] = field(default_factory=dict)
    """seconds that each run published by this process took, by run id"""

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
    def took(folder: Path) -> dict[str, float]:
        """Seconds by run id from all logs of a folder."""
        return {run_id: entry["seconds"] for run_id, entry in RunLog.published_in(folder).items()}

    @staticmethod
    def published_in(folder: Path) -> dict[str, dict[str, float]]:
        """By run id `seconds` and, where its log has it, `peak_bytes`, from all logs of a folder; lines that cannot be
        read are passed over."""
        out: dict[str, dict[str, float]] = {}
        for file in (*sorted(folder.glob("*.jsonl.1")), *sorted(folder.glob("*.jsonl"))):
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                if '"published"' not in line:
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
        self.write("say", text=text)
        if sys.stderr.isatty() and not self.quiet:
            tqdm.write(text, file=sys.stderr)

    @contextmanager
    def progress(self, what: str, total: int | None = None, unit: str = "row") -> Iterator[Progress]:
        """A bar over `total` rows (or bytes, as `unit` says); at its end a line of the log with rows per second."""
        bar = tqdm(
            total=total, desc=what, unit=unit, unit_scale=True, leave=False, disable=True if self.quiet else None
        )
        progress = Progress(bar, self, what)
        try:
            yield progress
        finally:
            bar.close()
            if progress.rows:
                seconds = time.perf_counter() - progress.start
                self.write(
                    "done", what=what, rows=progress.rows, rows_per_second=round(progress.rows / max(seconds, 1e-9))
                )


def _peak_bytes() -> int:
    """The most memory that this process has had resident so far: all its stages up to now."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10  # Linux counts KiB


class Progress:
    """Rows done, rows per second, loss and seconds left: on a bar, and every LOG_EVERY seconds in the log."""

    def __init__(self, bar: Any, log: RunLog, what: str) -> None:
        self.bar, self.log, self.what = bar, log, what
        self.rows = 0
        self.start = self.logged = self.shown = time.perf_counter()

    def step(self, rows: int, loss: SupportsFloat | None = None) -> None:
        """Counts rows that are done. `loss` is read only when it is shown: reading it may wait for a device."""
        self.rows += rows
        self.bar.update(rows)
        now = time.perf_counter()
        if loss is not None and not self.bar.disable and now - self.shown > SHOW_EVERY:
            self.shown = now
            self.bar.set_postfix(loss=f"{float(loss):.4f}", refresh=False)
        if now - self.logged > LOG_EVERY:
            self.logged = now
            rate = self.rows / max(now - self.start, 1e-9)
            left = (
                round((self.bar.total - self.rows) / rate) if self.bar.total and self.rows <= self.bar.total else None
            )
            numbers = {"seconds": round(now - self.start, 1), "rows_per_second": round(rate), "seconds_left": left}
            loss = None if loss is None else round(float(loss), 5)
            self.log.write("progress", what=self.what, rows=self.rows, **numbers, loss=loss)
