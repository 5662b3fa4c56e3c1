"""What is known of a log, which is written and told."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from dmtl_cli.guess.columns.roles import Guess, Roles
from dmtl_cli.guess.columns.values import DAYS, time_unit
from dmtl_cli.guess.columns.zones import ANY_ZONE, AS_SAID, Zone, zone_of
from dmtl_cli.guess.exposures.doubts import Broken
from dmtl_cli.guess.features.goals import Goal, goals
from dmtl_cli.guess.features.inputs import Inputs
from dmtl_cli.guess.findings.left_out import LeftOut
from dmtl_cli.guess.findings.repeats import of_identical, unique_of
from dmtl_cli.guess.outcomes.tables import Outcomes
from dmtl_cli.guess.reading.arrival import Arrival
from dmtl_cli.guess.reading.files import CSV, JSON
from dmtl_cli.guess.reading.tables import Table


@dataclass
class Log:
    """What is known of a log."""

    events: Table
    roles: Roles
    inputs: Inputs
    days: dict[dt.date, int]
    """how large each is: bytes by folders and names, else rows by the times of the whole log"""
    day: dt.date | None
    """the newest complete one"""
    warnings: list[str]
    marked: bool
    """whether the folder of each day up to it has a `SUCCESS`"""
    sides: frozenset[str]
    """users, items and tables of what came of exposures, by name, of which each day's folder has one"""
    zone: Zone | None
    """where days of folders tell it, or a person"""
    lives: str | None
    """the zone of the users, where a person names it"""
    arrival: Arrival | None
    """what times say of the folders of days"""
    later: list[Outcomes]
    """tables of what came of exposures, whose columns the events have"""
    left: list[LeftOut]
    """rows of the events that are of nobody, or of nothing"""
    broken: Sequence[Broken] = ()
    """lines that do not parse, of the events and of each table beside them"""

    @cached_property
    def goals(self) -> list[Goal]:
        """See `goals.goals`; none where a person says what a good click is."""
        if self.roles.made_by is not None or self.roles.behaviour is not None:
            return []
        text = self.events.files.form in (CSV, JSON)
        of_users = {c for one in self.later if one.of_user for c in one.columns}
        return goals(self.events.frame.drop(of_users), self.roles, self.inputs.sides.get("items"), text=text)

    @cached_property
    def once(self) -> Guess | None:
        """The column by which one is read of rows that came twice; None where nothing tells such rows, or what follows
        an exposure names none."""
        if any(one.once for one in self.later):
            return None
        frame, roles = self.events.frame, self.roles
        return unique_of(frame, roles, self.later) or of_identical(frame, roles)


def instants_of(log: Log) -> list[str]:
    """Keys beside the events by which times are cut by the zone of the log's days."""
    sides = [f"data.{name}.{key}" for name, side in log.inputs.sides.items() for key in side.instants]
    dated = [one for one in log.later if one.dated and time_unit(one.table.frame[one.dated]) not in DAYS]
    asked = ["export.items"] * log.inputs.served.is_timed
    return [*sides, *(f"data.events.joined.{one.name}.date_column" for one in dated), *asked]


def timezone_of(log: Log) -> Zone | None:
    """That of the log's days, and why; None where days that are no instants tell them and nothing else is cut by it."""
    roles, dated = log.roles, bool(log.events.files.days)
    if log.lives and log.zone is None:  # no time has a clock
        return Zone(log.lives, AS_SAID)
    if roles.time is None or (not dated and roles.time_unit in DAYS):
        return Zone("UTC", ANY_ZONE) if dated or instants_of(log) else None
    user = roles.user.column if roles.user else None
    told = zone_of(log.events.frame[roles.time.column], roles.time_unit or "", log.events.frame, user)
    return log.zone if log.zone and (log.lives or not dated or told.name == "UTC") else told
