"""What is found of a frame once: each question of its own, nothing of a frame that is gone; whose a column is, beside
the same by groups of polars."""

from __future__ import annotations

import gc

import numpy as np
import polars as pl
import pytest
from initiated import frame

from dmtl_cli.guess.columns.remembered import codes, remembered
from dmtl_cli.guess.columns.values import FEW, ONE, is_constant
from dmtl_cli.guess.exposures.labels import roles_of


def test_each_question_is_asked_once_of_each_frame() -> None:
    asked: list[tuple[int, str]] = []

    @remembered
    def width(frame: pl.DataFrame, column: str, least: int = 0) -> int:
        asked.append((len(frame), column))
        return len(frame) + least

    one, other = pl.DataFrame({"a": [1, 2]}), pl.DataFrame({"a": [1, 2, 3]})
    assert [width(one, "a"), width(one, "a"), width(other, "a"), width(one, "b"), width(one, "a", least=5)] == [
        *(2, 2, 3, 2, 7)
    ]
    assert asked == [(2, "a"), (3, "a"), (2, "b"), (2, "a")]


def test_what_is_known_of_a_frame_goes_with_it() -> None:
    """An id that comes again is of another frame."""

    @remembered
    def first(frame: pl.DataFrame, column: str) -> int:
        return int(frame[column][0])

    for k in range(200):
        frame = pl.DataFrame({"a": [k]})
        assert first(frame, "a") == k
        del frame
        gc.collect(0)


def test_what_is_added_to_the_roles_of_a_frame_is_not_remembered() -> None:
    events = frame()
    found = roles_of(events, {})
    assert found.user is not None and found == roles_of(events, {})
    found.outcomes.append(found.user)
    found.further["more"] = found.user
    found.user = None
    assert roles_of(events, {}) == roles_of(events.clone(), {}) != found
    assert roles_of(events, {"user": "item_id"}).user != roles_of(events, {}).user


def by_groups(frame: pl.DataFrame, key: str, column: str) -> bool:
    """`is_constant` as its docstring has it, by groups."""
    s = frame[column]
    values = s.hash() if s.dtype.is_nested() else s
    seen = pl.DataFrame({"k": frame[key], "v": values, "there": s.is_not_null()}).filter("there").drop_nulls()
    ids = seen.group_by("k").len().filter(pl.col("len") > 1)
    if key == column or len(seen) < FEW or len(ids) < FEW:
        return False
    mixed = seen["v"].gather(np.random.default_rng(0).permutation(len(seen)))

    def agree(v: pl.Series) -> float:
        most = seen.select("k", v.alias("v")).group_by("k", "v").len().group_by("k").agg(pl.col("len").max())
        kept = most.join(ids.select("k"), on="k")["len"]
        return float((kept.sum() - len(ids)) / (ids["len"].sum() - len(ids)))

    return agree(seen["v"]) >= ONE and 1 - agree(seen["v"]) < (1 - agree(mixed)) / 5


@pytest.mark.parametrize("seed", range(3))
def test_whose_a_column_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 3_000
    key = rng.integers(0, 80, n)
    frame = pl.DataFrame(
        {
            "key": key,
            "text": [None if k % 9 == 0 else f"k{k}" for k in key],
            "own": key % 7,
            "nearly": np.where(rng.random(n) < 0.01, 99, key % 5),
            "hardly": np.where(rng.random(n) < 0.3, 99, key % 5),
            "float": np.where(key % 4 == 0, np.nan, key / 3),
            "list": [[int(k) % 3, None] if k % 2 else None for k in key],
            "struct": [{"a": int(k) % 6} for k in key],
            "none": pl.Series([None] * n, dtype=pl.String),
            "any": rng.random(n),
            "one": ["x"] * n,
        }
    ).with_columns(class_=pl.col("text").cast(pl.Categorical), day=pl.date(2026, 1, 1) + pl.duration(days="own"))
    keys = [c for c in frame.columns if not frame[c].dtype.is_nested()]
    found = {(k, c): is_constant(frame, k, c) for k in keys for c in frame.columns}
    assert found == {(k, c): by_groups(frame, k, c) for k, c in found}
    mine = {"own", "nearly", "float", "list", "struct", "class_", "text", "day"}
    assert {c for c in frame.columns if found["key", c]} == mine


def test_rows_of_one_value_have_one_number() -> None:
    frame = pl.DataFrame({"f": [float("nan"), 1.0, None, float("nan")], "*": ["b", None, "a", "b"]})
    first, none, second, third = codes(frame, "*").tolist()
    assert none == -1 and {first, second} == {0, 1} and first == third
    first, second, none, third = codes(frame, "f").tolist()
    assert none == -1 and {first, second} == {0, 1} and first == third
