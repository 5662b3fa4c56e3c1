"""Values as small integers: codes, places and first events agree with plain Python on any values."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmtl_cli.data.log.checked.numbering import Cursor, Numbering, first_places
from dmtl_cli.data.log.files.rows import ahead
from dmtl_cli.data.log.values import sizes
from dmtl_cli.data.log.values.dictionary import Range, Texts, encoded, places
from dmtl_cli.runs.ranks import ALONE

NEAR, FAR = st.integers(-40, 40), st.integers(-(2**63), 2**63 - 1)
INTEGERS = st.lists(st.one_of(st.none(), NEAR, FAR), max_size=60)
TEXTS = st.lists(st.one_of(st.none(), st.text("ab\u00e9", max_size=3)), max_size=60)
COLUMNS = st.one_of(
    INTEGERS.map(lambda x: pl.Series(x, dtype=pl.Int64)), TEXTS.map(lambda x: pl.Series(x, dtype=pl.String))
)


@settings(max_examples=150, deadline=None)
@given(COLUMNS)
def test_codes_number_values_in_order_of_appearance(values: pl.Series) -> None:
    codes, distinct = encoded(values)
    expected = list(dict.fromkeys(v for v in values if v is not None))
    assert distinct.to_list() == expected
    assert codes.tolist() == [-1 if v is None else expected.index(v) for v in values]


@settings(max_examples=200, deadline=None)
@given(COLUMNS, COLUMNS, st.booleans())
def test_places_are_those_of_a_search_one_by_one(one: pl.Series, other: pl.Series, nulls: bool) -> None:
    known = one.drop_nulls().unique().sort()
    if nulls:
        known = pl.concat([pl.Series([None, None], dtype=known.dtype), known])
    if one.dtype == other.dtype:
        found = {v: k for k, v in enumerate(known) if v is not None}
        assert places(known, other).tolist() == [found.get(v, -1) for v in other]


@settings(max_examples=100, deadline=None)
@given(st.sets(NEAR, min_size=1), st.lists(st.one_of(NEAR, FAR), max_size=40), st.sampled_from([0, -(2**63), 2**62]))
def test_a_range_finds_its_values_alone(known: set[int], asked: list[int], first: int) -> None:
    values = np.array(sorted(v + first if first >= 0 else v + 40 + first for v in known))
    found = Range.of(values, np.arange(1, len(values) + 1, dtype=np.int32), 0)
    assert found is not None
    wanted = [*values.tolist(), *asked]
    assert found.lookup(np.array(wanted)).tolist() == [
        values.tolist().index(v) + 1 if v in values else 0 for v in wanted
    ]


def test_values_far_apart_have_no_range() -> None:
    assert Range.of(np.array([0, 2**40]), np.zeros(2, np.int32), 0) is None


ROWS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), min_size=1, max_size=80)


@settings(max_examples=100, deadline=None)
@given(ROWS, st.booleans(), st.integers(1, 30), st.integers(1, 90))
def test_a_numbering_finds_first_events_and_rows(
    rows: list[tuple[int, int]], timed: bool, merge: int, piece: int
) -> None:
    ids, times = [k * 10**15 for k, _ in rows], [t for _, t in rows]
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizes, "MERGE", merge)
        numbering = Numbering(Path(folder), "users")
        for k in range(0, len(rows), 7):
            numbering.add(pl.Series(ids[k : k + 7]), pl.Series(times[k : k + 7]) if timed else None)
        first = numbering.done().gather(ALONE, [0])
        order = sorted(range(len(rows)), key=lambda k: (times[k] if timed else 0, k))
        expected = {i: next(k for k in order if ids[k] == i) for i in ids}
        assert dict(first.iter_rows()) == expected
        known = sorted({*ids, -5})
        cursor = Cursor(numbering.rows(pl.Series(known)))
        found: list[int] = []
        while len(some := cursor.take(piece)):
            found += some.tolist()
        assert [known[k] for k in found] == ids
        assert not list(Path(folder).iterdir()), "its files are gone"


def test_of_equal_times_the_first_row_counts() -> None:
    codes = np.array([0, 1, 0, 1, 1], np.int32)
    assert first_places(codes, 2, pl.Series([3, 2, 1, 2, 1])).tolist() == [2, 4]
    assert first_places(codes, 2, pl.Series(["a"] * 5)).tolist() == first_places(codes, 2, None).tolist() == [0, 1]


def test_what_is_made_ahead_is_the_same_and_so_is_its_error() -> None:
    def frames() -> Iterator[pl.DataFrame]:
        yield pl.DataFrame({"n": [1]})
        yield pl.DataFrame({"n": [2]})
        raise ValueError("the third")

    found = []
    with pytest.raises(ValueError, match="the third"):
        for frame in ahead(frames()):
            found.append(frame["n"].item())
    assert found == [1, 2]


@given(st.lists(st.sampled_from(["", "a", "b", "ab", "é", "漢字", "z" * 40]), unique=True), st.data())
def test_texts_are_found_as_by_searching(known: list[str], data: st.DataObject) -> None:
    asked = data.draw(st.lists(st.sampled_from(["", "a", "b", "ab", "é", "漢字", "z" * 40, "c", None])))
    texts, values = pl.Series(sorted(known), dtype=pl.String), pl.Series(asked, dtype=pl.String)
    assert Texts(texts).places(values).tolist() == places(texts, values).tolist()


def test_texts_of_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl.Series, "hash", lambda s: s.str.len_bytes().cast(pl.UInt64).fill_null(7))
    known = pl.Series(["a", "b", "cc", "dd"])
    asked = pl.Series(["b", "dd", "x", None, "cc", "a", "eee"])
    assert Texts(known).places(asked).tolist() == [1, 3, -1, -1, 2, 0, -1]
