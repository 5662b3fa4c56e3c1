"""Filters of a server's items that several threads share."""

from __future__ import annotations

import datetime as dt
import math
from pathlib import Path

import polars as pl
import pytest

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.serving.attributes import Attributes, in_pieces, of_items, read_more
from dmtl_cli.serving.requests import Range


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


@pytest.mark.parametrize("zone", [None, "Europe/Athens"])
def test_a_time_is_filtered_by_iso_8601_with_a_zone_or_without(zone: str | None) -> None:
    """A column without a zone is in UTC; a time without one is of the column's."""
    times = pl.Series([dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 2), None]).dt.replace_time_zone(zone)
    items = Attributes(pl.Series([1, 2, 3]), pl.DataFrame({"since": times}))
    midnight = "2026-01-02T00:00:00Z" if zone is None else "2026-01-01T22:00:00Z"
    for wanted in (midnight, midnight.replace("Z", "+00:00"), "2026-01-02", "2026-01-02T00:00", "2026-01-02 00:00:00"):
        assert items.mask({"since": wanted}).tolist() == [False, True, False], wanted
        assert items.mask({"since": Range(min=wanted)}).tolist() == [False, True, False], wanted
    with pytest.raises(UserError, match="filter: since: expected Datetime"):
        items.mask({"since": "02.01.2026"})


def test_lists_of_a_fixed_length_are_lists() -> None:
    pairs = pl.Series([[1, 2], [3, 4], None], dtype=pl.Array(pl.Int64, 2))
    items = Attributes(pl.Series([1, 2, 3]), pl.DataFrame({"pair": pairs}))
    assert items.mask({"pair": [4, 9]}).tolist() == [False, True, False]
    assert items.mask({"pair": None}).tolist() == [False, False, True]
    assert items.unknown({"pair": [4, 9]}) == ["filter pair: no item of this export has 9"]


@pytest.mark.parametrize("name", ["*", "^p.*$"])
def test_a_column_may_have_the_name_of_a_pattern(name: str) -> None:
    others = {"price": [1.0, 2.0, 3.0], "kind": ["a", "b", "c"]}
    items = Attributes(pl.Series([1, 2, 3]), pl.DataFrame({**others, name: [7, 8, None]}))
    assert items.mask({name: 8, "price": Range(min=1)}).tolist() == [False, True, False]
    assert items.mask({name: Range(max=7.5)}).tolist() == [True, False, False]
    assert items.mask({name: None}).tolist() == [False, False, True]
    assert items.unknown({name: 9}) == [f"filter {name}: no item of this export has 9"]


def test_a_range_of_numbers() -> None:
    """NaN is unknown; whole numbers may have any bound."""
    columns = {"price": [math.nan, 12.0, math.inf], "count": [3, 4, None]}
    items = Attributes(pl.Series([1, 2, 3]), pl.DataFrame(columns))
    assert items.mask({"price": Range(min=10)}).tolist() == [False, True, True]
    assert items.mask({"price": None}).tolist() == [True, False, False]
    assert items.mask({"count": Range(min=3.5)}).tolist() == [False, True, False]
    assert items.mask({"count": Range(min=2.5, max="3")}).tolist() == [True, False, False]
    with pytest.raises(UserError, match="count: expected Int64, got '0_3'"):
        items.mask({"count": "0_3"})


def test_a_whole_number_may_be_written_with_a_point() -> None:
    """JSON has one kind of number, and many clients write 3.0."""
    lists = [[3, 9], [4], None]
    items = Attributes(pl.Series([1, 2, 3]), pl.DataFrame({"count": [3, 4, None], "sizes": lists}))
    assert items.mask({"count": 3.0}).tolist() == items.mask({"sizes": 3.0}).tolist() == [True, False, False]
    assert items.mask({"count": [4.0, "3"], "item_id": [2.0]}).tolist() == [False, True, False]
    for wrong in (3.5, True, [3, 3.5]):
        with pytest.raises(UserError, match="count: expected Int64"):
            items.mask({"count": wrong})


@pytest.mark.parametrize("kind", [pl.UInt8, pl.Int32, pl.Int64, pl.UInt64])
def test_a_range_may_go_beyond_the_type_of_its_column(kind: type[pl.DataType]) -> None:
    items = Attributes(pl.Series([1, 2, 3]), pl.DataFrame({"count": pl.Series([3, 126, None], dtype=kind)}))
    for least in (-1, -(2**70), -1e300, -(2**900)):
        assert items.mask({"count": Range(min=least, max=2**100)}).tolist() == [True, True, False], least
    assert items.mask({"count": Range(min=4, max=1e300)}).tolist() == [False, True, False]


def test_a_file_of_items_has_integers_of_any_size_and_numbers_that_are_whole_at_first(tmp_path: Path) -> None:
    ids = pl.Series([3, 500, 7])
    rows = [f"{k},{k}" for k in range(200)] + ["+500,12.5"]
    (tmp_path / "items.csv").write_text("\n".join(["item_id,price", *rows]))
    assert of_items(ids, read_more(tmp_path / "items.csv", ids.dtype)).to_dict(as_series=False) == {
        "price": [3.0, 12.5, 7.0]
    }
    (tmp_path / "items.csv").write_text("item_id,zip,count\n3,007,1\n500,7,2\n7,,\n")
    more = of_items(ids, read_more(tmp_path / "items.csv", ids.dtype))
    assert more.to_dict(as_series=False) == {"zip": ["007", "7", None], "count": [1, 2, None]}
    assert Attributes(ids, more).mask({"zip": "007"}).tolist() == [True, False, False]
    for kind in (pl.Int32, pl.UInt64, pl.String):
        frame = pl.DataFrame({"item_id": pl.Series([7, 3]).cast(kind), "price": [1, 2]})
        frame.write_parquet(tmp_path / "items.parquet")
        assert of_items(ids, read_more(tmp_path / "items.parquet", ids.dtype))["price"].to_list() == [2, None, 1]
    for wrong in ([7.0], ["x"], [2**63]):
        pl.DataFrame({"item_id": wrong}).write_parquet(tmp_path / "items.parquet")
        with pytest.raises(UserError, match=r"items\.parquet: item_id: expected"):
            read_more(tmp_path / "items.parquet", ids.dtype)


def test_true_and_false_are_the_text_that_they_are_written_as() -> None:
    """As `init` offers `--filter is_deleted=false` for a CSV, whose columns that no feature reads are text."""
    for no in ("false", "False", "FALSE"):
        items = Attributes(pl.Series([1, 2, 3]), pl.DataFrame({"is_deleted": ["true", no, None]}))
        assert items.mask({"is_deleted": False}).tolist() == [False, True, False], no
        assert items.unknown({"is_deleted": False}) == []
