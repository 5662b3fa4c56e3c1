"""What `init` finds of days, partitions and columns that come and go, wherever in a log they are."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from initiated import features, made
from worlds import dmtl

from dmtl_cli.config.errors import did_you_mean
from dmtl_cli.data.log.formats import text_rows
from dmtl_cli.guess.columns.values import local_days
from dmtl_cli.guess.reading.files import group, partitions
from dmtl_cli.guess.reading.partial import turn
from dmtl_cli.guess.reading.tables import tables
from dmtl_cli.guess.reading.whole import read_whole

DAY = dt.date(2026, 3, 1)


def rows(n: int, seed: int, **more: object) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    click = rng.random(n) < 0.3
    base = {"user_id": rng.integers(0, 60, n), "item_id": rng.integers(0, 40, n), "clicked": click}
    return pl.DataFrame(base | {"watch_seconds": click * rng.exponential(40, n)} | more)


# -- partitions --------------------------------------------------------------------------------------------------------

COUNTRIES = ("TR", "DE", "NA", "__HIVE_DEFAULT_PARTITION__")


@pytest.mark.parametrize(
    ("folder", "path", "keys"),
    [
        ("feed/country={c}/dt=%Y%m%d", "feed/*/dt={day:%Y%m%d}", ["country"]),
        ("feed/country={c}/dt=%Y-%m-%d", "feed/*/dt={day}", ["country"]),
        ("country={c}/dt=%Y%m%d", "*/dt={day:%Y%m%d}", ["country"]),
        ("feed/country={c}/lang=x{c}/%Y-%m-%d", "feed/*/*/{day}", ["country", "lang"]),
        ("feed/country={c}/year=%Y/month=%m/day=%d", "feed/*/year={day:%Y/month=%m/day=%d}", ["country"]),
        ("feed/dt=%Y%m%d/country={c}", "feed", ["country"]),
    ],
)
def test_partitions_beside_the_day(tmp_path: Path, folder: str, path: str, keys: list[str]) -> None:
    def write(home: Path) -> None:
        for d in range(3):
            for k, c in enumerate(COUNTRIES):
                place = home / (DAY + dt.timedelta(d)).strftime(folder.replace("{c}", c))
                place.mkdir(parents=True)
                rows(300, 10 * d + k).write_parquet(place / f"part-0-{k}a{d}.parquet")
        pl.DataFrame({"user_id": range(60), "city": ["a", "b"] * 30}).write_parquet(home / "users.parquet")

    ended, raw, text = made(tmp_path, write)
    assert raw["data"]["events"]["path"] == path and ended.code == 0, ended.err
    assert "day 2026-03-03: 1,200 rows" in ended.out, "of all countries"
    assert raw["data"]["users"] == {"path": "users.parquet", "key": "user_id"} and "second table" not in text
    told = [line.partition(": ")[0] for line in text.splitlines() if ": not used: a key of folders" in line]
    assert {*keys} <= {c for line in told for c in line.removeprefix("# ").split(", ")}
    assert not {"country", "lang"} & features(raw).keys() if raw["features"] != "auto" else True


def test_partitions_without_days_are_one_table(tmp_path: Path) -> None:
    def write(home: Path) -> None:
        for k, c in enumerate(COUNTRIES):
            (home / f"log/country={c}").mkdir(parents=True)
            at = 1_772_323_200 + np.arange(300) * 600
            rows(300, k, ts=at).write_parquet(home / f"log/country={c}/{'abcd'[k]}.parquet")

    ended, raw, _ = made(tmp_path, write)
    assert (raw["data"]["events"]["path"], raw["data"]["events"]["date_column"]) == ("log", "ts")
    assert "parquet, 3 days" in ended.out and ended.code == 0, ended.err


def test_which_keys_are_beside_the_day() -> None:
    def keys(*paths: str) -> list[str]:
        (files,) = group([(path, 1) for path in paths])
        return partitions(files)

    assert keys("e/day=2026-03-01/a.parquet", "e/day=2026-03-02/a.parquet") == []
    assert keys("e/year=2026/month=03/day=01/a.parquet") == []
    assert keys("e/a=1/day=2026-03-01/b=2/x.parquet") == ["a", "b"]


# -- the whole log -----------------------------------------------------------------------------------------------------


def exact_days(at: np.ndarray) -> dict[dt.date, int]:
    days = Counter(dt.datetime.fromtimestamp(int(t), dt.UTC).date() for t in at)
    return dict(sorted(days.items()))


@pytest.mark.parametrize("form", ["csv", "csv without header", "json", "json.gz", "parquet"])
def test_days_and_samples_are_of_the_whole_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    n = 6000
    at = 1_772_323_200 + np.arange(n) * 120
    log = rows(n, 1).with_columns(pl.Series("ts", at))
    monkeypatch.setattr(text_rows, "SLICE", 4_000)
    if form == "parquet":
        log.write_parquet(tmp_path / "log.parquet", row_group_size=100)
    elif form.startswith("csv"):
        log.with_columns(pl.col("clicked").cast(pl.Int8)).write_csv(tmp_path / "log.csv", include_header=form == "csv")
    else:
        data = "".join(json.dumps(row) + "\n" for row in log.to_dicts()).encode()
        (tmp_path / f"log.{form}").write_bytes(gzip.compress(data) if form == "json.gz" else data)
    monkeypatch.setattr("dmtl_cli.guess.reading.tables.ROWS", 1_600)
    (table,) = tables(str(tmp_path)).tables
    name = "ts" if "ts" in table.frame.columns else table.frame.columns[-1]
    whole, days = read_whole(table, name, "s", "UTC")
    assert days == exact_days(at)
    sampled = local_days(whole.frame[name], "s", "UTC").unique().to_list()
    assert {*sampled} == {*days}, "every day has a place in the sample"
    assert len(whole.frame) <= 1_600 and whole.frame[name].is_sorted() and whole.frame[name].n_unique() > 300


def test_the_newest_day_is_that_of_the_whole_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(home: Path) -> None:
        at = 1_772_323_200 + np.arange(4000) * 108  # five days
        later = [None if t < 1_772_323_200 + 3 * 86_400 else f"arm{t % 2}" for t in at]
        rows(4000, 2, ts=at, arm=later).write_csv(home / "log.csv")

    monkeypatch.setattr("dmtl_cli.guess.reading.tables.ROWS", 500)
    monkeypatch.setattr(text_rows, "SLICE", 4_000)
    ended, raw, text = made(tmp_path, write)
    assert "csv, 5 days" in ended.out and "backfill --config" in ended.out
    assert "--from 2026-03-02 --to 2026-03-05" in ended.out and "day 2026-03-05: 800 rows" in ended.out
    assert "# arm: not used: from 2026-03-04 on only: a feature is needed on every day" in text
    assert ended.code == 0 and "arm" not in (raw["features"] if raw["features"] == "auto" else features(raw))


def test_text_times_are_of_their_zones_day() -> None:
    s = pl.Series(["2026-03-01T23:30:00+03:00", "2026-03-01T22:30:00-0200", "2026-03-01 12:00:00Z", "2026-03-01T12:00"])
    first, second = dt.date(2026, 3, 1), dt.date(2026, 3, 2)
    assert local_days(s, "text", "UTC").to_list() == [first, second, first, first]
    assert local_days(s, "text", "Etc/GMT-4").to_list() == [second, second, first, first]


# -- columns that come and go ------------------------------------------------------------------------------------------


def nested(home: Path, since: int = 3, until: int = 99) -> None:
    """JSON lines of six days: an experiment from one day on, a source up to another."""
    for d in range(6):
        lines = []
        for k, row in enumerate(rows(300, d).to_dicts()):
            context: dict[str, object] = {"referrer": "abc"[k % 3]}
            if d >= since:
                context["experiment"] = {"arm": "AB"[k % 2]}
            if d <= until:
                context["source"] = "xyz"[k % 3]
            lines.append(json.dumps(row | {"context": context}) + "\n")
        (home / f"{DAY + dt.timedelta(d)}.json").write_text("".join(lines))


def test_a_column_that_begins_or_ends_within_the_log(tmp_path: Path) -> None:
    ended, raw, text = made(tmp_path, lambda home: nested(home, 3, 1))
    read = features(raw)
    assert "context_referrer" in read and not any("arm" in f or "source" in f for f in read)
    assert "# context.experiment.arm: not used: from 2026-03-04 on only" in text
    assert "# context.source: not used: until 2026-03-02 only" in text and ended.code == 0, ended.err
    assert "not used         2" in ended.out


def test_check_says_which_days_lack_a_feature(tmp_path: Path) -> None:
    made(tmp_path, nested)
    config = tmp_path / "mine.yaml"
    text = config.read_text()
    arm = "  - {name: arm, side: context, kind: categorical, column: context.experiment.arm}\n"
    config.write_text(text.replace("features:\n", f"features:\n{arm}", 1))
    ended = dmtl("check", "--config", config, "--day", "2026-03-06", "--json")
    (said,) = (x for x in ended.json["suggestions"] if x.startswith("context.experiment.arm: "))
    assert "from 2026-03-04 on only, the log has 2026-03-01" in said and said.endswith("from 2026-03-04 on")
    ended = dmtl("check", "--config", config, "--day", "2026-03-02")
    assert ended.code == 65 and "did you mean" not in ended.err and "context.experiment.arm" in ended.err
    config.write_text(text)
    ended = dmtl("check", "--config", config, "--day", "2026-03-06", "--json")
    assert not any("on only" in x for x in ended.json["suggestions"])


def test_words_with_dots_are_near_by_their_last_parts() -> None:
    assert did_you_mean("context.experiment.arm", ["context.referrer", "context.device"]) == ""
    assert did_you_mean("context.referer", ["context.referrer", "user.id"]) == ", did you mean context.referrer?"
    assert did_you_mean("clik", ["click", "time"]) == ", did you mean click?"


def test_words_in_another_writing_are_near() -> None:
    """Case, accents and spaces, and what stands between the words of a name; of several the first."""
    assert did_you_mean("COUNTRY", ["city", "country"]) == ", did you mean country?"
    assert did_you_mean("saved_searches.category", ["category", "saved_searches_category"]) == (
        ", did you mean saved_searches_category?"
    )
    assert did_you_mean("POSICAO", ["posição", "posicao"]) == ", did you mean posição?"
    assert did_you_mean("x", ["y", "z"]) == "" == did_you_mean("x", [])


@pytest.mark.parametrize("count", [2, 3, 7, 64])
def test_the_turn_is_found_by_few_looks(count: int) -> None:
    days = [DAY + dt.timedelta(k) for k in range(count)]
    for first in range(1, count):
        looked: list[dt.date] = []

        def has(day: dt.date, first: int = first, looked: list[dt.date] = looked) -> bool:
            looked.append(day)
            return day >= days[first]

        assert turn(days, has) == first and len(looked) <= 1 + np.ceil(np.log2(count))


# -- how it ends -------------------------------------------------------------------------------------------------------


def test_it_ends_as_its_check_does(tmp_path: Path) -> None:
    def write(home: Path) -> None:
        (home / "events/day=2026-03-01").mkdir(parents=True)
        for k in range(12):
            rows(100, k).write_parquet(home / f"events/day=2026-03-01/{k:02}.parquet")
        chosen = {11 - i * 12 // 8 for i in range(8)}
        damaged = min({*range(12)} - chosen)
        (home / f"events/day=2026-03-01/{damaged:02}.parquet").write_bytes(b"PAR1 nonsense")

    ended, raw, _ = made(tmp_path, write)
    assert raw["data"]["events"]["user"] == "user_id", "the config is there"
    assert ended.code == 65 and "check of 2026-03-01: dmtl: error: " in ended.out and "not a readable" in ended.err
    first = f"first: correct what check refuses, then dmtl check --config {tmp_path / 'mine.yaml'} --day 2026-03-01"
    assert first in ended.out.splitlines() and "backfill" not in ended.out and "next:" not in ended.out
    assert dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-01").code == 65
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--force", "--json")
    assert ended.code == 65 and ended.json["check"].startswith("check of 2026-03-01: ")


def hourly(home: Path, marks: int) -> None:
    """Three days of three hours, the last one without a row; the first days marked as finished."""
    for d in range(3):
        folder = home / f"events/{DAY + dt.timedelta(d)}"
        folder.mkdir(parents=True)
        for hour in range(3):
            body = "".join(json.dumps(row) + "\n" for row in rows(200, 3 * d + hour).to_dicts())
            (folder / f"part-{hour}.json.gz").write_bytes(gzip.compress(body.encode() if d < 2 or hour < 2 else b""))
        if d < marks:
            (folder / "_SUCCESS").touch()


def test_an_empty_file_does_not_stop_it(tmp_path: Path) -> None:
    ended, raw, _ = made(tmp_path, lambda home: hourly(home, 0))
    assert raw["data"]["events"]["user"] == "user_id" and "success_file" not in raw["data"]["events"]
    assert ended.code == 66 and "part-2.json.gz: empty" in ended.err, "nothing says that it is finished"


@pytest.mark.parametrize(("marks", "day"), [(3, "2026-03-03"), (2, "2026-03-02"), (0, "2026-03-03")])
def test_finished_days_are_marked(tmp_path: Path, marks: int, day: str) -> None:
    ended, raw, text = made(tmp_path, lambda home: hourly(home, marks))
    assert (raw["data"]["events"].get("success_file") == "_SUCCESS") == (marks > 0)
    assert f"--day {day}" in text and ended.code == (0 if marks else 66), "a day without a mark is being written"
    assert "set data.events.success_file" not in ended.out


@pytest.mark.parametrize("marked", [True, False])
def test_a_marked_side_table_is_written_so(tmp_path: Path, marked: bool) -> None:
    def write(home: Path) -> None:
        hourly(home, 3)
        for d in range(3):
            folder = home / f"items/{DAY + dt.timedelta(d)}"
            folder.mkdir(parents=True)
            items = sorted({int(row["item_id"]) for row in rows(200, 3 * d).to_dicts()})
            body = "".join(json.dumps({"item_id": i, "kind": i % 3}) + "\n" for i in items)
            (folder / "part-0.json.gz").write_bytes(gzip.compress(body.encode()))
            if marked or d:
                (folder / "_SUCCESS").touch()

    ended, raw, _ = made(tmp_path, write)
    assert raw["data"]["items"].get("success_file") == ("_SUCCESS" if marked else None)
    assert ended.code == 0 and ("set data.items.success_file" in ended.out) == (not marked), ended.out + ended.err
