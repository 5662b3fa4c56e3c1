"""A few users with what they did and what they are served, in words where the items have titles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import polars as pl
import polars.selectors as cs
import pyarrow as pa
import pyarrow.compute as pc

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.pattern import DayPattern
from dmtl_cli.config.schema import Config
from dmtl_cli.data.log.files.converted import conversions
from dmtl_cli.data.log.formats.parquet import Parquet
from dmtl_cli.data.log.formats.source import File, Store
from dmtl_cli.data.profile.stored import Profile
from dmtl_cli.report.blocks import Section, Words
from dmtl_cli.report.facts import Facts
from dmtl_cli.runs.manifest import Manifest
from dmtl_cli.runs.workspace import Workspace
from dmtl_cli.serving.export import Export
from dmtl_cli.serving.files import clicked_of

NAMES = ("title", "name", "headline", "caption", "subject", "text", "description")
"""what a column of titles is called, the likeliest first"""
_QUANTILES = (0.1, 0.5, 0.9)
_HISTORY, _LIST = 8, 10
_MOST = 512 << 20  # bytes of an export that are read for three lists
_SAMPLE = 1_000  # rows that tell whether a column has titles
_CUT = 120  # characters of a title

Ids = list[Any]


def lists(facts: Facts, ws: Workspace, config: Config) -> Section | None:
    """The lists of three users of the day's export: one of few, one of middling, one of many clicks that day. None
    where there is no export, or it is too large to be read for this."""
    run, folder = facts.run("export"), ws.current("export", facts.day)
    if run is None or folder is None or sum(f["bytes"] for f in run.files) > _MOST:
        return None
    export = Export(folder, lazily=True)
    chosen = _chosen(export.users)
    before = _histories(facts, ws, config, chosen["user_id"])
    served = [export.recommend(str(user), _LIST)["item_id"].to_list() for user in chosen["user_id"]]
    clicked = [(items or [])[-_HISTORY:][::-1] for items in chosen["clicked"].to_list()]
    columns = {"clicked that day": clicked, **before, "is served": served}
    ids = {item for lists in columns.values() for items in lists for item in items}
    column, titles = _titles(config, run, ids)
    if column is None:
        column, titles = _titles_of(export, ids)
    blocks = [
        Words(f"User {user}", [(name, [_said(item, titles) for item in lists[k]]) for name, lists in columns.items()])
        for k, user in enumerate(chosen["user_id"])
    ]
    lead = "Three users of the day's export, of few, middling and many clicks that day; newest first. "
    lead += _named_by(config, column)
    return Section("lists", "A few lists", lead, blocks)


def _named_by(config: Config, column: str | None) -> str:
    if column:
        return f"Items by their column {column}."
    if config.data.items is None:
        what = "no text feature of items is a title, by its name or as words of nearly every item's own"
        return f"Items by their ids: there is no table of items (data.items), and {what}."
    return "The items table has no column that looks like a title: ids."


def _said(item: Any, titles: Mapping[Any, str]) -> str:
    title = titles.get(item)
    return str(item) if title is None else title if len(title) <= _CUT else title[: _CUT - 1] + "…"


def _chosen(users: pl.DataFrame) -> pl.DataFrame:
    """Rows of users at some quantiles of their clicks; equal ones are in the order of their ids."""
    ranked = users.select("user_id", clicked_of(users).alias("clicked"))
    ranked = ranked.with_columns(clicks=pl.col("clicked").list.len().fill_null(0))
    active = ranked.filter(pl.col("clicks") > 0)
    ranked = (active if len(active) else ranked).sort("clicks", "user_id")
    return ranked[sorted({int(q * (len(ranked) - 1)) for q in _QUANTILES})]


def _histories(facts: Facts, ws: Workspace, config: Config, users: pl.Series) -> dict[str, list[Ids]]:
    """By what they did before, the last items of each user, newest first, as the day's profile has them."""
    folder = ws.current("profile", facts.day)
    features = [f for f in config.features if f.side == "user" and f.profile is not None and f.profile.history]
    if folder is None or not features:
        return {}
    found = Profile.open(folder).features("user", users, features, facts.day)
    words = {f.name: f"{facts.words.of(f.profile.history or '')}, up to that day" for f in features if f.profile}
    lists = {
        words[name]: [(items or [])[-_HISTORY:][::-1] for items in found[name].to_list()] for name in found.columns
    }
    return dict(list(lists.items())[-1:])  # the last one is the rarer event: reads beside clicks


def _titles(config: Config, run: Manifest, ids: set[Any]) -> tuple[str | None, dict[Any, str]]:
    """(the column of titles, title by id), from the files of the items table that the export read."""
    table = config.data.items
    if table is None:
        return None, {}
    if not config.data.is_converted(table):
        place, store = DayPattern(table.path) if table.is_dated else table.path, Store(config.data.root)
    else:
        place, store = "items", Store(str(conversions(config.workspace)))
    read = [one for one in run.inputs if _is_in(one["path"], place)]
    column: str | None = None
    titles: dict[Any, str] = {}
    for one in read:
        try:
            with File(store, one["path"], one["bytes"], 0).open() as file:
                column = column or _title_column(file, table.key)
                if column is None:
                    return None, {}
                titles |= _of(file, table.key, column, ids)
        except (UserError, pa.ArrowException, KeyError):  # the log has changed since: the lists are shown by their ids
            continue
    return column, titles


def _is_in(path: str, place: DayPattern | str) -> bool:
    """Whether a file is the place, or one of the places, of a table, or below it."""
    above = [path, *map(str, PurePosixPath(path).parents)]
    if isinstance(place, str):
        deep = len(PurePosixPath(place).parts)
        return any(PurePosixPath(p).match(place) for p in above if len(PurePosixPath(p).parts) == deep)
    return any(place.day_of(p) is not None for p in above)


def _of(file: Parquet, key: str, column: str, ids: set[Any]) -> dict[Any, str]:
    wanted = pa.array(sorted(ids))
    out: dict[Any, str] = {}
    for k in range(file.num_row_groups):
        rows = file.read_row_group(k, [key, column], use_threads=False)
        kept = rows.filter(pc.is_in(rows[key].cast(wanted.type), wanted))
        pairs = zip(kept[key].cast(wanted.type).to_pylist(), kept[column].to_pylist(), strict=True)
        out |= {item: " ".join(text.split()) for item, text in pairs if text and text.strip()}
    return out


def _title_column(file: Parquet, key: str) -> str | None:
    """A text column by a name of NAMES, else the one whose values are words, nearly all of them different."""
    schema = file.schema_arrow
    texts: list[str] = [
        f.name for f in schema if f.name != key and (pa.types.is_string(f.type) or pa.types.is_large_string(f.type))
    ]
    if named := _named(texts):
        return named
    if not file.num_row_groups or not texts:
        return None
    first = next(file.iter_batches(_SAMPLE, row_groups=[0], columns=texts, use_threads=False), None)
    return None if first is None else next((name for name in texts if _is_words(first.column(name).to_pylist())), None)


def _named(texts: Sequence[str]) -> str | None:
    """The likeliest of some columns by its name; None where no name says it."""
    by_name = {name.lower().replace(".", "_").rpartition("_")[2]: name for name in reversed(texts)}
    return next((by_name[name] for name in NAMES if name in by_name), None)


def _titles_of(export: Export, ids: set[Any]) -> tuple[str | None, dict[Any, str]]:
    """(the feature of titles, title by id), from the features that the export has of its items."""
    known = export.item_features.select(cs.string())
    column = _named(known.columns)
    if column is None:
        column = next((s.name for s in known if _is_words(s.drop_nulls().head(_SAMPLE))), None)
    if column is None:
        return None, {}
    items = pl.DataFrame([export.items[0].alias("id"), known[column].alias("text")]).drop_nulls()
    mine = items.filter(pl.col("id").is_in([*ids]))
    return column, {item: " ".join(text.split()) for item, text in mine.iter_rows() if text.strip()}


def _is_words(values: Iterable[str | None]) -> bool:
    known = [v for v in values if v]
    return len(known) > 1 and len({*known}) > 0.8 * len(known) and sum(" " in v for v in known) > 0.5 * len(known)
