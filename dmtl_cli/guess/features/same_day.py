"""Features read from the events that are made of the very day: the value that a user or an item has on a day tells what
they did on it, and not what they do on the days beside it; or that of a request tells what came of it.

What was known before a day may tell how often an id is clicked, but not by which chance it was clicked more often on
this day than on another: a feature that does is made of the day's own clicks.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config.days import before
from dmtl_cli.config.errors import UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.config.schema import Config
from dmtl_cli.data.log.checked.day import FEATURE, ID, Day
from dmtl_cli.data.log.checked.labels import converted
from dmtl_cli.data.log.files.places import days_of
from dmtl_cli.data.log.files.schema import Schema
from dmtl_cli.data.log.files.shares import share_groups
from dmtl_cli.data.log.reader import Log
from dmtl_cli.guess.columns.values import FEW, is_constant, numbers
from dmtl_cli.guess.features import rates
from dmtl_cli.guess.features.requests import UNSERVED, is_known_with_request, is_of_request, made_of_the_request
from dmtl_cli.guess.sides.late import reading
from dmtl_cli.runs.ranks import ALONE

ROWS, FIRST_ROWS = 500_000, 50_000
"""of whole users, and of whole items, that are looked at, and those that tell whether they have one value each"""
OUTCOME = "name it in data.events.outcomes and leave the feature out"
FIX = f"{OUTCOME}, or give the value of the day before"
_WITHIN = 0.05  # of the variance of a number is within ids that have one level each
_LABELS = ("click", "read")
Array = npt.NDArray[Any]
Sides = dict[str, pl.DataFrame]
"""users and items of a day as `rates` takes them, with columns of their own: `row` of the day's table or x:COLUMN"""


def made_of_the_day(config: Config, log: Log, day: Day, schema: Schema) -> Iterator[str]:
    """A line for each feature of the events that is made of the day's, or of its request's, own clicks or reads, and
    one of those that a request has and nothing that is served reads.

    The log's first day is looked at too where a feature follows the checked day's rate: there a count of several days
    is that of the day.
    """
    ids = {config.data.events.user, config.data.events.item}
    own = [f for f in config.features if not f.profile and f.source not in ids]
    mine = [f for f in own if f.per_event or (f in schema.inline[f.side] and f.kind != "sequence")]
    if not mine:
        return
    sample = _Sample(config, day)
    of_requests = sample.of_requests(f for f in mine if f.per_event) if config.data.events.request else {}
    told = {f.name: found for f, found in of_requests.items() if found is not None}
    yield from (f"{name}: {found}: {OUTCOME}" for name, found in told.items())
    if unread := [f.name for f in of_requests if f.side == "context" and f.name not in told]:
        yield f"{', '.join(unread)}: {UNSERVED}"
    mine = [f for f in mine if f.kind != "sequence" and f.name not in told]
    others = _Others(config, log, day.day, sample.threshold)
    suspects: dict[str, tuple[Feature, str]] = {}
    for f in mine:
        for side, x in sample.values(f):
            found = _judged(x, side, sample.sides[side], others.beside, sample.called)
            if found is not None:
                suspects.pop(f.name, None)
                yield f"{f.name}: {found}: {FIX}"
                break
            if x.dtype.is_numeric() and rates.follows(x, sample.sides[side], sample.called):
                suspects[f.name] = f, side
    first = others.first
    if not suspects or first is None or (read := others.read(first, tuple(f for f, _ in suspects.values()))) is None:
        return
    for f, side in suspects.values():
        x, after = read[side][FEATURE + f.source], others.after_the_first
        if x.dtype.is_numeric() and (found := _judged(x, side, read[side], after, sample.called)) is not None:
            yield f"{f.name}: on {first}, the first day of the log, {found}: {FIX}"


def _judged(
    x: pl.Series, side: str, ids: pl.DataFrame, others: Callable[[], Mapping[str, Sides]], called: Mapping[str, str]
) -> str | None:
    """How values of ids are made of their day; None where they do not look like it.

    Args:
        x: [n] value of each of `ids`.
        others: gives the days beside it, by what they are called; asked where something is to be compared.
        called: what rows with a label are called, by label.
    """

    def beside() -> dict[str, pl.DataFrame]:
        return {what: sides[side] for what, sides in others().items()}

    if x.dtype.is_numeric() and (found := rates.equal(numbers(x), ids, beside, side, called)) is not None:
        return found
    for way in (rates.without, rates.followed):
        for label, what in called.items():
            if (found := way(x, ids, beside, label, what, side)) is not None:
                return found
    return None


class _Sample:
    """Whole users and whole items of the checked day, and what features say of them.

    Attributes:
        sides: by side.
        called: what rows with a label are called, of labels that some rows have and others have not.
        threshold: seconds of a read, None where a column tells it.
    """

    def __init__(self, config: Config, day: Day) -> None:
        self.day, self.threshold = day, read_seconds(config, day)
        events = {"user": day.user_events, "item": day.item_events}
        self._kept = {side: _some(of, ROWS) for side, of in events.items()}
        self._places, parts = [], []
        for block in day.blocks():
            at = np.flatnonzero(self._kept["user"][block.user] | self._kept["item"][block.item])
            read, known = (part[at] for part in block.labels(self.threshold))
            labelled = _labelled(block.user[at], block.item[at], block.click[at], read, known)
            parts.append(labelled.with_columns(pl.Series("request", block.request[at])))
            self._places.append(at)
        self._rows = pl.concat(parts)
        reads = config.data.events.conversion if self.threshold is None else None
        called = {"click": "clicks", "read": f"rows with {reads}" if reads else "reads"}
        self.called = {c: what for c, what in called.items() if self._rows[c].drop_nulls().n_unique() > 1}
        self._mine = {side: self._rows_of(side, kept) for side, kept in self._kept.items()}
        self._first = {side: self._rows_of(side, _some(of, FIRST_ROWS)) for side, of in events.items()}
        hashes = {"user": day.users[ID].hash(), "item": day.items[ID].hash()}
        self.sides: Sides = {}
        for side, mine in self._mine.items():
            ids = _by_id(self._rows[mine], side).rename({"id": "row"})
            self.sides[side] = ids.with_columns(hashes[side].gather(ids["row"]).alias("id"))

    def of_requests(self, features: Iterable[Feature]) -> dict[Feature, str | None]:
        """Those with one value a request, and how they are made of what came of it; None where they are not, of those
        that a server may know."""
        at = self._mine["user"]
        rows, out = self._rows[at], dict[Feature, str | None]()
        for f in features:
            x = self._values(f).gather(at)
            known = is_known_with_request(x, rows["request"])
            if known or is_of_request(x, rows["request"]):
                made = made_of_the_request(x, rows, self.called, f.source)
                out |= {f: made} if known or made is not None else {}
        return out

    def _values(self, f: Feature) -> pl.Series:
        """[n] values of the rows that are looked at."""
        blocks = zip(self.day.values(f.name), self._places, strict=True)
        return pl.concat([values.gather(at) for values, at in blocks]).alias("x")

    def values(self, f: Feature) -> Iterator[tuple[str, pl.Series]]:
        """(side, value of each of its ids) of the sides whose ids have one value this day."""
        if not f.per_event:
            table = self.day.users if f.side == "user" else self.day.items
            yield f.side, table[f.name].gather(self.sides[f.side]["row"])
            return
        x = self._values(f)
        for side, ids in self.sides.items():
            if (level := _level(self._beside(x, side, self._first), side)) is not None:
                by_id = self._beside(x, side, self._mine).group_by(side).agg(level)
                yield side, ids.join(by_id, left_on="row", right_on=side, how="left", maintain_order="left")["x"]

    def _beside(self, x: pl.Series, side: str, places: dict[str, Array]) -> pl.DataFrame:
        """Ids and values of some rows."""
        return pl.DataFrame([self._rows[side].gather(places[side]), x.gather(places[side])])

    def _rows_of(self, side: str, ids: Array) -> Array:
        return np.flatnonzero(ids[self._rows[side].to_numpy()])


class _Others:
    """Other days of the log: read once, as far as they are there."""

    def __init__(self, config: Config, log: Log, day: dt.date, threshold: float | None) -> None:
        self.config, self.log, self.day, self.threshold = config, log, day, threshold
        self.counts = cache(self.read)

    @cached_property
    def first(self) -> dt.date | None:
        """The first day of the log, where it is before the checked one and a path tells days."""
        return min((d for d in days_of(self.config.data) or () if d < self.day), default=None)

    def beside(self) -> dict[str, Sides]:
        """The days before and after the checked one."""
        named = {"the day before": before(self.day), "the day after": before(self.day, -1)}
        return {what: read for what, other in named.items() if (read := self.counts(other)) is not None}

    def after_the_first(self) -> dict[str, Sides]:
        """The day after the first."""
        assert self.first is not None
        read = self.counts(before(self.first, -1))
        return {} if read is None else {"the day after": read}

    def read(self, other: dt.date, features: tuple[Feature, ...] = ()) -> Sides | None:
        """Users and items of a day's first rows, with x:COLUMN of features as their first rows have it; None where it
        cannot be read."""
        parts, rows, e = list[pl.DataFrame](), 0, self.config.data.events
        with suppress(UserError):
            files, raw = reading(self.log, features).open(other)
            for block in raw.rows(share_groups(raw.schema.events, files.groups, ALONE)):
                click, seconds = block["click"].to_numpy() == 1, block["duration"].fill_null(np.nan).to_numpy()
                flags = block["conversion"].to_numpy() if e.conversion else np.full(len(block), np.int8(-1))
                user, item = (block[side].hash().to_numpy() for side in ("user", "item"))
                labelled = _labelled(user, item, click, *converted(click, seconds, flags, self.threshold))
                parts.append(labelled.hstack(block.select(sorted({FEATURE + f.source for f in features}))))
                if (rows := rows + len(block)) >= rates.OTHER_ROWS:
                    break
        if not parts:
            return None
        frame = pl.concat(parts)
        return {side: _by_id(frame, side) for side in ("user", "item")}


def _level(rows: pl.DataFrame, side: str) -> pl.Expr | None:
    """What gives the value `x` of an id, where its rows have one, or numbers that differ far less than those of other
    ids; None where they have not."""
    if is_constant(rows, side, "x"):
        return pl.col("x").drop_nulls().first()
    if not rows["x"].dtype.is_numeric():
        return None
    x = rows.select(side, numbers(rows["x"]).alias("x"))
    total = x["x"].var()
    several = (
        x.group_by(side).agg(pl.col("x").var().alias("var"), pl.col("x").count().alias("n")).filter(pl.col("n") > 1)
    )
    if len(several) < FEW or not isinstance(total, float) or total <= 0:
        return None
    within = float((several["var"] * (several["n"] - 1)).sum()) / float((several["n"] - 1).sum())
    return pl.col("x").cast(pl.Float64).fill_nan(None).mean() if within <= _WITHIN * total else None


def read_seconds(config: Config, day: Day) -> float | None:
    """Seconds of a long read of this day alone; None where a column is the label."""
    rule, facts = config.labels.long_read, day.facts
    if config.data.events.duration is None:
        return None
    return rule if isinstance(rule, float) else facts["duration_sum"] / max(1.0, facts["duration_rows"])


def _some(events: Array, rows: int) -> Array:
    """[ids] which are looked at: drawn ones, whose events are not more than some rows, or one of them."""
    drawn = np.random.default_rng(0).permutation(np.flatnonzero(events))
    kept = np.zeros(len(events), np.bool_)
    kept[drawn[np.cumsum(events[drawn]) <= max(rows, int(events[drawn[:1]].sum()))]] = True
    return kept


def _labelled(user: Array, item: Array, click: Array, read: Array, known: Array) -> pl.DataFrame:
    """Rows of an id of each side, and labels; a read is null where it is not known."""
    reads = pl.DataFrame({"z": read, "known": known}).select(pl.when("known").then("z"))["z"]
    return pl.DataFrame({"user": user, "item": item, "click": click, "read": reads})


def _by_id(rows: pl.DataFrame, side: str) -> pl.DataFrame:
    """`id`, `rows`, and for each label NAME the rows that have it and NAME_of where it is known; the first x:COLUMN."""
    told = [pl.col(c).sum().cast(pl.Int64) for c in _LABELS]
    known = [pl.col(c).count().cast(pl.Int64).alias(f"{c}_of") for c in _LABELS]
    first = pl.col(f"^{FEATURE}.*$").first()
    many = pl.len().cast(pl.Int64).alias("rows")
    return rows.group_by(pl.col(side).alias("id"), maintain_order=True).agg(many, *told, *known, first)
