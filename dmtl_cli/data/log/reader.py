"""The raw log that a config describes, and how a day of it is read: in two passes over its files.

The first pass reads ids alone, and finds the first event of each. The second checks every row, takes each inline
feature from those first events, and writes the spool, an Arrow file in the stage's scratch directory, which everything
after reads block by block. The spool of a large day is cut into buckets of whole users: memory is the two tables and
one bucket, whatever the number of events.
"""

from __future__ import annotations

import copy
import datetime as dt
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from dmtl_cli.config.data import Data, Events
from dmtl_cli.config.days import Moment, before
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.expressions import roots_of
from dmtl_cli.config.features import Feature
from dmtl_cli.config.table import WHERE
from dmtl_cli.config.table import Joined as JoinedSection
from dmtl_cli.data.log import memory
from dmtl_cli.data.log.checked import invalid
from dmtl_cli.data.log.checked.day import FEATURE, ID, TIME, Day, Ints
from dmtl_cli.data.log.checked.labels import FURTHER
from dmtl_cli.data.log.checked.numbering import Cursor, Numbering
from dmtl_cli.data.log.checked.numbering import Rows as Ints32
from dmtl_cli.data.log.checked.tally import Tally
from dmtl_cli.data.log.entities import Entities
from dmtl_cli.data.log.files.day_files import DayFiles, DayFinder, changed_error
from dmtl_cli.data.log.files.joined import Outcomes
from dmtl_cli.data.log.files.joined_columns import Joined
from dmtl_cli.data.log.files.rows import REPEATED as BY_UNIQUE
from dmtl_cli.data.log.files.rows import Selection, ahead
from dmtl_cli.data.log.files.schema import Schema
from dmtl_cli.data.log.files.shares import Share, share_groups
from dmtl_cli.data.log.files.table import Table
from dmtl_cli.data.log.formats.clocks import Clock
from dmtl_cli.data.log.formats.source import File
from dmtl_cli.data.log.inline import Inline
from dmtl_cli.data.log.raw import RawEvents
from dmtl_cli.data.log.values import sizes
from dmtl_cli.data.log.values.computed import Beside, Computed
from dmtl_cli.data.log.values.sizes import reblocked
from dmtl_cli.data.log.values.spool import Spool, SpoolWriter, bucket_of
from dmtl_cli.data.log.values.types import types_of
from dmtl_cli.runs.ranks import ALONE, Ranks

SIDES = ("user", "item")
NOT_ASKED, REPEATED = "not_asked", "repeated_rows"
"""facts of a day: rows that `data.events.where` leaves out, and of which `unique` reads another"""


@dataclass(frozen=True)
class _Seen:
    """What the first pass found."""

    share: Share
    rows: int
    """rows of all ranks"""
    ids: dict[str, pl.DataFrame]
    """`:id` and `:at` by side, and `_time` where it is asked for"""
    left_out: Counter[str]
    """rows of all ranks that are left out, by reason"""
    numberings: dict[str, Numbering]
    """the ids of this rank's rows, by side"""


class Log:
    """The raw log that a config describes.

    Args:
        features: those to read; columns of others are not touched.
        timed: whether blocks have the time of their events, where the log has one.
        max_memory: bytes that a day may take at once; None: half of the machine's.
        converted: folder of what is not Parquet, or one file of all days, converted; a log of Parquet folders needs
            none.
        events_only: whether days have the ids of their events alone. Side tables are read only where expressions of
            the events look something up in them.
        at: the moment as of which an export knows side tables; default the midnight that ends its day. An earlier one
            has no effect.
    """

    def __init__(
        self,
        data: Data,
        features: tuple[Feature, ...],
        *,
        timed: bool = False,
        max_memory: int | None = None,
        converted: Path | None = None,
        events_only: bool = False,
        at: Moment | None = None,
    ) -> None:
        self._looked_up = data.model_copy(update=dict.fromkeys(data.not_looked_up)) if events_only else data
        self.data = data.model_copy(update={"users": None, "items": None}) if events_only else data
        self.features, self._at = features, at
        self.max_memory = max_memory or memory.half_of_the_machine()
        self.timed = timed and data.events.time is not None
        self._finder = DayFinder(self._looked_up, converted)
        self._found: dict[tuple[dt.date, dt.date | None], DayFiles] = {}
        self._selected: dict[tuple[dt.date, dt.date | None], Selection] = {}
        self._ended: dict[tuple[dt.date, dt.date | None], tuple[pl.Series, int]] = {}

    def find(self, day: dt.date, tables: dt.date | None = None) -> DayFiles:
        """The day's files as they are now. Later reads of the day use these files.

        Args:
            tables: the day whose side tables to take where they are there; else, and by default, those of `day`.

        Raises:
            UserError: 66 a folder, a file or the day is not there; 65 a file does not fit its format; 74 the storage
                fails.
        """
        self._found[day, tables] = self._finder.find(day, tables)
        self._selected.pop((day, tables), None)
        self._ended.pop((day, tables), None)
        return self._found[day, tables]

    def has(self, day: dt.date) -> bool:
        """Whether the day is there. Raises UserError as `find` does, except for a day that is not there."""
        try:
            self.find(day)
        except UserError as e:
            if e.code != Exit.NO_INPUT:
                raise
            return False
        return True

    def rows(self, day: dt.date) -> int:
        """Rows of the day, repeated clicks included, by its files' footers; of a file of several days its share of
        them. Where `data.events.where` leaves some out it is asked of all, and they are counted by it. See `open`."""
        found = self._found.get((day, None)) or self.find(day)
        rows = self._finder.rows(found)
        if not self.data.events.where:
            return rows
        found, raw = self.open(day)
        asked = raw.asked(share_groups(raw.schema.events, found.groups, ALONE))
        self._selected[day, None] = raw.selection
        return round(rows * asked)

    def inputs(self, day: dt.date, tables: dt.date | None = None) -> list[dict[str, Any]]:
        """What a stage reads of this day: path below data.root, rows, bytes and digest of each file. See `find`."""
        return self.find(day, tables).identities

    def open(self, day: dt.date, tables: dt.date | None = None) -> tuple[DayFiles, RawEvents]:
        """The files that `find` or `inputs` found (else those found now), and their rows.

        Raises:
            UserError: 65 a column is not there or of the wrong type, or the day needs too much memory; what `find`
                raises.
        """
        found = self._found.get((day, tables)) or self.find(day, tables)
        found = self._with_computed(found, day)
        own = {side: files for side, files in found.tables.items() if getattr(self.data, f"{side}s") is not None}
        schema = Schema.unify(replace(found, tables=own), self.data, self.features)
        memory.check(schema, self._columns(schema), found.groups, self.max_memory)
        return found, RawEvents(self.data, day, schema, self._selected.get((day, tables)))

    def _with_computed(self, found: DayFiles, morning: dt.date) -> DayFiles:
        """The files with the columns that the config computes of the events, where side tables may have a say."""
        events = self.data.events
        if not events.made and not events.joined:
            return found
        keys = {"user": events.user, "item": events.item}
        before_click = events.made.keys() - events.outcome_columns
        known = {root for column in before_click for root in roots_of(events.made[column])}
        beside = {
            f"{side}s": Beside(keys[side], partial(self._columns_of, side, files, morning, f"{side}s" not in known))
            for side, files in found.tables.items()
        }
        computed: Computed = Joined(events.made, beside, self.outcomes(found))
        return replace(found, events=tuple(replace(file, computed=computed) for file in found.events))

    def outcomes(self, found: DayFiles) -> list[Outcomes]:
        """A day's tables of what came of exposures, not read yet."""
        tables, day = self.data.events.joined, found.day
        made: dict[str, Outcomes] = {}
        for name, files in found.joined.items():
            after, groups = tables[name].days_after, found.joined_groups
            made[name] = self._outcomes(name, day, after, files, groups, made, found.events)
        return [*made.values()]

    def outcomes_of(self, name: str, day: dt.date, beside: Mapping[str, Outcomes], events: Sequence[File]) -> Outcomes:
        """The rows of such a table of one day. Raises UserError as `find`.

        Args:
            beside: the other tables, of which it may name rows.
            events: files of the exposures that its rows are of.
        """
        return self._outcomes(name, day, 0, *self._finder.joined(name, day, 0)[:2], beside, events)

    def _outcomes(
        self,
        name: str,
        day: dt.date,
        after: int,
        files: Sequence[File],
        groups: dict[File, range],
        beside: Mapping[str, Outcomes],
        events: Sequence[File],
    ) -> Outcomes:
        section, check = self.data.events.joined[name], partial(memory.check_table, limit=self.max_memory)
        is_json = self.data.format_of(section) == "json"  # it writes no column of what is not there
        declared = types_of(self.data, section) if is_json else {}
        days = day, before(day, -after)
        through = beside[section.way[0]] if section.way else None
        clocks = (self._clock(self.data.events, events), self._clock(section, files)) if section.within else None
        return Outcomes(
            name,
            section,
            files,
            groups,
            days,
            self.data.calendar,
            check,
            declared,
            through,
            clocks,
            self.data.events.item,
        )

    def _clock(self, section: Events | JoinedSection, files: Sequence[File]) -> Clock:
        assert section.time is not None
        zone = self.data.clocks_of_events[0] if section is self.data.events else self.data.timezone
        return Clock(section.time, zone, Table(files).is_zoneless(self.data, section, section.time))

    def _columns_of(
        self, side: str, files: Sequence[File], morning: dt.date, whole_day: bool, columns: Sequence[str]
    ) -> tuple[pl.Series, pl.DataFrame]:
        """Ids and columns of a side table; of `whole_day` see `Entities.read`: a label may know what came within the
        day, a feature may not."""
        table = Table(files)
        memory.check_table(table, columns, limit=self.max_memory)
        found = Entities(self._looked_up, side, table, (), morning).read({c: c for c in columns}, whole_day=whole_day)
        return found[ID], found.select(columns)

    def finished(self, day: dt.date) -> list[str]:
        """Tables whose writer marks a finished day, which the config does not look for: see `DayFinder.finished`."""
        return self._finder.finished(day)

    def _columns(self, schema: Schema) -> dict[str, set[str]]:
        """The columns that are read, of events, user and item."""
        keys = {"user": self.data.users, "item": self.data.items}
        sides = {
            side: {f.source for f in self.features if f.side == side} | table.read_columns
            for side, table in keys.items()
            if table is not None
        }
        return {"events": self.data.events.read_columns | set(schema.feature_columns), **sides}

    def listed(self, side: str, day: dt.date, tables: dt.date | None = None) -> pl.Series | None:
        """The distinct ids that a side table lists; None where there is no such table.

        Args:
            tables: as `find` takes it.

        Raises:
            UserError: 66 the table is not there; 65 an id does not fit or appears twice.
        """
        listed = self.attributes(side, day, tables, ())
        return None if listed is None else listed[ID]

    def as_of(self, at: Moment | None) -> Log:
        """The same files, as of another moment."""
        other = copy.copy(self)
        other._at, other._ended = at, {}
        return other

    def at(self, tables: dt.date) -> Moment:
        """As of when an export knows side tables: the midnight that begins their day, or a later moment that was asked
        for."""
        midnight = Moment.begin(tables, self.data.timezone)
        return self._at if self._at is not None and self._at.instant > midnight.instant else midnight

    def ended(self, day: dt.date, tables: dt.date | None = None) -> tuple[pl.Series, int] | None:
        """(the items of their table that have ended, by `data.items.until`, as a day begins; how many items it has);
        None where none ever ends. Takes and raises as `listed`."""
        if self.data.items is None or self.data.items.until is None:
            return None
        if (day, tables) not in self._ended:
            entities = self.beside("item", day, tables, ())
            assert entities is not None
            self._ended[day, tables] = entities.ended()
        return self._ended[day, tables]

    def told_of_ended(self, day: dt.date) -> str | None:
        """A line about the items that are not served when a day is over, as they have ended; None where none has.

        Raises:
            UserError: as `listed`.
        """
        found = self.ended(day, before(day, -1))
        if found is None or not len(found[0]):
            return None
        until = self.data.items.until  # type: ignore[union-attr]
        return f"{len(found[0]):,} of {found[1]:,} items have ended by {until}: they are not served"

    def told_of_coming(self, read: Day) -> str | None:
        """A line about the items of their table that are not there yet when a day is over, by `data.items.version`, and
        that no event of the day has; None where all are. Raises as `listed`."""
        day, seen = read.day, read.items[ID].filter(pl.Series(read.item_events > 0))
        entities = self.beside("item", day, before(day, -1), ())
        if entities is None or not entities.is_timed:
            return None
        ids, listed = entities.coming()
        coming, at = len(ids.filter(~ids.is_in(seen.implode()))), self.at(before(day, -1)).clock
        what = f"{coming:,} of {listed:,} items come after {at:%Y-%m-%d %H:%M}, by {entities.version}"
        return f"{what}: dmtl refresh --as-of now serves them from then on" if coming else None

    def attributes(
        self, side: str, day: dt.date, tables: dt.date | None = None, features: tuple[Feature, ...] | None = None
    ) -> pl.DataFrame | None:
        """`:id` and features (default: all that are read) of a side table, as `listed` takes and raises."""
        entities = self.beside(side, day, tables, self.features if features is None else features)
        return None if entities is None else entities.listed()

    def beside(self, side: str, day: dt.date, tables: dt.date | None, read: tuple[Feature, ...]) -> Entities | None:
        """A side table that is not read yet, as `listed` takes and raises; None where there is none."""
        known = self._found.get((day, tables))
        files = known.tables.get(side, ()) if known else self._finder.beside(f"{side}s", day, tables)
        if not files:
            return None
        table = Table(files)
        entities = Entities(self.data, side, table, read, tables or day, at=None if tables is None else self.at(tables))
        memory.check_table(table, entities.columns, limit=self.max_memory)
        return entities

    def read(
        self,
        day: dt.date,
        scratch: Path,
        ranks: Ranks = ALONE,
        *,
        tables: dt.date | None = None,
        known: Mapping[str, pl.Series] | None = None,
    ) -> Day:
        """Checks a day and spools its events, from the files that `open` returns.

        Args:
            scratch: directory for the spool, of this rank and seen by all.
            ranks: the processes that read a share of the row groups each; all return the day that one rank would.
            tables: as `find` takes it.
            known: by side distinct ids that belong to the day whether or not its events or tables have them.

        Raises:
            UserError: 66 a day or table is not there or has no row, or a file changed since it was found; 65 a
                column is missing or of the wrong type, an id is null or a float, a label is out of range; with file,
                column and row; or more rows than half would be left out.
        """
        found, raw = self.open(day, tables)
        found.check_same(ranks)
        schema, morning, at = raw.schema, tables or day, None if tables is None else self.at(tables)
        zoneless = schema.events.is_zoneless(self.data, self.data.events, self.data.events.time)
        sides = {
            side: Entities(self.data, side, schema.sides.get(side), self.features, morning, zoneless, at)
            for side in SIDES
        }
        timed = [side for side in SIDES if sides[side].is_timed and tables is None and self.data.events.time]
        seen = self._first_pass(raw, found, scratch, ranks, timed)
        self._selected[day, tables] = raw.selection
        joined, facts = {}, invalid.facts_of(seen.left_out, found.lost_beside)
        facts |= {NOT_ASKED: float(seen.left_out[WHERE])} if self.data.events.where else {}
        facts |= {REPEATED: float(seen.left_out[BY_UNIQUE])} if self.data.events.unique else {}
        for side, entities in sides.items():
            joined[side], facts[f"{side}s_joined"] = entities.join(seen.ids[side], (known or {}).get(side))
        spool, tally, repeated, firsts = self._spool(raw, seen, joined, scratch)
        with ThreadPoolExecutor(1, "identify") as thread:
            changed = thread.submit(found.changed, ranks)
            users, items = (firsts[side].table(entities, joined.pop(side)) for side, entities in sides.items())
            facts = tally.facts(len(repeated), durations=self.data.events.duration is not None) | facts
        found.check_unchanged(ranks, changed.result())
        return Day(
            day, users, items, spool, tally.pairs.merged(), repeated,
            tally.user_events, tally.item_events, tally.item_clicks, facts,
        )  # fmt: skip

    def _first_pass(
        self, raw: RawEvents, found: DayFiles, scratch: Path, ranks: Ranks, timed: Sequence[str] = ()
    ) -> _Seen:
        """What the ids of the events are; of `timed` sides when they come first. Raises UserError 66 where the day has
        no row."""
        numberings = {side: Numbering(scratch, f"{side}s-{found.day}") for side in SIDES}
        groups = share_groups(raw.schema.events, found.groups, ranks)
        raw.decide(groups, ranks)
        mine = 0
        for block in ahead(raw.ids(groups)):
            for side, numbering in numberings.items():
                numbering.add(block[side], block[TIME] if TIME in block.columns else None)
            mine += len(block)
        left_out = sum(ranks.gather_objects(raw.selection.left_out), Counter[str]())
        left_out.update(found.lost)
        starts = list(itertools.accumulate(ranks.gather_objects(mine), initial=0))
        invalid.require_most(found.day, starts[-1], left_out)
        if starts[-1] == 0:
            not_asked = left_out[WHERE]
            of = f" of which data.events.where is true ({not_asked:,} others)" if not_asked else ""
            where = f"events: day {found.day} has no rows{of} in {found.events[0].parent}"
            hint = "is data.events.where right for this day? else retry later" if not_asked else "retry later"
            hint += "; a day that truly has none is left out: run the next with --allow-gap"
            raise UserError(where, hint, Exit.NO_INPUT)
        ids = {side: one.done().gather(ranks, starts, side in timed) for side, one in numberings.items()}
        for side in timed:
            kind = pl.Series(pa.array([], raw.schema.events.type(self.data.events.time or ""))).dtype
            if kind.is_temporal():
                ids[side] = ids[side].with_columns(pl.col(TIME).cast(kind))
        share = Share(ranks, groups, starts[ranks.rank], scratch / f"head-{found.day}.arrow")
        return _Seen(share, starts[-1], ids, left_out, numberings)

    def _spool(
        self, raw: RawEvents, seen: _Seen, joined: dict[str, pl.DataFrame], scratch: Path
    ) -> tuple[Spool, Tally, Ints, dict[str, Inline]]:
        """The second pass; `joined` as `Entities.join` gives them.

        Returns:
            The spool, the tally of all ranks, the positions of repeated clicks, and by side the inline features of the
            ids in the log.
        """
        ranks = seen.share.ranks
        buckets = -(-seen.rows // (sizes.POOL * sizes.BLOCK))
        tally = Tally(len(joined["user"]), len(joined["item"]))
        inline = raw.schema.inline.items()
        files = {side: scratch / f"{side}s-{raw.day}.first" for side in SIDES}
        taken = {side: Inline(files[side], joined[side], features, seen.share) for side, features in inline}
        writer = SpoolWriter(scratch / f"events-{raw.day}.arrow", buckets, sizes.BLOCK)
        rows = {side: seen.numberings[side].rows(joined[side][ID]) for side in SIDES}
        for run in _numbered(self._events(raw, seen.share, list(taken.values())), rows, seen.share, raw.day):
            for block in run.iter_slices(sizes.BLOCK):
                tally.add(block)
            writer.add(run, bucket_of(run["user"].to_numpy(), buckets))
        spool = Spool.concat(ranks.gather_objects(writer.done()))
        if sum(ranks.gather_objects(tally.rows)) != seen.rows:
            raise changed_error(f"events: day {raw.day}")
        repeated = np.zeros(0, np.int64)
        if self.data.events.request:
            repeated = np.sort(np.concatenate(ranks.gather_objects(tally.drop_repeated(spool, ranks))))
        whole = Tally.sum(ranks.gather_objects(tally))
        return spool, whole, repeated, {side: one.gather() for side, one in taken.items()}

    def _events(self, raw: RawEvents, share: Share, taken: list[Inline]) -> Iterator[pl.DataFrame]:
        """Checked blocks of a share, as `_numbered` wants them; `taken` sees each in the order of the log."""
        e = self.data.events
        own = {"conversion": e.conversion, "weight": e.weight, "request": e.request, TIME: self.timed}
        columns = ["click", "duration", *(c for c, there in own.items() if there)]
        columns += [FURTHER + name for name in e.conversions]
        features = [f for f in self.features if f.per_event]
        for block in ahead(raw.rows(share.groups, self.timed, ids=False)):
            for side in taken:
                side.add(block)
            yield pl.DataFrame(
                [block[c] for c in columns] + [block[FEATURE + f.source].alias(FEATURE + f.name) for f in features]
            )


def _numbered(
    events: Iterator[pl.DataFrame], rows: dict[str, Iterator[Ints32]], share: Share, day: dt.date
) -> Iterator[pl.DataFrame]:
    """The day's events as the spool has them, POOL * BLOCK at a time: positions, row numbers of users and items, event
    features by name; of the runs that begin in this rank's share.

    Args:
        rows: by side the row numbers of the stream.

    Raises:
        UserError: 66 there are more events than row numbers.
    """
    pool = sizes.POOL * sizes.BLOCK
    cursors = {side: Cursor(parts) for side, parts in rows.items()}

    def runs() -> Iterator[pl.DataFrame]:
        at = share.start
        for run in reblocked(events, pool, -share.start % pool):
            numbers = {side: cursor.take(len(run)) for side, cursor in cursors.items()}
            if any(len(some) < len(run) for some in numbers.values()):
                raise changed_error(f"events: day {day}")
            yield run.select(
                pl.Series("position", np.arange(at, at + len(run))),
                *(pl.Series(side, some) for side, some in numbers.items()),
                "click",
                pl.col("duration").fill_null(float("nan")),
                pl.exclude("click", "duration"),
            )
            at += len(run)

    return share.runs(runs(), pool)
