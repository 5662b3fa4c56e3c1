"""Outcomes that lie in a table of their own: the log is read as if its files had them, and what is wrong is told."""

from __future__ import annotations

import datetime as dt
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from formats import write
from pydantic import ValidationError
from storage import Server
from test_log import rows
from worlds import Project

from dmtl_cli.config.data import Data, Events
from dmtl_cli.config.errors import UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.data.log.now import Now
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.log.values import sizes

DAY = dt.date(2026, 1, 1)
COLUMNS = {"clicked": "COUNT(*) > 0", "seconds": "SUM(spent)", "cooked": "MAX(cook) = 1", "openings": "COUNT(spent)"}
FEATURES = (
    Feature(name="person", side="user", kind="categorical"),
    Feature(name="doc", side="item", kind="categorical"),
)


def shown(day: int = 1, n: int = 300) -> pl.DataFrame:
    rng = np.random.default_rng(day)
    return pl.DataFrame(
        {
            "shown_id": [f"s{day}-{k}" for k in rng.permutation(n)],
            "person": [f"u{k}" for k in rng.integers(20, size=n)],
            "doc": [f"d{k}" for k in rng.integers(30, size=n)],
            "at": np.arange(n),
        }
    )


def clicks(day: int = 1, n: int = 300) -> pl.DataFrame:
    """Some exposures with one to three rows, some of whose seconds are unknown, and four rows of none of them."""
    rng = np.random.default_rng(100 + day)
    ids = rng.choice([f"s{day}-{k}" for k in range(n)], n // 3).tolist()
    spent = [None if x < 20 else int(x) for x in rng.integers(0, 120, len(ids))]
    lost = {"shown_id": ["n1", "n1", "n2", None], "spent": [1, 2, 3, 4], "cook": [1, 1, 1, 1]}
    here = {"shown_id": ids, "spent": spent, "cook": rng.integers(0, 2, len(ids)).tolist()}
    return pl.concat([pl.DataFrame(here), pl.DataFrame(lost)])


def by_hand(exposures: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    """The flat log, by loops over rows."""
    of: dict[str, list[tuple[int | None, int]]] = {}
    for i, spent, cook in table.iter_rows():
        of.setdefault(i, []).append((spent, cook))
    found: dict[str, list[Any]] = {"clicked": [], "seconds": [], "cooked": [], "openings": []}
    for i in exposures["shown_id"]:
        mine = of.get(i, [])
        known = [spent for spent, _ in mine if spent is not None]
        found["clicked"].append(bool(mine))
        found["seconds"].append(sum(known) if known else None)
        found["cooked"].append(max(cook for _, cook in mine) == 1 if mine else None)
        found["openings"].append(len(known))
    return exposures.drop("shown_id").hstack(pl.DataFrame(found, schema_overrides={"seconds": pl.Int64}))


def read(home: Path, events: dict[str, Any], root: str = "") -> pl.DataFrame:
    """The day's rows of the log in a folder, or at `root`."""
    roles = {"user": "person", "item": "doc", "click": "clicked", "time": "at", "conversion": "good"}
    weighted = {
        "weight": "openings",
        "conversions": {"cook": "cooked"},
        "computed": {"good": "seconds >= 90 OR cooked"},
    }
    given = Events(**{"path": "events/{day}.parquet", **roles, **weighted, **events})
    day = Log(Data(root=root or str(home), events=given), FEATURES, converted=home / "converted").read(DAY, home)
    return rows(day).sort("position")


@pytest.fixture
def flat(tmp_path: Path) -> pl.DataFrame:
    write(by_hand(shown(), clicks()), tmp_path / "flat/events", str(DAY), "parquet")
    return read(tmp_path / "flat", {})


# -- what is read ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [7, sizes.BLOCK])
def test_the_log_is_read_as_if_it_had_them(
    tmp_path: Path, flat: pl.DataFrame, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizes, "BLOCK", block)
    write(shown(), tmp_path / "log/events", str(DAY), "parquet")
    write(clicks(), tmp_path / "log/clicks", str(DAY), "parquet")
    joined = {"clicks": {"path": "clicks/{day}.parquet", "key": "shown_id", "columns": COLUMNS}}
    found = read(tmp_path / "log", {"joined": joined})
    assert found.equals(flat) and 0.2 < found["click"].mean() < 0.4  # type: ignore[operator]
    assert {0, 1, -1} == {*found.filter(pl.col("click").cast(pl.Int8) == 1)["conversion"]}, (
        "all kinds of label are there"
    )


@pytest.mark.parametrize("cut", ["clicks/{day}.parquet", "clicks", "*licks/*.parquet"])
def test_other_days_files_are_no_change(tmp_path: Path, cut: str) -> None:
    """Whether names or rows tell the days of what came; those of the events, whose folder begins so, are looked at."""
    days = [DAY + dt.timedelta(days=k) for k in range(3)]
    for k, day in enumerate(days):
        write(shown(k), tmp_path / f"clicks_shown/day={day}", "a", "parquet")
        write(clicks(k).with_columns(on=pl.lit(day)), tmp_path / "clicks", str(day), "parquet")
    joined = {"path": cut, "key": "shown_id", "columns": COLUMNS} | ({} if "{" in cut else {"date_column": "on"})
    events = {"path": "clicks_shown", "user": "person", "item": "doc", "click": "clicked", "duration": "seconds"}
    data = Data(root=str(tmp_path), events=Events.model_validate({**events, "joined": {"clicks": joined}}))
    log = Log(data, (), converted=tmp_path / "converted")
    then = {day: log.inputs(day) for day in days}
    now = Now(data, days, tmp_path / "converted")
    assert not now.unreadable and not any(now.changed(inputs) for inputs in then.values())
    write(clicks(7).with_columns(on=pl.lit(days[1])), tmp_path / "clicks", str(days[1]), "parquet")
    again = Now(data, days, tmp_path / "converted")
    assert [again.changed(then[day]) for day in days] == [False, True, False]
    write(shown(9), tmp_path / f"clicks_shown/day={days[2]}", "b", "parquet")
    assert Now(data, days, tmp_path / "converted").changed(then[days[2]])


@pytest.mark.parametrize("block", [7, sizes.BLOCK])
@pytest.mark.parametrize("as_lists", [False, True])
def test_a_key_that_is_computed(
    tmp_path: Path, flat: pl.DataFrame, block: int, as_lists: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On both sides, of several columns; also of the elements of lists."""
    monkeypatch.setattr(sizes, "BLOCK", block)
    parts = pl.col("shown_id").str.split("-")
    apart = [parts.list.get(k, null_on_oob=True).alias(name) for k, name in enumerate(("day", "place"))]
    write(shown().select(pl.exclude("shown_id"), *apart), tmp_path / "log/events", str(DAY), "parquet")
    later = clicks().select(*apart, pl.exclude("shown_id"))
    if as_lists:
        later = later.group_by("day", maintain_order=True).agg(pl.all())
    write(later, tmp_path / "log/clicks", str(DAY), "parquet")
    own: dict[str, Any] = {"computed": {"pair": "day || '-' || place"}, "key": "pair"}
    own |= {"explode": ("place", "spent", "cook")} if as_lists else {}
    joined = {"clicks": {"path": "clicks/{day}.parquet", "columns": COLUMNS, **own}}
    computed = {"pair": "CONCAT(day, '-', place)", "good": "seconds >= 90 OR cooked"}
    assert read(tmp_path / "log", {"joined": joined, "computed": computed}).equals(flat)


def test_a_computed_key_of_a_column_that_is_not_there(tmp_path: Path) -> None:
    write(shown(), tmp_path / "log/events", str(DAY), "parquet")
    write(clicks(), tmp_path / "log/clicks", str(DAY), "parquet")
    joined = {"clicks": {"path": "clicks/{day}.parquet", "columns": COLUMNS, "key": "shown_id", "event_key": "pair"}}
    computed = {"pair": "person || plaice", "good": "seconds >= 90 OR cooked"}
    with pytest.raises(UserError, match=r"data\.events\.computed\.pair expects column plaice"):
        read(tmp_path / "log", {"joined": joined, "computed": computed})


def test_a_key_is_not_made_of_what_it_joins() -> None:
    joined = {"clicks": {"path": "c/{day}", "columns": COLUMNS, "key": "shown_id", "event_key": "pair"}}
    with pytest.raises(ValidationError, match="it cannot be joined by pair, which is made of it"):
        Events(user="u", item="i", click="clicked", conversion="good", joined=joined, computed={"pair": "seconds + 1"})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["csv", "json.gz", "parquet"])
def test_formats_keys_and_folders_of_their_own(tmp_path: Path, flat: pl.DataFrame, kind: str) -> None:
    """The table has another format than the events, another name of the id, days in folders and two files."""
    write(shown(), tmp_path / "log/events", str(DAY), "parquet")
    table = clicks().rename({"shown_id": "of"})
    for k in (0, 1):
        write(table.filter(pl.int_range(pl.len()) % 2 == k), tmp_path / f"log/clicks/dt={DAY}", str(k), kind)
    types = {"types": {"spent": "int64", "cook": "int64"}} if kind == "csv" else {}
    place: dict[str, Any] = {"path": "clicks", "partition": "dt", "format": kind.partition(".")[0], **types}
    joined = {"clicks": {**place, "key": "of", "event_key": "shown_id", "columns": COLUMNS}}
    assert read(tmp_path / "log", {"joined": joined}).equals(flat)


def test_integers_and_one_table_for_all_days(tmp_path: Path, flat: pl.DataFrame) -> None:
    number = pl.col("shown_id").str.extract(r"-(\d+)$").cast(pl.Int32)
    write(shown().with_columns(number), tmp_path / "log/events", str(DAY), "parquet")
    wide = clicks().with_columns(number.cast(pl.UInt64).fill_null(2**63 + 5))
    write(wide, tmp_path / "log", "clicks", "parquet")
    joined = {"clicks": {"path": "clicks.parquet", "key": "shown_id", "columns": COLUMNS}}
    assert read(tmp_path / "log", {"joined": joined}).equals(flat)


def test_two_tables_and_fields_of_objects(tmp_path: Path, flat: pl.DataFrame) -> None:
    write(shown(), tmp_path / "log/events", str(DAY), "parquet")
    nested = clicks().select("shown_id", page=pl.struct("spent"))
    write(nested, tmp_path / "log/clicks", str(DAY), "parquet")
    write(clicks().drop("spent"), tmp_path / "log/cooks", str(DAY), "parquet")
    first = {"clicked": "COUNT(*) > 0", "seconds": "SUM(page.spent)", "openings": "COUNT(page.spent)"}
    joined = {
        "clicks": {"path": "clicks/{day}.parquet", "key": "shown_id", "columns": first},
        "cooks": {"path": "cooks/{day}.parquet", "key": "shown_id", "columns": {"cooked": COLUMNS["cooked"]}},
    }
    assert read(tmp_path / "log", {"joined": joined}).equals(flat)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_columns_and_the_id_may_be_computed_in_the_table(tmp_path: Path, flat: pl.DataFrame, kind: str) -> None:
    """An id in two columns and milliseconds, as its rows have them."""
    write(shown(), tmp_path / "log/events", str(DAY), "parquet")
    parts = pl.col("shown_id").str.split("-")
    table = clicks().with_columns(a=parts.list.first(), b=parts.list.last(), spent=pl.col("spent") * 1000)
    write(table.drop("shown_id"), tmp_path / "log/clicks", str(DAY), kind)
    computed = {"of": "a || '-' || b", "seconds": "spent / 1000"}
    types = {"types": {"spent": "int64", "cook": "int64"}} if kind == "csv" else {}
    made = COLUMNS | {"seconds": "SUM(seconds)"}
    place: dict[str, Any] = {"path": f"clicks/{{day}}.{kind}", "format": kind, "computed": computed, **types}
    joined = {"clicks": {**place, "key": "of", "event_key": "shown_id", "columns": made}}
    assert read(tmp_path / "log", {"joined": joined}).equals(flat)


def test_in_s3(tmp_path: Path, flat: pl.DataFrame, s3: Server) -> None:
    write(shown(), tmp_path / "log/events", str(DAY), "parquet")
    write(clicks(), tmp_path / "log/clicks", str(DAY), "json.gz")
    joined = {"clicks": {"path": "clicks/{day}.json.gz", "format": "json", "key": "shown_id", "columns": COLUMNS}}
    root = s3.upload(tmp_path / "log", "joined/log")
    assert read(tmp_path, {"joined": joined}, root).equals(flat)


@pytest.mark.parametrize("more", [{}, {"unique": "row"}, {"where": "spent > 100000"}], ids=str)
def test_a_table_without_rows_says_that_nothing_came(tmp_path: Path, more: dict[str, str]) -> None:
    write(shown(), tmp_path / "log/events", str(DAY), "parquet")
    rows_ = again(clicks())
    write(rows_ if "where" in more else rows_.clear(), tmp_path / "log/clicks", str(DAY), "parquet")
    joined = {"clicks": {"path": "clicks/{day}.parquet", "key": "shown_id", "columns": COLUMNS} | more}
    found = read(tmp_path / "log", {"joined": joined})
    assert {*found["click"]} == {0} and len(found) == 300


def test_a_field_that_a_day_of_json_lacks_is_null(tmp_path: Path) -> None:
    """JSON leaves out what is false or 0, as protobuf writes it, so a day without any lacks the column; a misspelt one
    has no type either."""
    write(shown(), tmp_path / "log/events", str(DAY), "parquet")
    write(clicks().drop("cook"), tmp_path / "log/clicks", str(DAY), "json")
    came = {"path": "clicks/{day}.json", "format": "json", "key": "shown_id", "columns": COLUMNS}
    with pytest.raises(UserError, match="columns expects column cook"):
        read(tmp_path / "log", {"joined": {"clicks": came}})
    found = read(tmp_path / "log", {"joined": {"clicks": came | {"types": {"cook": "int64"}}}})
    assert found["click"].cast(pl.Int64).sum() > 0 and len(found) == 300


def again(table: pl.DataFrame) -> pl.DataFrame:
    """Rows with an id of their own, of which some are delivered twice, at first with less time; some have no id."""
    rows = table.with_columns(row=pl.Series([None if k % 9 == 0 else f"c{k}" for k in range(len(table))]))
    early = rows.filter(pl.col("row").is_not_null() & (pl.int_range(pl.len()) % 3 == 0)).with_columns(
        spent=pl.lit(1, pl.Int64)
    )
    return pl.concat([early, rows, rows.filter(pl.col("row").is_in(["c1", "c2"]))])


@pytest.mark.parametrize("kind", ["parquet", "csv", "json"])
@pytest.mark.parametrize("block", [7, sizes.MERGE])
def test_a_row_that_was_delivered_twice_counts_once(
    tmp_path: Path, flat: pl.DataFrame, kind: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizes, "MERGE", block)
    write(shown(), tmp_path / "log/events", str(DAY), "parquet")
    write(again(clicks()), tmp_path / "log/clicks", str(DAY), kind)
    types = {"types": {"spent": "int64", "cook": "int64"}} if kind == "csv" else {}
    came: dict[str, Any] = {"path": f"clicks/{{day}}.{kind}", "format": kind, "key": "shown_id", "columns": COLUMNS}
    assert not read(tmp_path / "log", {"joined": {"clicks": came | types}}).equals(flat)
    assert read(tmp_path / "log", {"joined": {"clicks": came | types | {"unique": "row"}}}).equals(flat)


@pytest.mark.parametrize("kind", ["delta", "iceberg"])
@pytest.mark.parametrize("told", ["partition", "date_column", "whole"])
def test_lakes(tmp_path: Path, flat: pl.DataFrame, kind: str, told: str) -> None:
    """The table is a lake's, of one day or with a column that tells the days of its rows."""
    write(shown(), tmp_path / "log/events", str(DAY), "parquet")
    late = clicks().head(9)  # of this day's exposures, on the next day
    days = [clicks().with_columns(dt=pl.lit(DAY)), late.with_columns(dt=pl.lit(DAY + dt.timedelta(1)))]
    write(days[0] if told == "whole" else pl.concat(days), tmp_path / "log", "clicks", kind)
    joined: dict[str, Any] = {"path": "clicks", "format": kind, "key": "shown_id", "columns": COLUMNS}
    joined |= {} if told == "whole" else {told: "dt"}
    assert read(tmp_path / "log", {"joined": {"clicks": joined}}).equals(flat)


@pytest.mark.parametrize("kind", ["parquet", "csv", "json"])
def test_a_column_tells_the_day_of_a_row(tmp_path: Path, kind: str) -> None:
    """One file of all days is as good as a file a day: rows of other days are left out, and of days_after read."""
    write(shown(), tmp_path / "log/events", str(DAY), "parquet")
    parts = [clicks(k).vstack(clicks(1).head(9)) if k > 1 else clicks(k) for k in (1, 2, 3)]
    for k, part in enumerate(parts):
        write(part, tmp_path / "log/clicks", str(DAY + dt.timedelta(k)), kind)
    dated = [part.with_columns(at=pl.lit(DAY + dt.timedelta(k))) for k, part in enumerate(parts)]
    whole, file = pl.concat(dated), tmp_path / f"log/clicks_all.{kind}"
    if kind == "parquet":
        whole.write_parquet(file, row_group_size=60)
    else:
        write(whole, tmp_path / "log", "clicks_all", kind)
    types = {"types": {"spent": "int64", "cook": "int64"}} if kind == "csv" else {}
    same: dict[str, Any] = {"format": kind, "key": "shown_id", "columns": COLUMNS, **types}
    for after in (0, 1):
        more = same | {"days_after": after}
        daily = read(tmp_path / "log", {"joined": {"clicks": more | {"path": f"clicks/{{day}}.{kind}"}}})
        one = read(tmp_path / "log", {"joined": {"clicks": more | {"path": file.name, "date_column": "at"}}})
        assert one.equals(daily) and daily["click"].cast(pl.Int64).sum() > 0
    write(whole.filter(pl.col("at") > DAY), tmp_path / "log", "clicks_late", kind)
    with pytest.raises(UserError, match=r"events.joined.clicks: no file of .* has a at of day 2026-01-01") as caught:
        read(tmp_path / "log", {"joined": {"clicks": same | {"path": f"clicks_late.{kind}", "date_column": "at"}}})
    assert caught.value.code == 66


def test_events_and_what_came_of_them_in_one_file_of_all_days(tmp_path: Path) -> None:
    """Both are told apart by `where`, and their days by one column; a text file is converted once."""
    stream = pl.DataFrame(
        {
            "event": ["shown", "shown", "click", "click", "shown", "click"],
            "id": ["a", "b", "x", "y", "c", "z"],
            "of": [None, None, "a", "a", None, "b"],
            "u": [1, 1, 1, 1, 2, 1],
            "i": [5, 6, 5, 5, 5, 6],
            "d": ["2026-01-01"] * 4 + ["2026-01-02"] * 2,
        }
    )
    for kind in ("parquet", "json"):
        write(stream, tmp_path / kind, "all", kind)
        came: dict[str, Any] = {"path": f"all.{kind}", "key": "of", "event_key": "id", "date_column": "d"}
        came |= {"where": "event = 'click'", "columns": {"clicked": "COUNT(*) > 0"}}
        events = Events(
            path=f"all.{kind}", date_column="d", where="event = 'shown'", user="u", item="i", click="clicked",
            conversion="clicked", joined={"came": came},
        )  # fmt: skip
        data = Data(root=str(tmp_path / kind), format=kind, events=events)  # type: ignore[arg-type]
        log = Log(data, (), converted=tmp_path / "converted")
        assert rows(log.read(DAY, tmp_path))["click"].to_list() == [1, 0], kind
    made = (tmp_path / "converted").rglob("*.parquet")
    assert {p.relative_to(tmp_path / "converted").parts[0] for p in made} == {"events"}


def test_what_tells_days_and_rows_of_a_joined_table() -> None:
    def table(**given: Any) -> Events:
        joined = {"came": {"path": "c.csv", "key": "of", "columns": {"clicked": "COUNT(*) > 0"}} | given}
        return Events(click="clicked", conversion="clicked", joined=joined)  # type: ignore[arg-type]

    assert table(date_column="d", days_after=1).joined["came"].is_daily
    with pytest.raises(ValidationError, match=r"give partition or date_column, not both"):
        table(date_column="d", partition="dt")
    with pytest.raises(ValidationError, match=r"date_column is read before columns are computed"):
        table(date_column="d", computed={"d": "a || b"})
    with pytest.raises(ValidationError, match=r"unique: of may have several rows of an exposure"):
        table(unique="of")
    assert not {"unique", "date_column"} & {*table().joined["came"].model_dump()}


# -- through the command line ------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Project:
    for day in (1, 2):
        write(shown(day), tmp_path / "log/events", f"2026-01-0{day}", "parquet")
        late = clicks(1).head(5) if day == 2 else clicks().clear()
        write(pl.concat([clicks(day), late]), tmp_path / "log/clicks", f"2026-01-0{day}", "parquet")
    joined = {"clicks": {"path": "clicks/{day}.parquet", "key": "shown_id", "columns": dict(COLUMNS)}}
    roles = {"user": "person", "item": "doc", "click": "clicked", "conversion": "good", "joined": joined}
    events = {"path": "events/{day}.parquet", **roles, "computed": {"good": "seconds >= 90 OR cooked"}}
    features = [
        {"name": "person", "side": "user", "kind": "categorical"},
        {"name": "doc", "side": "item", "kind": "categorical"},
    ]
    config = {"seed": 1, "threads": 1, "auto": {"budget": 0}, "data": {"events": events}, "features": features}
    return Project.create(tmp_path, tmp_path / "log", config=config)


def clicks_of(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = project.config["data"]["events"]["joined"]["clicks"]
    return found


def refused(project: Project, day: int = 1) -> tuple[int, str]:
    project.write()
    ended = project.call("check", "--day", f"2026-01-0{day}")
    return ended.code, ended.err


def test_check_tells_what_names_no_exposure_and_what_comes_a_day_later(project: Project) -> None:
    ended = project.call("check", "--day", "2026-01-01")
    assert ended.code == 0, ended.err
    assert "data.events.joined.clicks: 3 of its 104 rows have the id of no exposure of the day, or" in ended.out
    assert "data.events.joined.clicks: 1 of its 104 rows have no value of key: left out" in ended.out
    later = "5 rows of the day after are of this day's exposures: days_after: 1 reads them too"
    assert later in ended.out and "share their id" not in ended.out and "shown_id" not in ended.out
    assert project.stage("check", 1).json["unread"] == ["at"], "what is joined is an outcome, and no feature is missing"
    found = project.stage("check", 1).json["joined"]["clicks"]
    assert found == {"days_after": 0, "rows": 104, "shared": 0, "unmatched": 3, "without_id": 1, "later": 5}


@pytest.mark.parametrize("where", ["NOT kind = 'shown'", None])
def test_rows_of_a_kind_that_has_no_id_are_no_lost_ones(project: Project, tmp_path: Path, where: str | None) -> None:
    """Of a stream all but what was shown is read: starts of the app name no exposure, and clicks do but for one."""
    starts = pl.DataFrame({"shown_id": [None] * 7, "spent": [None] * 7, "cook": [None] * 7, "kind": ["start"] * 7})
    for day in (1, 2):
        rows_ = pl.concat([clicks(day).with_columns(kind=pl.lit("click")), starts], how="vertical_relaxed")
        write(rows_, tmp_path / "log/clicks", f"2026-01-0{day}", "parquet")
    clicks_of(project).update({"where": where} if where else {})
    project.write()
    ended = project.call("check", "--day", "2026-01-01")
    assert "3 of its 111 rows have the id of no exposure of the day, or" in ended.out, ended.err
    assert f"{1 if where else 8} of its 111 rows have no value of key: left out" in ended.out


def test_check_tells_what_was_delivered_twice(project: Project, tmp_path: Path) -> None:
    for day in (1, 2):
        write(again(clicks(day)), tmp_path / "log/clicks", f"2026-01-0{day}", "parquet")
    many = len(again(clicks())) - len(clicks())
    clicks_of(project)["unique"] = "row"
    project.write()
    ended = project.call("check", "--day", "2026-01-01")
    assert f"data.events.joined.clicks: {many} rows are left out: unique reads one of each id" in ended.out, ended.err
    found = project.stage("check", 1).json["joined"]["clicks"]
    assert (found["rows"], found["repeated"]) == (104, many)


def test_check_counts_conversions_of_clicks_that_know_theirs(project: Project) -> None:
    flat = by_hand(shown(), clicks()).filter("clicked")
    good = flat.select(good=(pl.col("seconds") >= 90) | pl.col("cooked"))["good"]
    labels = project.stage("check", 1).json["labels"]
    assert good.null_count() > 3 and labels["clicks_without_conversion"] == good.null_count()
    assert labels["conversion_rate"] == round(float(good.mean()), 4)  # type: ignore[arg-type]
    project.config["data"]["events"]["computed"]["good"] = "COALESCE(seconds >= 90 OR cooked, FALSE)"
    project.write()
    labels = project.stage("check", 1).json["labels"]
    assert "clicks_without_conversion" not in labels
    assert labels["conversion_rate"] == round(float(good.fill_null(False).mean()), 4)  # type: ignore[arg-type]


def test_ids_that_are_there_twice_are_told(project: Project, tmp_path: Path) -> None:
    busy = clicks()["shown_id"][0]
    doc = shown().filter(pl.col("shown_id") == busy)["doc"][0]
    sent = {"shown_id": pl.lit(busy), "doc": pl.lit(doc)}
    twice = shown().with_columns(pl.when(pl.col("at") < 3).then(x).otherwise(c).alias(c) for c, x in sent.items())
    write(twice, tmp_path / "log/events", "2026-01-01", "parquet")
    n = int((twice["shown_id"] == busy).sum())
    assert (
        f"{n} exposures share their id with another: what came of it"
        in project.call("check", "--day", "2026-01-01").out
    )
    project.config["data"]["events"]["unique"] = "shown_id"
    project.write()
    once = project.call("check", "--day", "2026-01-01")
    assert once.code == 0 and "share their id" not in once.out and f"{n - 1} rows are left out" in once.out


def test_a_table_of_other_ids_is_warned_of(project: Project, tmp_path: Path) -> None:
    write(clicks().with_columns(pl.lit("x").alias("shown_id")), tmp_path / "log/clicks", "2026-01-01", "parquet")
    out = project.call("check", "--day", "2026-01-01").out
    assert "WARNING: data.events.joined.clicks: none of its 104 rows has the id of an exposure: is key" in out


def test_a_day_waits_for_the_files_after_it(project: Project, tmp_path: Path) -> None:
    """With days_after a day reads the next file too, and is not there before it is: no later rerun reads more."""
    before = project.stage("check", 1).json["labels"]["click_rate"]
    clicks_of(project)["days_after"] = 1
    project.write()
    found = project.stage("check", 1).json
    assert found["joined"]["clicks"] | {"unmatched": 0, "without_id": 0} == {
        "days_after": 1,
        "rows": 213,
        "shared": 0,
        "unmatched": 0,
        "without_id": 0,
        "later": 0,
    }
    assert found["labels"]["click_rate"] == before, "rows of the same exposures"
    code, err = refused(project, 2)
    assert code == 66 and "which day 2026-01-02 reads (data.events.joined.clicks.days_after: 1)" in err
    write(clicks(3), tmp_path / "log/clicks", "2026-01-03", "parquet")
    assert refused(project, 2)[0] == 0


def test_a_chain_learns_from_them(project: Project) -> None:
    """All stages of two days read the joined log: the second day's student is evaluated on nothing that is refused."""
    project.config |= {"teacher": {"epochs": 1}, "student": {"epochs": 1}}
    project.write()
    ended = project.call("backfill", "--from", "2026-01-01", "--to", "2026-01-02", "--json")
    assert ended.code == 0, ended.err
    assert {p.name for p in (project.ws / "export").iterdir()} >= {"day=2026-01-02"}


def test_runs_name_the_table_and_one_that_changes_is_another_input(project: Project, tmp_path: Path) -> None:
    project.done("build-profile", 1)
    manifest = next((project.ws / "profile").rglob("manifest.json")).read_text()
    assert "clicks/2026-01-01.parquet" in manifest
    write(clicks().head(50), tmp_path / "log/clicks", "2026-01-01", "parquet")
    first = {p.parent.name for p in (project.ws / "profile").rglob("manifest.json")}
    project.done("build-profile", 1)
    assert {p.parent.name for p in (project.ws / "profile").rglob("manifest.json")} != first


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"unique": "rwo"}, 65, "data.events.joined.clicks.unique expects column rwo"),
        ({"path": "clicks", "date_column": "dy"}, 65, "data.events.joined.clicks.date_column expects column dy"),
        ({"path": "nowhere/{day}.parquet"}, 66, "events.joined.clicks: no folder or file "),
        ({"key": "id"}, 65, "data.events.joined.clicks.key expects column id"),
        ({"key": "spent", "event_key": "shown_id"}, 65, "shown_id are text, but spent of "),
        ({"event_key": "seen_id"}, 65, "data.events.joined.clicks expects column seen_id"),
        (
            {"columns": COLUMNS | {"x": "SUM(spend)"}},
            65,
            "data.events.joined.clicks.columns expects column spend, did you mean spent?",
        ),
        ({"columns": COLUMNS | {"x": "SUM(shown_id)"}}, 65, "data.events.joined.clicks.columns.x: "),
        ({"columns": COLUMNS | {"x": "spent"}}, 78, "expected an expression of one value for all rows of a key"),
        ({"columns": COLUMNS | {"x": "SUM(spent) + cook"}}, 78, "expected an expression of one value"),
        ({"columns": COLUMNS | {"x": "SUM(spent) OVER (PARTITION BY cook)"}}, 78, "expected an expression of one"),
        ({"columns": COLUMNS | {"x": "SUM("}}, 78, "expected an SQL expression"),
        (
            {"columns": COLUMNS | {"doc": "MAX(cook)"}},
            78,
            "joined.clicks.columns.doc: it is known as the item is shown",
        ),
        ({"columns": COLUMNS | {"good": "MAX(cook)"}}, 78, "computed has a column of that name"),
        ({"columns": COLUMNS | {"at": "MAX(cook)"}}, 65, "columns.at: the file has a column of that name"),
        ({"path": "clicks/2026-01-01.parquet", "days_after": 1}, 78, "days_after has no effect on one table"),
        ({"path": "cl*", "partition": "day"}, 78, "`*` stands beside {day}, or without partition"),
        ({"csv": {"separator": ";"}}, 78, "events.joined.clicks.csv has no effect on format: parquet"),
    ],
)
def test_what_is_refused(project: Project, change: dict[str, Any], code: int, said: str) -> None:
    clicks_of(project).update(change)
    found, err = refused(project)
    assert found == code and said in err, err


@pytest.mark.parametrize("name", ["seconds", "good"])
def test_none_of_them_is_a_feature(project: Project, name: str) -> None:
    project.config["features"].append({"name": name, "side": "context", "kind": "categorical"})
    code, err = refused(project)
    assert code == 78 and f"{name} is an outcome, known only after the exposure" in err


def test_a_config_without_them_is_stored_as_before() -> None:
    assert "joined" not in Events(conversion="good").model_dump()
    with pytest.raises(ValidationError, match="at least 1"):
        Events(conversion="x", joined={"a": {"path": "p", "key": "k", "columns": {}}})


def test_the_example_of_the_docs_is_what_it_says(tmp_path: Path) -> None:
    text = (Path(__file__).parent.parent / "docs/logs.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"### Outcomes in a table of their own\n.*?```yaml\n(.*?)```", text, re.S)
    given = yaml.safe_load(block)["data"]
    write(
        pl.DataFrame({"impression_id": ["a", "b", "c"], "u": ["1", "1", "2"], "i": ["x", "y", "x"]}),
        tmp_path / "impressions",
        str(DAY),
        "csv",
    )
    table = {
        "impression_id": ["a", "a", "c", "z"],
        "time_on_page": ["0:01:00", "0:00:45", None, "9:00"],
        "cook_mode": [0, 0, 0, 1],
    }
    write(pl.DataFrame(table), tmp_path / "clicks", str(DAY), "csv")
    events = Events(**given.pop("events"), user="u", item="i")
    data = Data(root=str(tmp_path), format="csv", events=events, **given)
    features = (Feature(name="u", side="user", kind="categorical"), Feature(name="i", side="item", kind="categorical"))
    found = rows(Log(data, features, converted=tmp_path / "converted").read(DAY, tmp_path)).sort("position")
    assert [int(c) for c in found["click"]] == [1, 0, 1], "COUNT(*) of no rows is 0"
    assert found["conversion"].to_list() == [1, -1, -1], "105 s; nothing is known of the others"


@pytest.mark.parametrize("path", ["clicks.parquet", "clicks", "clicks.avro"])
def test_a_row_without_a_day_is_of_none(tmp_path: Path, flat: pl.DataFrame, path: str) -> None:
    """Of a file, of one in a folder, which is read in place, and of another format."""
    write(shown(), tmp_path / "log/events", str(DAY), "parquet")
    dated = clicks().with_columns(day=pl.lit(DAY))
    lost = dated.head(40).with_columns(day=pl.lit(None, pl.Date))
    kind = "avro" if path.endswith("avro") else "parquet"
    write(pl.concat([lost, dated]), tmp_path / "log", path.split(".")[0] + "/a" * (path == "clicks"), kind)
    joined = {"path": path, "key": "shown_id", "date_column": "day", "columns": COLUMNS, "format": kind}
    assert read(tmp_path / "log", {"joined": {"clicks": joined}}).equals(flat)


@pytest.mark.parametrize("kind", ["parquet", "groups", "csv", "json", "delta"])
def test_a_day_on_which_nothing_came_is_no_day_to_wait_for(tmp_path: Path, flat: pl.DataFrame, kind: str) -> None:
    """Where a file has days before it and after it; of one that no file has reached it waits, also of its own file."""
    log, form = tmp_path / "log", "parquet" if kind == "groups" else kind
    write(shown(), log / "events", str(DAY), "parquet")
    joined = {"path": f"clicks.{form}", "format": form, "key": "shown_id", "date_column": "day", "columns": COLUMNS}
    joined |= {"types": {"spent": "int64", "cook": "int64"}} if kind == "csv" else {}
    before, after = (clicks().with_columns(day=pl.lit(DAY + dt.timedelta(days=k))) for k in (-1, 1))

    def put(name: str, rows: pl.DataFrame) -> None:
        shutil.rmtree(log / f"{name}.delta", ignore_errors=True)
        write(rows, log, f"{name}.delta" if kind == "delta" else name, form)
        if kind == "groups":  # of one day each
            rows.write_parquet(log / f"{name}.parquet", row_group_size=len(before))

    put("clicks", pl.concat([before, after]))
    found = read(log, {"joined": {"clicks": joined}})
    assert len(found) == len(flat) and flat["click"].any() and not found["click"].any()
    put("clicks", before)
    with pytest.raises(UserError, match=r"clicks: .* day of day") as waits:
        read(log, {"joined": {"clicks": joined}})
    assert waits.value.code == 66
    if kind != "delta":
        put("clicks_2", after)
        with pytest.raises(UserError, match=r"clicks: no file of .* has a day of day"):
            read(log, {"joined": {"clicks": joined | {"path": f"clicks*.{form}"}}})


def test_a_computed_key_is_made_of_rows_that_are_asked_for(tmp_path: Path, flat: pl.DataFrame) -> None:
    """Others need not have what it is made of."""
    others = shown().with_columns(number=pl.lit("none"), kind=pl.lit("other"))
    mine = shown().with_columns(number=pl.col("shown_id").str.slice(3), kind=pl.lit("shown"))
    write(pl.concat([others.head(9), mine]).drop("shown_id"), tmp_path / "log/events", str(DAY), "parquet")
    later = clicks().with_columns(pl.col("shown_id").str.slice(3).cast(pl.Int64, strict=False).alias("place"))
    write(later.drop("shown_id").drop_nulls("place"), tmp_path / "log/clicks", str(DAY), "parquet")
    joined = {"clicks": {"path": "clicks/{day}.parquet", "key": "place", "columns": COLUMNS}}
    computed = {"place": "CAST(number AS BIGINT)", "good": "seconds >= 90 OR cooked"}
    found = read(tmp_path / "log", {"joined": joined, "computed": computed, "where": "kind = 'shown'"})
    assert found.drop("position").equals(flat.drop("position"))


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (pl.concat_list(pl.int_range(pl.len())), "column shown_id: expected ids, got lists of int64"),
        (pl.int_range(pl.len()).cast(pl.Float64), "shown_id are integers, but shown_id of .* double"),
    ],
)
def test_what_is_no_id_is_refused(tmp_path: Path, ids: pl.Expr, said: str) -> None:
    write(shown().with_columns(shown_id=pl.int_range(pl.len())), tmp_path / "events", str(DAY), "parquet")
    write(clicks().with_columns(shown_id=ids), tmp_path / "clicks", str(DAY), "parquet")
    table = {"path": "clicks/{day}.parquet", "key": "shown_id", "columns": COLUMNS}
    with pytest.raises(UserError, match=said) as refused:
        read(tmp_path, {"joined": {"clicks": table}})
    assert refused.value.hint


def test_exposures_whose_ids_are_beyond_int64_are_refused(tmp_path: Path) -> None:
    """Not taken for exposures of which nothing came, as hashes of 64 bits without a sign."""
    large = pl.col("shown_id").str.extract(r"-(\d+)$").cast(pl.UInt64) + 2**63
    write(shown().with_columns(large), tmp_path / "events", str(DAY), "parquet")
    write(clicks().with_columns(large), tmp_path / "clicks", str(DAY), "parquet")
    table = {"path": "clicks/{day}.parquet", "key": "shown_id", "columns": COLUMNS}
    with pytest.raises(UserError, match=r"events/.*: column shown_id: the id 92233720368547\d+ is beyond int64"):
        read(tmp_path, {"joined": {"clicks": table}})
