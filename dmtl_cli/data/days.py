"""Days of the log as models read them: raw features of their users and items, those that profiles give included."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from dmtl_cli.config.days import Moment, before, between
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.data.first_window import first_window
from dmtl_cli.data.log.checked.day import ID, Day
from dmtl_cli.data.log.files.converted import conversions
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.log.served import Chosen, chosen, days_told
from dmtl_cli.data.profile.stored import Profile, unknown
from dmtl_cli.runs.ranks import ALONE, Ranks
from dmtl_cli.runs.run import Parent, Run, distinct

_ROWS = 65_536  # of a table that are looked at together


class Days:
    """The days that a stage reads.

    A day is joined with the newest profile before it, so its features know nothing of the day itself. On the first day
    of a chain of profiles there is none, and what profiles give is null. Profiles are read where a feature of the
    config is from one, whoever reads it: which users and items belong to a day is the same for all stages.

    Args:
        features: those to read.
        timed: whether blocks have the time of their events, where the log has one.
        at: as `Log` takes it.
    """

    def __init__(
        self, run: Run, features: tuple[Feature, ...], *, timed: bool = False, at: Moment | None = None
    ) -> None:
        self.run, self.features, self.at = run, features, at
        memory = run.config.max_memory
        self.log = Log(
            run.config.data,
            columns(features),
            timed=timed,
            max_memory=memory,
            converted=conversions(run.config.workspace),
            at=at,
        )
        self._profiled = any(f.profile for f in run.config.features)
        self._found: dict[dt.date, Parent | None] = {}

    def has(self, day: dt.date) -> bool:
        """Whether the log has the day."""
        return self.log.has(day)

    def first_window(self, day: dt.date) -> list[dt.date]:
        """The days that a chain which begins with `day` learns first: see `first_window`."""
        return first_window(self.run.config, self.log, day)

    def with_profile(self, days: Sequence[dt.date]) -> list[dt.date]:
        """Those of the days that have a profile before them; all where none has, or no feature read is from a profile.

        A model that learns days with and without what profiles give takes null for little known.
        """
        return [d for d in days if any(f.profile for f in self.features) and self._before(d)] or list(days)

    def inputs(self, days: Sequence[dt.date]) -> list[dict[str, Any]]:
        """The files of these days, as `Log.inputs` names them. They are what `read` reads."""
        return [one for day in days for one in self.log.inputs(day)]

    def parents(self, days: Sequence[dt.date]) -> list[Parent]:
        """The profiles that `read` joins to these days, oldest first.

        Raises:
            UserError: 66 the profile of the day before is not there; 65 it is damaged.
        """
        found = {day: self._before(day) for day in days}
        return distinct(p for day in sorted(days) if (p := found[day]) is not None)

    def read(self, day: dt.date, scratch: Path, ranks: Ranks = ALONE) -> Day:
        """The day with what is known on its morning, as `Log.read` reads it and raises.

        Where a log has no item table, the profile's items are the day's catalogue beside those that are new that day.
        """
        parent = self._before(day)
        profile = Profile.open(parent[0]) if parent else None
        known = self._known(profile, ("item",))
        return joined(self.log.read(day, scratch, ranks, known=known), self.features, profile, before(day))

    def inputs_at_end(self, day: dt.date) -> list[dict[str, Any]]:
        """The files that `read_end` and `retired` read."""
        at_end = self.log.inputs(day, before(day, -1))
        return at_end + [file for file in self.log.inputs(day) if file not in at_end]

    def parents_at_end(self, day: dt.date) -> list[Parent]:
        """The profile that `read_end` joins.

        Raises:
            UserError: 66 it is not there; 65 it is damaged.
        """
        hint = f"run dmtl build-profile --day {day}"
        return [self.run.parent("profile", day, hint=hint)] if self._profiled else []

    def read_end(self, day: dt.date, scratch: Path) -> Day:
        """The users and items as they are when the day has ended: its profile, and the side tables of the day after
        where they are there."""
        parents = self.parents_at_end(day)
        profile = Profile.open(parents[0][0]) if parents else None
        known = self._known(profile, ("user", "item"))
        return joined(
            self.log.read(day, scratch, tables=before(day, -1), known=known), self.features, profile, as_of=day
        )

    def unseen(self, profiles: Sequence[Parent]) -> dict[str, float]:
        """By feature what it is, by the last of some profiles, of who has no event, where that is not null."""
        features = [f for f in self.features if f.profile]
        return Profile.open(profiles[-1][0]).unseen(features) if profiles and features else {}

    def seen_before(self, day: dt.date) -> list[dt.date]:
        """The days before one, as far as the log has them, whose clicks the day's export knows too."""
        first = before(day, self.run.config.export.seen_days - 1)
        return [d for d in between(first, before(day)) if self.has(d)] if first < day else []

    def told_before(self, day: dt.date) -> list[dt.date]:
        """The days before one whose events tell which items the day's export serves."""
        return days_told(self.log, day)[1:] if self.run.config.export.condition else []

    def retired(self, day: dt.date) -> pl.Series | None:
        """Items that are not there any more when the day is over: they have ended by then (`data.items.until`), or the
        item table of `day` lists them and that of the day after does not. None where nothing tells it.

        An item that neither lists is not retired: the table may be no catalogue.
        """
        table, found = self.run.config.data.items, self.log.ended(day, before(day, -1))
        ended = None if found is None else found[0]
        if table is None or not table.is_daily:  # else one table for all days retires what has ended
            return ended
        then, now = (self.log.listed("item", day, tables) for tables in (None, before(day, -1)))
        gone = None if then is None or now is None else then.filter(~then.is_in(now.implode()))
        known = [ids for ids in (ended, gone) if ids is not None]
        return pl.concat(known).unique() if known else None

    def unlisted(self, day: dt.date, items: pl.Series) -> pl.Series:
        """Those of some items that the item table, as `read_end` takes it, does not list; none without a table.

        Raises:
            UserError: 65 an id of the table does not fit or appears twice.
        """
        listed = self.log.listed("item", day, before(day, -1))
        return items.clear() if listed is None else items.filter(~items.is_in(listed.implode()))

    def chosen(self, day: dt.date) -> Chosen | None:
        """What the condition of `export.items` says of the items when a day is over; None without one. Raises as
        `chosen`."""
        condition = self.run.config.export.condition
        return None if condition is None else chosen(Days(self.run, (), at=self.at).log, day, condition)

    def there(self, day: dt.date) -> str | None:
        """A digest of what side tables tell an export at the moment that was asked for; None where it is what they told
        as the day ended, as nothing came, changed or went since. Raises as `chosen`."""
        now, then = (self._told(day, log) for log in (self.log, self.log.as_of(None)))
        return None if now == then else now

    def _told(self, day: dt.date, log: Log) -> str:
        digest, condition = hashlib.sha256(), self.run.config.export.condition
        tables = [log.attributes(side, day, before(day, -1)) for side in ("user", "item")]
        tables += [chosen(log, day, condition).ids.to_frame()] if condition is not None else []
        for table in tables:
            for part in table.sort(ID).iter_slices(_ROWS) if table is not None else ():
                digest.update(part.write_ipc_stream(None).getbuffer())
        return digest.hexdigest()

    def refuse_none_chosen(self, day: dt.date) -> None:
        """Raises UserError, as `chosen` does, before hours of training, whose export would raise it."""
        self.run.ranks.on_first(lambda: self.chosen(day) and None)

    def _before(self, day: dt.date) -> Parent | None:
        if not self._profiled:
            return None
        if day not in self._found:
            self._found[day] = self._find(day)
        return self._found[day]

    def _find(self, day: dt.date) -> Parent | None:
        """Raises UserError 66 where a profile is due and not there."""
        ws = self.run.ws
        newest = ws.newest("profile", day)
        # the first profile of a chain has none before it; later ones leave out days that are refused, empty or absent
        due = [day] if newest is None else between(before(newest, -1), before(day))
        for d in reversed(due) if self.has(day) else ():  # else reading the day says so, however far it is
            refused = newest is not None and ws.refused(d, ("profile",))
            if ws.current("profile", d) is None and not refused and self.has(d) and self.log.rows(d):
                where = ws.stage_dir("profile", d)
                raise UserError(f"no published profile in {where}", f"run dmtl build-profile --day {d}", Exit.NO_INPUT)
        return None if newest is None else self.run.parent("profile", newest)

    def _known(self, profile: Profile | None, sides: Sequence[str]) -> dict[str, pl.Series]:
        """Ids of the profile that belong to a day: all users, of whom a feature that is read from events is null where
        the day has none of theirs; items unless a feature is read from events, as none is served without its content,
        or an item table does not list them any more."""
        if profile is None:
            return {}
        data, given = self.run.config.data, columns(self.run.config.features)
        content = any(f.source not in (data.events.user, data.events.item) for f in given if f.side == "item")
        meant = {"user": True, "item": data.items is None and not content}
        return {side: profile.ids(side) for side in sides if meant[side]}


def columns(features: Sequence[Feature]) -> tuple[Feature, ...]:
    """The features that are read from columns of the log."""
    return tuple(f for f in features if f.profile is None)


def joined(day: Day, features: Sequence[Feature], profile: Profile | None, as_of: dt.date) -> Day:
    """The day with the features that a profile gives, in the order of the features.

    Args:
        day: with the features that columns give.
        profile: None: they are null.
        as_of: the last day that they know.
    """
    return replace(
        day,
        users=_joined(day.users, "user", features, profile, as_of),
        items=_joined(day.items, "item", features, profile, as_of),
    )


def _joined(
    table: pl.DataFrame, side: str, features: Sequence[Feature], profile: Profile | None, as_of: dt.date
) -> pl.DataFrame:
    mine = [f for f in features if f.side == side]
    given = [f for f in mine if f.profile]
    if not given:
        return table
    values = profile.features(side, table[ID], given, as_of) if profile else unknown(given, table[ID])
    return table.hstack(values).select(ID, *(f.name for f in mine))
