"""Values become rows that keep their meaning from day to day."""

import datetime as dt
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.data.features import kinds, stored
from dmtl_cli.data.features.buckets import Buckets
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.kinds import KINDS, kind_of
from dmtl_cli.data.features.kinds.kind import Kind, Learned
from dmtl_cli.data.features.layout import Encoded, FloatColumns, IdColumn, PaddedSequence
from dmtl_cli.data.features.vocabulary import Vocabulary
from dmtl_cli.data.log.checked.day import ID, Day
from dmtl_cli.data.log.values.spool import Spool

FIRST = dt.date(2026, 1, 1)
ITEM = Feature(name="item_id", side="item", kind="categorical")


def a_day(
    users: dict[str, Any] | None = None,
    items: dict[str, Any] | None = None,
    events: dict[str, list[int]] | None = None,
    day: dt.date = FIRST,
) -> Day:
    """A day's tables alone; one event an id unless told."""
    frames = []
    for given_ in (users, items):
        frame = pl.DataFrame(given_ if given_ is not None else {"none": [0]})
        frames.append(frame if ID in frame.columns else frame.with_columns(pl.int_range(pl.len()).alias(ID)))
    counts = [
        np.array((events or {}).get(side, [1] * len(f))) for side, f in zip(("user", "item"), frames, strict=True)
    ]
    none = np.zeros(0, np.int64)
    return Day(day, frames[0], frames[1], Spool(Path(), ()), none, none, counts[0], counts[1], counts[1], {"rows": 1})


def items_day(values: Any, counts: list[int] | None = None, day: int = 0) -> Day:
    events = None if counts is None else {"item": counts}
    return a_day(items={"item_id": values}, events=events, day=FIRST + dt.timedelta(day))


def lookup(encoder: Encoder, values: list[Any]) -> list[int]:
    dtype = encoder.vocabularies["item_id"].frame["value"].dtype
    return encoder.vocabularies["item_id"].lookup(pl.Series(values, dtype=dtype)).tolist()


def same(a: Encoded, b: Encoded) -> bool:
    arrays = [(a.ids, b.ids), (a.floats, b.floats), *zip(a.sequences, b.sequences, strict=True)]
    return all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in arrays)


# -- vocabularies ------------------------------------------------------------------------------------------------------


def test_a_vocabulary_grows_and_rows_stay() -> None:
    one = Encoder((ITEM,)).grow([items_day([30, 10])])
    assert lookup(one, [10, 30, 20, None]) == [1, 2, 0, 0]
    two = one.grow([items_day([20, 10, 5], day=1)])
    assert lookup(two, [10, 30, 5, 20]) == [1, 2, 3, 4], "old rows stay, new ones in order of value"
    assert two.embedding_rows() == {"item_id": 5} and one.embedding_rows() == {"item_id": 3}
    frame = two.vocabularies["item_id"].frame
    assert frame["count"].to_list() == [1, 2, 1, 1]
    assert frame.filter(pl.col("value") == 30)["last_seen"].item() == FIRST
    assert frame.filter(pl.col("value") == 10)["last_seen"].item() == FIRST + dt.timedelta(1)


def test_a_day_that_comes_late_was_not_the_last_that_had_a_value() -> None:
    new, old = items_day([30, 10], day=1), items_day([20, 10])
    late, in_time = (Encoder((ITEM,)).grow(days).vocabularies["item_id"].frame for days in ([new, old], [old, new]))
    seen = ["value", "count", "last_seen"]
    assert late.select(seen).equals(in_time.select(seen)) and late["row"].to_list() == [1, 3, 2]


def test_admission_counts_events_over_days() -> None:
    encoder = Encoder((ITEM.model_copy(update={"min_count": 3}),))
    one = encoder.grow([items_day(["a", "b", "c"], [2, 3, 0])])
    assert lookup(one, ["a", "b", "c"]) == [0, 1, 0], "c has no events: it does not even wait"
    assert one.vocabularies["item_id"].frame["value"].to_list() == ["a", "b"]
    two = one.grow([items_day(["a", "c"], [1, 2], day=1)])
    assert lookup(two, ["a", "b", "c"]) == [2, 1, 0]
    assert lookup(encoder.grow([items_day(["a", "b", "c"], [2, 3, 0]), items_day(["a", "c"], [1, 2], 1)]), ["a", "b"]) \
        == [2, 1]  # fmt: skip


VALUES = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(0, 40))
DAYS = st.lists(st.lists(st.tuples(VALUES, st.integers(1, 4)), max_size=12), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(DAYS, st.integers(1, 4), st.booleans())
def test_lookup_after_growth_is_injective_and_stable(
    days: list[list[tuple[int, int]]], min_count: int, text: bool
) -> None:
    dtype = pl.String() if text else pl.Int64()
    vocabulary = Vocabulary.empty(dtype)
    counts: dict[Any, int] = {}
    before: dict[Any, int] = {}
    for k, seen in enumerate(days):
        values: list[Any] = [str(v) if text else v for v, _ in seen]
        frame = pl.DataFrame({"value": pl.Series(values, dtype=dtype), "count": [c for _, c in seen]},
                             schema_overrides={"count": pl.Int64})  # fmt: skip
        vocabulary = vocabulary.grow(frame, FIRST + dt.timedelta(k), min_count)
        for v, (_, c) in zip(values, seen, strict=True):
            counts[v] = counts.get(v, 0) + c
        known = list(counts)
        rows = dict(zip(known, vocabulary.lookup(pl.Series(known, dtype=dtype)).tolist(), strict=True))
        assert {v for v, r in rows.items() if r > 0} == {v for v, c in counts.items() if c >= min_count}
        admitted = sorted(r for r in rows.values() if r > 0)
        assert admitted == list(range(1, vocabulary.rows)), "one row each, without gaps"
        assert all(rows[v] == r for v, r in before.items()), "a row is kept"
        before = {v: r for v, r in rows.items() if r > 0}
        assert vocabulary.lookup(pl.Series([None], dtype=dtype)).tolist() == [0]


def test_the_order_of_rows_in_a_day_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    values, counts = rng.permutation(50), rng.integers(0, 5, 50)
    amount = Feature(name="x", side="item", kind="numeric")
    x = rng.lognormal(size=50)
    grown = []
    for order in (np.arange(50), rng.permutation(50)):
        day = a_day(items={"item_id": values[order], "x": x[order]}, events={"item": counts[order].tolist()})
        grown.append(Encoder((ITEM.model_copy(update={"min_count": 2}), amount)).grow([day]))
    one, other = grown
    assert one.vocabularies["item_id"].frame.equals(other.vocabularies["item_id"].frame)
    assert one.numbers == other.numbers, "to the last bit"


HISTORY = Feature(name="history", side="user", kind="sequence", embedding_name="item_id", max_length=3)


def test_a_history_and_an_id_share_an_embedding() -> None:
    day = a_day(users={"history": [[7, 5], None, []]}, items={"item_id": [9, 5]})
    encoder = Encoder((HISTORY, ITEM)).grow([day])
    assert encoder.embedding_rows() == {"item_id": 4}
    assert lookup(encoder, [5, 7, 9]) == [1, 2, 3]
    assert encoder.entities(day, "user").sequences[0].tolist() == [[2, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert encoder.entities(day, "item").ids.tolist() == [[3], [1]]
    assert encoder.layout("user").sequences == (("item_id", 3),) and encoder.layout("item").ids == ("item_id",)
    twice = Encoder((HISTORY, ITEM.model_copy(update={"min_count": 2}))).grow([day])
    assert lookup(twice, [5, 7, 9]) == [1, 0, 0], "counted together, and the larger min_count holds"
    with pytest.raises(UserError, match="share embedding item_id"):
        Encoder((HISTORY, ITEM)).grow([a_day(users={"history": [["a"]]}, items={"item_id": [9]})])
    with pytest.raises(UserError, match="values of item_id are String, before Int64"):
        encoder.grow([a_day(users={"history": [["a"]]}, items={"item_id": ["b"]})])


def test_a_sequence_keeps_its_last_known_values() -> None:
    encoder = Encoder((HISTORY,)).grow([a_day(users={"history": [[1, 2, 3, 4, 5]]})])
    asked = pl.DataFrame({"history": [[1, 2, 3, 4, 5], [1, 99, None, 2, 98, 3, 4, 97], [99], [5, 5], None]})
    expected = [[3, 4, 5], [2, 3, 4], [0, 0, 0], [5, 5, 0], [0, 0, 0]]
    assert encoder.encode(asked, "user").sequences[0].tolist() == expected
    fixed = pl.DataFrame({"history": pl.Series([[1, 2], [3, 9]], dtype=pl.Array(pl.Int64, 2))})
    assert encoder.encode(fixed, "user").sequences[0].tolist() == [[1, 2, 0], [3, 0, 0]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.none(), st.lists(st.one_of(st.none(), st.integers(0, 9)), max_size=8)), max_size=6))
def test_sequences_match_a_plain_loop(lists: list[list[int | None] | None]) -> None:
    encoder = Encoder((HISTORY,)).grow([a_day(users={"history": [[0, 2, 4, 6]]})])
    row = {0: 1, 2: 2, 4: 3, 6: 4}
    expected = []
    for values in lists:
        known = [row[v] for v in values or [] if v in row][-3:]
        expected.append(known + [0] * (3 - len(known)))
    asked = pl.DataFrame({"history": pl.Series(lists, dtype=pl.List(pl.Int64))})
    assert encoder.encode(asked, "user").sequences[0].tolist() == expected


def test_separated_text_is_a_sequence() -> None:
    tags = Feature(name="tags", side="item", kind="sequence", separator="|", max_length=4)
    day = a_day(items={"tags": ["b|a", "", None, "a||c|"]})
    encoder = Encoder((tags,)).grow([day])
    assert encoder.vocabularies["tags"].frame["value"].to_list() == ["a", "b", "c"], "nothing between two is no value"
    assert encoder.entities(day, "item").sequences[0].tolist() == [[2, 1, 0, 0], [0] * 4, [0] * 4, [1, 3, 0, 0]]
    with pytest.raises(UserError, match="tags: expected a list"):
        Encoder((tags.model_copy(update={"separator": None}),)).grow([day])


def test_a_first_day_without_values_does_not_fix_their_type() -> None:
    empty = a_day(users={"history": pl.Series([[], None], dtype=pl.List(pl.Int64))})
    one = Encoder((HISTORY,)).grow([empty])
    assert one.embedding_rows() == {"item_id": 1}
    assert one.encode(pl.DataFrame({"history": [[3]]}), "user").sequences[0].tolist() == [[0, 0, 0]]
    two = one.grow([a_day(users={"history": [[3, 4]]}, day=FIRST + dt.timedelta(1))])
    assert lookup(two, [3, 4]) == [1, 2]


def test_categorical_values() -> None:
    kind = Feature(name="c", side="item", kind="categorical")
    for values, rows in (
        ([1.0, None, 3.0], [1, 0, 2]),
        ([True, False, None], [2, 1, 0]),
        (pl.Series(["b", "a", None], dtype=pl.Categorical), [2, 1, 0]),
    ):
        day = a_day(items={"c": values})
        assert Encoder((kind,)).grow([day]).entities(day, "item").ids[:, 0].tolist() == rows
    with pytest.raises(UserError, match="feature c: a categorical value is not whole"):
        Encoder((kind,)).grow([a_day(items={"c": [1.5]})])
    with pytest.raises(UserError, match="feature c: expected integers or text"):
        Encoder((kind,)).grow([a_day(items={"c": [[1]]})])


@pytest.mark.parametrize("dtype", [pl.Int64(), pl.String()])
def test_a_lookup_of_few_values_is_that_of_many(dtype: pl.DataType) -> None:
    """Few are searched for, many are joined."""
    rng = np.random.default_rng(0)
    values = pl.Series(rng.permutation(3000) * 7 - 9000).cast(dtype).sort()
    rows = np.where(rng.random(3000) < 0.2, 0, rng.permutation(3000) + 1)
    frame = {"value": values, "row": rows.astype(np.int32), "count": 1, "last_seen": FIRST}
    vocabulary = Vocabulary(pl.DataFrame(frame))
    asked = pl.Series([*rng.integers(-9100, 12100, 2000).tolist(), -(2**63), 2**63 - 1, None]).cast(dtype)
    asked = pl.concat([asked, values.sample(1000, seed=1)])
    row = dict(zip(values.to_list(), rows.tolist(), strict=True))
    expected = [row.get(v, 0) for v in asked.to_list()]
    assert vocabulary.lookup(asked).tolist() == expected and np.mean(np.array(expected) > 0) > 0.2
    few = [vocabulary.lookup(asked[k : k + 50]) for k in range(0, len(asked), 50)]
    assert np.concatenate(few).tolist() == expected and all(f.dtype == np.int32 for f in few)


# -- buckets -----------------------------------------------------------------------------------------------------------

HASHED = ITEM.model_copy(update={"hash_bucket_size": 1000})
HASHED_HISTORY = HISTORY.model_copy(update={"hash_bucket_size": 1000})
INTS = {0: 536, 1: 466, -1: 937, 42: 414, -(2**63): 916, 2**63 - 1: 40}
TEXTS = {"5": 793, "a": 344, "ä": 530, "日本語": 465, "user-000042": 551, "😀": 761, "e\u0301": 246, "\u00e9": 744,
         " ": 155}  # fmt: skip


@pytest.mark.parametrize("known", [INTS, TEXTS], ids=["int64", "text"])
def test_rows_of_a_hash_are_frozen(known: dict[Any, int]) -> None:
    """Another value here is other rows in every stored model."""
    values = [*known, None, *known]
    rows = [*known.values(), 0, *known.values()]
    encoder = Encoder((HASHED,)).grow([items_day(values)])
    assert encoder.entities(items_day(values), "item").ids[:, 0].tolist() == rows
    assert encoder.embedding_rows() == {"item_id": 1001}


def plain_row(value: int | str | None, size: int) -> int:
    """The contract's words in plain Python."""
    if value is None or value == "":
        return 0
    if isinstance(value, str):
        return 1 + int.from_bytes(hashlib.blake2b(value.encode("utf-8"), digest_size=8).digest(), "big") % size
    z = (value + 0x9E3779B97F4A7C15) % 2**64
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) % 2**64
    return 1 + (z ^ z >> 31) % size


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(st.lists(st.one_of(st.none(), VALUES), max_size=20), st.lists(st.one_of(st.none(), TEXT), max_size=20)),
    st.one_of(st.integers(1, 2**31 - 1), st.integers(1, 9)),
)
def test_rows_are_the_contracts(values: list[Any], size: int) -> None:
    dtype = pl.String() if any(isinstance(v, str) for v in values) else pl.Int64()
    rows = Buckets(size, dtype).lookup(pl.Series(values, dtype=dtype))
    assert rows.dtype == np.int32 and rows.tolist() == [plain_row(v, size) for v in values]


def test_rows_of_neighbours_are_spread_evenly() -> None:
    """Chi squared of 255 degrees of freedom: 255 within six deviations of 22.6; a plain modulus would give 0."""
    for values in (pl.Series(range(50_000)), pl.Series(range(0, 256 * 50_000, 256)),
                   pl.Series([f"item-{k:08d}" for k in range(50_000)])):  # fmt: skip
        rows = Buckets(256, values.dtype).lookup(values)
        counts = np.bincount(rows, minlength=257)
        expected = 50_000 / 256
        assert counts[0] == 0 and 120 < float(((counts[1:] - expected) ** 2 / expected).sum()) < 390


def test_hashed_values_are_what_categorical_values_are() -> None:
    kind = Feature(name="c", side="item", kind="categorical", hash_bucket_size=10**6)
    for values, plain in (
        ([1.0, None, 3.0, float("nan")], [1, None, 3, None]),
        ([True, False, None], [1, 0, None]),
        (pl.Series(["b", "a", None], dtype=pl.Categorical), ["b", "a", None]),
        (pl.Series([7, 9], dtype=pl.UInt16), [7, 9]),
    ):
        day = a_day(items={"c": values})
        rows = Encoder((kind,)).grow([day]).entities(day, "item").ids[:, 0].tolist()
        assert rows == [plain_row(v, 10**6) for v in plain]
    with pytest.raises(UserError, match="feature c: a categorical value is not whole"):
        Encoder((kind,)).grow([a_day(items={"c": [1.5]})])


@pytest.mark.parametrize("text", [False, True])
def test_a_hashed_history_shares_its_items_rows(text: bool) -> None:
    a, b, c, d = ("a", "b", "c", "d") if text else (9, 5, 7, 8)
    day = a_day(users={"history": [[a, None, b, c, d], None, [], [b]]}, items={"item_id": [a, b]})
    encoder = Encoder((HASHED_HISTORY, HASHED)).grow([day])
    rows = {v: plain_row(v, 1000) for v in (a, b, c, d)}
    expected = [[rows[b], rows[c], rows[d]], [0, 0, 0], [0, 0, 0], [rows[b], 0, 0]]
    assert encoder.entities(day, "user").sequences[0].tolist() == expected, "the last three"
    assert encoder.entities(day, "item").ids.tolist() == [[rows[a]], [rows[b]]]
    assert encoder.layout("user") == Encoder((HISTORY, ITEM)).layout("user")
    with pytest.raises(UserError, match=r"history \(String\) and item_id \(Int64\) share embedding item_id"):
        Encoder((HASHED_HISTORY, HASHED)).grow([a_day(users={"history": [["a"]]}, items={"item_id": [9]})])


@pytest.mark.parametrize("size", [None, 1000])
def test_values_keep_their_type_and_days_without_any_have_none(size: int | None) -> None:
    empty = items_day(pl.Series([None, None], dtype=pl.Float64))
    start = Encoder((ITEM.model_copy(update={"hash_bucket_size": size}),)).grow([empty])
    assert start.entities(items_day(["a"]), "item").ids.tolist() == [[0]], "no row was trained yet"
    text, ints = start.grow([items_day(["5"], day=1)]), start.grow([items_day([5], day=1)])
    for encoder, other, words in ((text, [5], "Int64, before String"), (ints, ["5"], "String, before Int64")):
        with pytest.raises(UserError, match=f"day 2026-01-03: values of item_id are {words}"):
            encoder.grow([items_day(other, day=2)])
        encoder.grow([empty])
        rows = [encoder.entities(items_day(values), "item").ids.tolist() for values in (["5"], [5])]
        assert rows[0] == rows[1] != [[0]], "what a server asks is cast"
    if size:
        assert text.entities(items_day(["5"]), "item").ids[0, 0] != ints.entities(items_day([5]), "item").ids[0, 0]


def test_growing_reads_no_more_events_than_tell_the_type(monkeypatch: pytest.MonkeyPatch) -> None:
    feature = Feature(name="device", side="context", kind="categorical", hash_bucket_size=1000)
    tags = Feature(name="tags", side="context", kind="sequence", hash_bucket_size=1000)
    logged = [([None, None], [None, []]), ([None, "x"], [[None], ["y"]]), (["z", "w"], [["y"], []])]
    read = []

    def values(day: Day, name: str) -> Iterator[pl.Series]:
        for k, (device, tag) in enumerate(logged):
            read.append(k)
            schema = {"device": pl.String, "tags": pl.List(pl.String)}
            yield pl.DataFrame({"device": device, "tags": tag}, schema=schema)[name]

    monkeypatch.setattr(Day, "values", values)
    for f in (feature, tags):
        read.clear()
        grown = Encoder((f,)).grow([a_day()])
        assert grown.vocabularies == {f.name: Buckets(1000, pl.String())} and read == [0, 1]
    read.clear()
    assert len(Encoder((feature.model_copy(update={"hash_bucket_size": None}),)).grow([a_day()]).embedding_rows()) == 1
    assert read == [0, 1, 2]


# -- numbers -----------------------------------------------------------------------------------------------------------


def numeric(**more: Any) -> Feature:
    return Feature(name="x", side="item", kind="numeric", **more)


def test_an_edge_belongs_to_the_bucket_above_it() -> None:
    encoder = Encoder((numeric(boundaries=(0.0, 1.5)),)).grow([a_day(items={"x": [7.0]})])
    asked = pl.DataFrame({"x": [-1e9, -1e-9, 0.0, 1.4, 1.5, 1e9, None, float("nan"), float("inf")]})
    assert encoder.encode(asked, "item").ids[:, 0].tolist() == [1, 1, 2, 2, 3, 3, 0, 0, 0]
    assert encoder.embedding_rows() == {"x": 4}
    layout = encoder.layout("item")
    assert layout.ids == ("x",) and layout.is_id == (False,) and layout.floats == 0


def test_quantile_buckets_hold_equal_shares_and_are_carried() -> None:
    x = np.random.default_rng(0).permutation(1000).astype(float)
    encoder = Encoder((numeric(num_buckets=4),)).grow([a_day(items={"x": x})])
    rows = encoder.encode(pl.DataFrame({"x": x}), "item").ids[:, 0]
    assert np.bincount(rows).tolist() == [0, 250, 250, 250, 250]
    later = encoder.grow([a_day(items={"x": x + 5000})])
    assert later.numbers == encoder.numbers
    assert set(later.encode(pl.DataFrame({"x": x + 5000}), "item").ids[:, 0].tolist()) == {4}
    few = Encoder((numeric(num_buckets=10),)).grow([a_day(items={"x": [1, 1, 1, 2]})])
    assert few.encode(pl.DataFrame({"x": [0, 1, 2]}), "item").ids.max() < few.embedding_rows()["x"]


@pytest.mark.parametrize("transform", [None, "standardize", "log1p"])
def test_numbers_are_numpys(transform: str | None) -> None:
    x = np.random.default_rng(1).normal(3, 20, 200)
    events = [1] * 150 + [0] * 50
    day = a_day(items={"x": x}, events={"item": events})
    encoder = Encoder((numeric(**({"transform": transform} if transform else {})),)).grow([day])
    y = np.sign(x) * np.log1p(np.abs(x)) if transform == "log1p" else x
    expected = (y - y[:150].mean()) / y[:150].std()
    assert encoder.entities(day, "item").floats[:, 0] == pytest.approx(np.clip(expected, -10, 10), abs=1e-5)
    odd = encoder.encode(pl.DataFrame({"x": [None, float("nan"), float("-inf"), 1e30]}), "item").floats[:, 0]
    assert odd[:3].tolist() == [0, 0, 0] and odd[3] == (10 if transform != "log1p" else odd[3]) and odd[3] <= 10


@pytest.mark.parametrize("values", [[0.1] * 3, [5]])
def test_a_number_that_never_changes_is_zero(values: list[Any]) -> None:
    day = a_day(items={"x": pl.Series(values, dtype=pl.Float64)})
    encoder = Encoder((numeric(),)).grow([day])
    assert encoder.numbers["x"]["std"] == 1.0
    assert encoder.entities(day, "item").floats[:, 0] == pytest.approx([0.0] * len(values), abs=1e-7)


@pytest.mark.parametrize("options", [{}, {"num_buckets": 2}])
def test_a_number_that_stands_for_none_is_not_measured(options: dict[str, Any]) -> None:
    """DBL_MAX: its square is no float64, and the middle of it and of -DBL_MAX is far from all others."""
    most = np.finfo(np.float64).max
    with_it, without = (
        Encoder((numeric(**options),)).grow([a_day(items={"x": pl.Series(x, dtype=pl.Float64)})])
        for x in ([1.0, 2.0, 4.0, most, -most], [1.0, 2.0, 4.0])
    )
    assert with_it.numbers == without.numbers
    alone = Encoder((numeric(**options),)).grow([a_day(items={"x": pl.Series([most], dtype=pl.Float64)})])
    assert "x" not in alone.numbers, "as of a day without a value"


@pytest.mark.parametrize("options", [{}, {"transform": "log1p"}, {"num_buckets": 2}])
def test_a_number_that_nobody_knows_is_measured_on_a_later_day(options: dict[str, Any]) -> None:
    """Until then it is what null is, and as many rows as null and one bucket need."""
    nothing, known = (a_day(items={"x": pl.Series(v, dtype=pl.Float64)}) for v in ([None, None], [1.0, 3.0]))
    encoder = Encoder((numeric(**options),)).grow([nothing])
    assert encoder.numbers == {} and encoder.embedding_rows() == ({"x": 2} if "num_buckets" in options else {})
    before = encoder.entities(nothing, "item")
    assert not before.floats.any() and not before.ids.any()
    later = encoder.grow([known])
    assert later.numbers == Encoder((numeric(**options),)).grow([known]).numbers
    assert later.grow([a_day(items={"x": [100.0, 300.0]})]).numbers == later.numbers, "measured once"
    assert later.embedding_rows() == ({"x": 3} if "num_buckets" in options else {})


def test_vectors_are_checked() -> None:
    vector = Feature(name="v", side="item", kind="vector", dim=2)
    encoder = Encoder((vector,)).grow([a_day(items={"v": [[1.0, 2.0]]})])
    asked = pl.DataFrame({"v": [[1.0, 2.0], None, [None, 4.0], [float("nan"), float("inf")]]})
    assert encoder.encode(asked, "item").floats.tolist() == [[1, 2], [0, 0], [0, 4], [0, 0]]
    assert encoder.layout("item").floats == 2
    with pytest.raises(UserError, match="feature v: expected 2 numbers, got 3"):
        encoder.encode(pl.DataFrame({"v": [[1.0, 2.0], [1.0, 2.0, 3.0]]}), "item")
    with pytest.raises(UserError, match="feature v: expected a list of 2 numbers, got double"):
        encoder.encode(pl.DataFrame({"v": [1.0]}), "item")
    with pytest.raises(UserError, match="feature x: expected numbers, got text"):
        Encoder((numeric(),)).grow([a_day(items={"x": ["1"]})])


# -- at rest -----------------------------------------------------------------------------------------------------------


def test_written_and_read_encodes_identically(tmp_path: Path) -> None:
    features = (
        Feature(name="city", side="user", kind="categorical", min_count=2),
        HISTORY,
        Feature(name="never", side="user", kind="categorical"),
        Feature(name="score", side="user", kind="numeric", num_buckets=3),
        ITEM,
        numeric(transform="log1p"),
        Feature(name="price", side="item", kind="numeric", boundaries=(1.0, 2.0)),
        Feature(name="v", side="item", kind="vector", dim=2),
        Feature(name="shop", side="item", kind="categorical", hash_bucket_size=50),
        Feature(name="shops", side="user", kind="sequence", embedding_name="shop", hash_bucket_size=50),
        Feature(name="session", side="user", kind="categorical", hash_bucket_size=9),
        Feature(name="unheard", side="item", kind="categorical", hash_bucket_size=9),
    )
    rng = np.random.default_rng(0)
    big = (rng.integers(0, 2**62, 9) * 2 + 1).tolist()
    day = a_day(
        users={
            "city": ["ä", "b", "ä", None],
            "history": [big[:5], [], None, big[2:4]],
            "never": pl.Series([None] * 4, dtype=pl.String),
            "score": [0.1, 0.2, 0.3, None],
            "shops": [["a", "b"], ["c"], None, []],
            "session": [2**62 + k for k in range(4)],
        },
        items={
            "item_id": big,
            "x": rng.normal(size=9),
            "price": np.arange(9) / 3,
            "v": [[0.1, 0.2]] * 9,
            "shop": [*"abcdefgh", None],
            "unheard": pl.Series([None] * 9, dtype=pl.String),
        },
    )
    encoder = Encoder(features).grow([day])
    encoder.write(tmp_path)
    back = Encoder.read(tmp_path)
    assert back.features == encoder.features and back.numbers == encoder.numbers
    assert back.embedding_rows() == encoder.embedding_rows() and back.id_kinds == {"user": "int64", "item": "int64"}
    for side in ("user", "item"):
        assert same(back.entities(day, side), encoder.entities(day, side)), side
        assert back.layout(side) == encoder.layout(side)
    assert back.entities(day, "user").ids[:, 0].tolist() == [1, 0, 1, 0]
    bytes_ = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    back.write(tmp_path)
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == bytes_
    described = {f["name"]: f for f in json.loads(bytes_["features.json"])["features"]}
    assert [described[n].get("hash") for n in ("shop", "shops", "session", "unheard", "city")] == [
        *("blake2b64", "blake2b64", "splitmix64", None, None),
    ]
    assert described["shop"]["hash_bucket_size"] == 50 and "hash_bucket_size" not in described["city"]
    kept = set(pl.read_parquet(tmp_path / "vocabularies.parquet")["embedding"])
    assert kept == {"city", "item_id"}, "hashed values are not kept"
    more = a_day(users={"city": ["b"], "history": [[1]], "never": ["x"], "score": [1.0], "shops": [["a"]],
                        "session": [3]},
                 items={"item_id": [2], "x": [0.5], "price": [1.0], "v": [[0.0, 0.0]], "shop": ["a"],
                        "unheard": ["u"]})  # fmt: skip
    assert same(back.grow([more]).entities(day, "user"), encoder.grow([more]).entities(day, "user"))


def test_a_number_named_like_an_embedding_is_no_part_of_it(tmp_path: Path) -> None:
    """`x` stays a number; `shop` has its values in buckets called x, and reads them back as text."""
    for size in (50, None):
        shop = Feature(name="shop", side="item", kind="categorical", embedding_name="x", hash_bucket_size=size)
        day = a_day(items={"shop": ["a", "b"], "x": [1.0, 2.0]})
        encoder = Encoder((shop, numeric())).grow([day])
        encoder.write(tmp_path)
        described = {f["name"]: f for f in json.loads((tmp_path / "features.json").read_text())["features"]}
        assert described["shop"].get("hash") == ("blake2b64" if size else None) and "hash" not in described["x"]
        assert Encoder.read(tmp_path).embedding_rows() == {"x": 51 if size else 3}
        assert same(Encoder.read(tmp_path).entities(day, "item"), encoder.entities(day, "item"))


def test_a_column_that_is_not_there_is_unknown() -> None:
    day = a_day(items={"item_id": [5], "x": [1.0]})
    encoder = Encoder((ITEM, numeric())).grow([day])
    encoded = encoder.encode(pl.DataFrame({"other": [1, 2]}), "item")
    assert encoded.ids.tolist() == [[0], [0]] and encoded.floats.tolist() == [[0], [0]]
    assert encoder.encode(pl.DataFrame({"other": [1, 2]}), "user").ids.shape == (2, 0)


def test_ids_of_another_type_are_refused() -> None:
    encoder = Encoder((ITEM,)).grow([items_day([1])])
    other = a_day(items={ID: ["a"], "item_id": [1]})
    with pytest.raises(UserError, match="item ids are string, the chain so far has int64"):
        encoder.grow([other])


# -- kinds -------------------------------------------------------------------------------------------------------------


def test_the_config_and_the_encoder_know_the_same_kinds() -> None:
    assert tuple(KINDS) == get_args(Feature.model_fields["kind"].annotation)
    folder = Path(kinds.__file__).parent
    files = {f.stem for f in folder.glob("*.py")} - {"__init__", "kind"}
    assert files == set(KINDS) == {k.__module__.split(".")[-1] for k in KINDS.values()}, "a file per kind, named as it"


@pytest.mark.parametrize(
    "more",
    [
        {"kind": "categorical"},
        {"kind": "categorical", "embedding_name": "other"},
        {"kind": "sequence", "embedding_name": "other"},
        {"kind": "numeric"},
        {"kind": "numeric", "num_buckets": 2},
        {"kind": "numeric", "boundaries": (0.0,)},
        {"kind": "vector", "dim": 2},
    ],
)
def test_the_config_and_the_encoder_agree_on_embeddings(more: dict[str, Any]) -> None:
    feature = Feature(name="x", side="item", **more)
    kind = kind_of(feature)
    assert feature.embedding == (None if isinstance(kind.part, FloatColumns) else kind.embedding)


LISTS = pl.Series([["a"], ["b", "c"]])


@pytest.mark.parametrize(
    "more, values, said, hint",
    [
        ({"kind": "categorical"}, LISTS, "expected integers or text, got lists of text", "kind: sequence"),
        ({"kind": "categorical"}, [FIRST], "expected integers or text, got date32", "make it text"),
        ({"kind": "categorical"}, [1.0, 1.5], "value is not whole (below 2^53): 1.5", "kind: numeric, or make it text"),
        ({"kind": "categorical"}, [2.0**60], "value is not whole (below 2^53): 1.15", "make it text"),
        ({"kind": "categorical"}, [2.0**53 - 1, 2.0**53], "whole (below 2^53): 9007199254740992.0", "make it text"),
        ({"kind": "categorical"}, pl.Series([2**64 - 1]), "expected values within int64, got 18446", "make it text"),
        ({"kind": "sequence"}, [1, 2], "expected a list of values, got int64", "kind: categorical"),
        ({"kind": "sequence"}, ["a"], "expected a list of values, got text", "separator, e.g. '|', or kind: categ"),
        (
            {"kind": "sequence"},
            [[[1]]],
            "expected integers or text, got lists of int64",
            "one list of integers or text",
        ),
        ({"kind": "sequence"}, [[0.5]], "value is not whole (below 2^53): 0.5", "kind: vector with dim"),
        ({"kind": "numeric"}, ["1"], "expected numbers, got text", "kind: categorical, or make it numbers"),
        ({"kind": "numeric"}, [[1.0]], "expected numbers, got lists of double", "kind: vector with dim, or kind: seq"),
        ({"kind": "numeric"}, [FIRST], "expected numbers, got date32", "make it numbers"),
        ({"kind": "vector", "dim": 2}, [1.0], "expected a list of 2 numbers, got double", "kind: numeric"),
        ({"kind": "vector", "dim": 2}, ["1"], "expected a list of 2 numbers, got text", "make it lists of numbers"),
        ({"kind": "vector", "dim": 2}, LISTS, "expected lists of 2 numbers, got lists of text", "kind: sequence for a"),
        ({"kind": "vector", "dim": 2}, [[1.0]], "expected 2 numbers, got 1", "dim"),
    ],
)
def test_values_of_another_kind_are_refused_with_a_remedy(
    more: dict[str, Any], values: Any, said: str, hint: str
) -> None:
    feature = Feature(name="x", side="item", **more)
    with pytest.raises(UserError) as refused:
        day = a_day(items={"x": values})
        Encoder((feature,)).grow([day]).entities(day, "item")
    assert refused.value.message.startswith("feature x: ") and said in refused.value.message
    assert hint in refused.value.hint


class Flag(Kind):
    """A fifth kind, with an embedding that no vocabulary sizes: 1 false, 2 true."""

    @property
    def part(self) -> IdColumn:
        return IdColumn(self.embedding, is_id=False)

    def encode(self, values: pl.Series, learned: Learned) -> Any:
        return (values.cast(pl.Int32) + 1).fill_null(0).to_numpy()

    def own_rows(self, learned: Learned) -> int:
        return 3


class Letters(Kind):
    """A sixth, which learns all that a kind can: text as a sequence of letters, none beyond the first window's
    longest."""

    has_vocabulary = True
    is_measured = True

    @property
    def part(self) -> PaddedSequence:
        return PaddedSequence(self.embedding, self.feature.max_length)

    def encode(self, values: pl.Series, learned: Learned) -> Any:
        out = np.zeros((len(values), self.feature.max_length), np.int32)
        for k, text in enumerate(values.to_list()):
            letters = list((text or "")[: learned.numbers[self.feature.name]["longest"]])
            out[k, : len(letters)] = learned.vocabularies[self.embedding].lookup(pl.Series(letters, dtype=pl.String))
        return out

    def vocabulary_values(self, values: pl.Series, events: pl.Series) -> pl.DataFrame:
        letters = [c for text in values.drop_nulls() for c in text]
        return pl.DataFrame({"value": pl.Series(letters, dtype=pl.String), "count": np.ones(len(letters), np.int64)})

    def measure(self, values: list[pl.Series]) -> dict[str, Any]:
        return {"longest": max((len(text) for v in values for text in v.drop_nulls()), default=0)}


class AnyKind(Feature):
    """A feature whose kind the config need not know."""

    kind: str  # type: ignore[assignment]

    @classmethod
    def model_validate(cls, raw: Any, **options: Any) -> "AnyKind":
        return cls.model_construct(**raw)


@contextmanager
def further_kinds() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KINDS, "flag", Flag)
        patch.setitem(KINDS, "letters", Letters)
        patch.setattr(stored, "Feature", AnyKind)
        yield


FURTHER = (
    AnyKind.model_construct(name="word", side="item", kind="letters", max_length=6),
    AnyKind.model_construct(name="new", side="item", kind="flag"),
    AnyKind.model_construct(name="item_id", side="item", kind="categorical"),
    AnyKind.model_construct(name="shout", side="item", kind="letters", embedding_name="word", max_length=2),
    AnyKind.model_construct(name="x", side="item", kind="numeric"),
)
LOGGED = st.lists(
    st.tuples(
        st.one_of(st.none(), st.text("abcd", max_size=6)),
        st.one_of(st.none(), st.booleans()),
        st.one_of(st.none(), st.integers(0, 5)),
        st.one_of(st.none(), st.text("abXY", max_size=2)),
        st.floats(-5, 5),
    ),
    min_size=1,
    max_size=6,
)


def logged_day(rows: list[tuple[Any, ...]], k: int) -> Day:
    types = {"word": pl.String, "new": pl.Boolean, "item_id": pl.Int64, "shout": pl.String, "x": pl.Float64}
    columns = {n: pl.Series(v, dtype=t) for (n, t), v in zip(types.items(), zip(*rows, strict=True), strict=True)}
    return a_day(items=columns, day=FIRST + dt.timedelta(k))


@settings(max_examples=40, deadline=None)
@given(LOGGED, LOGGED)
def test_a_kind_is_its_class_alone(
    tmp_path_factory: pytest.TempPathFactory, first: list[tuple[Any, ...]], second: list[tuple[Any, ...]]
) -> None:
    """Two kinds that only this file knows grow, encode, are stored and described beside the others."""
    days = [logged_day(first, 0), logged_day(second, 1)]
    folder = tmp_path_factory.mktemp("kinds")
    with further_kinds():
        one = Encoder(FURTHER).grow(days[:1])
        one.write(folder)
        encoder = Encoder.read(folder).grow(days[1:])
        direct = one.grow(days[1:])
        layout = encoder.layout("item")
        assert (layout.ids, layout.is_id) == (("new", "item_id"), (False, True))
        assert (layout.sequences, layout.floats) == ((("word", 6), ("word", 2)), 1)
        assert [list(encoder.columns(f.name)) for f in FURTHER[:4]] == [[*range(2, 8)], [0], [1], [8, 9]]
        encoded = encoder.entities(days[1], "item")
        assert same(encoded, direct.entities(days[1], "item"))
        letters = {c for word, _, _, shout, _ in first + second for c in (word or "") + (shout or "")}
        known = encoder.embedding_rows()
        assert known["word"] == 1 + len(letters) and known["new"] == 3
        assert encoder.embedding_rows() == direct.embedding_rows() and list(known) == list(direct.embedding_rows())
        assert encoded.ids[:, 0].tolist() == [0 if new is None else 1 + new for _, new, *_ in second]
        longest = max(len(word or "") for word, *_ in first)
        alphabet = pl.Series(sorted(letters), dtype=pl.String)
        row = dict(zip(alphabet, encoder.vocabularies["word"].lookup(alphabet).tolist(), strict=True))
        for (word, *_), found in zip(second, encoded.sequences[0].tolist(), strict=True):
            assert [r for r in found if r] == [row[c] for c in (word or "")[:longest]]
        said = encoder.describe(days[1], "new")
        assert (said["kind"], said["embedding"], said["embedding_rows"]) == ("flag", "new", 3)
        assert said["unknown_share"] == round(sum(r[1] is None for r in second) / len(second), 4)
