"""What a person does next: the commands from here to a served top K, and what is left for them to say."""

from __future__ import annotations

import datetime as dt
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from dmtl_cli.config.commands import command, typed
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.expressions import sources_of
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.roles import Guess
from dmtl_cli.guess.columns.values import has_days, mean, share
from dmtl_cli.guess.exposures.ids import candidates
from dmtl_cli.guess.features.units import with_units
from dmtl_cli.guess.known import Log
from dmtl_cli.guess.outcomes.keys import likeliest
from dmtl_cli.guess.outcomes.state_lines import state_lines
from dmtl_cli.guess.outcomes.tables import ROW
from dmtl_cli.guess.reading.arrival import BY_TIME
from dmtl_cli.guess.reading.rewrites import LOOKS, list_of_shown
from dmtl_cli.guess.rules import Rules

_OWN, _LOOKED = 0.4, 1_000  # texts of items are names from this share of distinct ones on; how many are counted
_TITLES = 2  # distinct ones, at least
_LINKS = 0.5  # of the texts of a column of addresses
_SEVERAL, _LONGEST = 2, 15  # words of a name that nothing calls one, and of any
_NAME = words.any_of(
    "name names nom nombre nome naam navn namn nazwa název nazev názov név nimi nume ad adı isim название имя nama ime"
    " όνομα 名称 名字 名前 이름"
)
_DAY = "YYYY-MM-DD"  # stands for one that is not known


def steps(
    config: Path,
    first: dt.date | None,
    last: dt.date | None,
    user: str,
    known: str | None,
    title: str | None = None,
    *,
    has_history: bool = False,
    leaves_out_seen: bool = False,
) -> list[str]:
    """The commands from here to a served top K of a user, and of a guest by what is known of them: a student is there
    from the second day on. `init` itself has checked the newest day.

    Args:
        title: the column by which a person knows an item.
        has_history: whether the log has days before the first.
        leaves_out_seen: whether what somebody has clicked is not to come again.
    """
    if first is None or first == last:
        alone = "  # a student needs a second day (or student.distill.min_age_days: 0)"
        return [command("run", "--config", config, "--day", last or _DAY) + alone]
    days = command("backfill", "--config", config, "--from", first, "--to", last or _DAY)
    first_ten, more = ("recommend", "--config", config, "-k", "10"), ["--columns", title] if title is not None else []
    more += ["--exclude-seen"] if leaves_out_seen else []
    lists = [command(*first_ten, "--user", user, *more)]
    if known is not None:
        guest = command(*first_ten, "--feature", known, *more)
        lists.append(f"{guest}  # a guest, by what is known")
    long = "  # takes minutes: the first day tries settings"
    long += "; the days before it are read as history" if has_history else ""
    sent = {"user": user} | ({"exclude_seen": True} if leaves_out_seen else {})
    asked = f"curl localhost:8000/recommend --json {shlex.quote(json.dumps(sent, ensure_ascii=False))}"
    return [days + long, *lists, f"{command('serve', f'work/{config.stem}')}  # {asked}"]


def title_of(log: Log) -> str | None:
    """The column by which a person knows an item: texts of a few words, that named like a title first, then that like a
    name, else one of which nearly each item has its own, of the fewest words; None where the table of items, or without
    one the features of items in the events, have none."""
    items, item = log.inputs.sides.get("items"), log.roles.item
    if items is None and item is not None:
        mine = {
            i.column for i in log.inputs.used if i.side == "item" and i.column.isascii() and i.column.isidentifier()
        }
        key, rows = item.column, log.events.frame
        frame = rows.select(key, *sorted(mine & {*rows.columns} - {key})).unique(key, keep="first", maintain_order=True)
    elif items is not None and not items.table.explode:
        frame, key = items.table.frame, items.key.column
    else:
        return None
    found: list[tuple[bool, bool, float, int, str]] = []
    for c in frame.columns:
        known = frame[c].drop_nulls()
        if c == key or known.dtype != pl.String or "," in c or not len(known):
            continue
        texts, titled = known.unique(), words.says(c, words.TITLE)
        named = titled or words.says(c, _NAME)
        if share(texts.str.starts_with("http")) > _LINKS or (not named and (has_days(known) or with_units(known))):
            continue
        several = mean(texts.head(_LOOKED).str.count_matches(r"\s+") + 1)
        own = 0 if named else _OWN  # several items have one title, as stories do
        if len(texts) >= max(own * len(known), _TITLES) and several <= _LONGEST and (named or several >= _SEVERAL):
            found.append((not titled, not named, 0.0 if named else several, len(c), c))
    return min(found)[-1] if found else None


def check_of(config: Path, day: dt.date | str | None) -> str:
    return command("check", "--config", config, "--day", day or _DAY)


def named_again(log: Log, root: str, out: Path, given: Mapping[str, str], rules: Rules) -> str | None:
    """The command that names a user and an item where none was guessed, with those that are likeliest, or, where these
    are known, the one rule of a good click that is offered, else a place for it; None where nothing can be named."""
    roles, frame = log.roles, log.events.frame
    shown = list_of_shown(frame, candidates(frame, roles)) if roles.item is None else None
    if shown is not None:
        tried = likeliest(frame, replace(roles, item=Guess(shown, ""))) | {"item": shown}
    else:
        tried = likeliest(frame, roles) if roles.user is None or roles.item is None else {}
    if not tried and (roles.user is None or roles.item is None):
        return None
    named = {role: {**given, **tried}.get(role) for role in ("user", "item", "time", "click", "duration", "conversion")}
    named |= {
        "timezone": log.lives,
        "where": rules.where,
        "export-items": rules.items,
        "within": ",".join(one.text for one in (rules.click_within, rules.within) if one) or None,
        "outcomes": ",".join(rules.outcomes) or None,
        "seen-days": str(rules.seen_days) if rules.seen_days else None,
    }
    options = [word for role, column in named.items() if column for word in (f"--{role}", column)]
    options += [BY_TIME] if rules.by_time else []
    again = command("init", root, "-o", out, *options)
    if tried:
        return again
    states = state_lines(log.events.frame, roles, log.later)
    rule = typed(log.goals[0].expression) if len(log.goals) == 1 and not states else "'RULE'"
    return f"{again} --conversion {rule}"


def is_label(edits: Sequence[tuple[int, str, str]]) -> bool:
    """Whether nothing but what a good click is has to be said."""
    return bool(edits) and {key for _, key, _ in edits} <= {"duration"}


def goals_of(log: Log) -> list[str]:
    """What may tell a good click, a line each: of a table of which any row tells one no part of its rows."""
    label = log.roles.conversion.column if log.roles.conversion is not None else ""
    parts = {c for one in log.later if one.columns.get(label) == ROW for c in one.columns}
    told = state_lines(log.events.frame, log.roles, log.later, by_name=True, without=parts)
    goals = [one for one in log.goals if not {*sources_of(one.expression)} <= parts]
    rules = [f"--conversion {typed(one.expression)}  # {one.why}" for one in goals]
    return [*rules, *(line.removeprefix("# ") for line in told)]


def edits_of(config: Path, edits: list[tuple[int, str, str]], day: dt.date | None, again: str | None) -> str | None:
    """What is to be done with lines that a person has to write, before any command; None where there are none."""
    if not edits:
        return None
    lines = " and ".join(f"line {line} ({key})" for line, key, _ in edits)
    if any(LOOKS in what for _, _, what in edits):
        return f"write the log as {lines} of {config} says, then init again"
    if again and ({key for _, key, _ in edits} <= {"user", "item"} or is_label(edits)):
        return again
    return f"edit {lines} of {config}, then {check_of(config, day)}"


def refuse_check(found: dict[str, Any]) -> None:
    """Changes what is to be done where `check` refused the day."""
    found |= {"first": f"correct what check refuses, then {check_of(Path(found['config']), found['day'])}", "next": []}


def refuse_incomplete(found: dict[str, Any]) -> None:
    """Raises UserError 78 where the config has lines that a person must write first."""
    if not found["edits"]:
        return
    if one := next((e["what"] for e in found["edits"] if LOOKS in e["what"]), None):
        raise UserError(f"{found['config']}: {one}", "then init again", Exit.CONFIG)
    lines = ", ".join(str(edit["line"]) for edit in found["edits"])
    named = {"date_column": "the day", "conversion": "the label", "duration": "the label"}
    keys = list(dict.fromkeys(named.get(e["key"], f"the {e['key']}") for e in found["edits"]))
    what = f"{found['config']}: {', '.join(keys)} could not be guessed"
    if keys == ["the label"]:
        how = "run the first command above, or give another rule to it"
        if str(found["first"]).endswith("'RULE'"):
            how = "give a RULE to the first command above"
        raise UserError(f"{what}: say what a good click is", how, Exit.CONFIG)
    if found["first"].startswith("dmtl init"):
        todo = "name the columns of their ids" if len(keys) > 1 else found["edits"][0]["what"].partition(",")[0]
        raise UserError(f"{what}: {todo}", "as the first command above does", Exit.CONFIG)
    many = "s" if len(found["edits"]) > 1 else ""
    raise UserError(f"{what}: {found['edits'][0]['what']}", f"edit line{many} {lines}, then dmtl check", Exit.CONFIG)
