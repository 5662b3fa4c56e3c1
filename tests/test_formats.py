"""A log of any format and layout is the log in Parquet: the same days, the same metrics, and one line for what is wrong
in a file."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from formats import FORMATS, IcebergTable, encoded, write
from storage import Server
from worlds import DAYS, Project

from dmtl_cli.config.data import Data, Events
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.log.reader import Log
from dmtl_cli.synth.generate import generate

EVENTS: dict[str, Any] = {"user": "user_id", "item": "item_id", "time": "time", "click": "click", "duration": "seconds"}
TYPES = {"user_id": "int64", "time": "datetime", "age": "int64"}
FEATURES = (
    Feature(name="tags", side="user", kind="sequence", separator="|"),
    Feature(name="age", side="user", kind="numeric"),
    Feature(name="item_id", side="item", kind="categorical"),
    Feature(name="title", side="item", kind="categorical"),
)


def frame(day: int, rows: int = 40) -> pl.DataFrame:
    rng = np.random.default_rng(day)
    seconds = dt.datetime(2026, 1, day, tzinfo=dt.UTC).timestamp() + np.sort(rng.integers(0, 86_400, rows))
    return pl.DataFrame(
        {
            "user_id": rng.integers(1, 9, rows),
            "item_id": rng.choice(["a", "b,c", 'say "hi"', "zwei\nZeilen", "日本"], rows),
            "time": pl.Series(seconds * 1000)
            .cast(pl.Int64)
            .cast(pl.Datetime("ms", "UTC"))
            .cast(pl.Datetime("us", "UTC")),
            "click": rng.random(rows) < 0.5,
            "seconds": pl.Series([x * 50 if x > 0.3 else None for x in rng.random(rows).tolist()]),
            "tags": pl.Series([("x|y", "", None, "z")[k] for k in rng.integers(0, 4, rows)]),
            "age": rng.integers(10, 90, rows),
            "title": rng.choice(["ein", "the other", "ü"], rows),
        }
    )


def data(root: Path | str, kind: str, **events: Any) -> Data:
    plain = kind.partition(".")[0]
    more: dict[str, Any] = (
        {"types": TYPES} if plain == "csv" else {"types": {"time": "datetime"}} if plain == "json" else {}
    )
    return Data(root=str(root), format=plain, timezone="UTC", events=Events(**EVENTS | events), **more)


def read(log: Log, day: int, scratch: Path) -> Day:
    return log.read(dt.date(2026, 1, day), scratch)


def assert_same(one: Day, other: Day) -> None:
    assert one.users.equals(other.users) and one.items.equals(other.items) and one.facts == other.facts
    for mine, theirs in zip(
        one.spool.read(one.spool.whole, 1 << 20), other.spool.read(other.spool.whole, 1 << 20), strict=True
    ):
        assert mine.equals(theirs) and len(mine) > 0


# -- formats and layouts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_days_of_one_table_are_those_of_parquet(tmp_path: Path, kind: str) -> None:
    whole = pl.concat([frame(1), frame(2)])[np.random.default_rng(0).permutation(80)]
    days = []
    for name in ("parquet", kind):
        path = write(whole, tmp_path / name, "events", name)
        log = Log(
            data(tmp_path / name, name, path=path, date_column="time"), FEATURES, timed=True, converted=tmp_path / "c"
        )
        days.append([read(log, day, tmp_path / name) for day in (1, 2)])
        with pytest.raises(UserError, match="2026-01-03") as missing:
            log.find(dt.date(2026, 1, 3))
        assert missing.value.code == Exit.NO_INPUT
    for one, other in zip(*days, strict=True):
        assert_same(one, other)


def test_an_index_as_pandas_writes_it_is_no_column(tmp_path: Path) -> None:
    """A first name that is none (here in quotes, as R writes it); the rows of a file without it are the same."""
    days = []
    for name, made in (("plain", frame(1)), ("indexed", frame(1).with_row_index(""))):
        path = write(made, tmp_path, name, "csv")
        log = Log(data(tmp_path, "csv", path=path, date_column="time"), FEATURES, timed=True, converted=tmp_path / "c")
        (scratch := tmp_path / f"{name}.scratch").mkdir()
        days.append(read(log, 1, scratch))
    assert (tmp_path / path).read_text().startswith('"",')
    assert_same(*days)


LAYOUTS: dict[str, tuple[dict[str, str], Callable[[dt.date, str], list[str]]]] = {
    "hive": ({"partition": "dt"}, lambda d, kind: [f"events/dt={d}/part.{kind}"]),
    "hive, compact": ({}, lambda d, kind: [f"events/day={d:%Y%m%d}/a/part.{kind}"]),
    "folders": ({"path": "log/{day}"}, lambda d, kind: [f"log/{d}/part.{kind}"]),
    "nested": ({"path": "{day:%Y/%m/%d}/e"}, lambda d, kind: [f"{d:%Y/%m/%d}/e/part.{kind}"]),
    "keys": ({"path": "e/y={day:%Y}/m={day:%m}/d={day:%d}"}, lambda d, kind: [f"e/{d:y=%Y/m=%m/d=%d}/part.{kind}"]),
    "names": ({"path": "events_{day}.KIND"}, lambda d, kind: [f"events_{d}.{kind}"]),
    "compact names": ({"path": "e/{day:%Y%m%d}.KIND"}, lambda d, kind: [f"e/{d:%Y%m%d}.{kind}"]),
    "hours": ({"path": "e/{day}T*.KIND"}, lambda d, kind: [f"e/{d}T{h:02}.{kind}" for h in (0, 13)]),
}


@pytest.mark.parametrize("kind", ["parquet", "csv", "json.gz", "avro"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path: Path, kind: str, layout: str) -> None:
    events, places = LAYOUTS[layout]
    for day in (1, 2):
        paths = places(dt.date(2026, 1, day), kind)
        for path, part in zip(paths, frame(day).iter_slices(-(-40 // len(paths))), strict=True):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(encoded(part, kind))
            (tmp_path / path).with_name(f"_{Path(path).name}").write_bytes(b"not finished")
    events = {key: value.replace("KIND", kind) for key, value in events.items()}
    log = Log(data(tmp_path, kind, **events), FEATURES, timed=True, converted=tmp_path / "ws/converted")
    plain = tmp_path / "plain"
    write(frame(2), plain, "events/day=2026-01-02/part", "parquet")
    assert_same(read(log, 2, tmp_path), read(Log(data(plain, "parquet"), FEATURES, timed=True), 2, plain))
    with pytest.raises(UserError, match=r"the log has 2026-01-01 \.\. 2026-01-02") as missing:
        log.find(dt.date(2026, 1, 3))
    assert missing.value.code == Exit.NO_INPUT and dt.date(2026, 1, 3).strftime("%m") in missing.value.message


def test_files_of_one_name_in_two_folders_of_an_iceberg_table(tmp_path: Path) -> None:
    """As the files of a Hive table have them that were added to it."""
    made = IcebergTable(tmp_path / "e")
    made.append(frame(1)[:0])
    assert made.table is not None
    whole = pl.concat([frame(1), frame(2)])
    places = [tmp_path / f"e/data/p={k}/0.parquet" for k in (0, 1)]
    for place, rows in zip(places, whole.iter_slices(50), strict=True):
        place.parent.mkdir(parents=True)
        arrow = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
        pq.write_table(arrow.cast(made.table.schema().as_arrow()), place)
    made.table.add_files([f"file://{place}" for place in places])
    write(whole, tmp_path, "plain", "parquet")
    log, plain = (
        Log(data(tmp_path, kind, path=path, date_column="time"), FEATURES, timed=True, converted=tmp_path / kind)
        for kind, path in (("iceberg", "e"), ("parquet", "plain.parquet"))
    )
    for day in (1, 2, 1):
        assert_same(read(log, day, tmp_path), read(plain, day, tmp_path))


def test_dated_places_that_are_of_one_day(tmp_path: Path) -> None:
    for name in ("2026-01-01", "20260101"):
        write(frame(1), tmp_path, f"{name}/part", "csv")
    with pytest.raises(UserError, match="are of one day"):
        Log(data(tmp_path, "csv", path="{day}"), FEATURES, converted=tmp_path / "c").find(dt.date(2026, 1, 1))


def test_success_files_of_dated_places(tmp_path: Path) -> None:
    write(frame(1), tmp_path, "log/2026-01-01", "csv")
    path, day = "log/{day}.csv", dt.date(2026, 1, 1)

    def log(success: str) -> Log:
        return Log(data(tmp_path, "csv", path=path, success_file=success), FEATURES, converted=tmp_path / "c")

    with pytest.raises(UserError, match="the same for all days"):
        log("_SUCCESS").find(day)
    assert not log("{day}.done").has(day)
    (tmp_path / "log/2026-01-01.done").touch()
    assert log("{day}.done").has(day)


def test_partitions_of_a_delta_table(tmp_path: Path) -> None:
    """A column that is in no data file tells the day; what was optimized is converted again, the rest is not."""
    from deltalake import DeltaTable, write_deltalake

    for day in (1, 2):
        rows = frame(day).with_columns(dt=pl.lit(f"2026-01-0{day}"), note=pl.lit(None, pl.String))
        for part in rows.iter_slices(20):
            write_deltalake(
                tmp_path / "events",
                part.to_arrow(compat_level=pl.CompatLevel.oldest()),
                mode="append",
                partition_by=["dt"],
            )
    log = Log(data(tmp_path, "delta", partition="dt"), FEATURES, converted=tmp_path / "c")
    assert [read(log, day, tmp_path).facts["rows"] for day in (1, 2)] == [40, 40]
    before, there = log.inputs(dt.date(2026, 1, 2)), len(list((tmp_path / "c").rglob("*.parquet")))
    table = DeltaTable(tmp_path / "events")
    table.optimize.compact([("dt", "=", "2026-01-01")])
    assert len(log.inputs(dt.date(2026, 1, 1))) == 1 and log.inputs(dt.date(2026, 1, 2)) == before
    assert len(list((tmp_path / "c").rglob("*.parquet"))) == there - 1 == 3


def test_a_log_in_s3(s3: Server, tmp_path: Path) -> None:
    local = tmp_path / "log"
    for day in (1, 2):
        write(frame(day), local, f"names/events_2026-01-0{day}", "csv.gz")
        write(frame(day), local, "delta", "delta")
        write(frame(day), local, f"avro/2026-01-0{day}/part-0", "avro")
    write(pl.concat([frame(1), frame(2)]), local, "whole", "json")
    root = s3.upload(local, tmp_path.name)
    plain = tmp_path / "plain"
    write(frame(2), plain, "events/day=2026-01-02/part", "parquet")
    wanted = read(Log(data(plain, "parquet"), FEATURES), 2, plain)
    for kind, events in {
        "csv": {"path": "names/events_{day}.csv.gz"},
        "json": {"path": "whole.json", "date_column": "time"},
        "avro": {"path": "avro/{day}"},
        "delta": {"path": "delta", "date_column": "time"},
    }.items():
        log = Log(data(root, kind, **events), FEATURES, converted=tmp_path / "c" / kind)
        assert_same(read(log, 2, tmp_path), wanted)


# -- through the command line ------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days of the synthetic world. Read only."""
    out = tmp_path_factory.mktemp("world")
    generate(out, 2, start=dt.date(2026, 1, 1), users=60, items=40, events_per_day=800, seed=1)
    return out / "log"


def project(home: Path, log: Path, days: int = 2) -> Project:
    """Features without lists; the log as one CSV file a table."""
    made = Project.create(home, home / "log")
    for name in ("events", "users", "items"):
        files = [log / name / f"day={day}/part-0.parquet" for day in DAYS[:days]]
        parts = [pl.read_parquet(f, hive_partitioning=False).drop(pl.selectors.list()) for f in files]
        if name == "events":
            stamped = [part.with_columns(d=pl.lit(day)) for part, day in zip(parts, DAYS, strict=False)]
            write(pl.concat(stamped), home / "log", "events", "csv")
        for part, day in zip(parts, DAYS, strict=False):
            if name != "events":
                write(part, home / "log", f"{name}/{day}", "csv")
    as_csv(made)
    made.write()
    return made


def as_csv(made: Project) -> None:
    d = made.config["data"]
    d |= {
        "format": "csv",
        "types": dict.fromkeys(
            ("user_id", "item_id", "author", "category", "user_read_cluster", "request_id", "time"), "int64"
        ),
    }
    del d["events"]["partition"]
    d["events"] |= {"path": "events.csv", "date_column": "d"}
    for name in ("users", "items"):
        del d[name]["partition"]
        d[name]["path"] = f"{name}/{{day}}.csv"
    made.config["features"] = [f for f in made.config["features"] if f["kind"] == "categorical"]


def test_a_csv_trains_the_same_teacher(tmp_path: Path, log: Path) -> None:
    one = project(tmp_path / "csv", log)
    plain = Project.create(tmp_path / "parquet", log)
    plain.config["features"] = one.config["features"]
    plain.write()
    metrics = [p.done("train-teacher", 1)["metrics"] for p in (one, plain)]
    assert metrics[0] == metrics[1] and len(metrics[0]) > 3
    assert one.done("train-teacher", 1)["up_to_date"]
    assert one.call("status", "--inputs", "--json").json["days"][DAYS[0]]["teacher"] == "published"
    with (one.home / "log/events.csv").open("ab") as file:  # a day later
        last = pl.read_csv(one.home / "log/events.csv").tail(50).with_columns(d=pl.lit(DAYS[2]))
        file.write(last.write_csv(include_header=False).encode())
    assert one.done("train-teacher", 1)["up_to_date"], "an older day is not stale"
