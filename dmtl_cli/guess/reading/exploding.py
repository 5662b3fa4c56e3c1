"""Lists in rows that are requests: which run in parallel, and the rows that they are once their elements are events."""

from __future__ import annotations

import itertools

import polars as pl

from dmtl_cli.data.log.formats.exploded import Exploded
from dmtl_cli.data.log.values.spool import frame_of
from dmtl_cli.guess.columns.objects import is_field, object_of

_SEVERAL = 1.2  # elements a row


def parallel(frame: pl.DataFrame, least: float = _SEVERAL) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """(names as `data.events.explode` takes them, columns) of lists of one object, or beside each other, that have as
    many elements in every row; those with most lists first. An object within the elements of a list, which some lack,
    is of that list: `shown.read.seconds` runs in parallel with `shown.item`."""
    groups: list[tuple[str, list[str]]] = []
    lists = [c for c, kind in frame.schema.items() if isinstance(kind, pl.List)]
    lengths = {c: frame[c].list.len() for c in lists}
    for c in lists:
        mine = object_of(c)
        for k, (above, columns) in enumerate(groups):
            shared = _shared(above, mine)
            if (shared or above == mine) and _are_alike(lengths[columns[0]], lengths[c]):
                groups[k] = shared, [*columns, c]
                break
        else:
            groups.append((mine, [c]))
    out = []
    for above, columns in groups:
        many = max(float(lengths[c].drop_nulls().mean() or 0) for c in columns)  # type: ignore[arg-type]
        if len(columns) > 1 and many >= least:
            whole = above and [c for c in lists if c.startswith(f"{above}.")] == columns
            out.append(((above,) if whole else tuple(columns), tuple(columns)))
    return sorted(out, key=lambda group: -len(group[1]))


def _shared(one: str, other: str) -> str:
    """The object that two others are in, or are; "" where there is none."""
    pairs = zip(one.split("."), other.split("."), strict=False)
    return ".".join(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _are_alike(one: pl.Series, other: pl.Series) -> bool:
    both = one.is_not_null() & other.is_not_null()
    return bool(both.any()) and bool((one.filter(both) == other.filter(both)).all())


def elements(frame: pl.DataFrame, names: tuple[str, ...], place: str | None = None) -> pl.DataFrame:
    """The rows of a sample whose lists are exploded, in which a list of another length is null; as they are where they
    lack these lists.

    Args:
        place: of a further column, the element's place in its list, from 1.
    """
    lists = lists_of(frame, names)
    if not lists:
        return frame
    most = pl.max_horizontal(pl.col(c).list.len() for c in lists)
    frame = frame.with_columns(pl.when(pl.col(c).list.len() == most).then(pl.col(c)) for c in lists)
    counted = max(lists, key=lambda c: frame[c].count())
    explode = Exploded(names, counted, place)
    rows = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    return frame_of(explode.of(rows, [counted, *(c for c in lists if c != counted)], str))


def lists_of(frame: pl.DataFrame, names: tuple[str, ...]) -> list[str]:
    """The columns that are exploded."""
    return [c for c, kind in frame.schema.items() if isinstance(kind, pl.List) and is_field(c, names)]
