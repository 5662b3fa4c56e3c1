"""`export.items` as a condition: only items of their table for which it is true are exported, so served."""

from __future__ import annotations

import copy
import datetime as dt
import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from formats import write
from pydantic import ValidationError
from worlds import BASE, DAYS, Project

from dmtl_cli.config.data import Data, Events, SideTable
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.export import Export as Section
from dmtl_cli.config.expressions import timed_of
from dmtl_cli.data.log.checked.checks import is_time
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.log.served import chosen, days_told
from dmtl_cli.data.log.values import sizes
from dmtl_cli.evaluate import gates
from dmtl_cli.evaluate.exam import Wanted
from dmtl_cli.evaluate.lists import ItemList
from dmtl_cli.serving.export import Export
from dmtl_cli.stages.evaluate import _offered
from dmtl_cli.synth.generate import generate

DAY = dt.date(2026, 3, 2)
NEXT = DAY + dt.timedelta(days=1)

# -- what a config may say ---------------------------------------------------------------------------------------------


def test_a_word_or_a_condition() -> None:
    assert Section().condition is None and Section(items="listed").condition is None
    asked = Section(items="status = 'active' AND stock >= 1")
    assert asked.condition == asked.items and asked.columns == ["status", "stock"]
    assert "items" not in Section().model_dump(), "exports of all items keep their keys"
    assert asked.model_dump()["items"] == asked.items


@pytest.mark.parametrize(
    "wrong", ["", "1 = 1", "SUM(stock) > 1", "active = ", "at < CURRENT_TIME", "NOW() > 1", "LAG(active) = 1"]
)
def test_what_is_no_condition_of_a_row_is_refused(wrong: str) -> None:
    with pytest.raises(ValidationError, match="expected an"):
        Section(items=wrong)


# -- what it says of a table -------------------------------------------------------------------------------------------


def log(root: Path, items: SideTable, form: str = "parquet", types: dict[str, Any] | None = None) -> Log:
    rows = pl.DataFrame({"u": [k % 3 for k in range(30)], "i": [k % 5 for k in range(30)], "good": [1, 0] * 15})
    write(rows, root, f"events/day={DAY}", "parquet")
    events = Events(path="events", partition="day", format="parquet", user="u", item="i", conversion="good")
    if (root / f"events/day={DAY}.parquet").exists():
        events = Events(path="events/day={day}.parquet", format="parquet", user="u", item="i", conversion="good")
    more: dict[str, Any] = {"types": types} if types else {}
    data = Data(root=str(root), format=form, timezone="UTC", events=events, items=items, **more)
    return Log(data, (), converted=root / "converted")


def table(root: Path, frame: pl.DataFrame, name: str = "items", form: str = "parquet") -> None:
    write(frame, root, name, form)


def ids(log: Log, condition: str) -> list[Any]:
    found = chosen(log, DAY, condition).ids.sort().to_list()
    return list(found)


def test_null_is_not_true_and_columns_may_be_computed(tmp_path: Path) -> None:
    frame = pl.DataFrame({"i": range(6), "active": [1, 1, 0, None, 1, 1], "stock": [3, 0, 9, 9, None, 5]})
    table(tmp_path, frame)
    mine = log(tmp_path, SideTable(path="items.parquet", key="i", computed={"left": "stock - 2"}))
    assert ids(mine, "active = 1") == [0, 1, 4, 5]
    assert ids(mine, "active = 1 AND stock >= 1") == [0, 5]
    assert ids(mine, "left > 0") == [0, 2, 3, 5] and ids(mine, "stock IS NULL OR i = 2") == [2, 4]
    found = chosen(mine, DAY, "active = 1")
    assert found.told == "export.items: active = 1: holds for 4 of 6 items of the table of items: no other is served"


def test_rows_that_the_table_leaves_out_are_none(tmp_path: Path) -> None:
    table(tmp_path, pl.DataFrame({"i": range(4), "shop": ["a", "a", "b", "b"], "ok": [True, False, True, True]}))
    mine = log(tmp_path, SideTable(path="items.parquet", key="i", where="shop = 'b'"))
    assert ids(mine, "ok") == [2, 3] and chosen(mine, DAY, "ok").listed.to_list() == [2, 3]


def test_of_versions_the_newest_that_is_known_when_the_day_is_over(tmp_path: Path) -> None:
    """Item 1 is withdrawn on the day itself, 2 the morning after it has begun, and 3 comes back within the day."""
    rows = [(0, 1, "off"), (0, 1, "on"), (1, 1, "on"), (1, 2, "off"), (2, 1, "on"), (2, 3, "off"), (3, 1, "off")]
    rows += [(3, 2, "on"), (4, 3, "on")]
    frame = pl.DataFrame(
        {"i": [i for i, _, _ in rows], "state": [s for *_, s in rows]}
        | {"since": [dt.datetime(2026, 3, d, 12 if k != 0 else 6) for k, (_, d, _) in enumerate(rows)]}
    )
    table(tmp_path, frame)
    mine = log(tmp_path, SideTable(path="items.parquet", key="i", version="since"))
    assert ids(mine, "state = 'on'") == [0, 2, 3], "4 is not there yet"


def test_of_tables_a_day_that_of_the_next_morning_or_of_the_evening(tmp_path: Path) -> None:
    for k, day in enumerate((DAY - dt.timedelta(days=1), DAY, NEXT)):
        table(tmp_path, pl.DataFrame({"i": range(4), "ok": [n != k for n in range(4)]}), f"items/day={day}/0")
    mine = log(tmp_path, SideTable(path="items", partition="day", key="i"))
    assert ids(mine, "ok") == [0, 1, 3]
    snapshot = log(tmp_path, SideTable(path="items", partition="day", key="i", lag_days=1))
    assert ids(snapshot, "ok") == [0, 2, 3], "the table of the day's own evening"
    shutil.rmtree(tmp_path / f"items/day={NEXT}")
    assert ids(log(tmp_path, SideTable(path="items", partition="day", key="i")), "ok") == [0, 2, 3]


def test_what_has_ended_is_none_of_them(tmp_path: Path) -> None:
    ends = [None, DAY, NEXT, NEXT + dt.timedelta(days=1)]
    table(tmp_path, pl.DataFrame({"i": range(4), "ok": [1, 1, 1, 0], "till": ends}))
    mine = log(tmp_path, SideTable(path="items.parquet", key="i", until="till"))
    assert ids(mine, "ok = 1") == [0] and chosen(mine, DAY, "ok = 1").listed.to_list() == [0, 3]


def test_text_has_the_types_of_the_config(tmp_path: Path) -> None:
    frame = pl.DataFrame({"i": range(4), "on": ["True", "False", None, "True"], "stock": ["4", "2", "3", "0"]})
    table(tmp_path, frame, form="csv")
    csv = SideTable(path="items.csv", key="i", format="csv")
    typed = log(tmp_path, csv, "csv", {"on": "bool", "stock": "int64"})
    assert ids(typed, "on AND stock > 0") == ["0"]
    plain = log(tmp_path / "plain", csv, "csv")
    table(tmp_path / "plain", frame, form="csv")
    assert ids(plain, "\"on\" = 'True'") == ["0", "3"]
    with pytest.raises(UserError, match=r"export.items: cannot compare string with numeric") as refused:
        chosen(plain, DAY, "stock > 0")
    assert refused.value.code == Exit.DATA and "until data.types names another type" in (refused.value.hint or "")


# -- what the clock says -----------------------------------------------------------------------------------------------

MIDNIGHT = dt.datetime(2026, 3, 2, 15)  # the end of DAY in Tokyo, by the clock of UTC
AGES = [-(12 * 24 + 1), -(12 * 24 - 1), -1, 0, 1]
"""hours after it at which items were published"""


def _published(how: str, hours: int) -> Any:
    at = MIDNIGHT + dt.timedelta(hours=hours)
    local = at + dt.timedelta(hours=9)
    return {
        "naive": local, "UTC": at.replace(tzinfo=dt.UTC), "text": local.isoformat(" "), "zoned": f"{at.isoformat()}Z",
        "ms": int(at.replace(tzinfo=dt.UTC).timestamp() * 1000),
    }[how]  # fmt: skip


@pytest.mark.parametrize("how", ["naive", "UTC", "text", "zoned", "ms"])
def test_an_age_is_of_the_end_of_the_export_s_day_in_its_zone(tmp_path: Path, how: str) -> None:
    """However the table writes its times; what is published later is not there yet."""
    table(tmp_path, pl.DataFrame({"i": range(5), "at": [_published(how, h) for h in AGES]}))
    mine = _in_tokyo(log(tmp_path, SideTable(path="items.parquet", key="i")))
    assert ids(mine, "at > NOW() - INTERVAL '12 day'") == [1, 2, 3, 4]
    assert ids(mine, "at BETWEEN now() - INTERVAL '12 day' AND CURRENT_TIMESTAMP") == [1, 2, 3]
    assert ids(mine, "at + INTERVAL '12 day' <= LOCALTIMESTAMP OR at >= CURRENT_DATE") == [0, 3, 4]
    before = chosen(mine, DAY - dt.timedelta(days=1), "at > NOW() - INTERVAL '12 day'")
    assert before.ids.len() == 5, "each day has its own"


def _in_tokyo(of: Log) -> Log:
    of.data = of.data.model_copy(update={"timezone": "Asia/Tokyo"})
    return of


def test_dates_begin_at_midnight_and_what_is_unknown_is_not_true(tmp_path: Path) -> None:
    dates = [DAY, NEXT, NEXT + dt.timedelta(days=1), None]
    table(tmp_path, pl.DataFrame({"i": range(4), "last": dates, "said": ["NOW()", "a", "NOW()", "b"]}))
    mine = _in_tokyo(log(tmp_path, SideTable(path="items.parquet", key="i")))
    assert ids(mine, "last >= CURRENT_DATE") == [1, 2], "which is the day that begins"
    assert ids(mine, "last > NOW() OR last IS NULL") == [2, 3] and ids(mine, "last < NOW()") == [0]
    assert ids(mine, "last > NOW() OR said = 'NOW()'") == [0, 2], "a text is itself"


def test_times_of_a_database_in_another_zone(tmp_path: Path) -> None:
    """As `version` and `until` of the same table are read."""
    table(tmp_path, pl.DataFrame({"i": range(2), "at": [MIDNIGHT - dt.timedelta(hours=1), MIDNIGHT]}))
    local = _in_tokyo(log(tmp_path, SideTable(path="items.parquet", key="i", version="at", version_only_orders=True)))
    assert ids(local, "at < NOW()") == [0, 1]
    other = SideTable(path="items.parquet", key="i", version="at", version_only_orders=True, version_timezone="UTC")
    assert ids(_in_tokyo(log(tmp_path, other)), "at < NOW()") == [0]


def seconds(at: dt.datetime) -> int:
    return int(at.replace(tzinfo=dt.UTC).timestamp())


@pytest.mark.parametrize(
    ("values", "never"),
    [
        (lambda at: at, dt.datetime(9999, 12, 31)), (lambda at: at.isoformat(), "9999-12-31T00:00:00"),
        (seconds, 253_402_300_799), (lambda at: 1_000 * seconds(at), 253_402_300_799_000), (seconds, 0), (seconds, -1),
        (lambda at: (at + dt.timedelta(hours=9)).date(), dt.date(9999, 12, 31)),
        (lambda at: int(f"{at + dt.timedelta(hours=9):%Y%m%d}"), 99_991_231),
        (lambda at: int(f"{at + dt.timedelta(hours=9):%Y%m%d}"), 0), (lambda at: at.isoformat(), ""),
        (seconds, None), (seconds, float("nan")),
    ],
)  # fmt: skip
def test_what_never_ends_is_served_however_it_says_so(tmp_path: Path, values: Any, never: Any) -> None:
    """As `until` reads it, with the condition that `init` writes."""
    ends = [values(MIDNIGHT + dt.timedelta(hours=h)) for h in (-30, -25, 48, 72)]
    kind = pl.Float64 if isinstance(never, float) else None
    table(tmp_path, pl.DataFrame({"i": range(5), "ends": pl.Series([*ends, never], dtype=kind)}))
    mine = _in_tokyo(log(tmp_path, SideTable(path="items.parquet", key="i")))
    number = " OR ends <= 0" if isinstance(never, int | float) or never is None else ""
    assert ids(mine, f"ends IS NULL{number} OR ends > NOW()") == [2, 3, 4]
    assert ids(mine, "ends <= NOW()") == [0, 1, *([4] if never in (0, -1) else [])]


def test_what_is_not_compared_with_the_clock_stays_what_it_is(tmp_path: Path) -> None:
    """A seller's number is as large as seconds since 1970, a season's day is compared as text."""
    columns = {"seller": [4_006_381_333_930 + k for k in range(4)], "season": ["2026-03-02"] * 3 + ["2026-03-09"]}
    ends = [None, MIDNIGHT + dt.timedelta(days=1), MIDNIGHT - dt.timedelta(days=1), None]
    table(tmp_path, pl.DataFrame({"i": range(4), **columns, "ends": ends}))
    mine = _in_tokyo(log(tmp_path, SideTable(path="items.parquet", key="i")))
    there = "(ends IS NULL OR ends > NOW())"
    assert ids(mine, f"{there} AND seller <> 4006381333930") == [1, 3]
    assert ids(mine, f"{there} AND seller NOT IN (4006381333930, 4006381333933)") == [1]
    assert ids(mine, f"{there} AND season = '2026-03-02' AND NOT (seller % 2 = 1)") == [0]
    assert ids(mine, "CASE WHEN seller > 4006381333931 THEN ends > NOW() ELSE season LIKE '%02' END") == [0, 1]


def test_a_few_old_seconds_are_times_too(tmp_path: Path) -> None:
    """Of 2000, which alone may be any number; those to come are not there yet."""
    times = [946_684_800, *(seconds(MIDNIGHT + dt.timedelta(days=d)) for d in (-3, -2, 1, 2))]
    table(tmp_path, pl.DataFrame({"i": range(5), "published": times}))
    mine = _in_tokyo(log(tmp_path, SideTable(path="items.parquet", key="i")))
    assert ids(mine, "published <= NOW()") == [0, 1, 2]


@pytest.mark.parametrize("values", [[3, 0, 7], ["soon", None, "2026-03-02"], [True, False, None], [2024, 2025, 2027]])
def test_what_is_no_time_is_refused(tmp_path: Path, values: list[Any]) -> None:
    table(tmp_path, pl.DataFrame({"i": range(3), "x": values}))
    mine = _in_tokyo(log(tmp_path, SideTable(path="items.parquet", key="i")))
    with pytest.raises(UserError, match=r"items\.parquet: column x is compared with a time, and has values") as refused:
        chosen(mine, DAY, "x < NOW() OR i = 1")
    assert refused.value.code == Exit.DATA


@pytest.mark.parametrize("kind", [pl.String, pl.Int64, pl.Float64, pl.Datetime, pl.Date, pl.Null])
def test_a_time_that_no_item_has_yet(tmp_path: Path, kind: Any) -> None:
    table(tmp_path, pl.DataFrame({"i": range(3), "gone": pl.Series([None] * 3, dtype=kind)}))
    mine = _in_tokyo(log(tmp_path, SideTable(path="items.parquet", key="i")))
    assert ids(mine, "gone IS NULL OR gone > NOW()") == [0, 1, 2]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([DAY], True), ([MIDNIGHT, None], True), (["2026-03-02", None], True), (["2026-03-02T10:00:00Z"], True),
        (["20260302"], True), ([20260302, 20260303, 0], True), ([1_772_409_600.5], True), ([1_772_409_600_000], True),
        ([1_772_409_600, 1_772_409_700, 3], True), (["2026-03-02", "soon"], False), (["a"], False),
        ([3, 1_772_409_600], False), ([0, None], False), ([None], False), ([True], False), ([["2026-03-02"]], False),
    ],
)  # fmt: skip
def test_what_is_a_time(values: list[Any], expected: bool) -> None:
    assert is_time(pl.Series("x", values)) is expected


def test_which_columns_the_clock_is_compared_with() -> None:
    assert timed_of("(a IS NULL OR a > NOW()) AND b = 1 AND NOT (c.d + INTERVAL '1 day' <= CURRENT_DATE)") == [
        "a",
        "c.d",
    ]
    assert timed_of("COALESCE(a, b) > NOW() OR x = 'NOW()'") == ["a", "b"] and timed_of("a = 1") == []
    assert timed_of("CASE WHEN k = 1 THEN a > NOW() ELSE b > 3 END") == ["a"]


def test_a_column_that_json_writes_only_where_it_has_a_value(tmp_path: Path) -> None:
    """It may lack in some files, and where it has a type in all: nothing was withdrawn on that day."""
    folder = tmp_path / "items"
    folder.mkdir()
    for name, rows in {"a": [{"i": 1}, {"i": 2}], "b": [{"i": 3, "gone_at": "2026-03-01"}, {"i": 4}]}.items():
        (folder / f"{name}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    side = SideTable(path="items", key="i", format="json")
    assert ids(log(tmp_path, side), "gone_at IS NULL") == [1, 2, 4]
    (folder / "b.json").unlink()
    with pytest.raises(UserError, match=r"export.items expects column gone_at"):
        chosen(log(tmp_path, side), DAY, "gone_at IS NULL")
    typed = log(tmp_path, side.model_copy(update={"types": {"gone_at": "date"}}))
    assert ids(typed, "gone_at IS NULL") == [1, 2]


def test_what_the_table_cannot_answer_is_one_line(tmp_path: Path) -> None:
    frame = pl.DataFrame({"i": range(3), "active": [1, 0, 1], "none": [None] * 3})
    table(tmp_path, frame)
    mine = log(tmp_path, SideTable(path="items.parquet", key="i"))
    for condition, said, hint in (
        (
            "activ = 1",
            r"items.parquet: export.items expects column activ, did you mean active\? \(columns: ",
            "or a co",
        ),
        (
            "items.active = 1",
            "export.items expects column items.active",
            "columns are named as the table has them: act",
        ),
        ("active", "export.items: expected true or false of each row, got Int64", "such as active = 1"),
        ("active = 'x'", "export.items: cannot compare", "CAST"),
        ("active = 7", "export.items: active = 7: holds for none of the 3 items of ", "set export.items: all"),
        ("none = 1", "holds for none of the 3 items", "is it right"),
    ):
        with pytest.raises(UserError, match=said) as refused:
            chosen(mine, DAY, condition)
        assert refused.value.code == Exit.DATA and hint in (refused.value.hint or ""), condition
    table(tmp_path, frame, "two/a")
    table(tmp_path, frame.drop("active").with_columns(pl.col("i") + 9), "two/b")
    with pytest.raises(UserError, match=r"b.parquet: export.items expects column active, which is not in it but in "):
        chosen(log(tmp_path, SideTable(path="two", key="i")), DAY, "active = 1")


# -- what it does to an export -----------------------------------------------------------------------------------------

WITHDRAWN = "state IN ('on', 'new')"


def state(item: int, day: int) -> str | None:
    """Of each ninth item `sold` from some day on; a few are new, a few unknown."""
    if item % 9 == 4:
        return "sold" if day >= item % 4 else "on"
    return None if item % 13 == 7 else "new" if item % 5 == 0 else "on"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days, and the tables of the fourth; some items that are shown are not in the tables."""
    out = tmp_path_factory.mktemp("world")
    generate(out, 4, start=dt.date(2026, 1, 1), users=60, items=80, events_per_day=900, seed=1)
    shutil.rmtree(out / f"log/events/day={DAYS[3]}")
    for k, day in enumerate(DAYS):
        file = out / f"log/items/day={day}/part-0.parquet"
        items = pl.read_parquet(file, hive_partitioning=False)
        told = [state(int(i), k) for i in items["item_id"]]
        items.with_columns(pl.Series("state", told)).filter(pl.col("item_id") % 17 != 3).write_parquet(file)
    return out / "log"


def a_project(home: Path, world: Path, **more: Any) -> Project:
    config = copy.deepcopy(BASE) | more
    config["evaluate"]["max_users"] = 30
    return Project.create(home, world, config=config)


@pytest.fixture(scope="module")
def chain(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two days by the condition. Read only."""
    project = a_project(tmp_path_factory.mktemp("chain"), world, export={"items": WITHDRAWN})
    ended = project.call("backfill", "--from", DAYS[0], "--to", DAYS[1])
    assert (ended.code, ended.err) == (0, ""), ended.err
    return project


def as_of(world: Path, day: int) -> pl.DataFrame:
    return pl.read_parquet(world / f"items/day={DAYS[day]}/part-0.parquet", hive_partitioning=False)


def test_items_of_which_it_is_not_true_are_never_recommended(chain: Project, world: Path) -> None:
    morning = as_of(world, 2)
    live = {*morning.filter(pl.col("state").is_in(["on", "new"]))["item_id"]}
    served = Export.open(chain.ws)
    assert {*served.items[0]} == live and len(live) < len(morning)
    told = chain.call("recommend", "--user", served.stored_users.example, "-k", 1000, "--json").json["items"]
    assert {int(one["item_id"]) for one in told} == live
    found = json.loads((Path(served.folder) / "manifest.json").read_text())
    shown = pl.read_parquet(world / f"events/day={DAYS[1]}/*.parquet", hive_partitioning=False)["item_id"].unique()
    retired = {*as_of(world, 1)["item_id"]} - {*morning["item_id"]}
    unlisted = len({*shown} - {*morning["item_id"]} - retired)
    counts = {"condition": len(morning) - len(live), "unlisted": unlisted}
    assert unlisted > 0 and found["facts"]["not_served"] == counts and found["facts"].get("warnings", []) == []
    every = len({*morning["item_id"], *shown})
    said = f"{sum(counts.values())} of {every} items are not served: export.items: {WITHDRAWN} is not true of "
    said += f"{counts['condition']}, {unlisted} are not in the table of items"
    assert any(said in path.read_text() for path in (chain.ws / "logs").rglob("*.jsonl"))


def test_check_tells_how_many_and_reads_the_column(chain: Project, world: Path) -> None:
    morning = as_of(world, 2)
    live = morning.filter(pl.col("state").is_in(["on", "new"]))
    many = f"{len(live)} of {len(morning)} items of the table of items"
    found = chain.call("check", "--day", DAYS[1])
    assert found.code == 0, found.err
    assert f"export.items: {WITHDRAWN}: holds for {many}: no other is served" in found.out.splitlines()
    unread, of_all = (
        chain.call("check", "--day", DAYS[1], "--json", *more).json["unread"]
        for more in ((), ("--set", "export.items=all"))
    )
    assert "state" in of_all and unread == [c for c in of_all if c != "state"]


def test_what_is_sold_leaves_what_is_served_without_training(world: Path, tmp_path: Path, chain: Project) -> None:
    """A newer table of the next morning is enough: `refresh`. Nothing else of the chain is made again."""
    shutil.copytree(world, tmp_path / "log")
    project = a_project(tmp_path, tmp_path / "log", export={"items": WITHDRAWN})
    shutil.copytree(chain.ws, project.ws)
    file = tmp_path / f"log/items/day={DAYS[2]}/part-0.parquet"
    items = pl.read_parquet(file, hive_partitioning=False)
    gone = items.filter(pl.col("state") == "on")["item_id"][0]
    sold = pl.when(pl.col("item_id") == gone).then(pl.lit("sold")).otherwise("state").alias("state")
    items.with_columns(sold).write_parquet(file)
    before = {*Export.open(project.ws).items[0]}
    ended = project.call("refresh", "--json")
    assert ended.code == 0 and [one["stage"] for one in ended.every] == ["export"], ended.err
    assert {*Export.open(project.ws).items[0]} == before - {gone}


def test_another_condition_is_another_export_and_nothing_else(chain: Project, tmp_path: Path) -> None:
    project = Project(tmp_path, copy.deepcopy(chain.config) | {"workspace": str(tmp_path / "ws")})
    shutil.copytree(chain.ws, project.ws)
    project.write()
    other = ("--set", "export.items=state = 'on'")
    found = {name: project.done(name, 2, *other) for name in ("train-teacher", "train-student")}
    assert all(one["up_to_date"] for one in found.values()) is False
    assert found["train-teacher"]["up_to_date"]
    morning = as_of(Path(chain.config["data"]["root"]), 2)
    assert {*Export.open(project.ws).items[0]} == {*morning.filter(pl.col("state") == "on")["item_id"]}


def test_an_export_of_no_item_is_refused(world: Path, tmp_path: Path) -> None:
    """All that the log has is in the table, and has ended by the morning."""
    shutil.copytree(world, tmp_path / "log")
    shown = pl.read_parquet(world / "events/*/*.parquet", hive_partitioning=False)["item_id"].unique()
    for day in DAYS:
        file = tmp_path / f"log/items/day={day}/part-0.parquet"
        items = pl.read_parquet(file, hive_partitioning=False).join(
            shown.to_frame(), on="item_id", how="full", coalesce=True
        )
        items.with_columns(gone=pl.lit(dt.date.fromisoformat(DAYS[2]))).write_parquet(file)
    project = a_project(tmp_path, tmp_path / "log")
    project.config["data"]["items"]["until"] = "gone"
    project.write()
    ended = project.call("backfill", "--from", DAYS[0], "--to", DAYS[1])
    said = f"export {DAYS[1]}: none of the 80 items is to be served on the morning after; they have ended (data.items)"
    assert ended.code == 65 and said in ended.err, ended.err
    assert not (project.ws / "export/LATEST").exists()


def test_exports_of_all_items_are_as_before(world: Path, tmp_path: Path) -> None:
    """Whether `all` is written or not: the same keys, the same bytes, the same measures and facts."""
    found = []
    for name, more in {"plain": {}, "all": {"export": {"items": "all"}}}.items():
        project = a_project(tmp_path / name, world, **more)
        assert project.call("backfill", "--from", DAYS[0], "--to", DAYS[1]).code == 0
        folder = Path(Export.open(project.ws).folder)
        whole = json.loads((folder / "manifest.json").read_text())
        assert "not_served" not in whole["facts"] and "items" not in whole["config"]["export"]
        assert {g["name"] for g in whole["gates"]} >= {"export.unknown_items", "export.recall.click"}
        found.append((whole["key"], {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "manifest.json"}))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("condition", "code", "said"),
    [
        ("stat = 'on'", 65, "export.items expects column stat, did you mean state?"),
        ("state", 65, "export.items: expected true or false of each row, got String"),
        ("state = 'of'", 65, "holds for none of the"),
        ("MAX(state) = 'on'", 78, "export.items: expected an expression of a row alone"),
    ],
)
def test_a_mistaken_condition_is_told_before_anything_is_trained(
    world: Path, tmp_path: Path, condition: str, code: int, said: str
) -> None:
    project = a_project(tmp_path, world, export={"items": condition})
    ended = project.call("check", "--day", DAYS[0])
    assert ended.code == code and said in ended.err, ended.err
    ended = project.call("run", "--day", DAYS[0])
    assert ended.code == code and said in ended.err, ended.err
    assert not any((project.ws / stage).exists() for stage in ("teacher", "tune", "scores", "student", "export"))


def test_a_student_is_not_trained_for_an_export_that_is_refused(world: Path, tmp_path: Path) -> None:
    project = a_project(tmp_path, world)
    for stage in ("build-profile", "train-teacher", "dump-logits"):
        assert project.call(stage, "--day", DAYS[0]).code == 0
    young = ("--set", "student.distill.min_age_days=0", "--set", "export.items=gone = 0")
    ended = project.call("train-student", "--day", DAYS[0], *young)
    assert ended.code == 65 and "export.items expects column gone" in ended.err
    assert not (project.ws / "student").exists()


# -- a log whose events alone know what an item is ---------------------------------------------------------------------


def events_log(root: Path, form: str, rows: list[tuple[int, int, str, int | None, int | None]], **more: Any) -> Log:
    """(day, item, time, live, stock) of each row."""
    for day in sorted({row[0] for row in rows}):
        mine = [row for row in rows if row[0] == day]
        on = DAY + dt.timedelta(days=day)
        at = [f"{on}T{row[2]}:00Z" for row in mine]
        columns = {"i": [row[1] for row in mine], "live": [row[3] for row in mine], "stock": [row[4] for row in mine]}
        whole = {"live": pl.Int64, "stock": pl.Int64}
        labels = {"u": [1] * len(mine), "at": at, "good": [1] * len(mine)}
        frame = pl.DataFrame(labels | columns, schema_overrides=whole)
        write(frame, root / "events", f"{on}", form)
    named: dict[str, Any] = {"user": "u", "item": "i", "time": "at", "conversion": "good"}
    types = {"types": dict.fromkeys(("i", "live", "stock"), "int64")} if form in ("csv", "json") else {}
    events = Events(path=f"events/{{day}}.{form}", **named, **more)
    data = Data(root=str(root), format=form, timezone="UTC", events=events, **types)  # type: ignore[arg-type]
    return Log(data, (), converted=root / "converted")


TOLD = [
    (0, 1, "09:00", 1, 5),
    (0, 1, "08:00", 0, 5),  # older, and below it
    (0, 2, "09:00", 0, 5),
    (0, 3, "09:00", None, 5),
    (-1, 3, "23:00", 1, 5),
    (-1, 2, "23:00", 1, 5),
    (-2, 4, "10:00", 1, 0),
    (-6, 5, "10:00", 1, 2),
    (-7, 6, "10:00", 1, 2),
    (1, 2, "01:00", 1, 5),  # of the day after
]


@pytest.mark.parametrize("form", ["parquet", "csv", "json"])
def test_the_newest_row_of_an_item_tells_it(tmp_path: Path, form: str) -> None:
    """Of the day and the six before it, by the time within a day; null is not true."""
    mine = events_log(tmp_path, form, TOLD, computed={"left": "stock - 1"})
    assert ids(mine, "live = 1") == [1, 4, 5]
    assert ids(mine, "live = 1 AND left > 0") == [1, 5]
    assert ids(mine, "live = 0 OR live IS NULL") == [2, 3]
    found = chosen(mine, DAY, "live = 1")
    assert found.listed.sort().to_list() == [1, 2, 3, 4, 5]
    assert found.told == "export.items: live = 1: holds for 3 of 5 items of the events of 4 days: no other is served"
    assert days_told(mine, DAY) == [DAY - dt.timedelta(days=k) for k in (0, 1, 2, 6)]


def test_rows_that_do_not_count_tell_nothing(tmp_path: Path) -> None:
    mine = events_log(tmp_path, "parquet", TOLD, where="stock > 0 AND live IS NOT NULL")
    assert ids(mine, "live = 1") == [1, 3, 5]


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("stat = 1", "export.items expects column stat"),
        ("stock", "expected true or false of each row"),
        ("live = 7", "holds for none of the 5 items of the events of 4 days, such as "),
    ],
)
def test_a_mistaken_condition_of_the_events(tmp_path: Path, condition: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as e:
        chosen(events_log(tmp_path, "parquet", TOLD), DAY, condition)
    assert e.value.code == Exit.DATA


EARLIER: dict[str, Any] = {
    "narrower": (lambda f: f.with_columns(pl.col("live").cast(pl.Int8)), [1, 4, 5]),
    "floats": (lambda f: f.with_columns(pl.col("live").cast(pl.Float64)), [1, 4, 5]),
    "nothing known": (lambda f: f.with_columns(live=pl.lit(None)), [1, 4, 5]),
    "no such column": (lambda f: f.drop("live"), [1, 4, 5]),
}


@pytest.mark.parametrize("name", EARLIER)
@pytest.mark.parametrize("day", [-1, -2])
def test_an_earlier_day_of_another_width_or_without_the_column(tmp_path: Path, name: str, day: int) -> None:
    """What it does not tell is unknown, and not true."""
    change, live = EARLIER[name]
    mine = events_log(tmp_path, "parquet", TOLD)
    file = tmp_path / f"events/{DAY + dt.timedelta(days=day)}.parquet"
    change(pl.read_parquet(file)).write_parquet(file)
    lost = {4} if day == -2 and name in ("nothing known", "no such column") else set()
    assert ids(mine, "live = 1") == [i for i in live if i not in lost]


def test_a_day_of_another_type_is_refused(tmp_path: Path) -> None:
    mine = events_log(tmp_path, "parquet", TOLD)
    file = tmp_path / f"events/{DAY - dt.timedelta(days=1)}.parquet"
    pl.read_parquet(file).with_columns(pl.col("live").cast(pl.String)).write_parquet(file)
    with pytest.raises(UserError):
        chosen(mine, DAY, "live = 1")


def test_where_no_row_is_left_none_is_served(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds for none of the 0 items of the events of 4 days"):
        chosen(events_log(tmp_path, "parquet", TOLD, where="stock > 99"), DAY, "live = 1")


def test_blocks_of_any_size_tell_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows = [(0, int(i), f"{h:02}:{m:02}", int(live), 1) for i, h, m, live in zip(
        rng.integers(0, 40, 900), rng.integers(0, 24, 900), rng.integers(0, 60, 900), rng.integers(0, 2, 900),
        strict=True)]  # fmt: skip
    mine = events_log(tmp_path, "parquet", rows)
    newest = pl.DataFrame(rows, schema=["d", "i", "at", "live", "s"], orient="row").sort("at", maintain_order=True)
    known = newest.unique("i", keep="last").filter(pl.col("live") == 1)["i"].sort().to_list()
    assert ids(mine, "live = 1") == known
    for block in (7, 64):
        monkeypatch.setattr(sizes, "BLOCK", block)
        assert ids(mine, "live = 1") == known


def test_what_the_events_leave_out_is_never_recommended(tmp_path: Path, world: Path) -> None:
    """And a row of the day before that changes is another input of the export."""
    shutil.copytree(world, tmp_path / "log")
    for k, day in enumerate(DAYS):
        for file in (tmp_path / f"log/events/day={day}").glob("*.parquet"):
            rows = pl.read_parquet(file, hive_partitioning=False)
            told = [state(int(i), k) for i in rows["item_id"]]
            rows.with_columns(pl.Series("state", told)).write_parquet(file)
    config = copy.deepcopy(BASE) | {"export": {"items": WITHDRAWN}}
    config["evaluate"]["max_users"] = 30
    counted = {"name": "clicks", "side": "item", "kind": "numeric", "profile": {"count": "click"}}  # items stay known
    config["features"] = [f for f in config["features"] if f["name"] not in ("author", "category")] + [counted]
    del config["data"]["items"]
    project = Project.create(tmp_path, tmp_path / "log", config=config)
    ended = project.call("backfill", "--from", DAYS[0], "--to", DAYS[1])
    assert (ended.code, ended.err) == (0, ""), ended.err
    rows = pl.concat(
        pl.read_parquet(tmp_path / f"log/events/day={day}/*.parquet", hive_partitioning=False).with_columns(k=k)
        for k, day in enumerate(DAYS[:2])
    )
    newest = rows.sort("k", "time").unique("item_id", keep="last")
    live = {*newest.filter(pl.col("state").is_in(["on", "new"]))["item_id"]}
    served = Export.open(project.ws)
    assert {*served.items[0]} == live and 0 < len(live) < len(newest)
    found = json.loads((Path(served.folder) / "manifest.json").read_text())
    assert {str(DAYS[0]), str(DAYS[1])} <= {one["path"].split("day=")[1][:10] for one in found["inputs"]}
    told = project.call("recommend", "--user", served.stored_users.example, "-k", 1000, "--json").json["items"]
    assert {int(one["item_id"]) for one in told} == live


# -- what it is measured beside ----------------------------------------------------------------------------------------


def test_lists_are_of_what_may_be_served_too() -> None:
    served, night = pl.Series([1, 2, 5]), {"not_served": {"condition": 1, "unlisted": 0}}
    of: Any = lambda facts, day=DAY: SimpleNamespace(facts=facts, day=day)  # noqa: E731
    assert _offered(of(night), served, NEXT) is served
    assert _offered(of({}), served, NEXT) is None, "an export of all items"
    assert _offered(of(night, DAY - dt.timedelta(days=1)), served, NEXT) is None, "it does not know what is new"
    day: Any = SimpleNamespace(items=range(3), rows_of=lambda ids, _: np.array([0, 1, 2]))
    scores = pl.DataFrame({"id": [3, 1, 2], "count": [9, 7, 8]})
    tops = []
    for offered in (None, served):
        ranker = ItemList(scores, day, offered)
        places, ids = ranker.retrieve(np.array([0]), 2)
        tops.append(ids.gather(places[0]).to_list())
        assert ranker.by_row.tolist() == [9, 7, 8], "an exposed row is scored whatever is served since"
    assert tops == [[3, 2], [2, 1]]


def test_a_day_is_measured_beside_such_lists(chain: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The top of all items is another one: some of it is no more to be had."""
    shutil.copytree(chain.ws, tmp_path / "ws")
    project = Project(tmp_path, copy.deepcopy(chain.config) | {"workspace": str(tmp_path / "ws")})
    project.write()
    metrics = []
    for of in (_offered, lambda *_: None):
        monkeypatch.setattr("dmtl_cli.stages.evaluate._offered", of)
        ended = project.call("evaluate", "--day", DAYS[2], "--json")
        assert ended.code == 0, ended.err
        metrics.append({k: v for k, v in ended.json["metrics"].items() if k.startswith("popularity.click.recall")})
        shutil.rmtree(project.ws / "evaluation")
    assert metrics[0] and metrics[0] != metrics[1]


# -- gates -------------------------------------------------------------------------------------------------------------


def test_what_was_wanted_of_some_items() -> None:
    wanted = Wanted(np.array([0, 2, 2, 5]), np.array([3, 0, 1, 3, 4]), np.array([1.0, 2, 3, 4, 5]))
    some = wanted.among(np.array([1, 3]))
    assert some.indptr.tolist() == [0, 1, 1, 3] and some.items.tolist() == [3, 1, 3]
    assert some.seconds is not None and some.seconds.tolist() == [1, 3, 4]
    assert wanted.among(np.zeros(0, np.int64)).indptr.tolist() == [0, 0, 0, 0]


def test_what_is_left_out_is_no_item_that_an_export_does_not_find() -> None:
    """Of four that three users wanted one is left: it is found, by the user who is still measured."""
    exam: Any = SimpleNamespace(
        k=1,
        day=SimpleNamespace(item_clicks=np.array([1, 1, 2])),
        wanted={"click": Wanted(np.array([0, 2, 3, 4]), np.array([0, 2, 2, 1]), None)},
    )
    items = np.eye(2, dtype=np.float32)
    served, users = np.array([0]), items[[0, 1, 1]]
    without, asked = (
        {m.name: m.value for m in gates.recall(exam, ("click",), users, items[:1], served, of_served=of)}
        for of in (False, True)
    )
    assert math.isclose(without["export.recall.click@1"], 0.5 / 3) and asked["export.recall.click@1"] == 1
    nobody = gates.recall(exam, ("click",), users, items[:1], np.array([2])[:0], of_served=True)
    assert nobody == [], "nobody wanted anything that is served"


def test_a_condition_is_turned_on_in_a_running_chain(chain: Project, tmp_path: Path) -> None:
    """It leaves out most of what was clicked that day, and off again: no gate takes that for a fault of the student."""
    project = Project(tmp_path, copy.deepcopy(chain.config) | {"workspace": str(tmp_path / "ws")})
    shutil.copytree(chain.ws, project.ws)
    project.config["export"] = {"items": "all"}
    project.write()
    assert project.call("run", "--day", DAYS[2]).code == 0
    strict, few = ("--set", "gates.errors=0"), ("--set", "export.items=item_id % 8 = 1")
    made = {name: project.stage("export", 3, *strict, *more) for name, more in {"few": few, "all": ()}.items()}
    assert [ended.code for ended in made.values()] == [0, 0], [ended.err for ended in made.values()]
    named = {gate["name"]: gate for gate in made["few"].json["gates"]}
    assert "export.unknown_items" not in named and named["export.unknown_items.chosen"]["passed"]
    assert named["export.recall.click"]["value"] > named["export.recall.click"]["baseline"] / 3
    assert made["few"].json["rows"]["items"] < made["all"].json["rows"]["items"] / 4
