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
from dmtl_cli.config.features import Feature
from dmtl_cli.config.schema import Config
from dmtl_cli.data.days import columns, joined
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.layout import Layout
from dmtl_cli.data.first_window import first_proposed
from dmtl_cli.data.log.checked.day import FEATURE, ID, TIME, Day
from dmtl_cli.data.log.checked.invalid import BESIDE, lines_beside, reasons
from dmtl_cli.data.log.files.converted import provisional
from dmtl_cli.data.log.files.day_files import DayFiles
from dmtl_cli.data.log.files.schema import Schema
from dmtl_cli.data.log.files.shares import share_groups
from dmtl_cli.data.log.raw import RawEvents
from dmtl_cli.data.log.reader import NOT_ASKED, REPEATED, Log
from dmtl_cli.data.log.served import chosen
from dmtl_cli.data.profile.stored import Profile
from dmtl_cli.guess.columns.sql import sql_column, sql_text
from dmtl_cli.guess.columns.values import ONE
from dmtl_cli.guess.exposures.doubts import Ids, crowd, no_item, nobody, null_ids, sessions, warnings
from dmtl_cli.guess.findings.joined import joined_rows
from dmtl_cli.guess.findings.programs import programs_told
from dmtl_cli.guess.findings.repeats import repeated_ids
from dmtl_cli.guess.findings.suggestions import other_rows, suggestions, unchosen_rows, unread
from dmtl_cli.nn.table import EmbeddingTable
from dmtl_cli.runs.ranks import ALONE
from dmtl_cli.runs.scratch import scratch_folder
from dmtl_cli.runs.workspace import STAGES, Workspace
from dmtl_cli.student.exportable import refuse_unexportable
from dmtl_cli.teacher.build import build_teacher
from dmtl_cli.teacher.doubts import MOST_ROWS
from dmtl_cli.teacher.rows import rows_per_epoch
from dmtl_cli.tune import memory, plan

_BLOCKS = 32  # blocks of the day whose durations are described
_NEARLY_ALL = 0.9  # of the rows are clicks
RATE = "long_read_rate_at_"
"""and what the config calls a long read"""
_LATER = 0.05  # of the users or items lack a value in their first row alone, before it is said
_CHANGED = 2 * (1 - ONE)
"""share of the rows with another value than their item's first, before it is said: twice that of a column which `init`
takes for an item's, as where a value that few rows have is the first one, all others differ from it"""
_CHANCE = 1e-6  # with which no item of another value is shown, before it is said
_TEACHER_FLOPS = 2e10  # per second and thread, forward and backward: a cautious guess, and shown as one


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
        read = joined(log.read(day, scratch), config.features, known, before(day))
        encoder = Encoder(config.features).grow([read])
        files, raw = log.open(day)
        changing, late = _values_after_the_first(log, files, raw, read)
        once = encoder.seen_once([read])
        features = [
            encoder.describe(read, f.name) | _doubts(f, read, changing, late, once) | _never_shown(config, f, read)
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
            "labels": _labels(config, read),
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
            "warnings": _warnings(config, read) + _sessions(config, read),
            "suggestions": suggestions(config, log, read, raw.schema, encoder.embedding_rows(), lives=lives),
            "unread": unread(config, raw.schema),
            "estimates": _estimates(config, read, encoder),
            **({"finished": finished} if (finished := log.finished(day)) else {}),
        }
        ws = Workspace(Path(config.workspace))
        if not any(map(ws.days, STAGES)):
            found["first_day"] = str(first_proposed(config.data, log, day))
        if planned:
            found["plan"] = plan.plan(config, ws, log, read, _seconds_a_row(config, encoder))
        return found


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


def _labels(config: Config, day: Day) -> dict[str, Any]:
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
            name, at = _long(config, known)
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


def _estimates(config: Config, day: Day, encoder: Encoder) -> dict[str, Any]:
    """Guesses: rows of the embedding table, memory and disk in MB, minutes of a teacher's training."""
    teacher = config.teacher
    size = _sizes(config, day, encoder)
    epoch = rows_per_epoch([day], teacher)
    seconds_a_row = _seconds_a_row(config, encoder) + plan.SECONDS_A_STEP / teacher.rows_a_step(epoch)
    trained = size.embeddings * (size.wide + size.preference + size.exposure + 3) * 4
    exported = size.embeddings * (size.preference + size.exposure) * 4 * 2
    disk = day.spool.bytes + size.scores * 20 * 2 + trained + exported + size.item.rows * size.vector * 4
    return {
        "table_rows": size.embeddings,
        "memory_mb": round(memory.peak(size) / 1e6),
        "disk_mb": round(disk / 1e6),
        "teacher_minutes": round(epoch * plan.epochs_of(config) * seconds_a_row / 60, 1),
    }


def _sizes(config: Config, day: Day, encoder: Encoder) -> memory.Sizes:
    """What decides the memory of a run of the day, where the chain goes on as it is."""
    teacher, student = config.teacher, config.student
    small = build_teacher(encoder, teacher, len(config.tasks.names), _small)
    blocks = 2 if student.exposure.kappa else 1
    return memory.Sizes(
        rows=len(day),
        user=_side(day.users, encoder.layout("user")),
        item=_side(day.items, encoder.layout("item")),
        days=teacher.window_days,
        embeddings=sum(encoder.embedding_rows().values()),
        wide=small.table.dim,
        outputs=len(small.net.first.bias),
        expert=teacher.expert_hidden_units[0],
        batch=teacher.rows_a_step(rows_per_epoch([day], teacher)),
        scored=config.scores.batch_size,
        scores=len(day) * (1 + config.scores.negatives),
        preference=student.embedding_dim,
        exposure=student.exposure.embedding_dim if blocks > 1 else 0,
        hidden=sum(student.hidden_units),
        vector=student.hidden_units[-1] * blocks,
        threads=config.threads,
        adam=teacher.embedding_optimizer == "adam",
    )


def _side(table: pl.DataFrame, layout: Layout) -> memory.Side:
    places = len(layout.ids) + sum(length for _, length in layout.sequences)
    columns, size = len(layout.ids) + len(layout.sequences), int(table.estimated_size())
    return memory.Side(len(table), places, columns, layout.floats, size)


def _small(rows: dict[str, int], dim: int) -> EmbeddingTable:
    """A table without the rows: what a model's other sizes are does not depend on them."""
    return EmbeddingTable(dict.fromkeys(rows, 1), dim)


def _seconds_a_row(config: Config, encoder: Encoder) -> float:
    """Of a teacher's training."""
    teacher = config.teacher
    width = sum(encoder.layout(s).width(teacher.embedding_dim) for s in ("user", "item", "context"))
    first, *later = teacher.expert_hidden_units
    multiplied = teacher.num_experts * (width * first + sum(a * b for a, b in itertools.pairwise((first, *later))))
    return multiplied * 6 / (_TEACHER_FLOPS * config.threads)


def _active(f: Feature, day: Day) -> pl.Series:
    """The feature's values of the users, or items, that have an event."""
    table, events = (day.users, day.user_events) if f.side == "user" else (day.items, day.item_events)
    return table[f.name].filter(pl.Series(events > 0))


def _values_after_the_first(
    log: Log, files: DayFiles, raw: RawEvents, day: Day
) -> tuple[dict[str, int], dict[str, int]]:
    """By the name of an inline feature: items with several values within the day, of which the first alone is read,
    where many rows have another one; and users or items whose first row has none and a later one has.

    It takes one more pass over a day that was read, and raises the same UserErrors as reading it.
    """
    tables = {"user": day.users, "item": day.items}
    ids = {log.data.events.user, log.data.events.item}
    inline = [(side, f) for side, some in raw.schema.inline.items() for f in some if f.source not in ids]
    changing, late = ({f.name: np.zeros(len(tables[side]), np.bool_) for side, f in inline} for _ in range(2))
    other, known = (dict.fromkeys(changing, 0) for _ in range(2))
    for block in raw.rows(share_groups(raw.schema.events, files.groups, ALONE)) if inline else ():
        rows = {side: day.rows_of(block[side], side) for side in {side for side, _ in inline}}
        for side, f in inline:
            first, value = tables[side][f.name].gather(rows[side]), block[FEATURE + f.source]
            if side == "item":
                differ = first.ne(value)
                changing[f.name][rows[side][differ.fill_null(False).to_numpy()]] = True
                other[f.name] += int(differ.sum())
                known[f.name] += differ.count()
            late[f.name][rows[side][(first.is_null() & value.is_not_null()).to_numpy()]] = True
    of_items = {f.name for side, f in inline if side == "item"}
    several = {n: int(changing[n].sum()) for n in sorted(of_items) if other[n] > _CHANGED * known[n]}
    return several, {name: int(ids.sum()) for name, ids in late.items()}


def _never_shown(config: Config, f: Feature, day: Day) -> dict[str, Any]:
    """Of a feature with one value for all items that were shown, how many of their table have another one, as those
    that are sold out, and the condition that serves the others alone; nothing where chance may be why none was shown,
    or the condition of what is served names the column."""
    if f.side != "item" or f.per_event or f.profile or f.source in config.export.columns:
        return {}
    values, shown = day.items[f.name], pl.Series(day.item_events > 0)
    known = values.filter(shown)
    if known.null_count() or known.n_unique() != 1 or known.dtype.is_nested():
        return {}
    value = known[0]
    mine = values.eq_missing(value)
    others = int((~mine).sum())
    never = (int((mine & ~shown).sum()) + 1) / (int(mine.sum()) + 1)
    if never**others > _CHANCE:
        return {}
    literal = sql_text(value) if isinstance(value, str) else str(value).upper()
    return {"never_shown": others, "served_by": f"{sql_column(f.source)} = {literal}"}


def _doubts(
    f: Feature, day: Day, changing: dict[str, int], late: dict[str, int], once: dict[str, float]
) -> dict[str, Any]:
    """Doubts about a feature: one value for all users or items, items with several values within the day, users or
    items without one in their first row alone, or mostly values that occur once. What a profile gives is not doubted:
    on the second day of a chain all items may have one age."""
    out: dict[str, Any] = {"profile": True} if f.profile else {}
    if not f.per_event and f.profile is None:
        values = _active(f, day)
        if len(values) > 1 and not values.null_count() and values.n_unique() == 1:
            out["one_value"] = True
    of_items = int((day.item_events > 0).sum())
    if changing.get(f.name):
        out |= {"items_that_change": changing[f.name], "items_seen": of_items}
    if late.get(f.name) and f.kind != "sequence":  # a history begins with none
        seen = int((day.user_events > 0).sum()) if f.side == "user" else of_items
        if late[f.name] > _LATER * seen:
            out |= {"known_later": late[f.name], "seen": seen} | ({"per_event": True} if f.per_event else {})
    if once.get(f.name, 0) > MOST_ROWS:
        out["seen_once_share"] = round(once[f.name], 4)
    return out
