"""Arrays as PostgreSQL's COPY writes them: read as lists, found by `init`, and one that is none is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import unseen
from hypothesis import given
from hypothesis import strategies as st
from initiated import features, frame, made
from worlds import dmtl

from dmtl_cli.data.log.values.types import lists
from dmtl_cli.guess.reading.texts import as_lists


def written(values: list[str | None]) -> str:
    """As PostgreSQL's array_out: in quotes what is empty, has a sign of the array's own or a space, or reads NULL."""
    out = []
    for value in values:
        if value is None:
            out.append("NULL")
        elif value == "" or value.upper() == "NULL" or any(c in '{},"\\' or c.isspace() for c in value):
            out.append('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"')
        else:
            out.append(value)
    return "{" + ",".join(out) + "}"


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@given(st.lists(st.none() | TEXTS, max_size=5))
def test_what_postgres_writes_is_read(values: list[str | None]) -> None:
    assert lists(pl.Series([written(values)]), "list<text>").to_list() == [values]


@given(st.lists(st.none() | st.integers(-(2**63) + 1, 2**63 - 1), max_size=5))
def test_numbers(values: list[int | None]) -> None:
    text = written([None if x is None else str(x) for x in values])
    assert lists(pl.Series([text]), "list<int64>").to_list() == [values]


@pytest.mark.parametrize("text", ["{a", "a}", "{a,}", "{{a},{b}}", '{"a": 1}', '{"a" b}', "{a\\}", '{"a}', "{,}"])
def test_what_is_no_array(text: str) -> None:
    assert lists(pl.Series([text]), "list<text>").to_list() == [None]
    assert as_lists(pl.Series([text, "{a}"])) is None


def test_the_narrowest_type_is_told() -> None:
    def kind(*texts: str) -> pl.DataType | None:
        found = as_lists(pl.Series(texts))
        return None if found is None else found.dtype

    assert kind("{1,2}", "{}") == pl.List(pl.Int64) and kind("{1,2.5}", "{3}") == pl.List(pl.Float64)
    assert kind("{1,x}", "{3}") == pl.List(pl.String) == kind('["1"]')
    assert kind("{}", "{}") is None and kind("{a}", '["b"]') is None


def test_init_and_check_read_tags(tmp_path: Path) -> None:
    rng, topics = np.random.default_rng(0), ["спорт", "дом и градина", 'кино "на живо"', "село"]
    tags = [[topics[k] for k in rng.permutation(4)[: rng.integers(0, 4)]] for _ in range(unseen.ITEMS)]

    def write(home: Path) -> None:
        frame().write_csv(home / "events.csv")
        items = pl.DataFrame({"item_id": np.arange(unseen.ITEMS), "tags": list(map(written, tags))})
        items.write_csv(home / "items.csv")

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0, ended.err
    assert raw["data"]["types"]["tags"] == "list<text>" and features(raw)["tags"]["kind"] == "sequence"
    assert "separator" not in features(raw)["tags"]
    day = max(unseen.days_of(unseen.drawn(0)))
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", day, "--json").json["features"]
    (told,) = (f for f in found if f["name"] == "tags")
    assert told["embedding_rows"] == len(topics) + 1, "OOV beside them"
