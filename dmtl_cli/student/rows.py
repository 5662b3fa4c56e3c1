"""Which rows a student learns from: streams of scored pairs and of labelled rows, mixed.

replay: every pair that the teacher's day has scores of. match: the student's own day, where its exposed pairs were
scored before. rescore: the student's own day, scored by the earlier teacher.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dmtl_cli.config.student import Distill, Student, Way
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.rows import Rows, begins, in_lists
from dmtl_cli.runs.gates import refuse_below
from dmtl_cli.runs.progress import RunLog
from dmtl_cli.runs.run import Parent
from dmtl_cli.scores.columns import SOURCES
from dmtl_cli.scores.matching import Matcher
from dmtl_cli.scores.reader import Reader, ScoredPairs
from dmtl_cli.student.hard import HARD, hard_rows
from dmtl_cli.student.labels import StudentRows, scored_rows
from dmtl_cli.student.published import Found

_POOL = 1 << 18  # rows of several streams shuffled together


@dataclass(frozen=True)
class Stream:
    """Rows of one way, or with hard labels, of one day."""

    name: str
    offered: int
    """pairs or events of the day"""
    covered: int
    """those of them that have a score; with hard labels, the most rows that an epoch can have"""
    rows: Callable[[np.random.Generator], Iterator[StudentRows]]


def student_streams(
    found: Found, read: Mapping[dt.date, Day], day: dt.date, threshold: float | None, config: Student, scratch: Path
) -> list[Stream]:
    """The streams that a student of `day` learns from: published dumps and (with w_hard) the day's labels.

    Args:
        read: the days of the dumps, and `day`.
    """
    at = {day.day: (users, items) for day, users, items in begins(read.values())}
    out = [_scored(way, read[d], parent, at[d], config, scratch) for (way, d), parent in found.items()]
    if config.hard.w_hard:
        count = HARD[config.hard.loss].count(config.hard, read[day], threshold)
        out.append(Stream("hard", count, count, lambda rng: hard_rows(read[day], threshold, config, *at[day], rng)))
    return out


def _scored(way: Way, day: Day, parent: Parent, offset: tuple[int, int], config: Student, scratch: Path) -> Stream:
    """The rows of one way; `day` is the day whose features they take."""
    distill = config.distill
    reader, sources = Reader(parent[0], parent[1].facts), used_sources(distill)
    if way == "match":
        matcher = Matcher(reader, day, distill.targets, scratch)

        def matched(rng: np.random.Generator) -> Iterator[StudentRows]:
            found = matcher.pairs(lists=distill.over_lists, rng=rng)
            return _grouped(found, offset, config, rng, shuffled=True)

        return Stream(way, len(day), matcher.covered(), matched)

    def distilled(rng: np.random.Generator) -> Iterator[StudentRows]:
        found = reader.pairs(day, distill.targets, sources, lists=distill.over_lists, rng=rng)
        return _grouped(found, offset, config, rng, shuffled=False)

    return Stream(way, *reader.coverage(day, sources), distilled)


def _grouped(
    found: Iterable[ScoredPairs], offset: tuple[int, int], config: Student, rng: np.random.Generator, *, shuffled: bool
) -> Iterator[StudentRows]:
    """Rows with those of a list, or of a user, next to each other; else in random order.

    Args:
        shuffled: whether `found` is in random order already.
    """
    for some in found:
        rows: StudentRows = scored_rows(some, *offset)
        if config.rows_together > 1:
            yield in_lists(rows, some.key, config.rows_together, rng)
        else:
            yield rows if shuffled else rows.shuffled(rng)


def used_sources(config: Distill) -> list[str]:
    """Pair sources that at least one loss learns from."""
    return [s for s in SOURCES if any(getattr(kd.source_weights, s) > 0 for kd in config.losses)]


def coverage(streams: Sequence[Stream], ways: Sequence[Way], config: Distill, log: RunLog) -> dict[str, float]:
    """Scored rows / rows offered of each way.

    Raises:
        UserError: 80 one is below its floor, or there is nothing to learn.
    """
    out: dict[str, float] = {}
    for way in ways:
        mine = [s for s in streams if s.name == way]
        offered, covered = sum(s.offered for s in mine), sum(s.covered for s in mine)
        share = out[f"coverage.{way}"] = covered / offered if offered else 0.0
        out[f"rows.{way}"] = float(covered)
        told = f"student: {covered:,} of {offered:,} rows have a score to learn ({way}, {share:.1%})"
        log.say(told) if covered < offered else log.write("say", text=told)
        floor = getattr(config.floors, way)
        what = f"coverage of {way} is {share:.3f} ({covered} of {offered} rows), below its floor {floor}"
        refuse_below(share, floor, what, f"dump the scores that {way} needs, or lower student.distill.floors.{way}")
    rows = sum(s.covered for s in streams)
    refuse_below(rows, 1, "nothing to learn: no way has a row", "check student.distill.ways and coverage")
    return out


def initial_bias(streams: Sequence[Stream], rng: np.random.Generator) -> float:
    """A student's initial bias: log-odds of the mean first target in the first block that has one; 0 without any."""
    for stream in streams:
        for rows in stream.rows(rng):
            t = rows.labels.targets[:, :1]
            if np.isfinite(t).any():
                return mean_log_odds(t[np.isfinite(t)])
    return 0.0


def mean_log_odds(targets: npt.NDArray[Any]) -> float:
    """Log-odds of the mean probability of finite targets, within 1e-4 of 0 and of 1."""
    p = float(np.clip((1 / (1 + np.exp(-targets))).mean(), 1e-4, 1 - 1e-4))
    return float(np.log(p / (1 - p)))


def mix(streams: Sequence[tuple[Iterator[StudentRows], int]], rng: np.random.Generator) -> Iterator[StudentRows]:
    """Several streams (with their row counts) as one, each in its proportion throughout, shuffled pool by pool."""
    total = sum(n for _, n in streams)
    pools = max(1, -(-total // _POOL))
    takers = [(_Taker(rows), -(-n // pools)) for rows, n in streams if n]
    while parts := [p for taker, share in takers for p in taker.take(share)]:
        yield Rows.concat(parts).shuffled(rng)


class _Taker:
    """Takes a given number of rows from a stream of blocks while it has some, and only whole lists."""

    def __init__(self, rows: Iterator[StudentRows]) -> None:
        self.rows = rows
        self.left: StudentRows | None = None

    def take(self, n: int) -> list[StudentRows]:
        out: list[StudentRows] = []
        while n > 0:
            block = self.left if self.left is not None else next(self.rows, None)
            self.left = None
            if block is None:
                break
            if not len(block):
                continue
            cut = int(block.cuts[min(len(block.cuts) - 1, int(np.searchsorted(block.cuts, n)))])
            out.append(block.take(slice(0, cut)))
            if len(block) > cut:
                self.left = block.take(slice(cut, None))
            n -= cut
        return out
