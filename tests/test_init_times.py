"""Days and times of text that are not ISO 8601: `init` guesses their format, `data.types` reads it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import unseen
import yaml
from hypothesis import given
from hypothesis import strategies as st
from initiated import features, made
from worlds import dmtl

from dmtl_cli.data.log.values.types import formatted
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.formats import formats_of
from dmtl_cli.guess.exposures.labels import roles_of

X = unseen.drawn(7)
EARLY = int(dt.datetime(2026, 3, 2, tzinfo=dt.UTC).timestamp())  # no day above 12, as X has from the first of March on
LATE = int(dt.datetime(2026, 3, 26, tzinfo=dt.UTC).timestamp())


def rows(form: str, begin: int = LATE, days: int = unseen.DAYS) -> tuple[pl.DataFrame, unseen.Columns]:
    """Events of three days from one on, or of fewer, with their times as text."""
    at = X["at"] - int(unseen.START.timestamp())
    x = {c: v[at < days * 86_400] for c, v in (X | {"at": at + begin}).items()}
    when = [dt.datetime.fromtimestamp(int(at), dt.UTC).strftime(form) for at in x["at"]]
    seen = {"user_id": "user", "item_id": "item", "clicked": "click", "watch_seconds": "seconds"}
    return pl.DataFrame({"zeit": when} | {name: x[key] for name, key in seen.items()}), x


def put(home: Path, frame: pl.DataFrame, x: unseen.Columns, kind: str, *, one: bool) -> None:
    """One file, or a file a day, of CSV or JSON lines."""
    for (day,), part in frame.with_columns(pl.Series(":d", [""] * len(frame) if one else unseen.days_of(x))).group_by(
        ":d", maintain_order=True
    ):
        file, part = home / f"log{day and f'_{day}'}.{kind}", part.drop(":d")
        part.write_csv(file, separator=";") if kind == "csv" else part.write_ndjson(file)


def read_times(home: Path) -> list[dt.datetime]:
    """The times of all converted rows, in their order."""
    files = sorted((home / "work/mine/converted/events").rglob("*.parquet"))
    return sorted(pl.concat([pl.read_parquet(file) for file in files])["zeit"].to_list())


@pytest.mark.parametrize("one", [False, True], ids=["a file a day", "one file"])
@pytest.mark.parametrize(
    ("kind", "form", "seconds"),
    [
        ("csv", "%d.%m.%Y %H:%M:%S", 1), ("csv", "%d.%m.%Y %H:%M", 60), ("json", "%d/%m/%Y %H:%M:%S", 1),
        ("csv", "%m/%d/%Y %I:%M:%S %p", 1), ("json", "%Y/%m/%d %H:%M", 60), ("csv", "%d-%m-%Y, %H:%M", 60),
        ("csv", "%d-%b-%Y %H:%M:%S", 1), ("json", "%a, %d %b %Y %H:%M:%S GMT", 1), ("csv", "%Y%m%d%H%M%S", 1),
        ("csv", "%a %b %d %H:%M:%S %Y", 1), ("csv", "%d/%m/%y %H:%M", 60), ("json", "%b %d, %Y, %I:%M %p", 60),
    ],
)  # fmt: skip
def test_a_time_in_another_format_is_read(tmp_path: Path, one: bool, kind: str, form: str, seconds: int) -> None:
    """`init` writes the format, and the chain has the log's own instants."""
    frame, x = rows(form)
    ended, raw, text = made(tmp_path, lambda home: put(home, frame, x, kind, one=one))
    assert ended.code == 0, ended.err
    assert raw["data"]["types"]["zeit"] == f"datetime:{form}" and raw["data"]["events"]["time"] == "zeit"
    assert ("numbers above 12 are days" in text) == (form[:5] in ("%d/%m", "%m/%d", "%d-%m"))
    days = sorted(set(unseen.days_of(x)))
    for day in days:
        found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", day, "--json")
        assert found.code == 0 and found.json["rows"] == unseen.days_of(x).count(day), found.err
    true = [dt.datetime.fromtimestamp(int(at) // seconds * seconds, dt.UTC) for at in x["at"]]
    assert read_times(tmp_path) == sorted(true)


def test_days_of_a_format_cut_one_file(tmp_path: Path) -> None:
    frame, x = rows("%m/%d/%Y")
    ended, raw, _ = made(tmp_path, lambda home: put(home, frame, x, "csv", one=True))
    assert ended.code == 0 and raw["data"]["types"]["zeit"] == "date:%m/%d/%Y", ended.err
    assert raw["data"]["events"]["date_column"] == "zeit" and "2026-03-28" in ended.out


@pytest.mark.parametrize("one", [False, True], ids=["a file a day", "one file"])
def test_a_time_that_may_be_either_is_not_decided(tmp_path: Path, one: bool) -> None:
    """Both formats are named; with the one that a person takes, the day is read."""
    frame, x = rows("%m/%d/%Y %H:%M", EARLY, days=1)
    ended, raw, text = made(tmp_path, lambda home: put(home, frame, x, "csv", one=one))
    both = "zeit: datetime:%d/%m/%Y %H:%M, or datetime:%m/%d/%Y %H:%M, in data.types"
    lines = [line.strip() for line in text.splitlines() if both in line]
    assert [line.split(":")[0] for line in lines] == (["# date_column", "# time"] if one else ["# time"])
    assert all("no value above 12 tells whether the day or the month is first" in line for line in lines)
    assert "time" not in raw["data"]["events"] and "zeit" not in raw["data"].get("types", {})
    assert ended.code == (78 if one else 0)
    raw["data"]["types"]["zeit"] = "datetime:%m/%d/%Y %H:%M"
    raw["data"]["events"] |= {"date_column": "zeit", "time": "zeit"} if one else {"time": "zeit"}
    raw["data"]["timezone"] = "UTC"
    raw["features"] = "auto"
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw))
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-02", "--json")
    assert found.code == 0 and found.json["rows"] == len(frame), found.err


def test_days_that_follow_each_other_tell_day_and_month(tmp_path: Path) -> None:
    """By the other order 2, 3 and 4 March would be months apart."""
    frame, x = rows("%m/%d/%Y %H:%M", EARLY)
    ended, raw, text = made(tmp_path, lambda home: put(home, frame, x, "csv", one=True))
    assert ended.code == 0 and raw["data"]["types"]["zeit"] == "datetime:%m/%d/%Y %H:%M", ended.err
    assert "zeit: datetime:%m/%d/%Y %H:%M  # its days follow each other so" in text
    true = [dt.datetime.fromtimestamp(int(at) // 60 * 60, dt.UTC) for at in x["at"]]
    assert read_times(tmp_path) == sorted(true)[-len(read_times(tmp_path)) :]


def test_check_sees_by_such_times_that_no_user_returns(tmp_path: Path) -> None:
    frame, x = rows("%d.%m.%Y %H:%M")
    visits = [f"{day}-{k % 150}" for k, day in enumerate(unseen.days_of(x))]
    frame = frame.with_columns(user_id=pl.Series(visits))
    made(tmp_path, lambda home: put(home, frame, x, "csv", one=True))
    said = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-27", "--json").json["warnings"]
    assert any("no id is there on two days: is it a request or a session?" in line for line in said)


def test_a_table_with_such_times_is_late(tmp_path: Path) -> None:
    frame, x = rows("%d.%m.%Y %H:%M")

    def write(home: Path) -> None:
        put(home, frame, x, "csv", one=False)
        for day in sorted(set(unseen.days_of(x))):
            stand = dt.date.fromisoformat(day).strftime("%d.%m.%Y 23:55")
            side = {"user_id": range(unseen.USERS), "stand": [stand] * unseen.USERS, "plan": ["a", "b"] * 30}
            pl.DataFrame(side).write_csv(home / f"users_{day}.csv", separator=";")

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0 and raw["data"]["users"]["lag_days"] == 1 and "plan" in features(raw), ended.err
    assert "lag_days: 1, as it is written when its day has passed: its stand of 2026-03-28" in " ".join(
        ended.out.split()
    )


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("27.03.2026", ["date:%d.%m.%Y"]), ("03.04.2026 1:02", ["datetime:%d.%m.%Y %H:%M"]),
        ("03/27/2026", ["date:%m/%d/%Y"]), ("3/4/2026", ["date:%d/%m/%Y", "date:%m/%d/%Y"]),
        ("2026/03/27 01:02:03.5", ["datetime:%Y/%m/%d %H:%M:%S%.f"]),
        ("27/03/2026 1:02PM", ["datetime:%d/%m/%Y %I:%M%p"]),
        ("2026-03-27 01:02", []), ("2026-03-27", []), ("99/99/2026", []), ("8.0.13", []), ("1/2", []),
        ("31.02.2026", []), ("27.03.26", ["date:%d.%m.%y"]), ("1.2.26", []), ("27-03-26", []), ("27/03/26", []),
        ("27/03/26 1:02", ["datetime:%d/%m/%y %H:%M", "datetime:%y/%m/%d %H:%M"]),
        ("Mai 3, 2026", []), ("Wedding 4 May 2026", []),
        ("09-MAR-2026 00:34:24", ["datetime:%d-%b-%Y %H:%M:%S"]), ("09-MAR-26", ["date:%d-%b-%y"]),
        ("09-MAR-26 12.34.24.123456 AM +02:00", ["datetime:%d-%b-%y %I.%M.%S%.f %p %z"]),
        ("02/Oct/2026:13:55:36 +0200", ["datetime:%d/%b/%Y:%H:%M:%S %z"]),
        ("Fri, 02 Oct 2026 13:55:36 GMT", ["datetime:%a, %d %b %Y %H:%M:%S GMT"]),
        ("Fri Oct  2 13:55:36 +0000 2026", ["datetime:%a %b %d %H:%M:%S %z %Y"]),
        ("October 2, 2026, 1:55 PM", ["datetime:%B %d, %Y, %I:%M %p"]), ("May 3, 2026", ["date:%b %d, %Y"]),
        ("20261002135536", ["datetime:%Y%m%d%H%M%S"]), ("20261002135536123", ["datetime:%Y%m%d%H%M%S%3f"]),
        ("20261002T135536Z", ["datetime:%Y%m%dT%H%M%SZ"]), ("20261302135536", []),
        ("29/02/2567 06:20", ["datetime:%d/%m/%EY %H:%M"]), ("2569/10/02", ["date:%EY/%m/%d"]),
        ("2026-10-02-13.55.36.123456", ["datetime:%Y-%m-%d-%H.%M.%S%.f"]),
    ],
)  # fmt: skip
def test_formats_by_their_values(text: str, types: list[str]) -> None:
    assert formats_of(pl.Series("zeit", [text, "", None, text])) == types
    assert formats_of(pl.Series("zeit", [text, "other"])) == []


def test_years_of_the_buddhist_era() -> None:
    """2567 is 2024, which has a 29 February; a year that is none of that era is no such day."""
    texts = pl.Series(["29/02/2567 06:20", "29/02/2568 06:20", "31/12/2025 06:20", "2568", None, "1/2/2468 0:00"])
    made = formatted(texts, "datetime:%d/%m/%EY %H:%M").to_list()
    at, old = (dt.datetime(*day, tzinfo=dt.UTC) for day in ((2024, 2, 29, 6, 20), (1925, 2, 1)))
    assert made == [at, None, None, None, None, old]
    assert formatted(pl.Series(["2568-12-31"]), "date:%EY-%m-%d").to_list() == [dt.date(2025, 12, 31)]
    bengali = pl.Series(["পরীক্ষা ২০২৫", "৩১/১২/২৫৬৮"])
    assert formats_of(bengali) == [] and formatted(bengali, "date:%d/%m/%EY").null_count() == 2, "digits of any script"
    assert formats_of(pl.Series("d", ["01/02/2568", "01/02/2025"])) == ["date:%d/%m/%Y", "date:%m/%d/%Y"], "of both"


@pytest.mark.parametrize("text", ["20261002135536", "20261002135536123", "10.02.26"])
def test_what_may_be_an_id_or_a_version_is_a_time_by_its_name(text: str) -> None:
    assert formats_of(pl.Series("ts", [text, text])) and not formats_of(pl.Series("exposure_id", [text, text]))
    assert not formats_of(pl.Series("app_version", [text, text])) and not formats_of(pl.Series("code", [text]))
    if len(text) > 8:
        assert formats_of(pl.Series("ts", [int(text)])) and not formats_of(pl.Series("item_id", [int(text)]))


def test_of_years_of_two_digits_the_days_that_follow_each_other_tell_the_place() -> None:
    """As Japan and Korea write them; one day alone may be any of the orders."""
    days = [f"26/10/{d:02d} 13:55:36" for d in range(1, 7)]
    assert formats_of(pl.Series("ts", days)) == ["datetime:%y/%m/%d %H:%M:%S"]
    assert len(formats_of(pl.Series("ts", days[:1]))) > 1


FORMS = ("%d.%m.%Y %H:%M:%S", "%m/%d/%Y %I:%M %p", "%d %b %Y %H:%M", "%y%m%d %H:%M:%S")


@given(st.datetimes(dt.datetime(1970, 1, 1), dt.datetime(2068, 12, 31)), st.sampled_from(FORMS))
def test_a_format_is_read_as_python_reads_it(at: dt.datetime, form: str) -> None:
    text = at.strftime(form)
    (made,) = formatted(pl.Series([text]), f"datetime:{form}").to_list()
    assert made == dt.datetime.strptime(text, form).replace(tzinfo=dt.UTC)
    (day,) = formatted(pl.Series([at.strftime("%d/%m/%Y")]), "date:%d/%m/%Y").to_list()
    assert day == at.date()


def test_a_time_with_a_zone_is_an_instant() -> None:
    values = pl.Series(["27.03.2026 00:30 +0200", "27.03.26 00:30 +0200", "27.03.2026 00:30", None])
    made = formatted(values, "datetime:%d.%m.%Y %H:%M %z").to_list()
    assert made == [dt.datetime(2026, 3, 26, 22, 30, tzinfo=dt.UTC), None, None, None]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("datum", "expected text, int64, float64, bool, date, datetime, clock, list<text>"),
        ("datetime:", "or a format such as datetime:%d.%m.%Y %H:%M, got 'datetime:'"),
        ("datetime:%d.%m.%Y", "expected day, month and year, %M, and %H or %I with %p in a format of datetime"),
        ("datetime:%d.%m.%Y %I:%M", "%H or %I with %p in a format of datetime, got '%d.%m.%Y %I:%M'"),
        ("date:%d.%m.%Y %H:%M", "expected day, month and year alone in a format of date"),
        ("date:%d.%Y", "expected day, month and year alone"), ("datetime:%d.%m.%Y %H:%M %Q", "and %z, got %Q"),
        ("date:%d.%m.%E", "got %E"), ("date:%EY%m%d", "expected a sign that is no number on both sides of %EY"),
    ],
)  # fmt: skip
def test_a_format_that_is_none_is_refused(tmp_path: Path, kind: str, said: str) -> None:
    frame, x = rows("%d.%m.%Y %H:%M")
    _, raw, _ = made(tmp_path, lambda home: put(home, frame, x, "csv", one=False))
    raw["data"]["types"]["zeit"] = kind
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw))
    ended = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-26")
    assert ended.code == 78 and said in ended.err and "data.types.zeit" in ended.err, ended.err


@pytest.mark.parametrize("value", ["2026-03-27 00:01", "27.03.26 00:01", "gestern"])
def test_a_value_in_another_format_is_refused(tmp_path: Path, value: str) -> None:
    frame, x = rows("%d.%m.%Y %H:%M")
    made(tmp_path, lambda home: put(home, frame, x, "csv", one=False))
    bad: dict[str, Any] = {"zeit": [value, *frame["zeit"][1:]]}
    put(tmp_path / "log", frame.with_columns(**{c: pl.Series(v) for c, v in bad.items()}), x, "csv", one=False)
    ended = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-26")
    assert ended.code == 65, ended.err
    assert f"row 2, column zeit: expected a time as %d.%m.%Y %H:%M, got {value!r}" in ended.err, ended.err


# -- the zero date of MySQL --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "json"])
@pytest.mark.parametrize("at", [5, 500])
def test_a_zero_date_is_a_time_that_is_not_known(tmp_path: Path, kind: str, at: int) -> None:
    frame, x = rows("%Y-%m-%d %H:%M:%S")
    zeit = [words.ZERO_DATES[0] if k in (at, at + 1) else t for k, t in enumerate(frame["zeit"])]
    ended, raw, text = made(
        tmp_path, lambda home: put(home, frame.with_columns(pl.Series("zeit", zeit)), x, kind, one=False)
    )
    assert ended.code == 0, ended.err
    nulls = raw["data"]["csv"]["null_values"] if kind == "csv" else raw["data"]["null_values"]
    assert words.ZERO_DATES[0] in nulls and raw["data"]["events"]["invalid_rows"] == "drop"
    assert ("rows have the time 0000-00-00 00:00:00" in text) is (at == 500), "of days that are proposed all are read"
    day = unseen.days_of(x)[at]
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", day, "--json")
    assert found.code == 0 and found.json["rows"] == unseen.days_of(x).count(day) - 2, found.err


def test_a_zero_date_that_comes_later_is_refused_with_both_keys(tmp_path: Path) -> None:
    frame, x = rows("%Y-%m-%d %H:%M:%S")
    made(tmp_path, lambda home: put(home, frame, x, "csv", one=False))
    day = unseen.days_of(x)[500]
    zeit = [words.ZERO_DATES[0] if k == 500 else t for k, t in enumerate(frame["zeit"])]
    put(tmp_path / "log", frame.with_columns(pl.Series("zeit", zeit)), x, "csv", one=False)
    ended = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", day)
    both = "name it in data.csv.null_values, and set data.events.invalid_rows: drop"
    assert ended.code == 65 and both in ended.err, ended.err
    keys = ("--set", f'data.csv={{null_values: ["{words.ZERO_DATES[0]}"], separator: ";"}}')
    drop = ("--set", "data.events.invalid_rows=drop")
    assert dmtl("check", "--config", tmp_path / "mine.yaml", "--day", day, *keys, *drop).code == 0


def test_a_zero_date_where_there_was_no_click(tmp_path: Path) -> None:
    frame, x = rows("%Y-%m-%d %H:%M:%S")
    then = [t if c else words.ZERO_DATES[0] for t, c in zip(frame["zeit"], x["click"], strict=True)]
    write = frame.drop("clicked").with_columns(pl.Series("clicked_at", then))
    ended, raw, _ = made(tmp_path, lambda home: put(home, write, x, "csv", one=False))
    assert ended.code == 0 and raw["data"]["events"]["click"] == "clicked_at", ended.err
    day = unseen.days_of(x)[500]
    clicks = sum(int(c) for c, d in zip(x["click"], unseen.days_of(x), strict=True) if d == day)
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", day, "--json").json
    assert found["labels"]["click_rate"] == pytest.approx(clicks / unseen.days_of(x).count(day), abs=1e-4)


@pytest.mark.parametrize("name", ["eklenme_tarihi", "datum_přidání", "fecha_de_alta", "登録日", "дата_добавления"])
def test_since_when_an_item_is_there_in_other_words(tmp_path: Path, name: str) -> None:
    frame, x = rows("%d.%m.%Y %H:%M:%S")
    days = [unseen.days_of(x)[0], unseen.days_of(x)[-1]]
    first = {i: min(d for d, j in zip(unseen.days_of(x), x["item"], strict=True) if j == i) for i in {*x["item"]}}
    born = [dt.date.fromisoformat(max(first[i], days[i % 2]) if i < 2 else days[0]) for i in sorted(first)]
    items = pl.DataFrame({"item_id": sorted(first), name: [d.strftime("%d.%m.%Y") for d in born]})

    def write(home: Path) -> None:
        put(home, frame.filter(pl.Series(x["item"] >= 2)), x | {"at": x["at"][x["item"] >= 2]}, "csv", one=False)
        items.write_csv(home / "items.csv", separator=";")

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0 and raw["data"]["items"]["version"] == name, ended.err
    assert raw["data"]["types"][name] == "date:%d.%m.%Y"


def test_a_clock_that_was_never_set_is_no_time_of_the_rows() -> None:
    """Of two times of a row that of the server, where some of the devices' are of 1970; else the first."""
    at = [1_767_225_600_000 + k * 60_000 for k in range(400)]
    ids = {"user_id": [f"u{k % 40}" for k in range(400)], "item_id": [f"i{k % 31}" for k in range(400)]}
    wrong = [86_400_000 if k == 7 else t - 900 for k, t in enumerate(at)]
    frame = pl.DataFrame(ids | {"client_time": wrong, "server_time": at, "click": [k % 3 == 0 for k in range(400)]})
    for rows, named in ((frame, "server_time"), (frame.filter(pl.col("client_time") > 10**12), "client_time")):
        found = roles_of(rows, {}).time
        assert found is not None and found.column == named


def test_a_time_may_be_given(tmp_path: Path) -> None:
    """And is refused where it is none."""
    log = tmp_path / "log"
    log.mkdir()
    at = [dt.datetime(2026, 1, 1 + k // 200) + dt.timedelta(minutes=k % 200) for k in range(600)]
    ids = {"user_id": [f"u{k % 40}" for k in range(600)], "item_id": [f"i{k % 31}" for k in range(600)]}
    sent = {
        "client_time": [t - dt.timedelta(seconds=3) for t in at],
        "stored": at,
        "clicked": [k % 3 == 0 for k in range(600)],
    }
    seconds = {"seconds": [float(k % 90) if k % 3 == 0 else None for k in range(600)]}
    pl.DataFrame(ids | sent | seconds).write_parquet(log / "e.parquet")
    config = tmp_path / "c.yaml"
    assert dmtl("init", log, "-o", config, "--time", "stored").code == 0
    events = yaml.safe_load(config.read_text())["data"]["events"]
    assert events["time"] == events["date_column"] == "stored"
    refused = dmtl("init", log, "-o", config, "--time", "seconds")
    assert refused.code == 2 and "--time: expected a column of times, seconds is Float64" in refused.err
