"""What `check` says of a day: all of it, or what is new beside the guesses of `init`."""

from __future__ import annotations

from typing import Any

from dmtl_cli.data.log.checked.invalid import BESIDE, LINE, in_words, parts_in_words
from dmtl_cli.data.log.files.day_files import SUCCESS
from dmtl_cli.data.log.reader import NOT_ASKED, REPEATED
from dmtl_cli.guess.columns.sql import quoted
from dmtl_cli.guess.columns.words import count
from dmtl_cli.guess.features.requests import UNSERVED
from dmtl_cli.guess.findings.joined import joined_lines, shares_in_words
from dmtl_cli.guess.findings.repeats import repeats_in_words
from dmtl_cli.stages.check import CARRIED, RATE
from dmtl_cli.tune import plan

_FEW = 0.01  # of the rows may repeat another, before a person has to look at it
_MOST = 0.98  # of a day's ids are in the tables beside it as a rule
_NAMED = 12  # columns that nothing reads
_UNIQUE = "data.events.unique reads one of each id"
_WIDEST = 48  # of a column of the print


def described(found: dict[str, Any]) -> str:
    """What `check` found, as lines of text."""
    shown, waiting = found["features"], list[str]()
    if found.get("profile", "") is None:  # nothing is known of them yet
        waiting = [f["name"] for f in shown if f.get("profile")]
        shown = [f for f in shown if not f.get("profile")]
    notes = [note for f in shown for note in _notes(f)]
    if waiting:
        several = f"{count(len(waiting), 'feature')} of profiles ({waiting[0]} .. {waiting[-1]})"
        notes.append(f"{several}: no profile of an earlier day, so unknown until there is one")
    lines = [
        f"day {found['day']}: {_counts(found)}",
        *([f"{found[NOT_ASKED]:,} other rows are left out by data.events.where"] if found.get(NOT_ASKED) else []),
        *([f"{found[REPEATED]:,} rows are left out: {_UNIQUE}"] if found.get(REPEATED) else []),
        *([in_words(_kept(found), found["left_out"])] if "left_out" in found else []),
        *(
            f"data.{table}: {_lines(n)} {'are' if n > 1 else 'is'} left out"
            for table, n in found.get(BESIDE, {}).items()
        ),
        *repeats_in_words(found, _kept(found)),
        *(f"WARNING: {line}" for line in found["warnings"]),
        f"labels: {_labels_in_words(found['labels'])}",
        *shares_in_words(found["join"]),
        *(found[what] for what in ("ended", "coming", "served") if what in found),
        "",
        *_table(shown),
        *joined_lines(found),
        *notes,
        *found["suggestions"],
        *_unread(found["unread"]),
        *map(_marked, found.get("finished", ())),
        "",
        "estimates (guesses): " + ", ".join(f"{k} {v}" for k, v in found["estimates"].items()),
        *(["", plan.described(found["plan"])] if "plan" in found else []),
        *(["", f"next: {found['next']}"] if "next" in found else []),
    ]
    return "\n".join(lines)


def to_decide(found: dict[str, Any]) -> str:
    """The same beside what `init` prints: a line each of what was read, and what a person has to look at."""
    gone = [f"{found[NOT_ASKED]:,} by data.events.where"] if found.get(NOT_ASKED) else []
    gone += [f"{found[REPEATED]:,} by data.events.unique"] if found.get(REPEATED) else []
    gone += parts_in_words(found["left_out"]) if "left_out" in found else []
    gone += [f"{_lines(n)} of data.{table}" for table, n in found.get(BESIDE, {}).items()]
    repeats = repeats_in_words(found, _kept(found))
    if len(repeats) == 1 and found["duplicate_rows"] < _FEW * _kept(found):
        repeats = []
    joined = ", ".join(f"{share:.1%} of the day's {k.removesuffix('_joined')}" for k, share in found["join"].items())
    lines = [
        f"day {found['day']}: {_counts(found)}",
        *([f"left out: {', '.join(gone)}"] if gone else []),
        *repeats,
        *(f"WARNING: {line}" for line in found["warnings"]),
        f"labels: {_labels_in_words(found['labels'])}",
        *([f"the tables have {joined}"] if joined and min(found["join"].values()) < _MOST else []),
        *(found[what] for what in ("ended", "coming", "served") if what in found),
        *joined_lines(found, brief=True),
        *(note for f in found["features"] for note in _notes(f) if not f.get("profile") and "known_later" not in f),
        *(line for line in found["suggestions"] if not line.endswith(UNSERVED)),
        *map(_marked, found.get("finished", ())),
    ]
    return "\n".join(lines)


def _counts(found: dict[str, Any]) -> str:
    """5,000 rows of 531 users and 397 items (600 and 500 in tables)."""
    active = found["with_events"]
    seen = f"{count(active['users'], 'user')} and {count(active['items'], 'item')}"
    tables = found["users"] != active["users"] or found["items"] != active["items"]
    more = f" ({found['users']:,} and {found['items']:,} with those of the tables)" if tables else ""
    return f"{count(found['rows'], 'row')} of {seen}{more}"


def _lines(n: int) -> str:
    """`2 lines that do not parse`."""
    return parts_in_words({LINE: n})[0]


def _kept(found: dict[str, Any]) -> int:
    """Rows of the log that are events, the repeated clicks too."""
    return int(found["rows"] + found["labels"]["repeated_clicks"])


def _unread(columns: list[str]) -> list[str]:
    more = f" and {len(columns) - _NAMED} more" if len(columns) > _NAMED else ""
    return [f"columns that no feature reads: {', '.join(columns[:_NAMED])}{more}"] if columns else []


def _marked(table: str) -> str:
    hint = f"set data.{table}.success_file: {SUCCESS}, and a day that is still being written is not read"
    return f"{table}: the day's folder has {SUCCESS}; {hint}"


def _labels_in_words(found: dict[str, Any]) -> str:
    clicked = f"{found['click_rate']:.1%} of rows are clicks ({found['clicks']:,})"
    parts = [clicked if found["exposures"] else "every row is a click"]
    if repeated := found["repeated_clicks"]:
        many = f"{count(repeated, 'further click')} of one item in one {found['request']}"
        parts.append(f"{many} {'is' if repeated == 1 else 'are'} dropped")
    if seconds := found.get("duration_seconds"):
        ((rule, share),) = ((k.removeprefix(RATE), v) for k, v in found.items() if k.startswith(RATE))
        line = "their mean" if rule == "mean" else f"the chain's {rule}" if CARRIED in found else rule
        spread = ", ".join(f"{name} {seconds[name]:g}" for name in ("p10", "p50", "p90", "mean"))
        parts += [f"durations of clicks: {spread}", f"{share:.1%} are long reads (above {line})"]
    if unknown := found.get("clicks_without_duration"):
        parts.append(f"{count(unknown, 'click')} have no duration")
    if "conversion_rate" in found:
        parts.append(f"{found['conversion_rate']:.1%} of clicks are good ({found['conversions']:,})")
    if unknown := found.get("clicks_without_conversion"):
        parts.append(f"of {count(unknown, 'click')} it is not known")
    return "; ".join(parts)


def _table(shown: list[dict[str, Any]]) -> list[str]:
    """The features in columns, as wide as their longest names, and behind each its column where that is called in
    another script."""
    names = {"name": "feature", "side": "side", "kind": "kind", "embedding": "embedding"}
    rows = [names | {"rows": "rows", "unknown": "unknown"}]
    rows += [f | {"rows": f.get("embedding_rows", ""), "unknown": f"{f['unknown_share']:.1%}"} for f in shown]
    wide = [(c, min(_WIDEST, max(len(r.get(c, "")) for r in rows))) for c in names]
    behind = [f"  {r['column']}" if not r.get("column", "").isascii() else "" for r in rows]
    lines = ["".join(f"{r.get(c, ''):{n}}  " for c, n in wide) + "{rows:>8} {unknown:>8}".format_map(r) for r in rows]
    return [line + more for line, more in zip(lines, behind, strict=True)]


def _notes(f: dict[str, Any]) -> list[str]:
    """What the table has no column for."""
    notes = []
    if "buckets" in f:
        notes.append(f"{f['name']}: {f['values']:,} values of the day fall into {f['buckets']:,} buckets")
    if "items_that_change" in f:
        share = f"{f['items_that_change']:,} of {f['items_seen']:,} items have several values this day"
        hint = "an item's own attribute does not change: side table, or side: context"
        notes.append(f"{f['name']}: {share}; the first is taken ({hint})")
    if "known_later" in f:
        seen = f"{f['known_later']:,} of {f['seen']:,} {f['side']}s have none in their first row of this day"
        why = "it stays unknown, as a later one may tell what happened meanwhile"
        what = f"{why}; write it in all rows, or in a table of {f['side']}s"
        if f.get("per_event"):
            own = "a teacher reads each row's own value, none is one too"
            what = f"{own}; a student has the first of the day in all rows, and serves the one that is asked with"
        notes.append(f"{f['name']}: {seen} and one later: {what}")
    if f.get("one_value") or "never_shown" in f:
        told, known = "it tells nothing of them", "" if f.get("one_value") else ", or none,"
        if "never_shown" in f:
            others = f"{f['never_shown']:,} of their table have another one and none was shown"
            told = f"{others}: if these are not to be served, set export.items: {quoted(f['served_by'])}"
        notes.append(f"{f['name']}: one value{known} for all {f['side']}s of this day: {told}")
    if "seen_once_share" in f:
        share = f"{f['seen_once_share']:.0%} of the day's rows have a value that occurs once"
        hint = "set min_count: 2, or leave it out"
        notes.append(f"{f['name']}: {share}: unless other days repeat it, it cannot be learned; {hint}")
    return notes
