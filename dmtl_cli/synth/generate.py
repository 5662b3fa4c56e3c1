"""Writes a world to a folder, or the days that it lacks."""

from __future__ import annotations

import dataclasses
import datetime as dt
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.evaluate.laws import BAIT
from dmtl_cli.runs.progress import SILENT, RunLog
from dmtl_cli.synth.bait import BaitWorld
from dmtl_cli.synth.positions import PositionsWorld
from dmtl_cli.synth.world import BLOCK, NO_HISTORY, World

WORLDS: dict[str, type[World]] = {world.name: world for world in (BaitWorld, PositionsWorld)}
_PLACING = ("truth", "log", "users", "items", "events")  # a day's events appear last


def generate(
    out: Path,
    days: int,
    *,
    world: str = BAIT,
    start: dt.date = dt.date(2026, 1, 1),
    users: int = 5_000,
    items: int | None = None,
    events_per_day: int = 300_000,
    churn: float = 0.05,
    seed: int = 1,
    log: RunLog = SILENT,
) -> None:
    """Writes OUT/log and OUT/truth, or adds the days that a world of the same parameters lacks.

    Files are written in a folder beside them and renamed: truth first, a day's events last.

    Args:
        out: folder of the world; made if it is not there.
        world: bait or positions.
        users: of bait all that there are, of positions those of a day (at most one a request).
        items: alive each day; default of bait 2,000, of positions 100,000.
        churn: share of the items that die, and are replaced, before each day after the first (to a whole number).
        log: shows a bar of days.

    Raises:
        UserError: 2 a number is out of range; 73 OUT contains another world or something else, or cannot be made;
            75 another run is writing there.
    """
    if (kind := WORLDS.get(world)) is None:
        raise UserError(f"synth: world must be {' or '.join(WORLDS)}, got {world}", code=Exit.USAGE)
    items = kind.default_items if items is None else items
    sizes = {"days": days, "users": users, "items": items, "events_per_day": events_per_day}
    _check_numbers(sizes, start, churn, seed)
    made = kind(start, users, items, events_per_day, float(churn), seed, days)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"cannot create {out}: {e.strerror}", "give another OUT", Exit.CANNOT_CREATE) from e
    with _alone(out):
        made = dataclasses.replace(made, days=max(days, _days_there(out, made)))
        missing = [k for k in range(days) if not all(f.is_file() for f in _files(out, made.day(k)))]
        if missing or not all((out / "truth" / f"{name}.parquet").is_file() for name in ("users", "items")):
            _add(out, made, missing, log)


def _check_numbers(sizes: dict[str, int], start: dt.date, churn: float, seed: int) -> None:
    """Raises UserError 2 for a number out of range."""
    for name, value, least in (*((name, value, 1) for name, value in sizes.items()), ("seed", seed, 0)):
        if value < least:
            raise UserError(f"synth: {name} must be at least {least}, got {value}", code=Exit.USAGE)
    if not 0 <= churn <= 1:
        raise UserError(f"synth: churn must be a share between 0 and 1, got {churn}", code=Exit.USAGE)
    if sizes["days"] > dt.date.max.toordinal() - start.toordinal() + 1:
        raise UserError(f"synth: {sizes['days']} days from {start} end after {dt.date.max}", code=Exit.USAGE)


def _add(out: Path, world: World, missing: Sequence[int], log: RunLog) -> None:
    """Writes the truth and the missing days in a scratch folder, then moves them to their places."""
    truth = world.truth_tables()
    _same_draws(out, truth)
    scratch = out / ".synth-scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        _write_truth(scratch, world, truth)
        _write_days(scratch, world, missing, log)
        for part in ("truth", "log") if missing else ("truth",):
            _place(scratch / part, out / part)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Locks the folder itself; the lock dies with this process and leaves no file."""
    handle = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another run is writing {out}", "retry later", Exit.LOCKED) from None
        yield
    finally:
        os.close(handle)


def _files(out: Path, day: dt.date) -> list[Path]:
    return [out / "log" / table / f"day={day}" / "part-0.parquet" for table in ("users", "items", "events")]


def _days_there(out: Path, world: World) -> int:
    """Days of the world already in OUT, 0 if there is none. Raises UserError if it is another one."""
    if not (out / "truth").exists() and not (out / "log").exists():
        return 0
    hint = f"give another OUT, or remove {out}/log and {out}/truth"
    try:
        there = json.loads((out / "truth" / "world.json").read_text("utf-8"))
        days, name = int(there["days"]), there.get("world", BAIT)
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{out} contains a log that synth did not make", hint, Exit.CANNOT_CREATE) from None
    if name != world.name:
        raise UserError(f"{out} contains another world ({name}, not {world.name})", hint, Exit.CANNOT_CREATE)
    mine = world.record()
    other = [k for k in sorted(mine | there) if k != "days" and mine.get(k) != there.get(k)]
    if other:
        differs = ", ".join(f"{k} {there.get(k)}, not {mine.get(k)}" for k in other)
        raise UserError(f"{out} contains another world ({differs})", hint, Exit.CANNOT_CREATE)
    return days


def _same_draws(out: Path, truth: dict[str, pa.Table]) -> None:
    """Refuses to extend a world whose users and items this version of numpy would not draw again."""
    for name, table in truth.items():
        file = out / "truth" / f"{name}.parquet"
        if file.is_file():
            try:
                old = pq.read_table(file, partitioning=None)
            except pa.ArrowException:
                old = None
            if old is None or not (n := min(len(old), len(table))) or not old.slice(0, n).equals(table.slice(0, n)):
                hint = f"remove {out}/log and {out}/truth, or use the numpy that made it (this is {np.__version__})"
                raise UserError(f"{file} does not contain the {name} drawn here", hint, Exit.CANNOT_CREATE)


def _write_truth(out: Path, world: World, truth: dict[str, pa.Table]) -> None:
    for name, table in truth.items():
        _write(out / "truth" / f"{name}.parquet", table)
    with (out / "truth" / "world.json").open("w", encoding="utf-8") as f:
        f.write(json.dumps(world.record(), indent=1) + "\n")
        f.flush()
        os.fsync(f.fileno())


def _write_days(out: Path, world: World, days: Sequence[int], log: RunLog) -> None:
    """Writes these days; those before them are drawn again, as recent clicks come from them."""
    history, count = NO_HISTORY, max(days, default=-1) + 1
    with log.progress(f"world {world.name}", count, "day") as progress:
        for k in range(count):
            made, history = world.tables(k, history)
            if k in days:
                for file, table in zip(_files(out, world.day(k)), (made.users, made.items, made.events), strict=True):
                    _write(file, table)
            progress.step()


def _write(file: Path, table: pa.Table) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as f:
        pq.write_table(table, f, compression="zstd", row_group_size=BLOCK)
        f.flush()
        os.fsync(f.fileno())


def _place(source: Path, target: Path) -> None:
    """Renames `source` to `target`; where both are folders, what is in it, one by one."""
    if not (source.is_dir() and target.is_dir()):
        source.replace(target)
        return
    for part in sorted(source.iterdir(), key=lambda p: (_PLACING.index(p.name) if p.name in _PLACING else 0, p.name)):
        _place(part, target / part.name)
