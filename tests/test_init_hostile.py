"""What logs have that no one expects: `init` neither ends in a traceback nor reads it as something else."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from initiated import daily, frame, made
from unseen import USERS, days_of, drawn
from worlds import dmtl

from dmtl_cli.guess.columns.ends import says_end
from dmtl_cli.guess.columns.objects import opened
from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.sql import scalar
from dmtl_cli.guess.features.units import as_number
from dmtl_cli.guess.reading.files import Files, paths_of
from dmtl_cli.guess.reading.tables import Table, tables
from dmtl_cli.guess.rules import rows_that_count
from dmtl_cli.guess.sides import states
from dmtl_cli.guess.sides.versions import _newest_by

NO_FILES = Files("x", "parquet", ())
DEEP = "[" * 5_000 + "]" * 5_000


def test_codes_of_users_of_which_most_are_no_number(tmp_path: Path) -> None:
    """NaN, as of numpy, is none of them."""
    level = np.array([np.nan if k % 10 < 7 else float(k % 3) for k in range(USERS)])
    ended, _, _ = made(tmp_path, daily(frame(level=level[drawn(0)["user"]])))
    assert ended.code == 0, ended.err
    assert "--feature level=nan" not in ended.out and "level=" in ended.out


def test_two_zeros_of_a_state() -> None:
    s = pl.Series("state", [0.0, -0.0, 1.0, 2.0] * 50)
    gone = states.withdrawn(s, lambda: (np.full(200, 90), np.array([0, 0, 30, 30] * 50)))
    assert gone is not None and {*gone.still} == {1.0, 2.0}


def test_texts_of_objects_that_are_too_deep() -> None:
    rows = pl.DataFrame({"about": [f'{{"k": {k}, "v": {DEEP}}}' for k in range(60)]})
    assert opened(rows, None, "log")[0].equals(rows)


def test_lengths_of_time_beyond_any_number() -> None:
    usual = [f"{k}h {59 - k}m" for k in range(60)]
    assert as_number(pl.Series("c", usual)) is not None
    assert as_number(pl.Series("c", [*usual, "99999999999999999999h 5m"])) is None


def test_lines_of_files_named_by_the_month_first_are_looked_at(tmp_path: Path) -> None:
    rows, days = frame(), pl.Series(days_of(drawn(0)))
    for day in sorted({*days}):
        name = dt.date.fromisoformat(day).replace(day=dt.date.fromisoformat(day).day + 20).strftime("%m-%d-%Y")
        rows.filter(days == day).write_csv(tmp_path / f"{name}.csv")
    (table,) = tables(str(tmp_path)).tables
    first, last = min(d for d, _ in table.files.days), max(d for d, _ in table.files.days)
    assert len(paths_of(table.files, (first, last))) == len({*days}) == 3
    assert len(paths_of(table.files, (last, last))) == 1


def test_rows_that_do_not_count_are_gone_of_each_day(tmp_path: Path) -> None:
    daily(frame(plan=["x" if u % 3 == 0 else "y" for u in drawn(0)["user"]]))(tmp_path)
    (table,) = tables(str(tmp_path)).tables
    _, left = rows_that_count("plan = 'x'", table, Roles(), {})
    days = pl.Series(days_of(drawn(0))).filter(pl.Series(drawn(0)["user"] % 3 == 0))
    for day, n in zip(*np.unique(days.to_numpy(), return_counts=True), strict=True):
        rows = left.of_day(dt.date.fromisoformat(str(day)))
        assert rows is not None and len(rows) == n and (rows["plan"] == "x").all()
    assert left.days is not None and len(left.days) == len(left.frame) == len(days)
    assert left.on(None).equals(left.frame) and left.on(dt.date(2020, 1, 1)).equals(left.frame)


def twice(rows: pl.DataFrame, seed: int = 1, share: float = 0.05) -> pl.DataFrame:
    """Some rows there once more, as a network sends them again."""
    again = rows.filter(pl.Series(np.random.default_rng(seed).random(len(rows)) < share))
    return pl.concat([rows, again])


def test_rows_that_are_sent_twice_without_an_id_are_read_once(tmp_path: Path) -> None:
    x = drawn(0)
    every = frame(request_id=x["request"], position=x["position"]).with_columns(day=pl.Series(days_of(x)))
    plain = every.unique(["request_id", "item_id"], keep="first", maintain_order=True)

    def write(home: Path) -> None:
        for (day,), part in twice(plain).group_by("day", maintain_order=True):
            part.drop("day").write_csv(home / f"shown_{day}.csv")

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0, ended.err
    events = raw["data"]["events"]
    assert events["unique"] == "request_id" and "computed" not in events
    many = len(twice(plain)) - len(plain)
    said = f"{many} of {len(twice(plain)):,} rows equal another of their request_id and item_id in all columns"
    assert said in " ".join(ended.out.split())
    day = days_of(x)[0]
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", day, "--json").json
    assert found["rows"] == len(plain.filter(pl.col("day") == day))


def test_a_copy_may_say_when_it_came(tmp_path: Path) -> None:
    """By a column that is named so, and of lists by any time of a row that is not the row's own."""
    x = drawn(0)
    rows = frame(request_id=x["request"], position=x["position"])
    rows = rows.unique(["request_id", "item_id"], keep="first", maintain_order=True)
    keys = ["request_id", "user_id"]
    lists = rows.group_by(keys, maintain_order=True).agg(pl.col("ts").first(), shown=pl.struct(pl.exclude(*keys, "ts")))
    for name, one, came in (("flat", rows, "recv_ts"), ("lists", lists, "collected")):
        sent = twice(one)
        sent = sent.with_columns(pl.Series(came, 1000 * int(x["at"].min()) + 977 * np.arange(len(sent))))
        (home := tmp_path / name).mkdir()
        ended, raw, _ = made(home, lambda to, sent=sent: sent.write_ndjson(to / "sent.jsonl"))  # type: ignore[misc]
        assert ended.code == 0 and raw["data"]["events"].get("unique") == "request_id", (name, ended.out)
        assert f"in all columns but {came}" in " ".join(ended.out.split()), ended.out


def test_an_item_that_is_shown_twice_in_a_list_is_no_copy(tmp_path: Path) -> None:
    x = drawn(0)
    rows = frame(request_id=x["request"], position=x["position"])
    again = rows.filter(pl.col("position") == 0).with_columns(position=pl.lit(9, dtype=rows.schema["position"]))
    ended, raw, _ = made(tmp_path, lambda home: pl.concat([rows, again]).write_csv(home / "shown.csv"))
    assert ended.code == 0 and "unique" not in raw["data"]["events"], ended.err


def test_lists_of_items_in_one_text_are_histories(tmp_path: Path) -> None:
    """Each user's own, in the events and in a table of users, where each text is there once."""
    x = drawn(0)
    last = [f"i{u % 40}|i{(u * 7 + 3) % 40}|i{(u * 11 + 5) % 40}" for u in range(USERS)]
    rows = frame(item_id=[f"i{k}" for k in x["item"]], last_heard=[last[u] for u in x["user"]])
    users = pl.DataFrame({"user_id": range(USERS), "bookmarks": last})

    def write(home: Path) -> None:
        rows.write_csv(home / "shown.csv")
        users.write_csv(home / "users.csv")

    _, raw, text = made(tmp_path, write)
    (found,) = [f for f in raw["features"] if f != "auto" and f["name"] == "last_heard"]
    assert (found["kind"], found["separator"], found["embedding_name"]) == ("sequence", "|", "item_id"), text
    held = '# - {name: bookmarks, side: user, kind: sequence, separator: "|", embedding_name: item_id'
    assert held in text, "what users have at the end of the log is for a person to decide"


def test_rows_that_are_sent_twice_beside_what_names_user_and_item(tmp_path: Path) -> None:
    """Each has an id of its own name: that of one would be none of the other's."""
    x = drawn(0)
    plain = frame(request_id=x["request"], position=x["position"], drop=("watch_seconds",))
    plain = plain.unique(["request_id", "item_id"], keep="first", maintain_order=True)
    clicked = plain.filter(pl.col("clicked") == 1)
    bookings = clicked.select("user_id", "item_id", booked_at=pl.col("ts") + 600).gather_every(3)

    def write(home: Path) -> None:
        twice(plain).write_csv(home / "shown.csv")
        bookings.write_csv(home / "bookings.csv")

    ended, raw, text = made(tmp_path, write, "--conversion", "bookings")
    events = raw["data"]["events"]
    joined = events["joined"]["bookings"]
    assert ended.code == 0 and events["unique"] != joined["event_key" if "event_key" in joined else "key"], text
    assert events["unique"] == "request_id"
    assert events["computed"][joined.get("event_key", joined["key"])] == "user_id || '/' || item_id"


def test_lists_of_later_rows_beside_days_of_folders(tmp_path: Path) -> None:
    """A row for each element has no day by its place among the rows of the files."""
    x = drawn(0)
    rows = frame(request_id=x["request"], drop=("clicked", "watch_seconds"))
    at = pl.Series("at", x["at"])
    opened = (
        rows.with_columns(at)
        .group_by("request_id", maintain_order=True)
        .agg(opened=pl.col("item_id").head(2), sent_at=pl.from_epoch(pl.col("at").first() + 60, "s"))
    )

    def write(home: Path) -> None:
        rows.write_parquet(home / "shown.parquet")
        for (day,), part in opened.group_by(pl.col("sent_at").dt.date(), maintain_order=True):
            (home / f"opens/dt={day}").mkdir(parents=True)
            part.write_parquet(home / f"opens/dt={day}/part.parquet")

    ended, _, _ = made(tmp_path, write)
    assert "bug" not in ended.err and ended.code in (0, 78), ended.err


def test_titles_of_the_events_are_printed_with_what_is_recommended(tmp_path: Path) -> None:
    """Where no table of items has them; an item keeps its own on all days."""
    names = [f"{['old', 'new', 'lost', 'found'][k // 2 % 4]} friend {k // 2}" for k in range(40)]
    ended, _, _ = made(tmp_path, daily(frame(title=[names[k] for k in drawn(0)["item"]])))
    assert ended.code == 0, ended.err
    asked = [line.split("  # ")[0] for line in ended.out.splitlines() if " recommend " in line]
    assert asked and all(line.endswith("--columns title") for line in asked)


def test_shares_are_over_the_days_that_both_samples_have() -> None:
    def table(*days: int) -> Table:
        pieces = tuple((dt.date(2026, 3, d), frozenset({"x"}), 10) for d in days)
        rows = pl.DataFrame({"x": [d for d in reversed(days) for _ in range(10)]})
        return Table(NO_FILES, rows, None, None, pieces=pieces)

    events, later = table(1, 2, 3), table(2, 5)
    assert events.on_days_of(later).frame["x"].to_list() == [2] * 10
    assert events.on_days_of(table(7)) is events and events.on_days_of(replace(later, pieces=())) is events
    assert replace(events, frame=events.frame.head(7)).days is None, "other rows than those of the files"


def test_last_items_in_one_text_are_no_user(tmp_path: Path) -> None:
    """Though rows of one follow each other: neither column has a name that says whose it is."""
    x = drawn(0)
    order = np.lexsort((x["at"] // 600, x["user"]))
    last = [
        f"dd-{u % 40}|dd-{(u * 7 + 3) % 40}|dd-{(u + d) % 40}"
        for u, d in zip(x["user"], x["at"] // 86_400, strict=True)
    ]
    rows = frame(drop=("user_id", "item_id")).with_columns(
        posetitel=pl.Series([f"k{u:04x}" for u in x["user"]]),
        statiya=pl.Series([f"dd-{k}" for k in x["item"]]),
        posledni=pl.Series(last),
    )[order]
    items = pl.DataFrame({"statiya": [f"dd-{k}" for k in range(40)], "rubrika": [f"r{k % 5}" for k in range(40)]})

    def write(home: Path) -> None:
        rows.write_csv(home / "pokazvania.csv")
        items.write_csv(home / "statii.csv")

    ended, raw, text = made(tmp_path, write)
    assert raw["data"]["events"]["user"] == "posetitel" and ended.code == 0, text


@pytest.mark.parametrize("name", ["count", "n", "k"])
def test_columns_are_called_as_what_is_made_of_them(tmp_path: Path, name: str) -> None:
    """What a person calls their columns is no name of ours: kinds of rows, what a table says, whole numbers."""
    rows = frame()
    words = [("low", "mid", "high")[k % 3] for k in range(USERS)]
    users = rows["user_id"].unique(maintain_order=True)
    (tmp_path / "table").mkdir()

    def write(home: Path) -> None:
        daily(rows.with_columns((pl.int_range(pl.len()) % 5).alias(name)))(home)
        pl.DataFrame({"user_id": users, name: words[: len(users)]}).write_csv(home / "users.csv")

    ended, raw, _ = made(tmp_path / "table", write)
    assert ended.code == 0 and raw["data"]["users"], ended.err
    shown = rows.drop("clicked", "watch_seconds").with_row_index("impression_id")
    clicks = shown.filter(rows["clicked"] == 1).with_columns(pl.col("ts") + 5)
    kinds = ((shown, "impression"), (clicks, "click"))
    stream = pl.concat([of.with_columns(pl.lit(kind).alias(name)) for of, kind in kinds]).sort("ts")
    (tmp_path / "stream").mkdir()
    ended, raw, text = made(tmp_path / "stream", lambda home: stream.write_csv(home / "all.csv"))
    assert ended.code == 78 and f"{name} = 'impression'" in text, (ended.err, text)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_name_of_two_lines_is_written_on_one(tmp_path: Path, kind: str) -> None:
    rows = frame().rename({"ts": "time\nstamp"})
    ended, raw, _ = made(tmp_path, lambda home: getattr(rows, f"write_{kind}")(home / f"all.{kind}"))
    assert ended.code == 0 and raw["data"]["events"]["time"] == "time\nstamp", ended.err


def test_texts_that_are_numbers_to_a_reader_of_yaml_are_quoted() -> None:
    for text in ("1e3", "007", "1_0", ".5", "-3", "nan", "two\nlines"):
        assert scalar(text) == json.dumps(text)
    assert scalar("e3") == "e3" and scalar(3.0) == "3"


def test_clicks_dated_by_the_users_clock_are_of_the_users_days(tmp_path: Path) -> None:
    """`--timezone` says where users live: folders of clicks and their times are of that clock, the cards of UTC."""
    rows = frame().with_row_index("impression_id").with_columns(pl.from_epoch("ts"))
    clicks = rows.filter(pl.col("clicked") == 1).select(
        "impression_id", clicked_time=pl.col("ts") + pl.duration(hours=8, seconds=30)
    )

    def write(home: Path) -> None:
        shown = rows.drop("clicked", "watch_seconds").with_columns(pl.col("ts").dt.replace_time_zone("UTC"))
        shown.write_parquet(home / "shown.parquet")
        for (day,), some in clicks.group_by(pl.col("clicked_time").dt.date()):
            (home / f"clicks/day={day}").mkdir(parents=True)
            some.write_parquet(home / f"clicks/day={day}/part.parquet")

    ended, raw, _ = made(tmp_path, write, "--timezone", "Asia/Shanghai")
    joined = raw["data"]["events"]["joined"]["clicks"]
    assert joined["date_column"] == "clicked_time" and "no column tells" not in ended.out, ended.out


@pytest.mark.parametrize("name", ["total_time", "final_update", "finished_at", "terminal_time"])
def test_words_that_begin_like_an_end_are_none(name: str) -> None:
    assert not says_end(name)


@pytest.mark.parametrize("name", ["valid_until", "offline_at", "date_fin", "expires"])
def test_the_end_of_a_state_is_no_version_of_it_in_any_words(name: str) -> None:
    assert says_end(name)
    times = [f"2026-03-{d:02}" for d in (1, 2, 3, 4)]
    table = pl.DataFrame({"item_id": [0, 0, 1, 1], name: times, "title": ["a", "b", "c", "d"]})
    assert _newest_by(table, "item_id") is None
    assert _newest_by(table.rename({name: "updated"}), "item_id") == "updated"
