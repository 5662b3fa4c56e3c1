"""Which features the columns of events and side tables give, and why others give none."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import polars as pl

from dmtl_cli.data.log.values.written import floats
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.alike import are_same, offers, second_id
from dmtl_cli.guess.columns.ends import to_come
from dmtl_cli.guess.columns.pieces import ITEMS, SEPARATORS, are_tags, separator_in, values_by_name
from dmtl_cli.guess.columns.roles import Guess, Roles
from dmtl_cli.guess.columns.values import (
    FEW,
    clicks,
    clock_share,
    decimals,
    free,
    has_days,
    is_constant,
    is_measured,
    mean,
    share,
    span,
    time_unit,
    values_in,
    within,
)
from dmtl_cli.guess.exposures.doubts import mark_of
from dmtl_cli.guess.exposures.guests import guests_of
from dmtl_cli.guess.exposures.ids import times_of
from dmtl_cli.guess.features.inputs import Input, Inputs, by_window, hold_prices, hold_totals, share_embeddings
from dmtl_cli.guess.features.measures import by_company, of_lengths, of_numbers
from dmtl_cli.guess.features.requests import is_known_with_request
from dmtl_cli.guess.features.sides import hold_outcomes, is_another, leave_doubles, never_back, read_as_shown, side_of
from dmtl_cli.guess.features.telling import telling
from dmtl_cli.guess.features.units import as_days, as_number, with_units
from dmtl_cli.guess.reading.files import partitions
from dmtl_cli.guess.reading.rewrites import lists_in_text
from dmtl_cli.guess.reading.tables import ROWS, Table
from dmtl_cli.guess.reading.texts import signs_of
from dmtl_cli.guess.sides import states
from dmtl_cli.guess.sides.beside import judged
from dmtl_cli.guess.sides.late import lagging
from dmtl_cli.guess.sides.served import told
from dmtl_cli.guess.sides.side_tables import Side, by_likeness, days_of_rows, place

_EMPTY, _OWN = 0.95, 0.9
_OWN_TEXT = 0.75  # distinct texts of a side table's rows, from which on they are names of its ids: a few share one
_OWN_TITLE, _SEVERAL_WORDS = 0.4, 2  # the same of titles, which are names whoever shares one; words of a title
_LONGEST, _FEW = 50, 30
_CHANGES = 0.5  # of ids have another number on another day: a code stays
_GAPS = 0.1  # of the rows lack a value that all others have: it is no mark of these
_SAID, _SHORT = 6, 60  # texts that are named, and characters of them together
_CLASSES = 30  # texts up to which sentences may be names of classes
_WORDS, _WORDS_A_PIECE = 5, 3  # of a sentence, and between its commas
_A_TIME = "a time, which no tower reads"


def inputs_of(events: Table, roles: Roles, others: list[Table], partial: Mapping[str, str], zone: str) -> Inputs:
    """Features by the columns of all tables. A column is a user's or an item's where it does not change with events.

    Args:
        partial: which days have a column, where not all do.
        zone: in which a time gives the day, where no name does.
    """
    found = Inputs()
    for table in by_likeness(others, events, roles):
        place(table, events, roles, found)
    found.unused.extend(Guess(c, f"of type {kind}") for c, kind in events.other.items())
    why = "a key of folders, which is no column: write it into the rows where it is to be a feature"
    found.unused.extend(Guess(key, why) for key in partitions(events.files) if key not in events.frame.columns)
    if roles.user is None or roles.item is None:  # whose a column is cannot be told: an id would be a feature
        return found
    days = days_of_rows(events, roles, zone)
    whole = judged(events, roles, found.sides)
    for name, beside in found.sides.items():
        _add_side(name.removesuffix("s"), beside, events, roles, found, days, whole)
        lag, late = lagging(beside.table, events, roles, zone) or (0, None)
        found.sides[name] = replace(beside, late=late, lag=lag)
    if (guests := guests_of(events.frame, roles)) is not None:
        found.guests, second = guests, guests.other_than(roles.user.column)
        found.unused.append(Guess(second, f"a second id of users, beside {roles.user.column}: see the lines below it"))
    events = read_as_shown(events, roles, found, partial, days)
    _add_own(events, roles, found, partial, days)
    hold_prices(found)
    share_embeddings(found, events, roles)
    return found


def _add_side(
    side: str, beside: Side, events: Table, roles: Roles, found: Inputs, days: pl.Series | None, whole: pl.DataFrame
) -> None:
    """The columns of a table of users or items, and what it tells of which items may be served. `whole`: the events
    with what a good click is."""
    assert roles.item is not None
    key, items = beside.key.column, events.frame[roles.item.column]
    frame = beside.table.frame.unique(key, keep="first", maintain_order=True)  # the newest day is first
    times, before = times_of(frame), len(found.used)
    newest = None if days is None else cast(dt.date | None, days.max())
    total = states.total_of(frame, key, whole, roles, side) if beside.is_one_state else None
    shown = _shown(frame[key], items, days) if side == "item" else None
    for c in (c for c in frame.columns if c not in (key, *beside.told_by)):
        if side == "item" and beside.until is None and c in times and newest is not None:
            line = to_come(frame[c], newest, max(1, len(beside.table.pieces)))
            found.told += [line] if line else []
        made = _of_side(frame, c, side, beside, events, roles, days)
        gone = states.withdrawn(frame[c], lambda: shown if total else None, beside.table.yes.get(c, ()))
        if side == "item":
            found.served.add(frame[c], gone, shown)
        found.add(Guess(c, told(gone, side)) if total and gone is not None else made)
        if total and gone is None and isinstance(made, Input) and (why := total(frame[c])) is not None:
            found.hold(c, side, why)
        if beside.is_one_state:
            hold_outcomes(found, c, side, frame, key, events, roles)
    if side == "item":
        is_cut = len(beside.table.frame) >= ROWS  # more of the table's ids may be in what was not looked at
        found.served.listed = 1.0 if is_cut else within(items, frame[key])
        found.served.of_the_end = beside.is_one_state
        found.served.add_times(beside, frame, newest, shown)
    found.unused.extend(Guess(c, f"of type {kind}") for c, kind in beside.table.other.items())
    found.leave_second_names(frame, before)
    found.used[before:] = by_company(frame, found.used[before:])
    if beside.is_one_state:
        hold_totals(frame, key, found, before, events.frame, roles, side)


def _of_side(
    frame: pl.DataFrame, c: str, side: str, beside: Side, events: Table, roles: Roles, days: pl.Series | None
) -> Input | Guess:
    """A column of a table of users or items, one row an id, as a feature, or why it is none: see `_made_of`."""
    times = times_of(frame)
    made = _made_of(frame[c], side, events, roles, times, of=beside.table)
    if isinstance(made, Input) and made.kind == "categorical" and _is_counted(beside.table, beside.key.column, c):
        kind, options, why = of_numbers(c, frame[c].drop_nulls().cast(pl.Float64), whole=True, codes=False)
        return replace(made, kind=kind, options=options, why=f"{why}; the numbers of ids change by day")
    if side == "user" and isinstance(made, Guess) and made.why == _A_TIME and c in times:
        number = _since(frame, c, times[c], beside, events, roles, days)
        return made if number is None else replace(made, why=f"{_A_TIME}; {number}")
    return made


def _is_counted(table: Table, key: str, c: str) -> bool:
    """Whether whole numbers of a table of days are counts: most ids that have several days have several of them, and
    more than codes of a state have."""
    s = table.frame[c]
    if len(table.pieces) < 2 or not s.dtype.is_integer() or s.n_unique() <= FEW or time_unit(s) is not None:
        return False
    of = table.frame.select(key, c).drop_nulls().group_by(key).agg(pl.len(), pl.col(c).n_unique().alias(":n"))
    several = of.filter(pl.col("len") > 1)
    return len(several) >= FEW and share(several[":n"] > 1) >= _CHANGES


def _since(
    users: pl.DataFrame, c: str, unit: str, beside: Side, events: Table, roles: Roles, days: pl.Series | None
) -> str | None:
    """See `as_days`."""
    ids = None if roles.user is None else events.frame[roles.user.column]
    if days is None or ids is None or ids.dtype != users[beside.key.column].dtype:
        return None
    first = pl.DataFrame({"id": ids, "first": days}).drop_nulls().group_by("id").agg(pl.col("first").min())
    there = pl.DataFrame({"id": users[beside.key.column]}).join(first, on="id", how="left", maintain_order="left")
    return as_days(users[c], unit, beside.table.written.formats.get(c), there["first"])


def _add_own(events: Table, roles: Roles, found: Inputs, partial: Mapping[str, str], days: pl.Series | None) -> None:
    """The columns of the events. One that is the same in all rows of a user or an item, over several days, may count
    what they did by the end of the log."""
    frame, begin = events.frame, len(found.used)
    taken = {i.column for i in found.used} | {g.column for g in found.unused}
    held = [i for i in found.held if i.column in frame.columns]  # a feature of their side would read the table's
    taken |= {i.column for i in held if side_of(i.column, frame, roles, days)[0] == i.side}
    taken |= {one.column for one in found.shown.values()}
    times = times_of(frame)
    whose = {"user": "a user", "item": "an item"}
    offered = offers(frame, roles.item.column, roles.clicked(frame)) if roles.item else {}
    for c in frame.columns:
        if c in roles.after - roles.taken:
            found.unused.append(Guess(c, "it says which rows have a duration: is it the click?"))
        elif c in partial and c not in roles.taken:
            found.unused.append(Guess(c, f"{partial[c]}: a feature is needed on every day that is learned"))
        elif c not in roles.taken and (c not in taken or is_another(c, found.used[:begin], events, roles, days)):
            side = found.shown[c].side if c in found.shown else None
            found.add(Guess(c, offered[c]) if c in offered else _of_events(c, events, roles, times, days, side))
    whole = judged(events, roles, found.sides)
    for side in whose:
        key = getattr(roles, side).column
        first = frame.unique(key, keep="first", maintain_order=True)
        found.leave_second_names(first, begin, side)
        leave_doubles(frame, key, side, found, begin)
        found.used[begin:] = by_company(first, found.used[begin:], side)
        if days is not None and days.n_unique() > 1:
            if side == "item" and "items" not in found.sides:
                _add_served(first, events, key, found, begin, _shown(first[key], frame[key], days))
            total = states.total_of(first, key, whole, roles, side)
            mine = [i for i in found.used[begin:] if i.side == side and is_constant(frame, key, i.column)]
            for i, why in [(i, why) for i in mine if (why := total(first[i.column]) or by_window(first[i.column]))]:
                found.hold(i.column, side, f"the same in all rows of {whose[side]}; {why}")
    tests = [g.column for g in found.unused if g.column in frame.columns and states.is_of_test(frame[g.column])]
    for i in [i for i in found.used[begin:] if i.kind == "categorical"]:
        if (test := next((t for t in tests if are_same(frame[i.column], frame[t])), None)) is not None:
            found.used.remove(i)
            found.unused.append(Guess(i.column, f"a second name of {test}, the group of a test"))


def _add_served(
    first: pl.DataFrame, events: Table, key: str, found: Inputs, begin: int, shown: states.Shown | None
) -> None:
    """Takes what says, in all rows of an item, that it was withdrawn since, out of the features: it tells which may be
    served. `first`: a row of each item."""
    found.served.whose, found.served.of_the_end = "sample", True
    mine = [i for i in found.used[begin:] if i.side == "item" and is_constant(events.frame, key, i.column)]
    for i in mine:
        gone = states.withdrawn(first[i.column], lambda: shown, events.yes.get(i.column, ()))
        found.served.add(first[i.column], gone, shown)
        if gone is not None:
            found.used.remove(i)
            found.unused.append(Guess(i.column, told(gone, "item")))


def _shown(ids: pl.Series, items: pl.Series, days: pl.Series | None) -> states.Shown | None:
    """Rows of each id in the sample before its last day, and on it; None where these cannot be told.

    Args:
        items: of the sample's rows, as days are.
    """
    if days is None or days.n_unique() < 2 or ids.dtype != items.dtype:
        return None
    rows = pl.DataFrame({"id": items, "last": days == days.max()}).drop_nulls()
    of = rows.group_by("id").agg((~pl.col("last")).sum().alias("before"), pl.col("last").sum())
    beside = pl.DataFrame({"id": ids}).join(of, on="id", how="left", maintain_order="left")
    before, last = (beside[c].fill_null(0).cast(pl.Int64).to_numpy() for c in ("before", "last"))
    return before, last


def _made_of(
    s: pl.Series, side: str, events: Table, roles: Roles, times: Mapping[str, str], *, of: Table | None = None
) -> Input | Guess:
    """A column as a feature, or why it is none.

    Args:
        times: columns of the table that are times.
        of: the side table that it is of; None: the events.
    """
    c, own = s.name, of is not None
    if own and c in roles.taken - roles.known_later:
        return Guess(c, "it has the name of a column of the events with another role")
    if (mark := mark_of(s, side if own else None, of or events)) is not None:
        return mark
    items = events.frame[roles.item.column] if roles.item and side == "user" else None
    if (refused := states.says_nothing(s) or refusal(s, own, c in times, items)) is not None:
        return Guess(c, refused)
    if c in (of or events).written.clocks:
        kind, options, why = of_lengths(s.drop_nulls())
    else:
        kind, options, why = kind_of(c, s, items)
    if kind == "":
        return Guess(c, why)
    if side == "user" and not own and roles.user and not is_constant(events.frame, roles.user.column, c):
        options = {"level": "event", **options}
    other = None
    if of is not None and c in roles.taken:
        other = free(f"{c}_of_{side}", {*events.frame.columns, *of.frame.columns})
    return Input(c, side, kind, options, why, computed_as=other)


def _of_events(
    c: str, events: Table, roles: Roles, times: Mapping[str, str], days: pl.Series | None, known: str | None
) -> Input | Guess:
    """A column of the events as a feature, or why it is none: a context of codes that never come back is none.

    Args:
        known: whose it is, each day another one.
    """
    s = events.frame[c]
    if (why := states.says_nothing(s)) is not None:
        return Guess(c, why)
    side, of_day = side_of(c, events.frame, roles, days) if known is None else (known, True)
    made = _made_of(s, side, events, roles, times)
    if isinstance(made, Guess):
        return made
    if known is not None:  # a day has one, so that of the first row is that of all
        made = replace(made, options={name: value for name, value in made.options.items() if name != "level"})
    if side != "context" and made.kind == "categorical":
        ids = events.frame[getattr(roles, side).column]
        if (why := second_id(s, ids, side)) is not None:
            return Guess(c, why)
    if side == "context":
        if (why := states.is_machine(s)) is not None:
            return Guess(c, why)
        users = events.frame[roles.user.column] if roles.user else None
        if made.kind == "categorical" and (why := never_back(s, days, users)) is not None:
            return Guess(c, why)
        request = events.frame[roles.request.column] if roles.request else None
        if request is not None and is_known_with_request(s, request):
            again = second_id(s, request, "request") if made.kind == "categorical" else None
            return replace(made, of_request=True) if again is None else Guess(c, again)
        asked = telling(s, _labels_of(events.frame, roles))
        return made if asked is None else replace(made, why=f"{made.why}; {asked}")
    a = "an item" if side == "item" else "a user"
    return replace(made, why=f"{made.why}; one value {a} and day, which another day changes") if of_day else made


def _labels_of(frame: pl.DataFrame, roles: Roles) -> dict[str, pl.Series]:
    """As `telling` takes them: clicks, and what is known of those by a conversion that is a column."""
    clicked, good = roles.clicked(frame), roles.conversion
    out = {} if clicked is None else {"clicks": clicked}
    if good is not None and good.column in frame.columns:
        label = clicks(frame[good.column]).cast(pl.Int64)
        of_clicks = label if clicked is None else pl.select(pl.when(clicked).then(label)).to_series()
        out[good.column if clicked is None else f"{good.column}, of clicks,"] = of_clicks
    return out


def refusal(s: pl.Series, own: bool, is_time: bool, items: pl.Series | None = None) -> str | None:
    """Why a column is no feature. `items`: see `kind_of`."""
    c, known = s.name, s.drop_nulls()
    if len(known) < (1 - _EMPTY) * len(s) or not len(known):
        return f"{1 - len(known) / max(1, len(s)):.0%} of it is empty"
    if known.dtype.is_nested():
        return None if known.list.len().max() and len(values_in(s)) else "all its lists are empty"
    if known.n_unique() == 1 and s.null_count() <= _GAPS * len(s):
        return "one value alone" if not s.null_count() else "one value alone, which a few lack"
    if (written := lists_in_text(s)) is not None:
        return written
    if decimals(s) is not None:
        return "numbers with a decimal comma are text: write them with a point where they are to be a feature"
    if (signs := signs_of(s)) is not None:
        one = known.gather(known.str.len_chars().arg_max() or 0)
        plain = f"write {floats(one, *signs)[0]:.15g} where they are to be a feature"
        return f"numbers such as {one[0]!r} are text: {plain}"
    if s.dtype.is_temporal() or is_time:
        return _A_TIME
    text = s.dtype == pl.String
    if text and (why := values_by_name(known) or _sentences(known) or _as_days(known)):
        return why
    least = _OWN_TEXT if text and own else _OWN
    own_value = (text or s.dtype.is_integer()) and len(known) > _FEW and known.n_unique() > least * len(known)
    if own_value and not (words.says(c, words.NUMBER) or _says_more(known, items)):
        nearly = "" if known.n_unique() == len(s) else "nearly "
        return f"{nearly}a value of its own for every {'id' if own else 'row'}"
    return _titles(known) if text and own and words.says(c, words.TITLE) else None


def _says_more(known: pl.Series, items: pl.Series | None) -> bool:
    """Whether values of which each id has one of its own are no names: texts of several words that are ids, or
    measures, as a distance to the metre is."""
    if known.dtype == pl.String:
        return bool(separator_in(known.name, known, items))
    return is_measured(known.cast(pl.Float64))


def _named(known: pl.Series) -> str:
    """A few short texts, those of most rows first: what a person needs to know to ask for some of them."""
    counts = known.value_counts(name=":n").sort(":n", known.name, descending=[True, False])
    said = ", ".join(counts[known.name].to_list())
    return f" ({said})" if len(said) <= _SHORT and said.isprintable() else ""


def kind_of(c: str, s: pl.Series, items: pl.Series | None) -> tuple[str, dict[str, Any], str]:
    """Kind, options and reason of a column; kind "" where there is none."""
    known = s.drop_nulls()
    if s.dtype == pl.List:
        return _of_lists(s, items)
    if s.dtype == pl.String:
        if (measured := with_units(known)) is not None:
            way = as_number(s)
            made = f", or make it in the table's {way}, kind: numeric" if way else ""
            why = f"{measured}, each a class of its own: write the number alone for a numeric feature{made}"
            return "categorical", {}, why
        if (separator := separator_in(c, known, items)) is not None:
            pieces = known.str.split(separator)
            kind, options, why = _of_lists(pieces, items)
            return kind, {"separator": separator, **options}, f"texts cut at {separator!r}: {why}"
        is_list = known.head(100).str.contains(r"^\[.*\]$").all()
        whole = "; lists as text, each taken as one value: write them as lists" if is_list else ""
        many, alike = known.n_unique(), known.str.to_lowercase().n_unique()
        cased = f"; {many - alike} of them differ from another in letter case alone" if alike < many else ""
        return "categorical", {}, f"{many:,} texts{_named(known) if many <= _SAID else ''}{cased}{whole}"
    if s.dtype == pl.Boolean:
        return "categorical", {}, "yes or no"
    if s.dtype.is_numeric():
        return of_numbers(c, known.cast(pl.Float64), whole=s.dtype.is_integer(), codes=not s.dtype.is_decimal())
    return "", {}, f"of type {s.dtype}, which no kind of feature reads"


def _of_lists(s: pl.Series, items: pl.Series | None) -> tuple[str, dict[str, Any], str]:
    lengths, inner = s.list.len(), values_in(s).drop_nulls()
    if inner.dtype.is_float():
        least, most = (int(n) for n in span(lengths))
        if least == most >= 2:
            return "vector", {"dim": most}, f"lists of {most} numbers each"
        return "", {}, "lists of numbers of several lengths, which no kind of feature reads"
    if not (inner.dtype.is_integer() or inner.dtype in (pl.String, pl.Boolean)):
        return "", {}, f"lists of {inner.dtype}, which no kind of feature reads"
    long = int(lengths.quantile(0.95) or 1)
    options: dict[str, Any] = {"max_length": min(_LONGEST, max(2, long))}
    if items is not None and (there := within(inner, items)) >= ITEMS:
        return "sequence", {"embedding_name": ":item", **options}, f"lists of items ({there:.0%} are in the sample)"
    return "sequence", options, f"lists of {inner.n_unique():,} values, {mean(lengths):.1f} on average"


def _sentences(known: pl.Series) -> str | None:
    """What texts of many words are that no sign cuts into short pieces; None where they are a list or a few classes."""
    seen = known.head(10_000)
    if seen.name.endswith(":token_seq") or known.n_unique() <= _CLASSES or are_tags(known):
        return None
    spaces = seen.str.count_matches(r"\s+")
    pieces = [seen.str.count_matches(separator, literal=True) + 1 for separator in SEPARATORS]
    usual = mean(spaces + 1)
    if usual < _WORDS or min(mean((spaces + 1) / n) for n in pieces) < _WORDS_A_PIECE:
        return None
    return f"sentences, {usual:.0f} words each, which no kind of feature reads"


def _titles(known: pl.Series) -> str | None:
    """What texts that are named like titles are, of several words, where few ids share one as editions do; None where
    they may be classes, as titles of jobs are."""
    many, each = known.n_unique(), mean(known.head(10_000).str.count_matches(r"\s+") + 1)
    if len(known) <= _FEW or many <= _OWN_TITLE * len(known) or each < _SEVERAL_WORDS:
        return None
    return f"{many:,} titles of {len(known):,} ids: names, and no classes"


def _as_days(known: pl.Series) -> str | None:
    """What texts of days or times are, and what to write in their place; None where they are none."""
    if not has_days(known):
        return None
    clock = clock_share(known) > 0.5
    what = f"texts of {'times' if clock else 'days'} such as {known[0]!r}"
    return f"{what}: to be a feature it must be a number, such as the days from then to the day of the row"
