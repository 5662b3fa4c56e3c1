"""Values as others write them: yes and no in other languages, decimal commas, clocks, shares, and days of instants."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from initiated import made
from worlds import DAYS, Ended, Project, dmtl

from dmtl_cli.config.errors import UserError
from dmtl_cli.data.log.values.lengths import clock_seconds, not_negative
from dmtl_cli.data.log.values.types import PAIRS, booleans, instants, iso_times, typed
from dmtl_cli.data.log.values.written import floats
from dmtl_cli.guess.columns.values import decimals, is_clock
from dmtl_cli.guess.reading.texts import Text, as_typed

ROWS = 1_200
RNG = np.random.default_rng(3)
CLICK = RNG.integers(0, 4, ROWS) == 0
READ = np.where(CLICK, RNG.exponential(60.0, ROWS).round(1), np.nan)
DAY = np.array([DAYS[k * len(DAYS) // ROWS] for k in range(ROWS)])


def frame(**more: Any) -> pl.DataFrame:
    """Events of 110 users on some days; `clicked` and `read_seconds` are as given."""
    base = {
        "user_id": [f"u{k}" for k in RNG.integers(0, 110, ROWS)],
        "item_id": [f"i{k}" for k in RNG.integers(0, 60, ROWS)],
        "ts": [f"{day}T10:00:00Z" for day in DAY], "clicked": CLICK.astype(int), "read_seconds": READ,
    }  # fmt: skip
    return pl.DataFrame(base | more).with_columns(
        pl.col("read_seconds").fill_nan(None) if "read_seconds" not in more else []
    )


def put(rows: pl.DataFrame, home: Path, kind: str, separator: str = ";") -> None:
    """A file a day."""
    for day in sorted(set(DAY)):
        part = rows.filter(pl.Series(day == DAY))
        file = home / f"events_{day}.{kind}"
        if kind == "csv":
            file.write_text(part.write_csv(separator=separator))
        elif kind == "json":
            file.write_text("".join(json.dumps(row) + "\n" for row in part.rows(named=True)))
        else:
            part.write_parquet(file)


def initiated(
    tmp_path: Path, rows: pl.DataFrame, kind: str, *more: str
) -> tuple[Ended, dict[str, Any], dict[str, Any]]:
    """How `init` ended, the config that it wrote, and what `check` finds of the first day."""
    ended, raw, _ = made(tmp_path, lambda home: put(rows, home, kind), *more)
    assert ended.code == 0, ended.err
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", DAYS[0], "--json")
    assert found.code == 0, found.err
    return ended, raw, found.json


FIRST = pl.Series(DAYS[0] == DAY)
RATE, MEAN = float(CLICK[FIRST].mean()), float(np.nanmean(READ[FIRST]))


# -- yes and no --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
@pytest.mark.parametrize(
    ("yes", "no"), [("J", "N"), ("sí", "no"), ("Sim", "Não"), ("O", "N"), ("ДА", "нет"), ("+", "-")]
)
def test_a_click_in_another_language(tmp_path: Path, kind: str, yes: str, no: str) -> None:
    """`init` takes the words for a flag, and the rate of clicks is that of the ones."""
    rows = frame(clicked=np.where(CLICK, yes, no))
    _, raw, found = initiated(tmp_path, rows, kind, "--click", "clicked", "--duration", "read_seconds")
    assert raw["data"].get("types", {}).get("clicked") == (None if kind == "parquet" else "bool")
    assert found["labels"]["click_rate"] == pytest.approx(RATE, abs=1e-4)


@given(st.sampled_from(PAIRS), st.lists(st.booleans() | st.none(), min_size=1, max_size=9), st.booleans())
def test_words_of_one_pair(pair: tuple[str, str], values: list[bool | None], upper: bool) -> None:
    text = [None if v is None else pair[0 if v else 1] for v in values]
    text = [t.upper() if t and upper and t.upper().lower() == t else t for t in text]
    assert booleans(pl.Series(text, dtype=pl.String)).to_list() == values


def test_a_word_has_one_meaning() -> None:
    assert not {yes for yes, _ in PAIRS} & {no for _, no in PAIRS}


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
@pytest.mark.parametrize("words", [("J", "N", "O"), ("J", "nein", "J"), ("N", "Ναι", "N"), ("J", "N", "k.A.")])
def test_words_of_several_pairs_are_refused(tmp_path: Path, kind: str, words: tuple[str, ...]) -> None:
    made = Project.create(tmp_path, tmp_path / "log")
    (tmp_path / "log").mkdir()
    put(frame(clicked=np.array(words)[np.arange(ROWS) % 3]), tmp_path / "log", kind)
    data = {"root": str(tmp_path / "log"), "format": kind, "events": {"path": f"events_{{day}}.{kind}"}}
    data["events"] |= {"click": "clicked", "duration": "read_seconds"}  # type: ignore[operator]
    made.config["data"] = data | ({"csv": {"separator": ";"}} if kind == "csv" else {})
    made.config["features"] = "auto"
    made.write()
    ended = made.call("check", "--day", DAYS[0])
    assert ended.code == 65 and "such as J and N" in ended.err and "column clicked" in ended.err, ended.err


@pytest.mark.parametrize(
    ("option", "values", "said"),
    [
        ("--click", ("J", "N", "?"), "clicked is String, such as ?; it has J, N, ?: write 0 and 1 in their place"),
        (
            "--duration",
            ("67.3", "91.0%", "lang"),
            "clicked is String, such as lang; it has 67.3, 91.0%, lang: write seco",
        ),
    ],
)
def test_a_column_that_cannot_be_says_why(tmp_path: Path, option: str, values: tuple[str, ...], said: str) -> None:
    """The value that is shown is one that does not fit."""
    put(frame(clicked=np.array(values)[np.arange(ROWS) % 3]), tmp_path, "json")
    ended = dmtl("init", tmp_path, "-o", tmp_path / "mine.yaml", option, "clicked")
    assert ended.code == 2 and said in ended.err, ended.err


# -- numbers -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e9, 1e9).map(lambda x: round(x, 3)), min_size=1, max_size=9), st.sampled_from(".,"))
def test_decimals_come_back(values: list[float], decimal: str) -> None:
    text = pl.Series([f"{x:.3f}".replace(".", decimal) for x in values])
    assert floats(text, decimal).to_list() == pytest.approx(values)
    assert floats(text + " %", decimal).to_list() == pytest.approx(values)


def test_thousands_are_no_decimals() -> None:
    assert floats(pl.Series(["1.234,5", "1.5", "1,5"]), ",").to_list() == [None, None, 1.5]
    assert floats(pl.Series(["1,234.5", "1,5", "12 kg"])).to_list() == [None, None, None]


COMMAS = ["0,4904", "12,5", "3,1416", "7,25", "0,5", "1,9"]


@pytest.mark.parametrize(
    ("separator", "columns", "decimal"),
    [
        (";", {"score": ["49,8", "3,1", "0,5"] * 10}, ","),
        (";", {"score": ["0,4904", "0,4329", "0,397"] + ["0,1237"] * 27}, ","),
        ("\t", {"price": ["1,50", "12,99", "3,00"] * 10}, ","),
        (",", {"score": ["49,8", "3,1", "0,5"] * 10}, "."),
        (";", {"people": ["1,234", "12,345", "3,100"] * 10}, "."),
        (";", {"codes": ["12,7", "3,15", "1,20"] * 10}, "."),
        (";", {"score": ["49,8", "3,1", "0,5"] * 10, "a": ["1.5", "2.25"] * 15, "b": ["0.5", "2.25"] * 15}, "."),
        (";", {"score": ["49.8", "3.1", "0.5"] * 10}, "."),
    ],
)
def test_when_a_comma_is_decimal(separator: str, columns: dict[str, list[str]], decimal: str) -> None:
    read, text = as_typed(pl.DataFrame(columns), Text(separator))
    assert text.decimal == decimal
    assert read[next(iter(columns))].dtype.is_float() == (decimal == "," or "49.8" in columns.get("score", []))


def test_zeros_that_are_left_out_behind_a_comma() -> None:
    assert decimals(pl.Series("x", ["0,4904", "0,432", *["0,1239"] * 9])) is not None
    cut = [f"{k / 100:.2f}".rstrip("0") for k in range(1_000, 1_400)]
    prices = pl.Series("pret", [(x + "0" if x.endswith(".") else x).replace(".", ",") for x in cut])
    assert decimals(prices) is not None, "as Python writes 10,0 and 10,5 beside 10,25"
    assert decimals(pl.Series("x", [f"{k % 31},{k % 97 + 1}" for k in range(900)])) is None, "two codes up to 97"
    assert decimals(pl.Series("x", ["1,20", "12,7", *["1,15"] * 9])) is None, "a list of codes"


def test_a_log_with_decimal_commas(tmp_path: Path) -> None:
    comma = [None if np.isnan(x) else f"{x:.1f}".replace(".", ",") for x in READ]
    rows = frame(read_seconds=comma, score=[f"{k % 97 / 97:.4f}".replace(".", ",") for k in range(ROWS)])
    _, raw, found = initiated(tmp_path, rows, "csv")
    assert raw["data"]["csv"]["decimal"] == "," and raw["data"]["types"]["score"] == "float64"
    assert raw["data"]["events"]["duration"] == "read_seconds"
    assert found["labels"]["duration_seconds"]["mean"] == pytest.approx(MEAN, abs=0.01)
    text = (tmp_path / "mine.yaml").read_text()
    (tmp_path / "other.yaml").write_text(text.replace('decimal: ","', 'decimal: "."'))
    ended = dmtl("check", "--config", tmp_path / "other.yaml", "--day", DAYS[0])
    assert ended.code == 65 and "expected float64 with a decimal point (data.csv.decimal), got '" in ended.err


def test_the_default_decimal_changes_no_key() -> None:
    from dmtl_cli.config.table import Csv

    assert "decimal" not in Csv().model_dump() and Csv(decimal=",").model_dump()["decimal"] == ","
    assert "thousands" not in Csv().model_dump() and Csv(thousands=",", decimal=".").thousands == ","
    with pytest.raises(ValueError, match="thousands: expected another character than decimal"):
        Csv(thousands=".")


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_number_with_a_percent_sign(tmp_path: Path, kind: str) -> None:
    """Some clients write it, others do not: it is the number that is written."""
    shares = [None if np.isnan(x) else f"{x}%" if k % 3 == 0 else x for k, x in enumerate(READ)]
    rows = frame(read_seconds=pl.Series([None if s is None else str(s) for s in shares]))
    _, raw, found = initiated(tmp_path, rows, kind, "--duration", "read_seconds")
    assert raw["data"]["types"]["read_seconds"] == "float64"
    assert found["labels"]["duration_seconds"]["mean"] == pytest.approx(MEAN, abs=0.01)


# -- clocks ------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 500), st.integers(0, 59), st.integers(0, 59))
def test_clocks(hours: int, minutes: int, seconds: int) -> None:
    whole = 3600 * hours + 60 * minutes + seconds
    texts = [
        f"{hours}:{minutes:02}:{seconds:02}",
        f"{60 * hours + minutes}:{seconds:02}",
        f"{60 * hours + minutes:02}:{seconds:02}.5",
    ]
    assert clock_seconds(pl.Series(texts)).to_list() == [whole, whole, whole + 0.5]


@given(st.integers(0, 500), st.integers(0, 59), st.integers(0, 59), st.booleans())
def test_lengths_in_words(hours: int, minutes: int, seconds: int, upper: bool) -> None:
    """Each text as Python's own durations add it up."""
    texts = [
        f"{hours}h {minutes}m {seconds}s",
        f"{hours}h{minutes}m{seconds}s",
        f" {hours} hr. {minutes} min. {seconds} sec. ",
        f"{hours} hours {minutes} minutes {seconds} seconds",
        f"{60 * hours + minutes}min {seconds}sec",
        f"{60 * (60 * hours + minutes) + seconds} s",
        f"PT{hours}H{minutes}M{seconds}S",
        f"P{hours // 24}DT{hours % 24}H{minutes}M{seconds},0S",
    ]
    whole = dt.timedelta(hours=hours, minutes=minutes, seconds=seconds).total_seconds()
    texts = [text.upper() for text in texts] if upper else texts
    assert clock_seconds(pl.Series(texts)).to_list() == [whole] * len(texts)


def test_lengths_in_words_may_lack_parts_and_have_decimals() -> None:
    texts = ["90 min", "1.5h", "1,5 H", "45s", "PT0.5S", "P2W", "P1D", "PT1H20M", "2h 5s", "3:45", None]
    known = [5400, 5400, 5400, 45, 0.5, 1_209_600, 86_400, 4800, 7205, 225, None]
    assert clock_seconds(pl.Series(texts)).to_list() == known
    alone = [clock_seconds(pl.Series([text], dtype=pl.String)).item() for text in texts]
    assert alone == known, "whatever stands beside it"


def test_times_are_read_alike_whatever_stands_beside_them() -> None:
    texts = [
        "2026-01-31T10:00:00Z",
        "2026-01-31 10:00:00 UTC",
        "2026-01-31 11:00:00,5 +01:00",
        "2026-01-31",
        "u-1",
        None,
    ]
    times = [dt.datetime(2026, 1, 31, 10, tzinfo=dt.UTC)] * 3
    times[2] += dt.timedelta(milliseconds=500)
    known = [*times, dt.datetime(2026, 1, 31, tzinfo=dt.UTC), None, None]
    assert iso_times(pl.Series(texts)).to_list() == iso_times(pl.Series(texts[::-1])).to_list()[::-1] == known
    assert [iso_times(pl.Series([text], dtype=pl.String)).item() for text in texts] == known
    none = iso_times(pl.Series("x", ["u1", None]))
    assert (none.name, none.to_list(), none.dtype) == ("x", [None, None], pl.Datetime("us", "UTC"))


@given(st.integers(0, 400), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_lengths_of_days_as_dot_net_writes_them(days: int, hours: int, minutes: int, seconds: int) -> None:
    """Also those below 0, of which nothing is known."""
    text = f"{days}.{hours:02}:{minutes:02}:{seconds:02}.2500000"
    whole = dt.timedelta(days, hours=hours, minutes=minutes, seconds=seconds).total_seconds() + 0.25
    texts = pl.Series([text, "-" + text, "-00:00:01", "-PT5M", "-", "-x", "3:45"])
    assert clock_seconds(texts).to_list() == [whole, *[None] * 5, 225]
    assert not_negative(texts).to_list() == [text, None, None, None, "-", "-x", "3:45"]


def test_a_column_of_lengths_may_have_a_few_below_0() -> None:
    known = [f"0{k % 3}:{k % 60:02}:{7 * k % 60:02}" for k in range(200)]
    assert is_clock(pl.Series("watch_seconds", [*known, "-00:00:01"]))
    assert is_clock(pl.Series("x", [*known, "1.02:03:04", "-00:00:01"])) and not is_clock(pl.Series("x", known))
    assert not is_clock(pl.Series("watch_seconds", [*known[:50], *("-" + k for k in known)])), "most are below 0"
    frame = pl.DataFrame({"t": ["1.00:00:01", "-00:00:01", "", "0:45"]})
    read = typed(frame, range(1, 5), {"t": "clock"}, [""], "x.csv", {})
    assert read["t"].to_list() == [86_401, None, None, 45]
    with pytest.raises(UserError, match="row 1, column t: expected a length of time"):
        typed(pl.DataFrame({"t": ["-1x"]}), [1], {"t": "clock"}, [""], "x.csv", {})


def test_what_is_no_clock() -> None:
    texts = ["3", "3:4", "3:60", "1:60:00", "1:2:3:4", "-1:00", "a:00", "", None]
    texts += ["P", "PT", "P1M", "P1Y", "h", "20m 1h", "1h 1h", "1ω 20λ", "1h 20", "-1h", "2D", "1 kg", "ms", " "]
    assert clock_seconds(pl.Series(texts)).to_list() == [None] * len(texts)


def words(x: float) -> str | None:
    return None if np.isnan(x) else f"{int(x) // 3600}h {int(x) // 60 % 60}m {int(x) % 60} sec"


def iso(x: float) -> str | None:
    return None if np.isnan(x) else f"PT{int(x) // 60}M{int(x) % 60}S"


def clock(x: float) -> str | None:
    return None if np.isnan(x) else f"{int(x) // 60:02}:{int(x) % 60:02}"


@pytest.mark.parametrize("write", [clock, words, iso])
@pytest.mark.parametrize(
    ("kind", "more"), [("csv", ()), ("json", ()), ("parquet", ("--duration", "stay")), ("json", ("--duration", "stay"))]
)
def test_a_duration_as_a_clock(
    tmp_path: Path, kind: str, more: tuple[str, ...], write: Callable[[float], str | None]
) -> None:
    rows = frame(stay=[write(x) for x in READ]).drop("read_seconds")
    _, raw, found = initiated(tmp_path, rows, kind, *more)
    assert raw["data"]["events"]["duration"] == "stay"
    assert raw["data"].get("types", {}).get("stay") == (None if kind == "parquet" else "clock")
    assert found["labels"]["duration_seconds"]["mean"] == pytest.approx(
        float(np.nanmean(np.floor(READ[FIRST]))), abs=0.01
    )
    if kind != "parquet":
        text = (tmp_path / "mine.yaml").read_text()
        (tmp_path / "ms.yaml").write_text(
            text.replace("    duration: stay", "    duration_unit: ms\n    duration: stay")
        )
        ended = dmtl("check", "--config", tmp_path / "ms.yaml", "--day", DAYS[0])
        assert ended.code == 78 and "duration_unit: ms has no effect: stay is a clock" in ended.err


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_a_clock_that_is_none_is_refused(tmp_path: Path, kind: str) -> None:
    stay = [clock(x) for x in READ]
    initiated(tmp_path / "a", frame(stay=stay).drop("read_seconds"), kind, "--duration", "stay")
    at = int(np.flatnonzero(CLICK)[0])
    put(frame(stay=[*stay[:at], "3:75", *stay[at + 1 :]]).drop("read_seconds"), tmp_path / "a/log", kind)
    ended = dmtl("check", "--config", tmp_path / "a/mine.yaml", "--day", DAYS[0])
    assert ended.code == 65 and "1:02:03, got '3:75'" in ended.err, ended.err


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_long_lengths_are_seconds_too(tmp_path: Path, kind: str) -> None:
    """Of numbers as large milliseconds would be guessed."""
    rows = frame(stay=[words(100 * x) for x in READ]).drop("read_seconds")
    _, raw, found = initiated(tmp_path, rows, kind, *(("--duration", "stay") if kind == "parquet" else ()))
    assert raw["data"]["events"]["duration"] == "stay" and "duration_unit" not in raw["data"]["events"]
    mean = float(np.nanmean(np.floor(100 * READ[FIRST])))
    assert found["labels"]["duration_seconds"]["mean"] == pytest.approx(mean, abs=0.1)


def test_which_texts_are_lengths() -> None:
    many = [f"{k} s" for k in range(1, 100)]
    assert is_clock(pl.Series("prep", ["90 min", "1h 20m"])) and is_clock(pl.Series("prep", many))
    assert is_clock(pl.Series("prep", ["PT20M"])) and is_clock(pl.Series("length", ["90 m", "100 m"]))
    assert not is_clock(pl.Series("far", ["90 m", "100 m"])), "metres"
    assert not is_clock(pl.Series("phone", ["4s", "5s", "6s"] * 50)), "classes"
    assert not is_clock(pl.Series("format", ["2D", "3D"] * 50))
    assert not is_clock(pl.Series("prep", [*many, "soon"]))


def test_a_time_of_day_is_no_length() -> None:
    rng = np.random.default_rng(0)
    day = [f"{h}:{m:02}" for h, m in rng.integers(0, (24, 60), (400, 2))]
    some = [t if k % 5 == 0 else None for k, t in enumerate(day)]
    assert not is_clock(pl.Series("at", some)) and not is_clock(pl.Series("tageszeit", day))
    assert not is_clock(pl.Series("opens", [t if k % 5 == 0 else None for k, t in enumerate(day)]))
    assert is_clock(pl.Series("dwell", day)), "by its name"


# -- days --------------------------------------------------------------------------------------------------------------

AT = dt.datetime(2026, 1, 1, 20, tzinfo=dt.UTC)  # the next day in Tokyo


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
@pytest.mark.parametrize("form", ["s", "ms", "us", "ns", "text", "text of Rio", "naive text"])
def test_days_of_another_zone(tmp_path: Path, kind: str, form: str) -> None:
    """A log in folders of UTC's days, cut by those of its users."""
    at = [AT - dt.timedelta(days=1) + dt.timedelta(hours=k) for k in range(48)]  # 24 of the day in Tokyo, 19 before
    scale = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
    if form in scale:
        times: list[Any] = [int(t.timestamp()) * scale[form] for t in at]
    elif form == "naive text":
        times = [t.strftime("%Y-%m-%d %H:%M:%S") for t in at]
    else:
        zone = dt.timezone(dt.timedelta(hours=-3 if "Rio" in form else 0))
        times = [t.astimezone(zone).isoformat(timespec="milliseconds") for t in at]
    rows = pl.DataFrame(
        {"user_id": "u", "item_id": [f"i{k}" for k in range(48)], "click": 1, "seconds": 2.0, "at": times}
    )
    for k, part in enumerate((rows[:4], rows[4:28], rows[28:])):
        folder = tmp_path / f"log/e/2025123{k}"
        folder.mkdir(parents=True)
        {"csv": part.write_csv, "json": part.write_ndjson, "parquet": part.write_parquet}[kind](folder / f"a.{kind}")
    made = Project.create(tmp_path, tmp_path / "log")
    events = {"path": "e", "date_column": "at", "time": "at", "click": "click", "duration": "seconds"}
    data: dict[str, Any] = {"root": str(tmp_path / "log"), "format": kind, "timezone": "Asia/Tokyo", "events": events}
    made.config["data"] = data | ({"types": {"at": "datetime"}} if kind == "csv" and form not in ("us", "ns") else {})
    if kind == "csv" and form in ("us", "ns"):
        made.config["data"]["types"] = {"at": "int64"}
    made.config["features"] = "auto"
    made.write()
    local = [(t + dt.timedelta(hours=9)).date().isoformat() for t in at]
    for day in sorted(set(local)):
        found = made.call("check", "--day", day, "--json")
        assert found.code == 0 and found.json["rows"] == local.count(day), (day, found.err)


@settings(max_examples=50)
@given(st.datetimes(dt.datetime(1974, 1, 1), dt.datetime(2100, 1, 1)))
def test_numbers_since_1970_are_read_by_their_size(at: dt.datetime) -> None:
    at = at.replace(microsecond=0, tzinfo=dt.UTC)
    for scale in (1, 10**3, 10**6, 10**9):
        number = int(at.timestamp()) * scale
        if scale == 1 or number > 100_000_000_000 * scale // 1_000:
            assert instants(pl.Series([number])).to_list() == [at]
            assert instants(pl.Series([str(number)])).to_list() == [at]
    assert instants(pl.Series([20260131, 5, None])).null_count() == 3
    (epoch,) = instants(pl.Series([0]), least=None)
    assert epoch == dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_milliseconds_as_a_datetime(tmp_path: Path, kind: str) -> None:
    """The type takes what the time of an event may be."""
    rows = frame(ts=[int(dt.datetime.fromisoformat(f"{day}T10:00:00Z").timestamp()) * 1000 for day in DAY])
    initiated(tmp_path, rows, kind)
    raw = yaml.safe_load((tmp_path / "mine.yaml").read_text())
    raw["data"]["types"] = raw["data"].get("types", {}) | {"ts": "datetime"}
    raw["workspace"] = str(tmp_path / "ws")
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(raw))
    (tmp_path / "ws").mkdir()
    ended = dmtl("check", "--config", tmp_path / "other.yaml", "--day", DAYS[0])
    assert ended.code == 0, ended.err
    table = pl.read_parquet(next((tmp_path / "ws/converted").rglob(f"*{DAYS[0]}.{kind}.parquet")))
    assert table["ts"][0] == dt.datetime.fromisoformat(f"{DAYS[0]}T10:00:00Z")
