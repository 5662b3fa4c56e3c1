"""Avro's JSON encoding, in which a value of a union stands in an object with the name of its type; and two topics of
one folder, of which one has what came of the other's rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import unseen
from hypothesis import given
from hypothesis import strategies as st
from initiated import features, made
from worlds import dmtl

from dmtl_cli.data.log.formats.envelopes import unwrapped

X = unseen.drawn(0)
DAY = "2026-03-02"


def union(kind: str, value: Any) -> dict[str, Any] | None:
    return None if value is None else {kind: value}


def exposure(k: int) -> dict[str, Any]:
    person = {"user_id": int(X["user"][k]), "age": union("int", int(X["user"][k]) % 40 if k % 9 else None)}
    return {
        "header": {"exposure_id": f"e{k:05d}", "event_time": int(X["at"][k]) * 1_000_000},
        "person": {"org.shop.reco.Person": person},
        "item_id": int(X["item"][k]),
        "tags": union("array", [f"t{X['item'][k] % 5}", "all"]),
        "shelf": union("org.shop.reco.Shelf", ["TOP", "SIDE"][k % 2]),
    }


def feedback(k: int) -> dict[str, Any]:
    seconds = union("double", float(X["seconds"][k]))
    return {"feedback_id": f"f{k:05d}", "exposure_id": f"e{k:05d}", "kind": "OPENED", "read_seconds": seconds}


def topics(home: Path) -> None:
    clicked = np.flatnonzero(X["click"])
    for part in range(2):
        shown = (json.dumps(exposure(k)) for k in range(part, len(X["at"]), 2))
        (home / f"reco.exposure.v3-{part}.json").write_text("\n".join(shown) + "\n")
        came = (json.dumps(feedback(int(k))) for k in clicked[part::2])
        (home / f"reco.feedback.v2-{part}.json").write_text("\n".join(came) + "\n")


def test_two_topics_of_avro_are_a_log(tmp_path: Path) -> None:
    ended, raw, _ = made(tmp_path, topics)
    assert ended.code == 0, ended.err
    events = raw["data"]["events"]
    assert events["user"] == "person.user_id" and events["item"] == "item_id" and events["click"] == "clicked"
    (feedbacks,) = events["joined"].values()
    assert feedbacks["key"] == "exposure_id" and feedbacks["event_key"] == "header.exposure_id"
    assert "date_column" not in feedbacks, "its files are others than those of the events, and have no such time"
    assert {"person_age", "tags", "shelf"} <= {*features(raw)}
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", DAY, "--json")
    shown = pl.Series(unseen.days_of(X)) == DAY
    clicks = round(found.json["labels"]["click_rate"] * found.json["rows"]) + found.json["labels"]["repeated_clicks"]
    assert found.code == 0 and clicks == int(X["click"][shown.to_numpy()].sum()), found.err


VALUES = st.one_of(st.none(), st.integers(-9, 9))


@given(st.lists(st.tuples(VALUES, st.lists(VALUES, max_size=3)), min_size=1, max_size=5))
def test_values_of_unions_are_what_they_hold(rows: list[tuple[int | None, list[int | None]]]) -> None:
    """The same rows as without unions, whatever is null."""
    wrapped = [
        {"a": union("long", a), "in": {"b": union("ns.Kind", "x" if a else None)}, "c": [union("int", v) for v in c]}
        for a, c in rows
    ]
    schema = {
        "a": pl.Struct({"long": pl.Int64}),
        "in": pl.Struct({"b": pl.Struct({"ns.Kind": pl.String})}),
        "c": pl.List(pl.Struct({"int": pl.Int64})),
    }
    out = unwrapped(pl.DataFrame(wrapped, schema=schema))
    assert out["a"].to_list() == [a for a, _ in rows] and out["c"].to_list() == [c for _, c in rows]
    assert out["in"].struct.field("b").to_list() == ["x" if a else None for a, _ in rows]


def test_a_union_of_several_types_is_text_and_other_objects_stay() -> None:
    mixed = pl.DataFrame({"v": [{"int": 5, "string": None}, {"int": None, "string": "five"}]})
    assert unwrapped(mixed)["v"].to_list() == ["5", "five"]
    other = pl.DataFrame({"v": [{"int": 5, "unit": "s"}], "size": [{"x": 1}], "long": [3]})
    assert unwrapped(other).equals(other)
    both = {"a": {"user.id": "u", "item.id": None}, "b": {"int": 3, "double": 0.5}, "c": {"shop.seconds": 3}}
    assert unwrapped(pl.DataFrame([both])).to_dicts() == [both], "attributes of OpenTelemetry, and two values at once"
