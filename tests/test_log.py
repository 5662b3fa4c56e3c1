"""The raw log: what is read is exact, what does not fit is refused with its place."""

import datetime as dt
import itertools
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmtl_cli.config.data import Data, Events, SideTable
from dmtl_cli.config.days import Moment
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.data.log.checked.checks import Checked, is_time
from dmtl_cli.data.log.checked.day import ID, NO_REQUEST, Block, Day
from dmtl_cli.data.log.checked.tally import Distinct
from dmtl_cli.data.log.files.rows import TableRows
from dmtl_cli.data.log.formats.source import File
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.log.values import sizes

DAY = dt.date(2026, 1, 31)
BASIC: dict[str, Any] = {
    "user_id": [1, 1, 2, 2, 3],
    "item_id": [10, 11, 10, 12, 10],
    "click": [1, 0, 1, 1, 0],
    "seconds": [50.0, 99.0, None, 5.0, None],
}
Frames = dict[str, Any] | pl.DataFrame


def put(root: Path, frame: Frames, name: str = "events/day=2026-01-31/a.parquet") -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(frame).write_parquet(root / name)
    return root / name


def the_log(root: Path, features: Sequence[Feature] = (), **more: Any) -> Log:
    sides = {k: more.pop(k) for k in ("users", "items", "timezone", "digest") if k in more}
    events = {"click": "click", "duration": "seconds"} | more
    return Log(Data(root=str(root), events=Events(**{k: v for k, v in events.items() if v}), **sides), tuple(features))


def read(root: Path, features: Sequence[Feature] = (), day: dt.date = DAY, **more: Any) -> Day:
    return the_log(root, features, **more).read(day, root)


def rows(day: Day, rng: np.random.Generator | None = None) -> pl.DataFrame:
    """The day's events with their ids again."""
    parts = []
    for b in day.blocks(rng):
        parts.append(
            pl.DataFrame(
                {
                    "position": b.position,
                    "user": day.users[ID].gather(b.user),
                    "item": day.items[ID].gather(b.item),
                    "click": b.click,
                    "duration": b.duration,
                    "conversion": b.conversion,
                    "weight": b.weight,
                    "request": b.request,
                    **{f"y:{k}": v for k, v in b.further.items()},
                    **(b.features.to_dict(as_series=True) if b.features is not None else {}),
                }
            )
        )
    return pl.concat(parts)


def refused(code: Exit, *words: object) -> Any:
    """A context that expects a UserError of this code whose line holds these words."""

    class Refused:
        def __enter__(self) -> None: ...

        def __exit__(self, kind: Any, error: Any, _: Any) -> bool:
            assert isinstance(error, UserError), f"expected a UserError, got {error!r}"
            assert error.code == code, error.message
            for word in words:
                assert str(word) in f"{error.message}; {error.hint}"
            return True

    return Refused()


# -- labels ------------------------------------------------------------------------------------------------------------


def test_labels_of_method_1(tmp_path: Path) -> None:
    put(tmp_path, BASIC)
    day = read(tmp_path)
    (block,) = day.blocks()
    converted, known = block.labels(20.0)
    assert block.click.tolist() == [True, False, True, True, False]
    assert converted.tolist() == [True, False, False, False, False], "an unclicked row read for 99 s is a negative"
    assert known.tolist() == [True, True, False, True, True], "a click without duration is unknown"
    assert block.labels(50.0)[0].tolist() == [False] * 5, "above the threshold, not at it"
    assert (len(day), day.facts["clicks"], day.facts["clicks_without_duration"]) == (5, 3, 1)
    assert (day.facts["duration_sum"], day.facts["duration_rows"]) == (55.0, 2), "of clicked rows"
    assert day.users[ID].to_list() == [1, 2, 3] and day.items[ID].to_list() == [10, 11, 12]
    assert (day.user_events.tolist(), day.item_events.tolist()) == ([2, 2, 1], [3, 1, 1])
    assert day.item_clicks.tolist() == [2, 0, 1]
    every = [(u, i) for u in range(3) for i in range(3)]
    hit = day.has_clicked(np.array([u for u, _ in every]), np.array([i for _, i in every]))
    assert [p for p, h in zip(every, hit, strict=True) if h] == [(0, 0), (1, 0), (1, 2)]
    assert day.rows_of(pl.Series([12, 7, 10]), "item").tolist() == [2, -1, 0]
    assert day.rows_of(pl.Series(["12"]), "item").tolist() == [-1], "ids of another type are not there"


def test_conversion_instead_of_durations(tmp_path: Path) -> None:
    bought = {"bought": [True, True, None, False, None]}
    put(tmp_path, {k: v for k, v in BASIC.items() if k != "seconds"} | bought)
    (block,) = read(tmp_path, duration=None, conversion="bought").blocks()
    converted, known = block.labels(None)
    assert converted.tolist() == [True, False, False, False, False]
    assert known.tolist() == [True, True, False, True, True]
    assert np.isnan(block.duration).all()


FURTHER = {"like": "is_like", "share": "shared"}
LIKED = {"is_like": [True, True, None, False, None], "shared": [0, 1, 1, 1, 0]}


def test_further_conversions_count_with_a_click_and_nulls_are_unknown(tmp_path: Path) -> None:
    put(tmp_path, BASIC | LIKED)
    (block,) = read(tmp_path, conversions=FURTHER).blocks()
    assert block.further["like"].tolist() == [1, 1, -1, 0, -1] and block.further["share"].tolist() == [0, 1, 1, 1, 0]
    tasks = block.conversions(20.0)
    assert list(tasks) == ["cvr", "like", "share"]
    labels = {k: (z.tolist(), known.tolist()) for k, (z, known) in tasks.items()}
    assert labels["cvr"] == tuple(x.tolist() for x in block.labels(20.0))
    # click 1 0 1 1 0: what an unclicked row carries or lacks is no matter, it is a known negative
    assert labels["like"] == ([True, False, False, False, False], [True, True, False, True, True])
    assert labels["share"] == ([False, False, True, True, False], [True] * 5)
    (none,) = read(tmp_path).blocks()
    assert none.further == {} and list(none.conversions(20.0)) == ["cvr"]


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("is_like", [True, False, None, True, None], ()),
        ("is_like", [0.0, 1.0, float("nan"), None, 1.0], ()),
        ("is_like", [0, 1, None, 2, 1], ("column is_like, row 3", "expected 0 or 1, got 2")),
        ("shared", [0.0, 0.5, 1.0, 1.0, 1.0], ("column shared, row 1", "got 0.5")),
        ("shared", ["x"] * 5, ("column shared", "a boolean, 0/1, or yes and no, got text")),
        ("shared", ["J", "N", "Y", "N", "J"], ("column shared, row 0", "one pair of words, such as J and N, got 'J'")),
    ],
)
def test_a_further_conversion_is_a_flag(tmp_path: Path, column: str, values: Any, words: tuple[str, ...]) -> None:
    file = put(tmp_path, BASIC | LIKED | {column: values})
    if words:
        with refused(Exit.DATA, file, *words):
            read(tmp_path, conversions=FURTHER)
    else:
        (block,) = read(tmp_path, conversions=FURTHER).blocks()
        assert (block.further["like"] == -1).tolist() == [v is None or v != v for v in values]


def test_a_log_of_positives_and_milliseconds(tmp_path: Path) -> None:
    put(tmp_path, {"user_id": [1, 2], "item_id": [1, 2], "ms": [1500, None]})
    (block,) = read(tmp_path, click=None, duration="ms", duration_unit="ms").blocks()
    assert block.click.all() and block.request.tolist() == [NO_REQUEST] * 2 and block.weight.tolist() == [1, 1]
    assert block.duration[0] == 1.5 and np.isnan(block.duration[1])


@pytest.mark.parametrize("requests", [[7, 7, 7, 8, 7, 7], ["é", "é", "é", "b", "é", "é"]])
def test_repeated_clicks_of_a_pair_in_one_request_count_once(tmp_path: Path, requests: list[Any]) -> None:
    frame = {"user_id": [1] * 6, "item_id": [5, 5, 5, 5, 6, 5], "click": [0, 1, 1, 1, 1, 1], "request": requests}
    put(tmp_path, frame | {"seconds": [None, 10.0, 20.0, 40.0, 60.0, 30.0]})
    day = read(tmp_path, request="request")
    assert rows(day)["position"].to_list() == [0, 1, 3, 4], "unclicked rows, other requests and items stay"
    assert day.repeated.tolist() == [2, 5]
    assert (len(day), day.facts["clicks"], day.facts["repeated_clicks"]) == (4, 3, 2)
    assert day.item_clicks.tolist() == [2, 1], "a repeated click adds nothing to what negatives are drawn by"
    assert (day.facts["duration_sum"], day.facts["duration_rows"]) == (110.0, 3), "nor to the threshold"
    request = rows(day)["request"]
    assert request[0] == request[1] != request[2] and (request >= 0).all()
    put(tmp_path, {k: v for k, v in frame.items() if k != "request"} | {"seconds": [1.0] * 6})
    assert len(read(tmp_path)) == 6, "without requests every click is its own"


# -- days --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("folder", "key"), [("day=2026-01-31", None), ("dt=2026-01-31", "dt"), ("dt=20260131", "dt")])
def test_partitions(tmp_path: Path, folder: str, key: str | None) -> None:
    put(tmp_path, BASIC, f"events/{folder}/x.parquet")
    put(tmp_path, BASIC, f"events/{folder.partition('=')[0]}=2026-01-30/x.parquet")
    (tmp_path / "events" / f"{folder.partition('=')[0]}=not-a-day").mkdir()
    for day in (dt.date(2026, 1, 30), DAY):
        assert the_log(tmp_path, partition=key).find(day).day == day
    with refused(Exit.NO_INPUT, "the log has 2026-01-30 .. 2026-01-31"):
        the_log(tmp_path, partition=key).find(dt.date(2026, 1, 29))
    assert len(read(tmp_path, partition=key)) == 5
    (found,) = the_log(tmp_path, partition=key).inputs(DAY)
    assert found["path"] == f"events/{folder}/x.parquet"
    assert found["rows"] == 5 and len(found["digest"]) == 64, "of all bytes"


def test_a_folder_that_is_not_there_is_named_as_its_neighbours_are(tmp_path: Path) -> None:
    put(tmp_path, BASIC, "events/dt=20260131/x.parquet")
    with refused(Exit.NO_INPUT, "events/dt=20260129 (the log has 2026-01-31 alone)"):
        the_log(tmp_path, partition="dt").find(dt.date(2026, 1, 29))


UTC = ZoneInfo("UTC")
LATE = dt.datetime(2026, 1, 30, 16, 30)  # 00:30 of the 31st in Shanghai
EARLY = dt.datetime(2026, 1, 30, 15, 30)  # 23:30 of the 30th


@pytest.mark.parametrize(
    "instants",
    [
        pl.Series([LATE, EARLY]),
        pl.Series([LATE.replace(tzinfo=UTC), EARLY.replace(tzinfo=UTC)]),
        pl.Series([int(t.replace(tzinfo=UTC).timestamp()) for t in (LATE, EARLY)]),
        pl.Series([int(t.replace(tzinfo=UTC).timestamp()) * 1000 for t in (LATE, EARLY)]),
    ],
    ids=["naive", "aware", "seconds", "milliseconds"],
)
def test_a_time_zone_tells_the_day_of_an_instant(tmp_path: Path, instants: pl.Series) -> None:
    put(tmp_path, {"user_id": [1, 2], "item_id": [1, 2], "click": [1, 1], "seconds": [1.0, 1.0], "at": instants},
        "events/a.parquet")  # fmt: skip
    assert rows(read(tmp_path, date_column="at", timezone="Asia/Shanghai"))["user"].to_list() == [1]
    previous = dt.date(2026, 1, 30)
    assert rows(read(tmp_path, date_column="at", timezone="UTC", day=previous))["user"].to_list() == [1, 2]
    with refused(Exit.CONFIG, "data.timezone"):
        read(tmp_path, date_column="at")


@pytest.mark.parametrize(
    "days",
    [[20260131, 20260130], ["2026-01-31", "2026-01-30"], ["20260131", "20260130"], [DAY, dt.date(2026, 1, 30)]],
    ids=["int", "text", "compact text", "date"],
)
def test_a_date_column(tmp_path: Path, days: list[Any]) -> None:
    frame = {"user_id": [1, 2], "item_id": [1, 2], "click": [1, 1], "seconds": [1.0, 1.0]}
    put(tmp_path, frame | {"d": days}, "events/a.parquet")
    assert rows(read(tmp_path, date_column="d"))["user"].to_list() == [1]
    file = put(tmp_path, frame | {"d": [days[0], None]}, "events/a.parquet")
    with refused(Exit.DATA, file, "column d, row 1"):
        read(tmp_path, date_column="d")


def test_days_as_people_write_them(tmp_path: Path) -> None:
    """2026-1-11 is of January, wherever all days would be of November too."""
    put(tmp_path, dated(["2026-1-11", "2026-1-12", "2026-1-11"]), "events/a.parquet")
    assert rows(read(tmp_path, date_column="d", day=dt.date(2026, 1, 11)))["user"].to_list() == [0, 2]
    march = Moment.begin(dt.date(2026, 3, 1), "UTC")
    of_items = Checked(pl.DataFrame({"until": ["2026-1-15", "2026-3-1", "2026-11-1"]}), "items.parquet", 0)
    assert of_items.ended("until", "UTC", march).to_list() == [True, True, False]
    assert is_time(pl.Series(["2026-1-15"])) and not is_time(pl.Series(["2026111"]))


@pytest.mark.parametrize("days", [[20260131, 20261331], ["2026-01-31", "soon"], [20260131, 2026111]])
def test_a_date_that_is_none_names_its_row(tmp_path: Path, days: list[Any]) -> None:
    frame = {"user_id": [1, 2], "item_id": [1, 2], "click": [1, 1], "seconds": [1.0, 1.0], "d": days}
    file = put(tmp_path, frame, "events/a.parquet")
    with refused(Exit.DATA, file, "column d, row 1", repr(days[1])):
        read(tmp_path, date_column="d")


FORMS: dict[str, Any] = {
    "date": lambda *days: [dt.date(2026, 1, d) for d in days],
    "int": lambda *days: [20260100 + d for d in days],
    "text": lambda *days: [f"2026-01-{d:02}" for d in days],
    "compact": lambda *days: [f"202601{d:02}" for d in days],
    "us": lambda *days: [dt.datetime(2026, 1, d - 1, 16) for d in days],  # midnight in Shanghai
    "ns": lambda *days: (
        pl.Series([dt.datetime(2026, 1, d, 4) for d in days]).cast(pl.Datetime("ns")).dt.offset_by("1ns")
    ),
    "aware": lambda *days: [dt.datetime(2026, 1, d, 15, 59, tzinfo=UTC) for d in days],  # the day's last minute
    "seconds": lambda *days: [int(dt.datetime(2026, 1, d - 1, 16, tzinfo=UTC).timestamp()) for d in days],
    "milliseconds": lambda *days: [int(dt.datetime(2026, 1, d, 15, tzinfo=UTC).timestamp()) * 1000 for d in days],
}


def dated(column: Any) -> pl.DataFrame:
    n = len(column)
    return pl.DataFrame({"user_id": range(n), "item_id": [1] * n, "click": [1] * n, "seconds": [1.0] * n, "d": column})


@pytest.mark.parametrize("form", FORMS)
def test_files_of_other_days_are_not_the_days_input(tmp_path: Path, form: str) -> None:
    make = FORMS[form]
    put(tmp_path, dated(make(29, 30)), "events/a.parquet")
    put(tmp_path, dated(make(30, 31)), "events/b.parquet")
    dated(make(30)).write_parquet(tmp_path / "events/c.parquet", statistics=False)
    log = the_log(tmp_path, date_column="d", timezone="Asia/Shanghai")

    def names(day: int) -> str:
        return "".join(Path(i["path"]).stem for i in log.inputs(dt.date(2026, 1, day)))

    assert [names(d) for d in (28, 29, 30, 31)] == ["c", "ac", "abc", "bc"], "no statistics: it may hold any day"
    before = log.inputs(dt.date(2026, 1, 30))
    put(tmp_path, dated(make(31, 31)), "events/new.parquet")
    assert log.inputs(dt.date(2026, 1, 30)) == before and names(31) == "bcnew"
    assert len(log.read(DAY, tmp_path)) == 3
    put(tmp_path, dated(make(30, 31, 31)), "events/new.parquet")
    assert names(30) == "abcnew", "a file written again is looked at again"
    (tmp_path / "events/c.parquet").unlink()
    with refused(Exit.NO_INPUT, "day 2026-01-28", "has arrived"):
        log.inputs(dt.date(2026, 1, 28))


@pytest.mark.parametrize(
    "column",
    [
        ["2026-01-05", "2026-12-31", "20260103"],
        ["20250101", "2026-12-31", "20260101"],
        ["2026-1-30", "2026-12-31", "2026-3-15"],
        [int(dt.datetime(*ymd, tzinfo=UTC).timestamp()) * k
         for ymd, k in (((2026, 1, 1), 1), ((2026, 12, 31), 1), ((2026, 1, 1), 1000))],
    ],
    ids=["text", "text of two years", "text of any width", "seconds and milliseconds"],
)  # fmt: skip
def test_statistics_that_are_not_in_order_of_time_rule_nothing_out(tmp_path: Path, column: list[Any]) -> None:
    put(tmp_path, dated(column), "events/a.parquet")
    day = read(tmp_path, date_column="d", timezone="UTC", day=dt.date(2026, 12, 31))
    assert rows(day)["user"].to_list() == [1]


def test_row_groups_of_other_days_are_not_read(tmp_path: Path) -> None:
    frame = dated([20260129, 20260129, 20260130, 20260131, 20260131, 20260131]).with_columns(
        click=pl.Series([7, *[1] * 5])
    )
    (tmp_path / "events").mkdir()
    frame.write_parquet(tmp_path / "events/a.parquet", row_group_size=2)
    assert rows(read(tmp_path, date_column="d"))["user"].to_list() == [3, 4, 5]
    with refused(Exit.DATA, "column click, row 0"):
        read(tmp_path, date_column="d", day=dt.date(2026, 1, 29))
    bad = frame.with_columns(click=pl.Series([1] * 5 + [7]))
    bad.write_parquet(tmp_path / "events/a.parquet", row_group_size=2)
    with refused(Exit.DATA, "column click, row 5"):
        read(tmp_path, date_column="d")


# -- ids ---------------------------------------------------------------------------------------------------------------


def test_huge_integers_and_unicode_are_exact(tmp_path: Path) -> None:
    users = [2**63 - 1, 2**53 + 1, -(2**63)]
    items = ["naïve ☃", "naïve ☃", "\U0001f600/007"]
    put(tmp_path, {"user_id": users, "item_id": items, "click": [1, 1, 0], "seconds": [1.0, 2.0, 3.0]})
    day = read(tmp_path)
    assert rows(day)["user"].to_list() == users and rows(day)["item"].to_list() == items
    assert day.users[ID].dtype == pl.Int64 and len(day.items) == 2


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("user_id", [1.0, 2.0, 3.0, 4.0, 5.0], ("column user_id", "double", "2**53")),
        ("user_id", [1, 2, None, 4, 5], ("column user_id, row 2", "null")),
        ("item_id", ["a", "b", "c", "", "e"], ("column item_id, row 3", "empty")),
        ("item_id", pl.Series([1, 2, 3, 4, 2**64 - 1], dtype=pl.UInt64), ("column item_id, row 4", "int64")),
        ("click", [0, 1, 2, 1, 0], ("column click, row 2", "got 2")),
        ("click", [0, None, 1, 1, 0], ("column click, row 1", "got None")),
        ("click", ["x"] * 5, ("column click", "0/1")),
        ("click", ["no", "yes", "perhaps", "no", "no"], ("column click, row 2", "'perhaps'")),
        ("seconds", [1.0, -1.0, 1.0, 1.0, 1.0], ("column seconds, row 1", "-1.0")),
        ("seconds", [1.0, 1.0, 1.0, float("inf"), 1.0], ("column seconds, row 3", "inf")),
        ("seconds", ["1"] * 5, ("column seconds", "a number")),
    ],
)
def test_what_does_not_fit_names_file_column_and_row(
    tmp_path: Path, column: str, values: Any, words: tuple[str, ...]
) -> None:
    file = put(tmp_path, BASIC | {column: values})
    with refused(Exit.DATA, file, *words):
        read(tmp_path)


def test_rows_are_numbered_within_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "BLOCK", 2)
    put(tmp_path, BASIC)
    file = put(tmp_path, BASIC | {"user_id": [1, 1, 1, None, 1]}, "events/day=2026-01-31/b.parquet")
    with refused(Exit.DATA, file, "column user_id, row 3"):
        read(tmp_path)


def test_types_that_differ_between_tables_or_files(tmp_path: Path) -> None:
    put(tmp_path, BASIC)
    put(tmp_path, {"user_id": ["1", "2"]}, "users/u.parquet")
    with refused(Exit.DATA, "u.parquet: user ids in column user_id are string, but user_id of the events is int64"):
        read(tmp_path, users=SideTable(path="users", key="user_id"))
    put(tmp_path, BASIC | {"user_id": ["1", "1", "2", "2", "3"]}, "events/day=2026-01-31/b.parquet")
    with refused(Exit.DATA, "user_id"):
        read(tmp_path)


# -- files -------------------------------------------------------------------------------------------------------------


def test_missing_columns(tmp_path: Path) -> None:
    file = put(tmp_path, BASIC)
    with refused(Exit.DATA, file, "data.events.duration expects column took", "seconds"):
        read(tmp_path, duration="took")
    with refused(Exit.DATA, file, "data.events.conversions.like expects column is_like", "seconds"):
        read(tmp_path, conversions=FURTHER)
    age = Feature(name="age", side="user", kind="numeric")
    with refused(Exit.DATA, file, "feature age expects column age"):
        read(tmp_path, [age])
    hour = Feature(name="hour", side="context", kind="categorical")
    put(tmp_path, BASIC | {"hour": [1] * 5})
    put(tmp_path, BASIC, "events/day=2026-01-31/b.parquet")
    assert rows(read(tmp_path, [hour]))["hour"].to_list() == [1] * 5 + [None] * 5, "one file has it: null in the other"


def test_a_table_of_users_that_will_never_come(tmp_path: Path) -> None:
    day, late = dt.date(2026, 1, 30), "where it never will, copy the day before it there"
    table = SideTable(path="users", partition="day", key="user_id")
    for n in (29, 30, 31):
        put(tmp_path, BASIC, f"events/day=2026-01-{n}/a.parquet")
    put(tmp_path, {"user_id": [1, 2]}, "users/day=2026-01-29/a.parquet")
    with refused(Exit.NO_INPUT, "users: no folder", "retry when the day has arrived"):
        read(tmp_path, day=day, users=table)
    put(tmp_path, {"user_id": [1, 2]}, "users/day=2026-01-31/a.parquet")
    with refused(Exit.NO_INPUT, "users: no folder", late):
        read(tmp_path, day=day, users=table)
    shutil.rmtree(tmp_path / "events/day=2026-01-30")
    with refused(Exit.NO_INPUT, "events: no folder", "where it never will, run the day after it"):
        read(tmp_path, day=day, users=table)
    with refused(Exit.NO_INPUT, "the log has 2026-01-29 .. 2026-01-31", "put its files back, or name a later day"):
        read(tmp_path, day=dt.date(2026, 1, 28), users=table)


def test_what_is_not_there_yet(tmp_path: Path) -> None:
    with refused(Exit.NO_INPUT, "no folder", tmp_path / "events"):
        read(tmp_path)
    put(tmp_path, BASIC, "events/day=2026-01-30/a.parquet")
    with refused(Exit.NO_INPUT, "day=2026-01-31", "2026-01-30 alone"):
        read(tmp_path)
    (tmp_path / "events/day=2026-01-31").mkdir()
    with refused(Exit.NO_INPUT, "no *.parquet"):
        read(tmp_path)
    put(tmp_path, pl.DataFrame(BASIC).clear())
    with refused(Exit.NO_INPUT, "no rows"):
        read(tmp_path)
    put(tmp_path, BASIC)
    with refused(Exit.NO_INPUT, "users"):
        read(tmp_path, users=SideTable(path="users", key="user_id"))


def test_damaged_files(tmp_path: Path) -> None:
    file = put(tmp_path, {k: v * 500 for k, v in BASIC.items()})
    whole = file.read_bytes()
    for torn in (whole[:-20], b"", b"PAR1"):
        file.write_bytes(torn)
        with refused(Exit.DATA, file, "Parquet"):
            read(tmp_path)
    file.write_bytes(whole[:8] + b"\xff" * 64 + whole[72:])
    with refused(Exit.DATA, file, "damaged Parquet"):
        read(tmp_path)
    file.write_bytes(whole)
    table = put(tmp_path, {"user_id": list(range(500))}, "users/u.parquet")
    whole = table.read_bytes()
    table.write_bytes(whole[:4] + b"\xff" * 64 + whole[68:])
    with refused(Exit.DATA, table, "damaged Parquet"):
        read(tmp_path, users=SideTable(path="users", key="user_id"))


@pytest.mark.parametrize("now", [{"user_id": [1, 1, 2, 2, 7]}, {k: v[:4] for k, v in BASIC.items()}])
def test_a_file_that_changes_between_the_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: dict[str, Any]
) -> None:
    put(tmp_path, BASIC)
    spool = Log._spool

    def changed(*arguments: Any) -> Day:
        put(tmp_path, BASIC | now)
        return spool(*arguments)

    monkeypatch.setattr(Log, "_spool", changed)
    with refused(Exit.NO_INPUT, "changed while", "retry later"):
        read(tmp_path)


def test_hidden_files_are_not_data(tmp_path: Path) -> None:
    put(tmp_path, BASIC)
    for name in ("_SUCCESS", "_metadata.parquet", ".a.parquet.crc", ".part.parquet", "notes.txt"):
        (tmp_path / "events/day=2026-01-31" / name).write_bytes(b"no parquet")
    put(tmp_path, BASIC | {"click": [True] * 5}, "events/day=2026-01-31/hour=03/b.parquet")
    assert len(read(tmp_path)) == 10, "folders below the day's belong to it"


def test_digests_tell_files_apart(tmp_path: Path) -> None:
    def digests(kind: str) -> list[str]:
        return [i["digest"] for i in the_log(tmp_path, digest=kind).inputs(DAY)]

    put(tmp_path, BASIC)
    once = {k: digests(k) for k in ("footer", "full")}
    put(tmp_path, BASIC)
    assert {k: digests(k) for k in ("footer", "full")} == once, "same bytes, same digest"
    put(tmp_path, BASIC | {"user_id": [1, 1, 2, 2, 9]})
    assert all(digests(k) != once[k] for k in once)


# -- features of users and items ---------------------------------------------------------------------------------------


def test_inline_features_take_the_first_value_of_the_day_by_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizes, "BLOCK", 2)
    frame = {"user_id": [1, 2, 1, 1], "item_id": [5, 5, 6, 5], "click": [1] * 4, "seconds": [1.0] * 4}
    put(tmp_path, frame | {"time": [30, 10, 20, 40], "level": ["late", "x", "first", "last"], "price": [3, 1, 2, 4]})
    level = Feature(name="standing", column="level", side="user", kind="categorical")
    price = Feature(name="price", side="item", kind="numeric")
    hour = Feature(name="moment", column="time", side="user", kind="numeric", level="event")
    day = read(tmp_path, [level, price, hour], time="time")
    assert day.users.rows() == [(1, "first", 20), (2, "x", 10)]
    assert day.items.rows() == [(5, 1), (6, 2)]
    assert rows(day)["moment"].to_list() == [30, 10, 20, 40], "event by event in the spool"
    unordered = read(tmp_path, [level, price, hour])
    assert unordered.users["standing"].to_list() == ["late", "x"], "without a time: in the log's order"


def test_a_history_that_is_null_until_the_first_click_does_not_tell_it(tmp_path: Path) -> None:
    """A user's first row has none: a later row's would be the item that they clicked."""
    frame = {"user_id": [1, 1, 1, 2], "item_id": [5, 6, 7, 5], "click": [0, 1, 0, 0], "seconds": [0.0, 9.0, 0.0, 0.0]}
    put(tmp_path, frame | {"time": [1, 2, 3, 4], "last_clicked": [None, None, 6, 7]})
    last = Feature(name="last_clicked", side="user", kind="categorical")
    assert read(tmp_path, [last], time="time").users["last_clicked"].to_list() == [None, 7]


def test_side_tables_join_the_union_of_ids(tmp_path: Path) -> None:
    put(tmp_path, BASIC | {"city": ["a", "b", "c", "d", "e"]})
    put(tmp_path, {"key": [2, 9], "age": [20, 90]}, "users/day=2026-01-31/u.parquet")
    put(tmp_path, {"key": [1], "age": [0]}, "users/day=2026-01-30/u.parquet")
    put(tmp_path, {"item_id": [12, 99], "author": ["x", "y"], "unused": [1, 1]}, "items/a.parquet")
    put(tmp_path, {"item_id": [10], "author": ["z"], "unused": [1]}, "items/b.parquet")
    features = [
        Feature(name="user_id", side="user", kind="categorical"),
        Feature(name="age", side="user", kind="numeric"),
        Feature(name="city", side="user", kind="categorical"),
        Feature(name="item_id", side="item", kind="categorical"),
        Feature(name="author", side="item", kind="categorical"),
    ]
    tables = {
        "users": SideTable(path="users", key="key", partition="day"),
        "items": SideTable(path="items", key="item_id"),
    }
    day = read(tmp_path, features, **tables)
    assert day.users.columns == [ID, "user_id", "age", "city"]
    assert day.users.rows() == [(1, 1, None, "a"), (2, 2, 20, "c"), (3, 3, None, "e"), (9, 9, 90, None)]
    assert day.items.rows() == [(10, 10, "z"), (11, 11, None), (12, 12, "x"), (99, 99, "y")]
    assert (day.user_events.tolist(), day.item_events.tolist()) == ([2, 2, 1, 0], [3, 1, 1, 0])
    assert day.facts["users_joined"] == pytest.approx(1 / 3) and day.facts["items_joined"] == pytest.approx(2 / 3)
    assert [i["path"] for i in the_log(tmp_path, features, **tables).inputs(DAY)][1:] == [
        "users/day=2026-01-31/u.parquet", "items/a.parquet", "items/b.parquet",
    ]  # fmt: skip
    put(tmp_path, {"item_id": [12], "author": ["w"]}, "items/b.parquet")
    with refused(Exit.DATA, "item_id = 12 appears twice"):
        read(tmp_path, features, **tables)
    file = put(tmp_path, {"id": [1]}, "users/day=2026-01-31/u.parquet")
    with refused(Exit.DATA, file, "expected key column key"):
        read(tmp_path, features, **tables)


PLAIN = ["town", "mood", "author", "price", "hour", "device"]
COLUMNS = ["c_town", "c_mood", "c_author", "c_price", "c_hour", "c_device", "c_like"]
TAKEN = [
    "user", "item", "click", "position", "row", "weight", "request", "user_row", "item_row", "seen_items", "clicks",
    "item_clicks", "_time", "time", "duration", "conversion", "id", "at", "x", "y", "_", "literal", "column_0", "count",
]  # fmt: skip
RAW = [":id", ":at", "x:y", "x:user", "y:like", "*", "^c_.*$", "a.b", "user_row", "_time", "x:", " ", "é"]


def named(names: Sequence[str]) -> tuple[Feature, ...]:
    """Features that are read in every way, under these names."""
    ways: list[dict[str, Any]] = [
        {"side": "user", "kind": "categorical"},
        {"side": "user", "kind": "categorical"},
        {"side": "item", "kind": "categorical"},
        {"side": "item", "kind": "numeric"},
        {"side": "context", "kind": "categorical"},
        {"side": "user", "kind": "categorical", "level": "event"},
    ]
    return tuple(Feature(name=n, column=c, **way) for n, c, way in zip(names, COLUMNS, ways, strict=False))


def day_under(root: Path, names: Sequence[str], columns: Sequence[str], like: str) -> tuple[Day, Block]:
    """A day, and its events, whose features are called `names` and read from `columns`."""
    n, raw = 40, dict(zip(COLUMNS, columns, strict=True))
    rng = np.random.default_rng(1)
    put(
        root,
        {"user_id": rng.integers(0, 9, n), "item_id": rng.integers(0, 7, n), "click": rng.random(n) < 0.5}
        | {"seconds": rng.random(n), "at_": rng.integers(0, 99, n), "request_": rng.integers(0, 3, n)}
        | {raw[c]: [f"{c}{k}" for k in rng.integers(0, 5, n)] for c in ("c_mood", "c_hour", "c_device")}
        | {raw["c_price"]: rng.random(n), raw["c_like"]: rng.random(n) < 0.5},
    )
    put(root, {"user_id": range(8), raw["c_town"]: list("abcdefgh")}, "users/a.parquet")
    put(root, {"key": range(5), raw["c_author"]: list("vwxyz")}, "items/a.parquet")
    features = tuple(f.model_copy(update={"column": raw[f.source]}) for f in named(names))
    tables = {"users": SideTable(path="users", key="user_id"), "items": SideTable(path="items", key="key")}
    day = read(root, features, **tables, time="at_", request="request_", conversions={like: raw["c_like"]})
    (block,) = day.blocks()
    return day, block


OTHERS = {"user_id", "item_id", "click", "seconds", "at_", "request_", "key"}
legal_names = st.one_of(st.sampled_from(TAKEN), st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True))
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=3)
raw_names = st.one_of(st.sampled_from(RAW), texts).filter(lambda name: name not in OTHERS)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(legal_names, min_size=6, max_size=6, unique=True),
    st.lists(raw_names, min_size=7, max_size=7, unique=True),
    st.sampled_from(["like", "user", "click", "x"]),
)
def test_names_do_not_matter(names: list[str], columns: list[str], like: str) -> None:
    with TemporaryDirectory() as plain, TemporaryDirectory() as other:
        one, its = day_under(Path(plain), PLAIN, COLUMNS, "like")
        two, others = day_under(Path(other), names, columns, like)
    back = dict(zip(names, PLAIN, strict=True))
    assert its.features is not None and others.features is not None
    for a, b in ((one.users, two.users), (one.items, two.items), (its.features, others.features)):
        assert a.equals(pl.DataFrame([s.alias(back.get(s.name, s.name)) for s in b]))
    assert np.array_equal(its.further["like"], others.further[like])
    for field in ("position", "user", "item", "click", "duration", "conversion", "weight", "request"):
        assert np.array_equal(getattr(its, field), getattr(others, field), equal_nan=True), field
    for field in ("clicked", "repeated", "user_events", "item_events", "item_clicks"):
        assert np.array_equal(getattr(one, field), getattr(two, field)), field
    assert one.facts == two.facts


# -- the spool ---------------------------------------------------------------------------------------------------------


def many(n: int = 200) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    return {
        "user_id": rng.integers(0, 6, n),
        "item_id": [f"i{k}" for k in rng.integers(0, 8, n)],
        "click": rng.random(n) < 0.5,
        "seconds": rng.random(n) * 60,
        "request": rng.integers(0, 3, n),
        "weight": rng.random(n),
        "device": pl.Series([f"d{k}" for k in rng.integers(0, 9, n)], dtype=pl.Categorical),
        "history": [[int(x)] * int(x) for x in rng.integers(0, 4, n)],
        "is_like": [[True, False, None][k] for k in rng.integers(0, 3, n)],
    }


DEVICE = [
    Feature(name="device", side="context", kind="categorical"),
    Feature(name="history", side="context", kind="sequence"),
]
MORE = {"request": "request", "weight": "weight", "conversions": {"like": "is_like"}}


def test_files_and_blocks_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pl.DataFrame(many())
    put(tmp_path / "one", whole)
    one = read(tmp_path / "one", DEVICE, **MORE)
    monkeypatch.setattr(sizes, "BLOCK", 16)
    put(tmp_path / "two", whole[:77])
    put(tmp_path / "two", whole[77:], "events/day=2026-01-31/b.parquet")
    two = read(tmp_path / "two", DEVICE, **MORE)
    assert len(list(two.blocks())) > 10 and len(one.repeated) > 0
    assert (len(one.spool), len(two.spool)) == (1, 2)
    assert rows(one).equals(rows(two).sort("position")), "a bucket is in the log's order"
    assert one.users.equals(two.users) and one.items.equals(two.items)
    for name in ("clicked", "repeated", "user_events", "item_events", "item_clicks"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name
    assert one.facts == pytest.approx(two.facts)


def test_lists_that_are_cut_otherwise_stay_in_their_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists are decoded beside the other columns, and nothing says that both are cut alike."""
    monkeypatch.setattr(sizes, "BLOCK", 16)
    whole = pl.DataFrame(many())
    whole.write_parquet(put(tmp_path, whole), row_group_size=37)
    decoded = TableRows._frames

    def cut_otherwise(
        self: TableRows, file: File, groups: range, wanted: list[str], size: int
    ) -> Iterator[pl.DataFrame]:
        frames = decoded(self, file, groups, wanted, size)
        return sizes.reblocked(frames, 5, 3) if wanted == ["history"] else frames

    monkeypatch.setattr(TableRows, "_frames", cut_otherwise)
    found = rows(read(tmp_path, DEVICE)).sort("position")
    for name, column in (("device", "device"), ("item", "item_id"), ("history", "history")):
        assert found[name].to_list() == whole[column].to_list()


def test_damaged_lists_name_the_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "BLOCK", 16)
    file = put(tmp_path, many())
    pl.DataFrame(many()).write_parquet(file, row_group_size=100)
    history = pq.read_metadata(file).row_group(1).column(7)
    assert history.path_in_schema.startswith("history")
    whole, at = file.read_bytes(), history.data_page_offset
    file.write_bytes(whole[:at] + b"\xff" * 32 + whole[at + 32 :])
    with refused(Exit.DATA, file, "damaged Parquet after row 96"):  # the block in which the second row group begins
        read(tmp_path, DEVICE, **MORE)


def test_shuffled_blocks_are_a_permutation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "BLOCK", 8)
    put(tmp_path, many())
    day = read(tmp_path, DEVICE, **MORE)
    plain, mixed = rows(day).sort("position"), rows(day, np.random.default_rng(1))
    assert not mixed.equals(plain) and mixed.sort("position").equals(plain)
    assert mixed.equals(rows(day, np.random.default_rng(1))), "the same generator, the same order"
    assert not mixed.equals(rows(day, np.random.default_rng(2)))
    assert len(set((mixed["position"] - plain["position"]).to_list())) > 50, "within pools too"


def test_small_files_fill_record_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "BLOCK", 16)
    monkeypatch.setattr(sizes, "POOL", 13)
    whole = pl.DataFrame(many())
    for k in range(40):
        put(tmp_path, whole[5 * k : 5 * k + 5], f"events/day=2026-01-31/{k:03}.parquet")
    day = read(tmp_path, DEVICE, weight="weight")
    assert [len(b) for b in day.blocks()] == [16] * 12 + [8]
    plain = rows(day)
    assert plain["position"].to_list() == list(range(200))
    for name, column in (("user", "user_id"), ("item", "item_id"), ("history", "history")):
        assert plain[name].to_list() == whole[column].to_list(), "in the log's order"
    pool = next(iter(day.blocks(np.random.default_rng(1))))
    assert len(pool) == 200


@pytest.fixture
def bucketed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Day:
    """200 rows of 30 users in 7 buckets of 32 rows, about."""
    monkeypatch.setattr(sizes, "BLOCK", 8)
    monkeypatch.setattr(sizes, "POOL", 4)
    put(tmp_path, many() | {"user_id": np.random.default_rng(1).integers(0, 30, 200)})
    return read(tmp_path, DEVICE, **MORE)


def test_a_day_has_a_bucket_for_each_pool_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "BLOCK", 8)
    monkeypatch.setattr(sizes, "POOL", 4)
    for n, buckets in ((1, 1), (32, 1), (33, 2), (64, 2), (65, 3)):
        put(tmp_path, many(n))
        day = read(tmp_path)
        assert len(day.spool) == buckets
        assert sum(len(b) for b in day.blocks()) == n


def test_a_bucket_is_of_whole_users(bucketed: Day) -> None:
    found = [np.concatenate([b.user for b in bucketed.bucket(k)]) for k in range(len(bucketed.spool))]
    assert len(found) == 7 and sum(map(len, found)) == len(bucketed)
    for k, users in enumerate(found):
        assert (bucketed.bucket_of(users) == k).all()
    plain = rows(bucketed)
    again = pl.DataFrame({"position": np.concatenate([b.position for b in bucketed.blocks()])})
    assert len(bucketed.repeated) > 0 and again["position"].is_unique().all() and len(plain) == len(bucketed)
    for k in range(7):
        positions = np.concatenate([b.position for b in bucketed.bucket(k)])
        assert (np.diff(positions) > 0).all(), "in the log's order"


def test_pools_are_bounded_in_rows(bucketed: Day) -> None:
    shuffled = [len(b) for b in bucketed.blocks(np.random.default_rng(0))]
    assert len(shuffled) > 4 and max(shuffled) < 4 * 8 + 8
    assert max(len(b) for b in bucketed.blocks()) < 8 + 8


def by_user(day: Day, seed: int | None) -> list[tuple[list[int], list[int]]]:
    """Users and positions of each block."""
    rng = None if seed is None else np.random.default_rng(seed)
    return [(b.user.tolist(), b.position.tolist()) for b in day.blocks(rng, by_user=True)]


@pytest.mark.parametrize("seed", [None, 0])
def test_users_come_whole_and_once(bucketed: Day, seed: int | None) -> None:
    blocks = by_user(bucketed, seed)
    assert sorted(p for _, ps in blocks for p in ps) == sorted(rows(bucketed)["position"].to_list())
    runs = [u for users, _ in blocks for u, _ in itertools.groupby(users)]
    assert len(runs) == len(set(runs)) == len(bucketed.users), "all rows of a user one after the other"


def test_users_and_their_rows_are_shuffled(bucketed: Day) -> None:
    plain, mixed, other = (by_user(bucketed, seed) for seed in (None, 0, 1))
    assert mixed == by_user(bucketed, 0) != other, "the same generator, the same order"
    for users, positions in plain:
        assert users == sorted(users)
        assert all(a < b for (u, a), (v, b) in itertools.pairwise(zip(users, positions, strict=True)) if u == v)
    firsts = [bucketed.bucket_of(np.array(users))[0] for users, _ in mixed]
    assert firsts != sorted(firsts), "buckets"
    assert any(users != sorted(users) and users != sorted(users)[::-1] for users, _ in mixed), "users"
    of = {u: [p for v, p in zip(*block, strict=True) if v == u] for block in mixed for u in set(block[0])}
    assert sum(ps != sorted(ps) for ps in of.values()) > len(of) / 2, "rows of a user"


def test_clicked_pairs_are_merged_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, many())
    want = read(tmp_path)
    monkeypatch.setattr(sizes, "BLOCK", 8)
    monkeypatch.setattr(sizes, "MERGE", 10)
    held = []
    merged = Distinct.merged
    monkeypatch.setattr(Distinct, "merged", lambda self: held.append(sum(map(len, self._parts))) or merged(self))
    day = read(tmp_path)
    assert np.array_equal(day.clicked, want.clicked) and day.facts == pytest.approx(want.facts)
    assert len(day.clicked) < day.facts["clicks"] and max(held) < day.facts["clicks"]
    assert len(held) > 2 and max(held) <= 2 * len(day.clicked) + 8
