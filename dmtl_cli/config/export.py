"""`export`: how item vectors are stored, and what a server searches them by."""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer

from dmtl_cli.config.extras import has, require
from dmtl_cli.config.section import Section

Numbers = Literal["float32", "float16", "int8"]
Search = Literal["exact", "hnsw", "ivf"]
EXACT_BELOW = 200_000
"""items below which `auto` searches exactly: a user costs 10 ms there"""


class Export(Section):
    vectors: Numbers = "float32"
    """numbers of the stored item vectors; int8 has a scale a vector. What is stored is searched and measured"""
    index: Literal["auto", "exact", "hnsw", "ivf"] = "auto"
    """`exact`: every item is compared; `hnsw`, `ivf`: the export has an index of faiss (extra `index`), by which it is
    searched; `auto`: exact below 200,000 items, hnsw from there on, where faiss is installed"""

    items: Literal["all", "listed"] = "all"
    """which items are served: `all` of the log and of the table of items; `listed`: those of the table alone, where it
    is the whole catalogue (data.items)"""

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Exports of all items keep the keys that they had before one could say so."""
        dumped: dict[str, Any] = dump(self)
        return {k: v for k, v in dumped.items() if k != "items" or v != "all"}

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
