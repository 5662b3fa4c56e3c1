"""What `init` prints of its guesses."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

import yaml

from dmtl_cli.config.errors import short
from dmtl_cli.guess.columns.roles import Guess
from dmtl_cli.guess.columns.sql import comment, quoted, scalar
from dmtl_cli.guess.columns.words import count
from dmtl_cli.guess.feature_lines import unwritten
from dmtl_cli.guess.features.inputs import Input
from dmtl_cli.guess.known import Log, timezone_of
from dmtl_cli.guess.sides.side_tables import Side

_NUMBER = re.compile(r"(?<![\w'.])\d[\d,.]*%?(?![\w'])")
_HOLDS = re.compile(r"^export\.items: .*: holds for ([\d,]+) of ([\d,]+) items")
_ABOUT = 5  # percent of items, by which the day's may be fewer or more
_WIDE = 100  # characters of a reason
_NAMED = 12  # features of users, or of items, that are named
_GOALS = 5  # rules that are printed; the config has all
_LISTS = ("outcomes", "user features", "item features", "context features", "known late", "no features yet")
"""roles of many columns: all of them are to be looked at"""
_OF_IDS = ("user features", "item features")
"""which the print has in one row: they are of tables, or do not change with events"""
_TABLES, _OTHERS = "tables not used", "other good clicks"
"""what is printed beside the roles"""
_WHOLE = (*_LISTS, "features", "timezone", "item", "click", "conversion", "joined", "unique", "left out", "served")
"""roles whose reasons are told whole"""
_KEYS = ("user", "item", "time", "click", "duration", "conversion", "request", "unique")
"""roles that the config has as keys of these names"""


def told_roles(log: Log, now: str, before: str) -> list[dict[str, Any]]:
    """What was guessed, a line each, and whether it was before; of a list of columns what is new or gone.

    Args:
        now: the config that is written.
        before: that of the same log which it replaces.
    """
    out: list[dict[str, Any]] = [
        {"role": role, "column": g.column, "why": g.why, "as_before": _is_said_in(before, log, role, g)}
        for role, g in _named(log)
    ]
    if log.left:
        asked = ((yaml.safe_load(before) or {}).get("data", {}).get("events", {})).get("where") or ""
        known = all(one.condition in asked for one in log.left)
        why = "; ".join(one.what for one in log.left)
        out.append({"role": "left out", "column": "by where", "why": why, "as_before": known})
    then, mine = _lists(before), _lists(now)
    for role, columns in _columns(log).items():
        if columns:
            row = {"role": role, "column": f"{len(columns)}", "why": ", ".join(columns)}
            out.append(row | _changes(mine.get(role, {}), then.get(role, {})))
    return out


def _named(log: Log) -> list[tuple[str, Guess]]:
    """The roles that are one column, table or condition each."""
    named = [(role, g) for role, g in log.roles.named.items() if role != "seen"]  # a warning says what is left out
    named += [("joined", Guess(one.table.path, one.why)) for one in log.later]
    named += [(f"{name} table", Guess(side.table.path, _about_side(side))) for name, side in log.inputs.sides.items()]
    if log.once is not None:
        named.append(("unique", log.once))
    served, items = log.inputs.served.condition, log.inputs.sides.get("items")
    if served is not None:
        too = f"; and not what has ended by {items.until.column}" if items is not None and items.until else ""
        named.append(("served", Guess("by export.items", f"{served.column}: {served.why}{too}")))
    if items is not None and items.version is not None and items.version.is_birth:
        since = items.version
        named.append(("there since", Guess(since.column, since.why.removeprefix(f"{since.column}: "))))
    if served is None and items is not None and items.until is not None:
        again = "; --export-items says no more: a comment in the config" * log.inputs.served.is_said_by_until
        named.append(("served", Guess("by items.until", items.until.why + again)))
    if log.roles.click is None and log.roles.perhaps_clicks:
        named.append(("click", Guess("every row", f"or --click with one of: {log.roles.perhaps_clicks}")))
    named += [("a side table?", Guess(side.table.path, side.key.why)) for side in log.inputs.perhaps]
    if (zone := timezone_of(log)) is not None:
        at = sum(role in ("user", "item", "time") for role, _ in named)
        named.insert(at, ("timezone", Guess(zone.name, zone.why)))
    return named


def _is_said_in(before: str, log: Log, role: str, g: Guess) -> bool:
    """Whether a config has the same guess of a role, for the same reason."""
    line, served = scalar(g.column), log.inputs.served.condition
    if role in _KEYS:
        line = f"{role}: {line}  # "
    elif role == "served" and served is not None:
        line = f"items: {quoted(served.column)}  # "
    rule = quoted(log.roles.made[g.column]) if g.column in log.roles.made else ""
    return line in before and f": {rule}" in before and comment(g.why).partition(": ")[0] in before


def _columns(log: Log) -> dict[str, list[str]]:
    """The columns of each role that may have many."""
    taken, later = {g.column for g in log.roles.named.values()}, unwritten(log.roles, log.inputs)
    used, said = [] if later else log.inputs.used, log.inputs.said
    came_of = [c for one in log.later for c in one.columns if c not in taken]
    outcomes = [g.column for g in log.roles.outcomes if g.column not in {*taken, *came_of}]
    return {
        "outcomes": [*outcomes, *said, *came_of],
        **{f"{side} features": [i.column for i in used if i.side == side] for side in ("user", "item", "context")},
        "no features yet": later,
        "known late": [] if later else _of_tables(log.inputs.held),
        "not used": [g.column for g in log.inputs.unused if g.column not in said],
    }


def _of_tables(columns: Sequence[Input]) -> list[str]:
    """Names of columns, with that of its table where two tables have one of that name."""
    many = Counter(i.column for i in columns)
    return [f"{i.side}s.{i.column}" if many[i.column] > 1 else i.column for i in columns]


def unchanged(log: Log, before: str) -> list[str]:
    """What else is printed that the config before says already: tables that are not used, and other good clicks."""
    out = []
    if log.inputs.other and all(
        f"# {comment(path)}: not used: {comment(why)}" in before for path, why in log.inputs.other
    ):
        out.append(_TABLES)
    if log.goals and all(f": {quoted(one.expression)}}}  # " in before for one in log.goals):
        out.append(_OTHERS)
    return out


def _changes(now: dict[str, str], before: dict[str, str]) -> dict[str, Any]:
    new, gone = ([c for c in some if some[c] != others.get(c)] for some, others in ((now, before), (before, now)))
    gone = [c for c in gone if c not in now]
    same = len(now) - len(new)
    if not (same or gone):
        return {"as_before": False}
    parts = [f"new: {', '.join(new)}" * bool(new), f"gone: {', '.join(gone)}" * bool(gone)]
    parts += [f"{same} as before"] if same else []
    return {"as_before": not (new or gone), "changed": "; ".join(filter(None, parts))}


def _lists(config: str) -> dict[str, dict[str, str]]:
    """The columns that a config has by the roles that are printed as lists, each with what is written of it."""
    raw = yaml.safe_load(config) or {}
    events, features = raw.get("data", {}).get("events", {}), raw.get("features", [])
    named = {events.get(role) for role in _KEYS}
    came_of = [c for one in events.get("joined", {}).values() for c in one.get("columns", ())]
    out = {"outcomes": {str(c): "" for c in (*events.get("outcomes", ()), *came_of) if c not in named}}
    for f in features if isinstance(features, list) else ():
        if isinstance(f, dict) and "profile" not in f:
            out.setdefault(f"{f['side']} features", {})[str(f.get("column", f["name"]))] = str(f)
    held = (yaml.safe_load(found[1]) for found in re.finditer(r"^  # - (\{name: .*?\})  # ", config, re.MULTILINE))
    out["known late"] = {str(f.get("column", f["name"])): str(f) for f in held}
    unused = re.finditer(r"^# (?!WARNING: )(.+?): not used: (.*)$", config, re.MULTILINE)
    out["not used"] = {c: found[2] for found in unused for c in found[1].split(", ")}
    return out


def _about_side(side: Side) -> str:
    if side.late:
        return f"lag_days: {side.lag}, as {side.late}; {side.key.why}"
    return "; ".join(filter(None, (side.key.why, side.caveat)))


def described(found: dict[str, Any]) -> str:
    """What was guessed, as lines of text."""
    days = f", {count(found['days'], 'day')}" if found["days"] else ""
    lines = [f"{found['events']}: {found['format']}{days}", ""]
    if found["catalogue"]:
        lines = [f"first: {found['first']}", found["catalogue"], "", *lines]
    again = [*(r["role"] for r in found["roles"] if r["as_before"]), *found["as_before"]]
    rows = [r for r in found["roles"] if not r["as_before"]]
    if not rows:
        rows, again = found["roles"], []
    if again:
        lines.append(f"{'as before':17}{', '.join(dict.fromkeys(again))}")
    for r in _counted(rows) if not again else rows:
        told = r.get("changed", r["why"]) if again else r["why"]
        why = _wrapped(told) if r["role"] in _WHOLE else [_clauses(told)]
        lines.append(f"{r['role']:17}{short(r['column'], 24):26}{why[0]}")
        lines += [f"{'':43}{more}" for more in why[1:]]
    lines += [f"WARNING: {line}" for line in found["warnings"]]
    unsaid = [
        x for x in found["tables_not_used"] if not any(line.startswith(f"{x[0]}: ") for line in found["warnings"])
    ]
    lines += [f"not used: {path}: {short(why, 160)}" for path, why in unsaid if _TABLES not in again]
    for e in found["edits"]:
        first, *more = _wrapped(e["what"])
        lines += [f"{'EDIT':17}{'line ' + str(e['line']):26}{first}", *(f"{'':43}{part}" for part in more)]
    if (goals := found["goals"]) and _OTHERS not in again:
        lines += [] if found["edits"] else ["a good click may be another one, by init with:"]
        lines += [f"  {line}" for line in goals[:_GOALS]]
    then = [f"first: {found['first']}"] if found["first"] else ["next:", *(f"  {step}" for step in found["next"])]
    served = next((r["why"] for r in found["roles"] if r["role"] == "served"), "")
    told = [line for line in (found.get("check") or "").splitlines() if not _is_said(line, lines, served)]
    told += [found["waiting"]] if found["waiting"] else []
    return "\n".join([*lines, *(["", *told] if told else []), "", f"written: {found['config']}", *then])


def _is_said(line: str, lines: Sequence[str], served: str) -> bool:
    """Whether what `check` says of the day was said of all days, with other counts and shares: a warning, or what is
    served, if it is about as much.

    Args:
        served: what was said of that.
    """
    if (of_day := _HOLDS.search(line)) is not None:
        here, every = (int(n.replace(",", "")) for n in of_day.groups())
        said = re.search(r"([\d.]+)% of the table's items", served)
        return said is not None and abs(100 * here / max(1, every) - float(said[1])) <= _ABOUT
    return any(_NUMBER.sub("", other).startswith(_NUMBER.sub("", line)) for other in lines)


def _counted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with one in place of those of features of users and items, and of what is not used: the config has what
    each is."""
    several = [r for r in rows if r["role"] in _OF_IDS]
    if not several:
        return rows
    of = "; ".join(f"of {r['role'].removesuffix(' features')}s {_few(r['why'])}" for r in several)
    none = next((r["why"] for r in rows if r["role"] == "not used"), "")
    unused = f"; not used: {_few(none)}" if none else ""
    total = str(sum(int(r["column"]) for r in several))
    row = {"role": "features", "column": total, "why": f"{of}{unused}: each has a line in the config"}
    return [*(r for r in rows if r["role"] not in (*_OF_IDS, "not used")), row]


def _few(columns: str) -> str:
    """The first of some columns, and how many more there are."""
    names = columns.split(", ")
    return columns if len(names) <= _NAMED + 1 else f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDE, break_long_words=False)


def _clauses(text: str) -> str:
    """As many of a reason's clauses as a line has room for; of a first one that is longer its beginning."""
    first, *more = text.split("; ")
    for clause in more:
        if len(first) + len(clause) + 2 > _WIDE:
            break
        first = f"{first}; {clause}"
    return short(first, _WIDE)
