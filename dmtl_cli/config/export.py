"""`export`: how item vectors are stored, and what a server searches them by."""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Literal

from pydantic import AfterValidator, WithJsonSchema

from dmtl_cli.config.expressions import at_any_time, of_columns, sources_with_clock
from dmtl_cli.config.extras import has, require
from dmtl_cli.config.section import Grown, Positive

Numbers = Literal["float32", "float16", "int8"]
Search = Literal["exact", "hnsw", "ivf"]
Seen = Literal["click", "conversion"]
EXACT_BELOW = 200_000
"""items below which `auto` searches exactly: a user costs 10 ms there"""
ALL, LISTED = "all", "listed"
_WORDS = [ALL, LISTED]


def _items(text: str) -> str:
    if text not in _WORDS:
        of_columns(at_any_time(text))
    return text


_SCHEMA = {"anyOf": [{"enum": _WORDS}, {"type": "string"}]}
_Items = Annotated[str, AfterValidator(_items), WithJsonSchema(_SCHEMA)]


class Export(Grown):
    new = ("items", "seen_days", "seen")
    vectors: Numbers = "float32"
    """numbers of the stored item vectors; int8 has a scale a vector. What is stored is searched and measured"""
    index: Literal["auto", "exact", "hnsw", "ivf"] = "auto"
    """`exact`: every item is compared; `hnsw`, `ivf`: the export has an index of faiss (extra `index`), by which it is
    searched; `auto`: exact below 200,000 items, hnsw from there on, where faiss is installed"""

    items: _Items = ALL
    """which items are served: `all` of the log and of the table of items (data.items); `listed`: those of the table
    alone, where it is the whole catalogue; an SQL condition over the table's columns, computed ones too, as when the
    export's day is over, as "status = 'active' AND stock >= 1": the items of the table for which it is true, and none
    for which it is false or null, or that the table does not list. Without a table, over columns of the events: the
    newest row of an item tells it, of the export's day and the six days before it. `NOW()` is the end of that day in
    data.timezone and CURRENT_DATE the day that begins then, so "published_at > NOW() - INTERVAL '12 day'" is an age;
    times and days of the columns are read as `until` of data.items is"""

    seen_days: Positive = 1
    """days whose clicks `exclude_seen` leaves out of an answer, the export's own and those before it as far as the log
    has them: 7 where nobody wants within a week what they opened"""

    seen: Seen = "click"
    """what of these days `exclude_seen` leaves out: what a user clicked, or only what was a good click of theirs, as
    what they bought"""

    @property
    def has_clicked_apart(self) -> bool:
        """Whether what users clicked on the export's day is not what they saw."""
        return self.seen_days > 1 or self.seen != "click"

    @property
    def condition(self) -> str | None:
        """The one that `items` is; None where it is a word."""
        return None if self.items in _WORDS else self.items

    @property
    def columns(self) -> list[str]:
        """Those of the table of items that the condition names."""
        return sources_with_clock(self.condition) if self.condition else []

    def index_of(self, items: int) -> Search:
        """What an export of that many items is searched by."""
        if self.index != "auto":
            return self.index
        return "exact" if items < EXACT_BELOW else "hnsw"

    def refuse_without_faiss(self) -> None:
        """Raises UserError 78: an index is asked for, and the library that builds it is not installed."""
        if self.index in ("hnsw", "ivf"):
            require("faiss", f"export.index: {self.index}")


def faiss_version() -> str | None:
    """None where faiss is not installed."""
    for name in ("faiss-cpu", "faiss-gpu", "faiss"):
        with suppress(PackageNotFoundError):
            return version(name)
    return "unknown" if has("faiss") else None
