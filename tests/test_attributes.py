"""Filters of a server's items that several threads share."""

from __future__ import annotations

import polars as pl

from dmtl_cli.serving.attributes import Attributes


class Cleared(dict[str, object]):
    """Cleared by another thread as soon as one has looked whether a filter is there."""

    def __contains__(self, key: object) -> bool:
        found = super().__contains__(key)
        self.clear()
        return found


def test_another_thread_clears_what_is_remembered() -> None:
    items = Attributes(pl.Series([1, 2, 3]), pl.DataFrame({"kind": ["a", "b", "a"]}))
    items._masks = Cleared()  # type: ignore[assignment]
    for _ in range(2):
        assert items.mask({"kind": "a"}).tolist() == [True, False, True]
