"""JSON lines as warehouses export them: objects within what was shown, numbers in quotes, times that end in UTC."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from initiated import features, made
from worlds import dmtl

from dmtl_cli.data.log.values.types import instants, iso_times
from dmtl_cli.guess.columns.values import time_unit
from dmtl_cli.guess.columns.zones import zone_of
from dmtl_cli.guess.reading.exploding import parallel
from dmtl_cli.guess.reading.texts import Text, as_named

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
SHOWN, USERS, DAYS = 8, 90, 3


def stamp(at: dt.datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S.%f} UTC"


def card(rng: np.random.Generator, place: int, item: int, at: dt.datetime) -> dict[str, Any]:
    """What was shown; of an open the visit, an object of its own, with numbers in quotes."""
    one: dict[str, Any] = {"recipe_id": f"rc{item}", "place": str(place), "opened": bool(rng.random() < 0.25)}
    if one["opened"]:
        seconds = int(rng.exponential(60)) + 1
        visit = {"stay_seconds": str(seconds), "scrolled_pct": str(int(rng.integers(1, 100))), "saved": seconds > 150}
        one |= {"opened_at": stamp(at + dt.timedelta(seconds=3)), "visit": visit}
    return one


def feed(rng: np.random.Generator, k: int) -> dict[str, Any]:
    """A row a request: who asked, what was shown, and how long the session was, known when it has ended."""
    at = START + dt.timedelta(seconds=int(rng.integers(0, DAYS * 86_400)), microseconds=7)
    shown = [card(rng, n, int(i), at) for n, i in enumerate(rng.choice(60, SHOWN, replace=False))]
    total = sum(int(c["visit"]["stay_seconds"]) for c in shown if c["opened"])
    cook = {"cook_id": f"k{int(rng.integers(USERS))}", "level": str(int(rng.integers(1, 4)))}
    visit = {"visit_total_msec": str(1000 * total + int(rng.integers(0, 900))), "lively": str(int(total >= 40))}
    return {"serve_id": f"f{k}", "asked": stamp(at), "cook": cook, "stats": visit, "shown": shown}


def recipe(rng: np.random.Generator, k: int) -> dict[str, Any]:
    added = START - dt.timedelta(days=30 + k)
    counts = {"minutes": str(int(rng.integers(5, 200))), "likes": str(int(rng.integers(900)))}
    return {"recipe_id": f"rc{k}", "added": stamp(added), "title": "words " * 3, **counts, "kind": f"k{k % 4}"}


def export(home: Path, parts: int = 2) -> None:
    """Files of requests, of items and of users in one folder, as one export writes them."""
    rng = np.random.default_rng(5)
    rows = [feed(rng, k) for k in range(900)]
    tables = {f"served_{n:012d}": rows[n::parts] for n in range(parts)}
    tables["recipes_000000000000"] = [recipe(rng, k) for k in range(60)]
    tables["cooks_000000000000"] = [{"cook_id": f"k{k}", "town": f"t{k % 5}", "age": str(20 + k)} for k in range(USERS)]
    for name, lines in tables.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (home / f"{name}.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    ended, raw, _ = made(tmp_path, export)
    assert ended.code == 0, ended.err + ended.out
    return raw


def test_an_object_within_what_was_shown_is_of_its_element(tmp_path: Path, written: dict[str, Any]) -> None:
    events = written["data"]["events"]
    roles = {"user": "cook.cook_id", "item": "shown.recipe_id", "click": "shown.opened", "time": "asked"}
    assert events["explode"] == "shown" and {role: events[role] for role in roles} == roles
    assert events["duration"] == "shown.visit.stay_seconds" and "duration_unit" not in events
    late = {"shown.opened_at", "shown.visit.scrolled_pct", "shown.visit.saved"}
    assert late < {*events["outcomes"]}
    named = {f.get("column", name) for name, f in features(written).items()}
    assert events["path"] == "served_*.json.gz" and not late & named and {"shown.place", "cook.level"} <= named
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-02", "--json").json
    seen = [row for row in lines(tmp_path) if row["asked"].startswith("2026-03-02")]
    assert found["rows"] == SHOWN * len(seen)
    seconds = [int(c["visit"]["stay_seconds"]) for row in seen for c in row["shown"] if c["opened"]]
    assert found["labels"]["duration_seconds"]["mean"] == pytest.approx(np.mean(seconds), abs=0.01)


def lines(home: Path) -> list[dict[str, Any]]:
    files = sorted((home / "log").glob("served_*"))
    return [json.loads(line) for file in files for line in gzip.open(file, "rt")]


def test_totals_of_a_request_are_outcomes(written: dict[str, Any]) -> None:
    """A flag that a number tells which is made of the request's clicks is one too, whatever it is called."""
    assert {"stats.visit_total_msec", "stats.lively"} <= {*written["data"]["events"]["outcomes"]}


def test_numbers_in_quotes_are_numbers(written: dict[str, Any]) -> None:
    types = written["data"]["types"]
    assert types["minutes"] == types["age"] == types["shown.place"] == "int64"
    made = features(written)
    assert made["minutes"]["kind"] == made["age"]["kind"] == "numeric"
    assert "likes" not in made  # a running total, which text would have hidden
    assert "recipe_id" not in types and "cook.cook_id" not in types


@pytest.mark.parametrize(
    ("name", "texts", "kind"),
    [
        ("views", ["612", "7", "-1"], pl.Int64), ("harga", ["1200", "35000", "7"], pl.Int64),
        ("score", ["1.5", "20", ".25"], pl.Float64), ("stamp_time", ["1758496320", "1758496321"], pl.Int64),
        ("article_id", ["612", "7", "8"], pl.String), ("code", ["12", "7", "8"], pl.String),
        ("kunde", ["00612", "7", "8"], pl.String), ("zielgruppe", ["10115", "20095", "80331"], pl.String),
        ("huge", ["9" * 19, "1", "2"], pl.String), ("size", ["12 ml", "7", "8"], pl.String),
    ],
)  # fmt: skip
def test_which_quoted_numbers_are_measures(name: str, texts: list[str], kind: pl.DataType) -> None:
    found, _ = as_named(pl.DataFrame({name: texts * 9}), Text())
    assert found.schema[name] == kind


def test_lists_of_one_length_share_what_they_are_in() -> None:
    """An object within, one beside it, and a list of another length."""
    two, three = [[1, 2], [3]], [[1, 2, 3], [4, 5, 6]]
    frame = pl.DataFrame({"a.b.x": two, "a.id": two, "a.c.d.y": two, "at": ["", ""], "e.z": two, "f": three})
    assert parallel(frame) == [(("a",), ("a.b.x", "a.id", "a.c.d.y"))]
    assert parallel(frame.rename({"f": "a.tags"}))[0][0] == ("a.b.x", "a.id", "a.c.d.y")


@pytest.mark.parametrize(
    "text",
    [
        '"shown.visit.stay_seconds" >= 90', "shown.visit.stay_seconds >= 90",
        "CAST(shown.visit.stay_seconds AS BIGINT) >= 90",
    ],
)  # fmt: skip
def test_an_expression_of_such_a_column(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended, raw, _ = made(tmp_path, export, "--conversion", text)
    assert ended.code == 0 and raw["data"]["events"]["computed"] == {"good": text}, ended.err
    assert {"shown.visit.stay_seconds", "shown.visit.saved"} <= {*raw["data"]["events"]["outcomes"]}
    assert raw["data"]["types"]["shown.visit.stay_seconds"] == "int64"
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-02", "--json").json
    seen = [c for row in lines(tmp_path) if row["asked"].startswith("2026-03-02") for c in row["shown"]]
    good = sum(int(c["visit"]["stay_seconds"]) >= 90 for c in seen if c["opened"])
    assert found["labels"]["conversion_rate"] == pytest.approx(good / sum(c["opened"] for c in seen), abs=1e-4)


@pytest.mark.parametrize("table", ["items", "users"])
def test_a_list_with_the_name_of_a_side_table(tmp_path: Path, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its columns are the events' own where no side table has them, and are written in quotes then."""
    monkeypatch.chdir(tmp_path)

    def log(home: Path) -> None:
        export(home)
        for file in home.glob("served_*"):
            text = gzip.decompress(file.read_bytes()).replace(b'"shown"', f'"{table}"'.encode())
            file.write_bytes(gzip.compress(text, mtime=0))

    given = f"{table}.visit.stay_seconds >= 90 OR {table} . visit.saved"
    ended, raw, text = made(tmp_path, log, "--conversion", given)
    own = f'"{table}.visit.stay_seconds" >= 90 OR "{table}.visit.saved"'
    assert ended.code == 0 and raw["data"]["events"]["computed"] == {"good": own}, ended.err
    assert raw["data"]["types"][f"{table}.visit.stay_seconds"] == "int64"
    bare = text.replace(f'\\"{table}.visit.stay_seconds\\"', f"{table}.visit.stay_seconds")
    (tmp_path / "bare.yaml").write_text(bare)
    ended = dmtl("check", "--config", tmp_path / "bare.yaml", "--day", "2026-03-02")
    assert ended.code == 65 and f'"{table}.visit.stay_seconds" in quotes is the events\' own' in ended.err


def test_goals_name_the_events_own_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each expression that `init` writes as a comment is one that `init` takes."""
    monkeypatch.chdir(tmp_path)

    def log(home: Path) -> None:
        export(home)
        for file in home.glob("served_*"):
            file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()).replace(b'"shown"', b'"items"'), mtime=0))

    _, _, text = made(tmp_path, log)
    goals = [yaml.safe_load(found[1])["good"] for found in re.finditer(r"#   computed: (\{good: .*\})  #", text)]
    assert len(goals) == 3 and not any("lively" in one for one in goals)
    for goal in goals:
        ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "other.yaml", "--force", "--conversion", goal)
        assert ended.code == 0, ended.err


# -- times -------------------------------------------------------------------------------------------------------------

ZONES = {
    "": 0, "Z": 0, " Z": 0, " UTC": 0, "UTC": 0, " GMT": 0, "+00": 0, " +00": 0, " +0000": 0, " +00:00": 0,
    "+00:00": 0, " +0000 UTC": 0, "+09": 9, " +0900": 9, "-03:00": -3, " -03:00": -3,
}  # fmt: skip
CLOCKS = {"%H:%M:%S": 1, "%H:%M:%S.%f": 1, "%H:%M": 60, "%H:%M:%S,%f": 1}


@given(
    at=st.datetimes(dt.datetime(2000, 1, 2), dt.datetime(2049, 12, 30)),
    between=st.sampled_from(["T", " "]),
    clock=st.sampled_from(sorted(CLOCKS)),
    zone=st.sampled_from(sorted(ZONES)),
)
def test_a_time_with_its_zone_is_the_instant(at: dt.datetime, between: str, clock: str, zone: str) -> None:
    text = at.strftime(f"%Y-%m-%d{between}{clock}") + zone
    at = at.replace(microsecond=at.microsecond if "%f" in clock else 0, second=at.second if "%S" in clock else 0)
    expected = at.replace(tzinfo=dt.UTC) - dt.timedelta(hours=ZONES[zone])
    texts = pl.Series("t", ["2026-01-31T10:00:00Z", None, text, "2026-01-31 10:00:00.5 UTC", text])
    for s in (texts, texts.reverse(), texts.filter(texts == text)):
        found = iso_times(s)
        assert found.null_count() == s.null_count() and {*found.filter(s == text)} == {expected}
    assert time_unit(pl.Series("t", [text] * 30)) == "text"
    named = zone_of(pl.Series("t", [text] * 30), "text")[1]
    ahead = f"UTC{ZONES[zone]:+d}" if ZONES[zone] else ""
    assert named.startswith(ahead if zone else "days end at midnight of t's own times")
    assert not zone or "the times end in " in named


@settings(max_examples=300)
@given(
    day=st.sampled_from(["2026-01-31", "2026-02-30", "2026-19-39", "20260131", "2026-1-3", "0000-00-00"]),
    between=st.sampled_from(["T", " ", "  ", "t", "_"]),
    clock=st.sampled_from(["", "23:12:00", "24:00:00", "23:12", "9:12:00", "231200", "11:12:00 PM", "23:12:00:123"]),
    zone=st.sampled_from([*ZONES, " KST", " Asia/Seoul", "[Asia/Seoul]", " utc", "Z+09:00", " ", "+99:99"]),
)
def test_a_text_is_a_time_only_where_it_is_read(day: str, between: str, clock: str, zone: str) -> None:
    """What `init` takes for a time, of whatever format, the reader takes too."""
    s = pl.Series("t", [day + (between + clock if clock else "") + zone] * 30)
    if time_unit(s) in ("text", "day"):
        assert not instants(s).null_count()


def test_a_time_that_none_reads_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No config is written that its own check refuses."""
    monkeypatch.chdir(tmp_path)

    def log(home: Path) -> None:
        export(home)
        for file in home.glob("served_*"):
            file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()).replace(b" UTC", b" KST"), mtime=0))

    ended, _, text = made(tmp_path, log)
    assert ended.code == 78 and "has times such as '2026-03-0" in text and "write 2026-01-31 09:15:00" in text


def by_hour(*hours: int, rows: int = 2_400) -> pl.Series:
    """Times of two days, few at some hours and as many at each of the others."""
    weight = [0.05 if k in hours else 1.0 for k in range(24)]
    of = np.random.default_rng(4).choice(24, rows, p=np.array(weight) / sum(weight))
    at = [dt.datetime(2026, 3, 1 + k % 2, int(hour), k % 60) for k, hour in enumerate(of)]
    return pl.Series("at", [t for t in at if dt.datetime(2026, 3, 1, 7, 20) <= t < dt.datetime(2026, 3, 2, 17, 45)])


@pytest.mark.parametrize(
    ("hours", "said"),
    [
        ((3, 4, 5), "fewest rows come at 4:00, as of local times"),
        ((20, 21, 22), "fewest rows come at 21:00, as at 4:00 of UTC+7"),
        ((8, 9, 10), "fewest rows come at 9:00, as at 4:00 of UTC-5"),
        ((), ""),
    ],
)
def test_the_hour_at_which_people_sleep_tells_local_times(hours: tuple[int, ...], said: str) -> None:
    """Of times without a zone a person is told both readings, and which one the hours speak for."""
    zone, why, _ = zone_of(by_hour(*hours), "timestamp")
    assert zone == "UTC" and why.startswith("days end at midnight of at's own times, which name no zone")
    assert why.endswith(f"such as Asia/Shanghai ({said})" if said else "such as Asia/Shanghai")
    few = zone_of(by_hour(*hours, rows=300), "timestamp").why
    assert "fewest" not in few, "of few rows nothing is concluded"
    epoch = by_hour(*hours).dt.epoch("s")
    assert zone_of(epoch, "s").why.endswith(f"({said})" if said else "such as Asia/Shanghai")
    far = f"; {said}: if your users live there, write their zone" if "UTC" in said else ""
    in_utc = by_hour(*hours).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert zone_of(in_utc, "text")[:2] == ("UTC", f"the times end in Z{far}")
    morning = by_hour(*hours).filter(by_hour(*hours).dt.hour() < 12)
    assert "fewest" not in zone_of(morning, "timestamp").why, "half a day has no quietest hour"


@pytest.mark.parametrize(
    ("begin", "said"),
    [
        (dt.datetime(2026, 3, 1, 22), "the rows begin and end at 22:00, the midnight of UTC+2"),
        (dt.datetime(2026, 3, 1, 18, 30), "the rows begin and end at 18:30, the midnight of UTC+5:30"),
        (dt.datetime(2026, 3, 1, 5), "the rows begin and end at 5:00, the midnight of UTC-5"),
        (dt.datetime(2026, 3, 1), "the rows begin and end at 0:00, as whole days of these times do"),
    ],
)
def test_where_a_log_begins_and_ends_tells_its_midnight(begin: dt.datetime, said: str) -> None:
    at = pl.Series("at", [begin + dt.timedelta(minutes=2 * k + 1) for k in range(2 * 720)])
    assert zone_of(at, "timestamp")[1].endswith(f"({said})")
    part = at.head(len(at) - 200)
    assert "begin and end" not in zone_of(part, "timestamp")[1], "it ends within a day"
    told = zone_of(at.dt.strftime("%Y-%m-%dT%H:%M:%SZ"), "text")[1]
    then = f"; {said}: if your users live there, write their zone" if begin.hour else ""
    assert told == f"the times end in Z{then}"
