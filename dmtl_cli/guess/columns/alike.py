"""Columns that have the values of another one: a second id, a second name, a user's interests in an item's words."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.objects import object_of
from dmtl_cli.guess.columns.values import share, values_in, within

_IDS = 100  # of users or items, for a second id to be told
_SECOND = 5  # values below which two columns may be the same by chance
_OWN = 0.9  # of the ids have a value of their own
_SELDOM = 0.5  # of the rows without a click have their item in a list that is written after one, at most
_MOSTLY = 0.95  # of the rows with their item in a list of what was bought are clicks
_LONGER = 2  # times as long as an id is what has several in one text
_WITHIN = 0.9  # of a user's values are an item's too
_ALL = 0.98  # of the rows have as many as a list has elements
_AFTER = "lists that have the row's own item where it was clicked alone: they are written after the click"
_AFTER_SOME = "lists that hardly have the row's own item without a click: they are written after it"


def second_id(s: pl.Series, ids: pl.Series, whose: str) -> str | None:
    """Why a column of the events is no feature: nearly every user or item has a value of its own, as a cookie.

    Args:
        s: [n] of events; of text, or named like an id.
        ids: [n] theirs.
    """
    if s.dtype != pl.String and not (s.dtype.is_integer() and words.is_named_id(s.name)):
        return None
    many, of = s.drop_nulls().n_unique(), ids.n_unique()
    if of < _IDS or many < _OWN * of:
        return None
    return f"nearly a value of its own for every {whose}: a second id"


def are_same(a: pl.Series, b: pl.Series) -> bool:
    """Whether two columns of many rows say the same in other words: each value has one value there, and the reverse."""
    rows = pl.DataFrame([a.alias("a"), b.alias("b")]).drop_nulls()
    pairs, many = rows.n_unique(), rows["a"].n_unique()
    return len(rows) >= _IDS and many > 1 and pairs == many == rows["b"].n_unique()


def offers(frame: pl.DataFrame, item: str, clicked: pl.Series | None = None) -> dict[str, str]:
    """Lists of the events that have the row's own item, as those have of which it was chosen, or those that are written
    after a click, and what else is of the same objects: each with the reason why it is no history of a user.

    Args:
        clicked: [n] which rows are clicks.
    """
    found: dict[str, str] = {}
    for c, kind in frame.schema.items():
        if kind == pl.String and frame.schema[item] == pl.String and c != item:
            longer = pl.col(c).str.len_bytes() > _LONGER * pl.col(item).str.len_bytes()  # a text of several ids
            own = frame.select(pl.col(c).str.contains(pl.col(item), literal=True) & longer).to_series()
        elif kind in (pl.List(frame.schema[item]), pl.List(pl.String)) and not values_in(frame[c]).is_empty():
            own = frame.select(pl.col(c).list.contains(pl.col(item).cast(kind.inner))).to_series()  # type: ignore[attr-defined]
        else:
            continue
        if share(own.drop_nulls()) >= _OWN:
            found[c] = "lists that have the row's own item, as those it was chosen of: no history of the user's"
        elif clicked is not None and share(own.filter(clicked).drop_nulls()) >= _OWN > _SELDOM >= share(
            own.filter(~clicked).drop_nulls()
        ):
            found[c] = _AFTER
        elif clicked is not None and own.sum() >= _IDS and share(clicked.filter(own)) >= _MOSTLY > share(clicked):
            found[c] = _AFTER_SOME
    late = [c for c, why in found.items() if why == _AFTER]
    for c in late:
        n, why = frame[c].list.len().fill_null(0), f"how many {c} has, and they are written after the click"
        whole = {x: frame[x].fill_null(0) for x, kind in frame.schema.items() if kind.is_integer()}
        found |= {x: why for x, m in whole.items() if share((m == n).filter((m != 0) | (n != 0))) >= _ALL}
    for c in frame.columns:
        above = object_of(c)
        if first := next((o for o in found if above and object_of(o) == above and o != c), None):
            found.setdefault(c, f"of the lists of {first}")
    return found


def second_names(frame: pl.DataFrame, columns: Mapping[str, bool]) -> dict[str, str]:
    """Columns that are another one in other words, and that one: each value has one value there, and the reverse; of
    lists each element that of its place.

    Args:
        frame: one row an id.
        columns: to look at, and whether each is named like an id: of two such columns an id stays, else the first.
    """
    order = sorted(columns, key=lambda c: not columns[c])
    values = {c: values_in(frame[c]) if frame.schema[c] == pl.List else frame[c] for c in order}
    many = {c: values[c].n_unique() for c in order}
    kept: list[str] = []
    found: dict[str, str] = {}

    def alike(a: str, b: str) -> bool:
        if many[a] != many[b] or not _lengths(frame[a]).equals(_lengths(frame[b]), check_names=False):
            return False
        pairs = pl.DataFrame([values[a].alias("a"), values[b].alias("b")])
        return bool(pairs.select(pl.struct("a", "b").n_unique()).item() == many[a])

    for c in order:
        fits = _SECOND <= many[c] <= len(values[c]) / 3
        if fits and (first := next((k for k in kept if alike(k, c)), None)) is not None:
            found[c] = first
        else:
            kept.append(c)
    return found


def _lengths(s: pl.Series) -> pl.Series:
    """[n] how many values each row has."""
    ones = pl.Series([1], dtype=pl.UInt32).new_from_index(0, len(s))
    return s.list.len().fill_null(0) if s.dtype == pl.List else ones


def shared_values(users: Mapping[str, pl.Series], items: Mapping[str, pl.Series]) -> dict[str, str]:
    """Columns of users whose texts are those of a column of items, and that column: of several the one of which most
    items have such a text.

    Args:
        users: columns of text, or of lists of text, by name.
        items: the same, a value an item.
    """
    found: dict[str, str] = {}
    texts = {c: some for c, of in items.items() if (some := _texts(of)) is not None}
    for name, s in users.items():
        mine = _texts(s)
        if mine is None or mine.n_unique() < _SECOND:
            continue
        fits = [(_reach(items[c], mine), c) for c, some in texts.items() if within(mine, some) >= _WITHIN]
        if fits:
            found[name] = max(fits, key=lambda one: one[0])[1]
    return found


def _texts(s: pl.Series) -> pl.Series | None:
    """The texts of a column; None where it has others."""
    values = values_in(s) if s.dtype == pl.List else s.drop_nulls()
    return values if values.dtype == pl.String and len(values) else None


def _reach(s: pl.Series, values: pl.Series) -> float:
    """Share of rows with one of some values."""
    some = values.unique().implode()
    return share(s.list.eval(pl.element().is_in(some)).list.any() if s.dtype == pl.List else s.is_in(some))
