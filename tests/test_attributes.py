"""Filters of a server's items that several threads share."""

from __future__ import annotations

import polars as pl
import pytest

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.serving.attributes import Attributes, in_pieces


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


def test_a_text_of_several_values_is_wanted_by_one_of_them() -> None:
    """The same items as where the log has lists."""
    told = ["çocuk|müzik", "müzik", None, "çocuk", "çocuklar|spor", ""]
    tags = Feature(name="tags", side="item", kind="sequence", separator="|")
    plain = Feature(name="plain", side="item", kind="categorical")
    texts = in_pieces(pl.DataFrame({"tags": told, "plain": told}), [tags, plain])
    lists = pl.DataFrame({"tags": [None if t is None else t.split("|") for t in told], "plain": told})
    for wanted in ("çocuk", ["çocuk", "spor"], "çocuk|müzik", None):
        masks = [Attributes(pl.Series(range(6)), frame).mask({"tags": wanted}).tolist() for frame in (texts, lists)]
        assert masks[0] == masks[1], wanted
    items = Attributes(pl.Series(range(6)), texts)
    assert items.mask({"tags": "çocuk"}).tolist() == [True, False, False, True, False, False]
    assert items.mask({"plain": "çocuk"}).tolist() == [False, False, False, True, False, False], "no separator: whole"


def test_a_whole_number_is_the_text_that_it_is_written_as() -> None:
    """A flag of a CSV is text; another text, a fraction and a boolean of it are none."""
    items = Attributes(pl.Series([1, 2, 3]), pl.DataFrame({"active": ["1", "0", "01"]}))
    assert items.mask({"active": 1}).tolist() == [True, False, False]
    assert items.mask({"active": [0, "01"]}).tolist() == [False, True, True]
    for value in (1.0, True):
        with pytest.raises(UserError, match="expected String"):
            items.mask({"active": value})


def test_true_and_false_are_the_text_that_they_are_written_as() -> None:
    """As `init` offers `--filter is_deleted=false` for a CSV, whose columns that no feature reads are text."""
    for no in ("false", "False", "FALSE"):
        items = Attributes(pl.Series([1, 2, 3]), pl.DataFrame({"is_deleted": ["true", no, None]}))
        assert items.mask({"is_deleted": False}).tolist() == [False, True, False], no
        assert items.unknown({"is_deleted": False}) == []
