"""`init` on columns that are not what they seem: durations, conversions, attributes, tables beside the events,
types."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import unseen
from initiated import daily, features, frame, made
from worlds import dmtl

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.guess.columns.values import auc_of, decimals, is_constant
from dmtl_cli.guess.exposures.labels import roles_of
from dmtl_cli.guess.reading.texts import joined, plain
from dmtl_cli.stages.init import init

# -- what follows a click ----------------------------------------------------------------------------------------------


def heard(x: dict[str, Any]) -> pl.Series:
    """Milliseconds of some clicks, null of others, -1 where a player failed, and of a few rows without a click."""
    rng = np.random.default_rng(3)
    ms = (rng.lognormal(13, 1.4, len(x["click"]))).astype(np.int64)
    there = ((x["click"] == 1) & (rng.random(len(ms)) > 0.02)) | (rng.random(len(ms)) < 0.01)
    ms[np.flatnonzero(there & (x["click"] == 1))[[3, 90]]] = -1
    return pl.Series([int(v) if t else None for v, t in zip(ms, there, strict=True)])


def test_a_duration_with_an_odd_name(tmp_path: Path) -> None:
    x = unseen.drawn(0)
    liked = [True if c and k % 9 == 0 else None for k, c in enumerate(x["click"])]
    write = frame(drop=("watch_seconds",), t_x=heard(x), liked=liked)
    ended, raw, text = made(tmp_path, daily(write))
    events = raw["data"]["events"]
    assert (events["duration"], events["duration_unit"]) == ("t_x", "ms") and "conversion" not in events
    assert "of clicks have one, " in text and "with a long tail" in text and "a t_x below 0" in text
    assert "# conversions: {liked: liked}" in text and ended.code == 0, ended.err


def test_prices_of_orders_are_no_duration() -> None:
    x = unseen.drawn(0)
    revenue = np.random.default_rng(4).lognormal(3, 2, len(x["click"])) * x["click"]
    assert roles_of(frame(drop=("watch_seconds",), order_amount=revenue), {}).duration is None


def test_attributes_are_no_conversions(tmp_path: Path) -> None:
    x = unseen.drawn(0)
    late = (x["click"] == 1) & (np.arange(len(x["click"])) % 4 == 0)
    own = {"subscriber": x["user"] % 3 == 0, "paywall": x["item"] % 4 == 0, "like_new": np.arange(1200) % 7 == 0}
    write = frame(purchased=late, **own)
    _, raw, text = made(tmp_path, daily(write))
    assert "# conversions: {purchased: purchased}" in text
    assert features(raw)["subscriber"]["side"] == "user" and features(raw)["paywall"]["side"] == "item"
    roles = roles_of(write.drop("watch_seconds", "purchased"), {})
    assert roles.conversion is None and roles.further == {}
    assert roles_of(write.drop("watch_seconds", "purchased", "clicked", "like_new"), {}).conversion is None


def test_decimal_commas_are_numbers(tmp_path: Path) -> None:
    x = unseen.drawn(0)
    rng = np.random.default_rng(5)
    percent = [
        f"{v:.1f}".replace(".", ",") if c else None for v, c in zip(rng.random(1200) * 100, x["click"], strict=True)
    ]
    share = [f"{v:.2f}".replace(".", ",") for v in rng.random(1200)]
    write = frame(percent_done=percent, likeness=share, kinds=[f"{k % 3},{10 + k % 5 * 45}" for k in range(1200)])
    _, raw, text = made(tmp_path, daily(write))
    assert "percent_done" in raw["data"]["events"]["outcomes"] and "likeness" not in features(raw)
    assert "# likeness: not used: numbers with a decimal comma are text" in text
    assert features(raw)["kinds"]["separator"] == "," and features(raw)["kinds"]["kind"] == "sequence"
    found = decimals(pl.Series("x", ["87,5", None, "-3,0"]))
    assert found is not None and found.to_list() == [87.5, None, -3.0]
    assert decimals(pl.Series("x", ["1,5,7", "2,3"])) is None and decimals(pl.Series("x", ["12", "7"])) is None


def test_presence_is_a_leak() -> None:
    x = unseen.drawn(0)
    click = pl.Series(x["click"])
    words = pl.Series("note", [f"w{k}" if c else None for k, c in enumerate(x["click"])])
    assert auc_of(words, click) == 1.0
    lists = pl.Series("beacons", [["a"] if c and k % 50 else [] for k, c in enumerate(x["click"])])
    kept = np.mean([k % 50 > 0 for k in np.flatnonzero(x["click"])])
    assert auc_of(lists, click) == pytest.approx(0.5 + kept / 2)
    commas = pl.Series("pct", [f"{c + k % 70 / 100:.2f}".replace(".", ",") for k, c in enumerate(x["click"])])
    assert auc_of(commas, click) == 1.0
    assert {g.column for g in roles_of(frame(note=words, beacons=lists), {}).outcomes} >= {"note", "beacons"}


# -- whose a column is -------------------------------------------------------------------------------------------------


def test_a_column_is_of_the_id_within_which_it_stays(tmp_path: Path) -> None:
    x = unseen.drawn(0)
    rng = np.random.default_rng(6)
    tags = [None if rng.random() < 0.1 else [["a", "b"], ["c"], ["a"]][i % 3] for i in x["item"]]
    varies = [["p", "q"][: 1 + k % 2] for k in rng.integers(0, 9, 1200)]
    section = [f"s{i % 4}" if k < 1170 or i % 4 else "renamed" for k, i in enumerate(x["item"])]
    history = [[int(i) for i in rng.integers(0, 40, 3)] for _ in range(1200)]
    write = frame(tags=tags, banners=varies, section=section, user_city=rng.integers(0, 5, 1200), seen=history)
    _, raw, _ = made(tmp_path, daily(write))
    sides = {name: f["side"] for name, f in features(raw).items()}
    assert (sides["tags"], sides["section"]) == ("item", "item"), "nulls and a renamed section do not move them"
    assert (sides["banners"], sides["user_city"]) == ("context", "context"), "whatever it is called"
    assert sides["seen"] == "user" and features(raw)["seen"]["level"] == "event"


def test_constancy_is_by_rows_and_against_chance() -> None:
    k = np.arange(4000)
    rare = (np.random.default_rng(0).random(4000) < 0.02).astype(int)
    t = pl.DataFrame({"id": k % 50, "own": k % 50 % 7, "mostly": np.where(k % 40, k % 50 % 7, 9), "rare": rare})
    assert is_constant(t, "id", "own") and is_constant(t, "id", "mostly")
    assert not is_constant(t, "id", "mostly", 0.98) and not is_constant(t, "id", "rare"), "98% zeros agree by chance"
    for nobody in ("", None):
        guest = [nobody if n % 8 == 0 else f"u{n % 50}" for n in k]
        of = pl.DataFrame({"u": guest, "own": np.where(k % 8 == 0, k % 13, k % 50 % 7)})
        assert is_constant(of, "u", "own"), "guests are no user of many values"


# -- tables beside the events ------------------------------------------------------------------------------------------


def test_a_table_without_days_is_one_state(tmp_path: Path) -> None:
    def write(home: Path) -> None:
        daily(frame())(home)
        users = {"user_id": range(unseen.USERS), "last_balance": np.linspace(0, 99.5, unseen.USERS)}
        pl.DataFrame(users | {"city": ["a", "b", "c"] * 20}).write_parquet(home / "users.parquet")
        genres = ["teknoloji, bilim", "bilim", "spor, bilim", "spor"] * 10
        read = {"avg_dwell_sec": np.linspace(9, 99, unseen.ITEMS), "total_length_s": np.linspace(60, 990, unseen.ITEMS)}
        items = {"item_id": range(unseen.ITEMS), "genres": genres} | read
        pl.DataFrame(items).write_parquet(home / "items.parquet")

    ended, raw, text = made(tmp_path, write)
    one = "one state for all days"
    assert "# - {name: last_balance, side: user, kind: numeric, " in text and "last_balance" not in features(raw)
    assert "named like what later days change" in text and one in ended.out
    (items,) = (line for line in text.splitlines() if line.startswith("  items: "))
    assert items.endswith(one), "none of its columns is named like a total"
    assert "# - {name: avg_dwell_sec, " in text and "total_length_s" in features(raw), "a length is of the item"
    genres = features(raw)["genres"]
    assert (genres["kind"], genres["separator"], genres["side"]) == ("sequence", ", ", "item")
    assert ended.code == 0


def test_ids_with_several_rows_are_counted(tmp_path: Path) -> None:
    def write(home: Path) -> None:
        daily(frame())(home)
        ids = [*range(unseen.ITEMS), 3, 5]
        table = {"item_id": ids, "kind": ["x", "y"] * 21, "note": [f"n{i}" for i in ids[:-1]] + ["other"]}
        pl.DataFrame(table).write_parquet(home / "items.parquet")

    _, raw, text = made(tmp_path, write)
    assert "items" not in raw["data"]
    said = "# items.parquet: not used: 2 of its 40 items have several rows, which differ in kind, note"
    assert f"{said} (item_id, such as 3): keep one row of each" in text


def test_a_part_of_the_events_is_no_side_table(tmp_path: Path) -> None:
    def write(home: Path) -> None:
        daily(frame())(home)
        frame().unique("user_id").write_parquet(home / "late.parquet")

    _, raw, text = made(tmp_path, write)
    assert "users" not in raw["data"] and "items" not in raw["data"]
    assert "# late.parquet: not used: it has the columns of the events: are its rows events too?" in text


# -- types -------------------------------------------------------------------------------------------------------------

N = 60
ODD: dict[str, pa.Array] = {
    "map": pa.array([[("a", "b")]] * N, pa.map_(pa.string(), pa.string())),
    "struct": pa.array([{"a": 1}] * N),
    "decimal": pa.array([Decimal(k) / 4 for k in range(N)], pa.decimal128(9, 2)),
    "decimal01": pa.array([Decimal(k % 2) for k in range(N)], pa.decimal128(9, 0)),
    "duration": pa.array([dt.timedelta(seconds=k) for k in range(N)]),
    "time": pa.array([dt.time(k % 24) for k in range(N)]),
    "binary": pa.array([b"%d" % k for k in range(N)]),
    "null": pa.nulls(N),
    "lists of lists": pa.array([[[1], [2]]] * N),
    "lists of objects": pa.array([[{"a": 1}]] * N),
    "lists of lists of objects": pa.array([[[{"a": 1}]]] * N),
    "lists of maps": pa.array([[[("a", "b")]]] * N, pa.list_(pa.map_(pa.string(), pa.string()))),
    "lists of dates": pa.array([[dt.date(2026, 1, 1)]] * N),
    "lists of nulls": pa.array([[None]] * N, pa.list_(pa.int64())),
    "empty lists": pa.array([[]] * N, pa.list_(pa.string())),
    "categories": pa.array([f"c{k % 9}" for k in range(N)]).dictionary_encode(),
    "lists of categories": pa.array([["x"]] * N, pa.list_(pa.dictionary(pa.int32(), pa.string()))),
    "half": pa.array(np.arange(N, dtype=np.float16)),
    "vector": pa.array([[float(k), 1.0] for k in range(N)], pa.list_(pa.float32(), 2)),
    "unsigned": pa.array([2**63 + k for k in range(N)], pa.uint64()),
    "date": pa.array([dt.date(2026, 1, 1 + k % 9) for k in range(N)]),
    "nan": pa.array([float("nan")] * N),
    "booleans": pa.array([k % 2 == 0 if k % 3 else None for k in range(N)]),
}
ROLES = (
    "user_id",
    "item_id",
    "event_time",
    "clicked",
    "clicked_at",
    "watch_seconds",
    "purchased",
    "request_id",
    "thing",
)


def of_types(home: Path, change: dict[str, pa.Array]) -> None:
    base: dict[str, Any] = {
        "user_id": [f"u{k % 7}" for k in range(N)], "item_id": [k % 11 for k in range(N)],
        "event_time": [1_772_323_200 + k for k in range(N)], "clicked": [k % 3 == 0 for k in range(N)],
        "watch_seconds": [float(k) if k % 3 == 0 else 0.0 for k in range(N)],
    }  # fmt: skip
    home.mkdir(parents=True)
    pq.write_table(pa.table(base | change), home / "events_2026-03-01.parquet")


@pytest.mark.parametrize("kind", ODD)
def test_no_type_stops_it(tmp_path: Path, kind: str) -> None:
    """In every role, as found and as given: a config is written, or the column is refused with 2."""
    for k, role in enumerate(ROLES):
        of_types(tmp_path / str(k), {role: ODD[kind]})
        ended = dmtl("init", tmp_path / str(k), "-o", tmp_path / f"{k}.yaml")
        assert ended.code in (0, Exit.DATA, Exit.CONFIG), (role, ended.err)
        assert (tmp_path / f"{k}.yaml").is_file(), f"{role}: it is `check` alone that may refuse: {ended.err}"
    for given in ("user", "item", "click", "duration"):
        try:
            init(str(tmp_path / str(len(ROLES) - 1)), tmp_path / "given.yaml", {given: "thing"}, force=True)
        except UserError as e:
            assert e.code == Exit.USAGE and f"--{given}: " in e.message


def test_what_nothing_reads_is_named(tmp_path: Path) -> None:
    def write(home: Path) -> None:
        unread = {"map": ODD["map"], "objects": ODD["lists of lists of objects"], "pause": ODD["duration"]}
        of_types(home / "log", unread | {"cost": ODD["decimal"]})

    _, raw, text = made(tmp_path, write)
    for name, kind in (
        ("map", "Map(String, String)"),
        ("objects.a", "List(List(Int64))"),
        ("pause", "Duration("),
    ):
        assert f"# {name}: not used: of type {kind}" in text
    assert features(raw)["cost"]["kind"] == "numeric", "a vocabulary takes no decimals"
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "other.yaml", "--user", "map")
    assert ended.code == Exit.USAGE and "--user: map is of type Map(String, String), which nothing reads" in ended.err


def test_types_that_differ_between_files() -> None:
    one = pl.DataFrame({"a": [1], "b": ["x"], "c": [[1]], "d": [1]})
    other = pl.DataFrame({"a": ["q"], "b": ["y"], "c": ["z"], "d": [2.5], "e": [True]})
    both = joined([one, other])
    assert both["a"].to_list() == ["1", "q"] and both["c"].to_list() == [[1], None] and both["d"].to_list() == [1, 2.5]
    assert both["e"].to_list() == [None, True]
    kept, others = plain(pl.DataFrame({"x": pl.Series(["a"], dtype=pl.Enum(["a"])), "y": pl.Series([b"b"])}))
    assert kept["x"].dtype == pl.String and others == {"y": "Binary"}


def test_a_table_with_two_ids_of_the_item_is_of_the_items(tmp_path: Path) -> None:
    """Its first column is another code of the item, which the events have too."""
    codes = [f"00{90_000 + 7 * i}" for i in range(unseen.ITEMS)]
    names = [f"art-{i}" for i in range(unseen.ITEMS)]
    x = unseen.drawn(0)
    events = {"article_no": [names[i] for i in x["item"]], "ean_code": [codes[i] for i in x["item"]]}
    log = frame(drop=("item_id",), **events)
    shelf = [f"shelf {i % 5}" for i in range(unseen.ITEMS)]
    table = pl.DataFrame({"ean_code": codes, "article_no": names, "shelf": shelf})

    def write(home: Path) -> None:
        daily(log)(home)
        table.write_parquet(home / "catalogue.parquet")

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0, ended.err
    items, events_of = raw["data"]["items"], raw["data"]["events"]
    assert items["path"] == "catalogue.parquet" and items["key"] == events_of["item"]
    assert features(raw)["shelf"]["side"] == "item"
