"""check: what dmtl makes of a day's log, without training."""

from __future__ import annotations

import datetime as dt
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config.days import before
from dmtl_cli.config.errors import UserError
from dmtl_cli.config.schema import Config
from dmtl_cli.data.days import columns, joined
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.first_window import first_proposed
from dmtl_cli.data.log.checked.day import ID, TIME, Day
from dmtl_cli.data.log.checked.invalid import BESIDE, lines_beside, reasons
from dmtl_cli.data.log.files.converted import provisional
from dmtl_cli.data.log.files.schema import Schema
from dmtl_cli.data.log.reader import NOT_ASKED, REPEATED, Log
from dmtl_cli.data.log.served import chosen
from dmtl_cli.data.profile.stored import Profile
from dmtl_cli.data.threshold import carried_threshold
from dmtl_cli.guess.exposures.doubts import Ids, crowd, no_item, nobody, null_ids, sessions, warnings
from dmtl_cli.guess.findings.features import doubts_of, never_shown, values_after_the_first
from dmtl_cli.guess.findings.joined import joined_rows
from dmtl_cli.guess.findings.programs import programs_told
from dmtl_cli.guess.findings.repeats import repeated_ids
from dmtl_cli.guess.findings.suggestions import other_rows, suggestions, unchosen_rows, unread
from dmtl_cli.runs.manifest import MANIFEST, Manifest
from dmtl_cli.runs.scratch import scratch_folder
from dmtl_cli.runs.workspace import STAGES, Workspace
from dmtl_cli.student.exportable import refuse_unexportable
from dmtl_cli.teacher.doubts import MOST_ROWS
from dmtl_cli.tune import plan
from dmtl_cli.tune.estimates import estimates, seconds_a_row

_BLOCKS = 32  # blocks of the day whose durations are described
_NEARLY_ALL = 0.9  # of the rows are clicks
RATE = "long_read_rate_at_"
"""and what the config calls a long read, or the seconds that it is in the workspace's chain"""
CARRIED = "carried_threshold_seconds"


def check(config: Config, day: dt.date, *, planned: bool = False, lives: bool = False) -> dict[str, Any]:
    """Reads and encodes the day as training would.

    Args:
        planned: whether to tell what a run of the day would do.
        lives: whether a person has just said where the users live.

    Raises:
        UserError: what training would raise.
    """
    refuse_unexportable(config)
    with scratch_folder("dmtl-check-") as scratch, provisional(config.workspace) as place:
        log = Log(config.data, columns(config.features), timed=True, max_memory=config.max_memory, converted=place)
        known = _profile(config, day)
        of_chain, refused = _threshold(config, known)
        read = joined(log.read(day, scratch), config.features, known, before(day))
        encoder = Encoder(config.features).grow([read])
        files, raw = log.open(day)
        changing, late = values_after_the_first(log, files, raw, read)
        once = encoder.seen_once([read])
        features = [
            encoder.describe(read, f.name)
            | doubts_of(f, read, changing, late)
            | _seen_once(once.get(f.name, 0.0))
            | never_shown(config, f, read)
            for f in config.features
        ]
        found = {
            "day": str(day),
            "rows": len(read),
            "users": len(read.users),
            "items": len(read.items),
            "with_events": {"users": int((read.user_events > 0).sum()), "items": int((read.item_events > 0).sum())},
            **({"left_out": gone} if (gone := reasons(read.facts)) else {}),
            **({BESIDE: lines} if (lines := lines_beside(read.facts)) else {}),
            **{fact: int(read.facts[fact]) for fact in (NOT_ASKED, REPEATED) if fact in read.facts},
            **(_duplicates(config, read, raw.schema) | joined_rows(log, files, raw.schema.events)),
            "labels": _labels(config, read, of_chain),
            "join": {
                f"{k}_joined": round(read.facts[f"{k}_joined"], 4)
                for k in ("users", "items")
                if getattr(config.data, k) is not None
            },
            **({"ended": ended} if (ended := log.told_of_ended(day)) else {}),
            **({"coming": told} if _is_newest(log, day) and (told := log.told_of_coming(read)) else {}),
            **({"served": chosen(log, day, asked).told} if (asked := config.export.condition) else {}),
            "features": features,
            **({"profile": str(known.day) if known else None} if any(f.profile for f in config.features) else {}),
            "warnings": refused + _warnings(config, read) + _sessions(config, read),
            "suggestions": suggestions(config, log, read, raw.schema, encoder.embedding_rows(), lives=lives),
            "unread": unread(config, raw.schema),
            "estimates": estimates(config, read, encoder),
            **({"finished": finished} if (finished := log.finished(day)) else {}),
        }
        ws = Workspace(Path(config.workspace))
        if not any(map(ws.days, STAGES)):
            found["first_day"] = str(first_proposed(config.data, log, day))
        if planned:
            found["plan"] = plan.plan(config, ws, log, read, seconds_a_row(config, encoder))
        return found


def _seen_once(share: float) -> dict[str, float]:
    """The share of a feature's values that occur once, where these are most."""
    return {"seen_once_share": round(share, 4)} if share > MOST_ROWS else {}


def _is_newest(log: Log, day: dt.date) -> bool:
    """Whether the log has no day after it; what is wrong with that one is no matter of this day."""
    try:
        return not log.has(before(day, -1))
    except UserError:
        return False


def _warnings(config: Config, day: Day) -> list[str]:
    users, items = int((day.user_events > 0).sum()), int((day.item_events > 0).sum())
    events, repeated = config.data.events, int(day.facts["repeated_clicks"])
    out = warnings(events.user, events.item, users, items, len(day), events.click)
    if events.click and (share := day.facts["clicks"] / max(1, len(day))) > _NEARLY_ALL:
        what = f"{events.click}: {share:.0%} of rows are clicks"
        out.append(f"{what}: where what was shown and not clicked is in the log too, other rows have it")
    text = config.data.format_of(events) in ("csv", "json")
    dropped = events.invalid_rows == "drop"
    whole = ((events.user, day.users, day.user_events), (events.item, day.items, day.item_events))
    found = [Ids(column, table[ID].filter(pl.Series(n > 0)), pl.Series(n[n > 0])) for column, table, n in whole]
    out += [line for ids in found for line in null_ids(ids, text=text, dropped=dropped)]
    (user, item), where = found, events.where
    out += nobody(user, where=where) + crowd(user, where=where) + no_item(item, user, where=where)
    out += [*programs_told(config, [day]), *unchosen_rows(config, day)]
    if (share := repeated / max(1.0, repeated + day.facts["clicks"])) > 0.5:
        what = f"{share:.0%} of clicks repeat an earlier one of the same user, item and request"
        out.append(f"{what}: is {events.item} the item? Else look at data.events.request")
    return out


def _sessions(config: Config, day: Day) -> list[str]:
    """See `doubts.sessions`: the day's users beside those of some rows of another."""
    user = config.data.events.user
    others = other_rows(config, day.day, user)
    return [] if others is None else sessions(user, day.users[ID].filter(pl.Series(day.user_events > 0)), others)


def _profile(config: Config, day: dt.date) -> Profile | None:
    """The workspace's newest profile before the day; None where there is none."""
    ws = Workspace(Path(config.workspace))
    newest = ws.newest("profile", day)
    found = ws.current("profile", newest) if newest else None
    return Profile.open(found) if found else None


def _threshold(config: Config, known: Profile | None) -> tuple[float | None, list[str]]:
    """The seconds of a long read that the workspace's chain has measured, and why it goes on with no such label; None
    where there is no chain, or a conversion is its label."""
    if known is None:
        return None, []
    try:
        return carried_threshold((known.folder, Manifest.read(known.folder / MANIFEST)), config), []
    except UserError as error:
        return None, [f"no run can go on from the workspace: {error.message}: {error.hint}"]


def _labels(config: Config, day: Day, of_chain: float | None) -> dict[str, Any]:
    facts = day.facts
    out: dict[str, Any] = {
        "clicks": int(facts["clicks"]),
        "click_rate": round(facts["clicks"] / max(1, len(day)), 4),
        "exposures": config.data.events.click is not None,
        "repeated_clicks": int(facts["repeated_clicks"]),
        **({"request": config.data.events.request} if facts["repeated_clicks"] else {}),
    }
    if config.data.events.duration:
        seconds = np.concatenate([b.duration[b.click] for b in itertools.islice(day.blocks(), _BLOCKS)])
        known = seconds[~np.isnan(seconds)]
        out["clicks_without_duration"] = int(facts["clicks_without_duration"])
        if len(known):
            out["duration_seconds"] = {f"p{q}": round(float(np.percentile(known, q)), 1) for q in (10, 50, 90)}
            out["duration_seconds"]["mean"] = round(float(known.mean()), 2)
            if of_chain is not None:
                out[CARRIED] = of_chain
            name, at = _long(config, known) if of_chain is None else (f"{of_chain:g}", of_chain)
            out[f"{RATE}{name}"] = round(float((known > at).mean()), 4)
    else:
        out |= _conversions(day)
    return out


def _conversions(day: Day) -> dict[str, Any]:
    """The conversions of a click, of those that know theirs, and how many do not."""
    clicks = known = converted = 0
    for block in day.blocks():
        z, is_known = block.labels(None)
        clicks += int(block.click.sum())
        known += int((block.click & is_known).sum())
        converted += int(z.sum())
    rate = {"conversions": converted, "conversion_rate": round(converted / max(1, known), 4)}
    return rate | ({"clicks_without_conversion": clicks - known} if known < clicks else {})


def _long(config: Config, seconds: npt.NDArray[Any]) -> tuple[str, float]:
    """What the config calls a long read, and the seconds that it is of these clicks."""
    rule = config.labels.long_read
    if isinstance(rule, float | int):
        return f"{rule:g}", float(rule)
    if rule == "mean":
        return rule, float(seconds.mean())
    return f"p{100 * rule.quantile:g}", float(np.quantile(seconds, rule.quantile))


def _duplicates(config: Config, day: Day, schema: Schema) -> dict[str, Any]:
    """How many rows repeat another of the same user, item, request and time, how many of these exposures are first in
    the log without a click and then with one, and which column has their ids; nothing where the log has neither request
    nor time."""
    events = config.data.events
    if not (events.request or events.time):
        return {}
    names = ["user", "item", *(["request"] if events.request else []), *([TIME] if events.time else [])]
    read = [*names, "position", "click"]
    buckets = (day.spool.bucket(k, read) for k in range(len(day.spool)))  # all rows of a user are in one
    repeats = exposures = later = 0
    for bucket in (b.filter(b.select(names).is_duplicated()) for b in buckets if b is not None):
        first = pl.col("click").sort_by("position").first() == 1
        twice = bucket.group_by(names).agg(pl.len().alias("n"), first.alias("first"), (pl.col("click") == 1).any())
        repeats, exposures = repeats + int((twice["n"] - 1).sum()), exposures + len(twice)
        later += int((twice["click"] & ~twice["first"]).sum())
    more: dict[str, Any] = {"repeated_exposures": exposures, "clicked_later": later} if later else {}
    found = repeated_ids(config, schema.events, unread(config, schema)) if repeats else None
    return {"duplicate_rows": repeats, **more, **({"repeated_ids": found} if found else {})}
