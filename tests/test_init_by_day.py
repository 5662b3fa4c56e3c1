"""init: a table of what was shown, and tables of what came of it whose rows name a user and an item alone."""

from __future__ import annotations

import datetime as dt
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from worlds import dmtl

from dmtl_cli.guess.reading.files import group
from dmtl_cli.guess.reading.rows import are_of

DAYS = [dt.date(2026, 1, k) for k in range(1, 5)]
ROWS, USERS, ITEMS = 1_500, 240, 90
IDS = ["ts", "user_id", "item_id"]
Tables = dict[str, pl.DataFrame]


def world(seed: int = 0) -> Tables:
    """Rows of what was shown, opened a few seconds later and bought some minutes later, with the day of each."""
    rng, shown = np.random.default_rng(seed), []
    for day in DAYS:
        at = np.sort(rng.integers(6 * 3600, 22 * 3600, ROWS))
        times = [dt.datetime.combine(day, dt.time()) + dt.timedelta(seconds=int(s)) for s in at]
        ids = {"user_id": [f"u{k}" for k in rng.integers(0, USERS, ROWS)]}
        ids |= {"item_id": [f"i{k}" for k in (rng.random(ROWS) ** 2 * ITEMS).astype(int)]}
        shown.append(pl.DataFrame({"day": [day] * ROWS, "ts": times} | ids))
    frame = pl.concat(shown)
    clicks = frame.filter(pl.Series(rng.random(len(frame)) < 0.25)).with_columns(pl.col("ts") + pl.duration(seconds=9))
    buys = clicks.filter(pl.Series(rng.random(len(clicks)) < 0.4)).with_columns(pl.col("ts") + pl.duration(minutes=4))
    return {"shown": frame, "clicks": clicks, "buys": buys}


def rates(tables: Tables) -> tuple[int, str, str]:
    """Exposures of the last day, each user and item once, the share that was clicked and that of clicks bought."""
    ids = {k: t.filter(pl.col("day") == DAYS[-1]).select("user_id", "item_id").unique() for k, t in tables.items()}
    clicked, bought = (len(ids["shown"].join(ids[k], on=["user_id", "item_id"])) for k in ("clicks", "buys"))
    many = len(ids["shown"])
    return many, f"{clicked / many:.1%} of rows are clicks", f"{bought / clicked:.1%} of clicks are good"


def a_folder_a_day(log: Path, tables: Tables, names: tuple[str, str, str]) -> None:
    for name, table in zip(names, tables.values(), strict=True):
        for (day,), rows in table.group_by("day"):
            (log / f"{day}").mkdir(parents=True, exist_ok=True)
            rows.select(IDS).write_csv(log / f"{day}" / f"{name}.csv")


def a_folder_a_table(log: Path, tables: Tables, names: tuple[str, ...]) -> None:
    for name, table in zip(names, tables.values(), strict=True):
        for (day,), rows in table.group_by("day"):
            folder = log / name / f"dt={day}"
            folder.mkdir(parents=True)
            rows.select(IDS).write_parquet(folder / "part-0.parquet")


def a_file_a_table(log: Path, tables: Tables, names: tuple[str, str, str]) -> None:
    log.mkdir(parents=True)
    for name, table in zip(names, tables.values(), strict=True):
        table.sort("ts").select(IDS).write_csv(log / f"{name}.csv")


def with_items(write: Callable[..., None]) -> Callable[..., None]:
    def both(log: Path, *of: Any) -> None:
        write(log, *of)
        items = {"item_id": [f"i{k}" for k in range(ITEMS)], "genre": [f"g{k % 5}" for k in range(ITEMS)]}
        pl.DataFrame(items).write_csv(log / "items.csv")

    return both


def init(log: Path, *more: str) -> tuple[int, dict[str, Any], str]:
    out = log.parent / "mine.yaml"
    ended = dmtl("init", log, "-o", out, *more)
    return ended.code, yaml.safe_load(out.read_text())["data"]["events"], ended.out + ended.err


WAYS = [
    (a_folder_a_day, ("views", "clicks", "orders")),
    (with_items(a_folder_a_day), ("affichages", "ouvertures", "achats")),
    (a_folder_a_table, ("impressions", "clicks", "orders")),
    (a_file_a_table, ("vistas", "clics", "compras")),
    (with_items(a_file_a_table), ("zuna", "lepo", "kauf")),
]


@pytest.mark.parametrize(("write", "names"), WAYS)
def test_what_came_of_a_user_and_item_on_a_day(
    tmp_path: Path, write: Callable[..., None], names: tuple[str, str, str]
) -> None:
    """The labels are those that a join on user, item and day gives, whatever the tables are called."""
    tables = world()
    write(tmp_path / "log", tables, names)
    code, events, said = init(tmp_path / "log")
    many, clicked, good = rates(tables)
    assert code == 0 and names[0] in f"{events['path']}", said
    assert f"day {DAYS[-1]}: {many:,} rows" in said and clicked in said and good in said, said
    assert (
        events["computed"]["exposure"]
        == "user_id || '/' || item_id"
        == events["joined"][names[1]]["computed"]["exposure"]
    )
    assert events["unique"] == "exposure" and events["click"] == "clicked" and events["conversion"] == names[2]
    dated = {one.get("date_column") for one in events["joined"].values()}
    assert dated == ({"ts"} if "date_column" in events else {None})


def test_a_rule_that_alone_fits_is_in_the_next_command(tmp_path: Path) -> None:
    """What a table of an unknown name says is asked for, with the command that takes it."""
    a_folder_a_day(tmp_path / "log", world(), ("views", "clicks", "zuna"))
    code, _, said = init(tmp_path / "log")
    assert code == 78 and "-o" in said and "--conversion zuna\n" in said and "run the first command above" in said
    code, events, said = init(tmp_path / "log", "--conversion", "zuna")
    assert code == 0 and events["conversion"] == "zuna" and rates(world())[2] in said, said
    assert "as before        user, item, time, click, joined" in said and "named like a user" not in said
    assert "conversion       zuna" in said, "what an option changes is all that is new"
    again = init(tmp_path / "log", "--conversion", "zuna")[2]
    assert "as before" not in again and "named like a user" in again, "of what has not changed all is said"


def test_one_file_of_orders_beside_folders_of_days(tmp_path: Path) -> None:
    """Their times tell the day, in the zone of the folders, which the config names for them."""
    tables = {k: t.with_columns(pl.col("ts").dt.replace_time_zone("Asia/Tokyo")) for k, t in world().items()}
    utc = {k: t.with_columns(pl.col("ts").dt.convert_time_zone("UTC")) for k, t in tables.items()}
    a_folder_a_table(tmp_path / "log", {k: utc[k] for k in ("shown", "clicks")}, ("impressions", "clicks"))
    utc["buys"].select(IDS).write_parquet(tmp_path / "log/orders.parquet")
    code, events, said = init(tmp_path / "log", "--timezone", "Asia/Tokyo")
    assert code == 0 and events["joined"]["orders"]["date_column"] == "ts", said
    assert rates(tables)[1] in said and rates(tables)[2] in said, said
    code, events, said = init(tmp_path / "log", "--force")
    assert code == 0 and yaml.safe_load((tmp_path / "mine.yaml").read_text())["data"]["timezone"], said


def test_orders_are_of_what_was_shown_before_them(tmp_path: Path) -> None:
    """Where a click has a column, and one file has all orders: users see an item again after they have bought it."""
    rng, shown = np.random.default_rng(3), world()["shown"]
    again = shown.gather_every(2).with_columns(pl.col("ts") + pl.duration(minutes=90))
    shown = pl.concat([shown, again]).sort("ts")
    shown = shown.with_columns(clicked=pl.Series((rng.random(len(shown)) < 0.25).astype(int)))
    orders = shown.filter(pl.col("clicked") == 1).gather_every(3)
    orders = orders.with_columns(pl.col("ts") + pl.duration(minutes=pl.Series(rng.integers(1, 400, len(orders)))))
    for (day,), rows in shown.group_by("day"):
        (tmp_path / f"log/shown/dt={day}").mkdir(parents=True)
        rows.drop("day").write_parquet(tmp_path / f"log/shown/dt={day}/0.parquet")
    orders = orders.sort("ts").select(*IDS, amount=pl.Series(rng.integers(5, 90, len(orders)).astype(float)))
    orders.write_csv(tmp_path / "log/orders.csv", datetime_format="%Y-%m-%d %H:%M:%S")
    code, events, said = init(tmp_path / "log", "--conversion", "orders")
    table = events["joined"]["orders"]
    assert code == 0 and (table["time"], table["within"], table["date_column"]) == ("ts", "24h", "ts"), said
    assert "by user_id and item_id, at most 24 hours behind" in said
    last = shown.filter(pl.col("day") == DAYS[-1]).with_row_index()
    came = orders.filter(pl.col("ts").dt.date() == DAYS[-1]).rename({"ts": "came"})
    met = last.join(came, on=["user_id", "item_id"]).filter(pl.col("clicked") == 1)
    many = met.filter(pl.col("came") >= pl.col("ts"))["index"].n_unique()
    assert f"{many / last['clicked'].sum():.1%} of clicks are good" in said and many < met["index"].n_unique(), said


def a_shop(tables: Tables) -> Tables:
    """Orders with their user, their lines with the item, and what a click led to, beside people and payments."""
    number = pl.struct("day", "user_id").rank("dense") + 5_000
    lines = tables["buys"].with_columns(order_no=number)
    state = pl.when(pl.col("order_no") % 5 == 0).then(pl.lit("cancelled")).otherwise(pl.lit("delivered"))
    orders = lines.unique("order_no", maintain_order=True).select("day", "ts", "user_id", "order_no", state=state)
    action = pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.lit("detail")).otherwise(pl.lit("basket"))
    users = pl.DataFrame({"user_id": [f"u{k}" for k in range(USERS)], "town": [f"t{k % 7}" for k in range(USERS)]})
    shop = {"views": tables["shown"], "clicks": tables["clicks"].with_columns(action=action)}
    return shop | {"orders": orders, "order_items": lines.select("day", "order_no", "item_id"), "users": users}


def a_csv_a_day(log: Path, tables: Tables) -> None:
    log.mkdir()
    for name, table in tables.items():
        for (day,), rows in table.group_by("day", maintain_order=True) if "day" in table else ():
            rows.drop("day").write_csv(log / f"{name}_{day}.csv")
        if "day" not in table:
            table.write_csv(log / f"{name}.csv")


def test_orders_name_the_user_and_their_lines_the_item(tmp_path: Path) -> None:
    """What was bought is a good click, not what lay in a basket."""
    a_csv_a_day(tmp_path / "log", a_shop(tables := world()))
    code, events, said = init(tmp_path / "log")
    many, clicked, good = rates(tables)
    assert code == 0 and f"{many:,} rows" in said and clicked in said and good in said, said
    orders, lines = events["joined"]["orders"], events["joined"]["order_items"]
    assert events["conversion"] == "order_items" and orders["key"] == "user_id" and "days_after" not in orders
    assert lines["key"] == "order_no" and lines["event_key"] == orders["key"] and lines["item"] == "item_id"
    assert lines["through"] == "orders.order_no" and "is key the exposure's id" not in said
    assert "--conversion \"order_items AND its_state IN ('delivered')\"" in said and "IS NOT NULL" not in said
    code, _, said = init(tmp_path / "log", "--conversion", "order_items AND its_state = 'delivered'")
    shop = a_shop(tables)
    kept = shop["order_items"].join(shop["orders"].filter(pl.col("state") == "delivered"), on=["day", "order_no"])
    pairs = [t.filter(pl.col("day") == DAYS[-1]).select("user_id", "item_id").unique() for t in (kept, shop["clicks"])]
    assert code == 0 and f"({len(pairs[0].join(pairs[1], on=['user_id', 'item_id']))})\n" in said, said


def test_people_are_no_table_of_what_they_paid(tmp_path: Path) -> None:
    """Though each of most people has one payment a day, and its files come first."""
    shop = a_shop(world())
    paid = shop["clicks"].unique(["day", "user_id"], maintain_order=True).select("day", "user_id", by=pl.lit("card"))
    tables = {"views": shop["views"], "clicks": shop["clicks"], "paid": paid.with_row_index("payment_id", 90_000)}
    a_csv_a_day(tmp_path / "log", tables | {"people": shop["users"]})
    init(tmp_path / "log")
    assert yaml.safe_load((tmp_path / "mine.yaml").read_text())["data"]["users"]["path"] == "people.csv"


def test_rows_of_nobody_hide_no_leak(tmp_path: Path) -> None:
    """What a click brought in stands beside exposures of guests too, whose clicks name nobody."""
    tables = world()
    views, clicks = tables["shown"].with_row_index("n"), tables["clicks"]
    met = views.join(clicks.select("day", "user_id", "item_id").unique(), on=["day", "user_id", "item_id"], how="semi")
    revenue = pl.when(pl.col("n").is_in(met["n"].implode()) & (pl.col("n") % 3 == 0)).then(9.5).otherwise(0.0)
    guest = pl.when(pl.col("n") % 20 == 0).then(None).otherwise(pl.col("user_id"))
    shown = views.with_columns(revenue.alias("amount"), guest.alias("user_id")).drop("n")
    a_csv_a_day(tmp_path / "log", {"views": shown, "clicks": clicks, "orders": tables["buys"]})
    _, events, said = init(tmp_path / "log")
    assert events["outcomes"] == ["amount"], said


@pytest.mark.parametrize("stream", [False, True])
def test_bookings_of_which_many_name_no_card(tmp_path: Path, stream: bool) -> None:
    """By the card they name there are fewer than by who booked what: those at the desk name none. The exposures may lie
    in a stream with the clicks."""
    rng, shown = np.random.default_rng(4), world()["shown"].with_row_index("card_id")
    shown = shown.with_columns(pl.format("c{}", "card_id").alias("card_id"))
    clicked = shown.filter(pl.Series(rng.random(len(shown)) < 0.25))
    bookings = clicked.filter(pl.Series(rng.random(len(clicked)) < 0.4)).with_columns(
        pl.col("ts") + pl.duration(hours=1)
    )
    desk = pl.Series(rng.random(len(bookings)) < 0.35)
    named = bookings.with_columns(
        pl.when(~desk).then("card_id"), status=pl.Series(rng.choice(["paid", "void"], len(desk)))
    )
    for day in DAYS:
        for name, table in (("cards", shown), ("bookings", named.rename({"card_id": "attributed_card"}))):
            of = table.filter(pl.col("ts").dt.date() == day).drop("day")
            if name == "cards" and stream:
                taps = (
                    clicked.filter(pl.col("day") == day).drop("day").with_columns(pl.col("ts") + pl.duration(seconds=5))
                )
                of = pl.concat(
                    [of.with_columns(event=pl.lit("card_shown")), taps.with_columns(event=pl.lit("card_clicked"))]
                )
            elif name == "cards":
                of = of.with_columns(clicked=pl.col("card_id").is_in(clicked["card_id"].implode()).cast(pl.Int8))
            (tmp_path / f"log/{name}/dt={day}").mkdir(parents=True)
            of.sort("ts").write_parquet(tmp_path / f"log/{name}/dt={day}/0.parquet")
    code, events, said = init(tmp_path / "log", "--conversion", "status IN ('paid')")
    table = events["joined"]["bookings"]
    assert code == 0 and (table["time"], table["within"]) == ("ts", "1h"), said
    assert "of its rows have no attributed_card" in (tmp_path / "mine.yaml").read_text()
    last = shown.filter(pl.col("day") == DAYS[-1])
    paid = named.filter(pl.col("status") == "paid", pl.col("ts").dt.date() == DAYS[-1]).rename({"ts": "came"})
    met = last.join(paid, on=["user_id", "item_id"]).filter(pl.col("came") >= pl.col("ts"))
    good = met.filter(pl.col("card_id").is_in(clicked["card_id"].implode()))["card_id"].n_unique()
    many = len(clicked.filter(pl.col("day") == DAYS[-1]))
    assert f"{good / many:.1%} of clicks are good" in said


def test_another_good_click_is_new(tmp_path: Path) -> None:
    """Whatever word of the config before is its name, and whether it had a rule."""
    rng, frame = np.random.default_rng(0), world()["shown"].drop("day")
    clicked = rng.random(len(frame)) < 0.3
    seconds = pl.Series("read_seconds", rng.exponential(60, len(frame)).round(1)).set(pl.Series(~clicked), None)
    frame = frame.with_columns(seconds, clicked=clicked, liked=clicked & (rng.random(len(frame)) < 0.3))
    (tmp_path / "log").mkdir()
    frame.write_csv(tmp_path / "log/events.csv")
    init(tmp_path / "log")
    for rule in ("liked", "read_seconds > 20", "read_seconds > 25"):
        said = init(tmp_path / "log", "--conversion", rule)[2]
        again = next(line for line in said.splitlines() if line.startswith("as before"))
        assert "user" in again and "conversion" not in again and "\nconversion " in said, said


@pytest.mark.parametrize("empty", [False, True])
def test_a_last_day_without_orders(tmp_path: Path, empty: bool) -> None:
    """They are told by a day that both have."""
    a_folder_a_day(tmp_path / "log", world(), ("views", "clicks", "orders"))
    last = tmp_path / f"log/{DAYS[-1]}/orders.csv"
    last.write_text(",".join(IDS) + "\n") if empty else last.unlink()
    _, events, said = init(tmp_path / "log")
    assert events["conversion"] == "orders" and [*events["joined"]] == ["clicks", "orders"], said


def test_an_own_number_of_a_click_and_its_seconds(tmp_path: Path) -> None:
    """Rows of a click have more than those of what was shown, and yet are not the events."""
    tables = world()
    seconds = np.random.default_rng(1).exponential(40, len(tables["clicks"])).round(1)
    tables["clicks"] = tables["clicks"].with_columns(pl.Series("dwell_seconds", seconds))
    for day in DAYS:
        (tmp_path / f"log/{day}").mkdir(parents=True)
        for name in ("shown", "clicks"):
            rows = tables[name].filter(pl.col("day") == day).drop("day")
            rows.write_csv(tmp_path / f"log/{day}/{name}.csv")
    code, events, said = init(tmp_path / "log")
    assert code == 0 and events["path"] == "{day}/shown.csv" and events["click"] == "clicked", said
    assert events["duration"] == "its_dwell_seconds" and rates(tables)[1] in said, said


def test_orders_with_a_list_of_what_was_bought(tmp_path: Path) -> None:
    tables = world()
    for name, table in tables.items():
        for (day,), rows in table.group_by("day"):
            if name == "buys":
                rows = rows.group_by("user_id", "ts").agg("item_id").rename({"item_id": "items"})
            folder = tmp_path / f"log/{name}/dt={day}"
            folder.mkdir(parents=True)
            rows.drop("day", strict=False).write_parquet(folder / "part-0.parquet")
    code, events, said = init(tmp_path / "log", "--conversion", "buys")
    assert code == 0 and events["joined"]["buys"]["explode"] == "items", said
    assert rates(tables)[1] in said and rates(tables)[2] in said, said


def test_a_stream_whose_days_are_those_of_the_users(tmp_path: Path) -> None:
    """Where a person's zone moves days out of the folders, all rows of the files are told by their time."""
    kinds = {"shown": "item_shown", "clicks": "item_clicked", "buys": "item_bought"}
    rows = pl.concat([t.with_columns(event=pl.lit(kinds[k])) for k, t in world().items()]).sort("ts")
    for (day,), of_day in rows.with_columns(ts=pl.col("ts").dt.epoch("ms")).group_by("day"):
        folder = tmp_path / f"log/events/dt={day}"
        folder.mkdir(parents=True)
        of_day.drop("day").write_parquet(folder / "part-0.parquet")
    code, events, said = init(tmp_path / "log", "--timezone", "Asia/Tokyo")
    assert code == 0 and events["date_column"] == "ts" == events["joined"]["later"]["date_column"], said
    assert "partition" not in {**events, **events["joined"]["later"]}


def test_what_follows_in_a_stream_by_request_and_item(tmp_path: Path) -> None:
    """Of two requests of a user's day that show one item, the one in which it was clicked has the click."""
    rng, rows = np.random.default_rng(0), list[dict[str, Any]]()
    for day in DAYS:
        for k, at in enumerate(np.sort(rng.integers(6 * 3600, 22 * 3600, 260))):
            of: dict[str, Any] = {"query_id": f"{day}-{k}", "user_id": f"u{rng.integers(60)}"}
            time = dt.datetime.combine(day, dt.time()) + dt.timedelta(seconds=int(at))
            rows.append(of | {"query_id": None, "ts": time, "event": "zapusk", "item_id": None})
            for item in rng.choice(30, 6, replace=False):
                row = of | {"ts": time, "event": "card_shown", "item_id": f"i{item}"}
                rows.append(row)
                if rng.random() < 0.25:
                    rows.append(row | {"ts": time + dt.timedelta(seconds=8), "event": "card_opened"})
                    if rng.random() < 0.4:
                        waits = dt.timedelta(days=1) if k == 5 else dt.timedelta(seconds=80)
                        rows.append(row | {"ts": time + waits, "event": "booked"})
    frame = pl.DataFrame(rows).sort("ts")
    for (day,), of_day in frame.group_by(pl.col("ts").dt.date()):
        (tmp_path / f"log/events/dt={day}").mkdir(parents=True)
        of_day.write_parquet(tmp_path / f"log/events/dt={day}/part-0.parquet")
    code, events, said = init(tmp_path / "log", "--conversion", "booked")
    pair = "query_id || '/' || item_id"
    assert code == 0 and events["computed"]["exposure"] == pair, said
    ended = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", DAYS[1])
    assert re.search(r"[1-9] rows of the day after are of this day's exposures: days_after: 1 reads", ended.out)
    assert events["joined"]["later"]["computed"]["exposure"] == pair and "unique" not in events
    last = frame.filter(pl.col("ts").dt.date() == DAYS[-1])["event"].value_counts().rows()
    many = dict(last)
    assert f"day {DAYS[-1]}: {many['card_shown']:,} rows" in said
    assert f"{many['card_opened'] / many['card_shown']:.1%} of rows are clicks" in said
    next_day = frame.filter(pl.col("query_id") == f"{DAYS[-2]}-5", pl.col("event") == "booked")
    booked = many["booked"] - len(next_day.filter(pl.col("ts").dt.date() == DAYS[-1]))
    assert f"{booked / many['card_opened']:.1%} of clicks are good" in said


def test_files_of_one_day_that_are_shards_are_one_table(tmp_path: Path) -> None:
    """Rows of other users are no outcomes of each other."""
    shown = world()["shown"].with_columns(clicked=pl.col("item_id").str.ends_with("3").cast(pl.Int8))
    web = pl.col("user_id").str.ends_with("7")
    for day in DAYS:
        (tmp_path / f"log/{day}").mkdir(parents=True)
        of = shown.filter(pl.col("day") == day).drop("day")
        of.filter(web).write_csv(tmp_path / f"log/{day}/web.csv")
        of.filter(~web).write_csv(tmp_path / f"log/{day}/app.csv")
    _, events, said = init(tmp_path / "log")
    assert events["path"] == "{day}" and "joined" not in events, said
    rows = [shown.filter(web), shown.filter(~web)]
    assert not are_of(rows[0], rows[1]) and are_of(world()["clicks"], shown)


def test_few_users_and_items_meet_by_chance() -> None:
    """In both shards most users have most items on a day, and yet neither came of the other; what did is told."""
    rng = np.random.default_rng(2)
    ids = {"user_id": rng.integers(0, 40, 2_000), "item_id": rng.integers(0, 30, 2_000), "at": np.arange(2_000)}
    shown = pl.DataFrame(ids).with_columns(group=pl.col("item_id") % 25)
    web = pl.Series(rng.random(2_000) < 0.3)
    assert not are_of(shown.filter(web), shown.filter(~web))
    assert are_of(shown.filter(web), shown)


def test_a_table_of_chance_is_no_outcome(tmp_path: Path) -> None:
    """What users did on any day with the few items that all are shown says nothing of an exposure."""
    tables, rng = world(), np.random.default_rng(3)
    shown = tables["shown"].with_columns(pl.Series("item_id", [f"i{k}" for k in rng.integers(0, 4, 4 * ROWS)]))
    notes = shown.sample(2_000, seed=5).with_columns(pl.Series("item_id", [f"i{k}" for k in rng.integers(0, 4, 2_000)]))
    shown = shown.with_columns(click=pl.Series(rng.random(len(shown)) < 0.2).cast(pl.Int8), s=pl.lit(3.5))
    for name, table in (("shown", shown), ("notes", notes)):
        for (day,), rows in table.group_by("day"):
            (tmp_path / f"log/{name}").mkdir(parents=True, exist_ok=True)
            rows.drop("day").write_csv(tmp_path / f"log/{name}/{day}.csv")
    _, events, said = init(tmp_path / "log")
    assert events["path"] == "shown/{day}.csv" and "joined" not in events, said


def test_names_of_a_day_are_put_apart_where_one_follows_another() -> None:
    """Files of a few names and the same columns: asked of a day that all names have."""
    listed = [(f"2026-01-0{k}/{name}.csv", size) for k in (1, 2, 3) for name, size in (("a", 9), ("b", 4))]
    asked: list[Any] = []

    def follows(files: Any) -> bool:
        asked.append(list(files))
        return True

    apart = group(listed, None, lambda _: True, follows)
    assert [f.pattern for f in apart] == ["{day}/a.csv", "{day}/b.csv"]
    assert asked == [[("2026-01-03/a.csv", 9), ("2026-01-03/b.csv", 4)]]
    assert [f.pattern for f in group(listed, None, lambda _: True)] == ["{day}"]


def test_a_day_is_checked_that_every_table_has(tmp_path: Path) -> None:
    """Orders of the newest day are not there yet: the day before is the last that is proposed."""
    a_folder_a_table(tmp_path / "log", world(), ("impressions", "clicks", "orders"))
    shutil.rmtree(tmp_path / f"log/orders/dt={DAYS[-1]}")
    code, _, said = init(tmp_path / "log")
    assert code == 0 and f"day {DAYS[-2]}: " in said and f"--to {DAYS[-2]}" in said, said


def test_a_file_of_a_folder_is_named_after_the_folder(tmp_path: Path) -> None:
    for name, table in zip(("shown", "clicks", "orders"), world().values(), strict=True):
        (tmp_path / f"log/{name}").mkdir(parents=True)
        table.sort("ts").select(IDS).write_csv(tmp_path / f"log/{name}/all.csv")
    code, events, said = init(tmp_path / "log")
    assert code == 0 and set(events["joined"]) == {"clicks", "orders"} and events["conversion"] == "orders", said


def test_what_is_named_like_a_click_is_an_outcome_beside_a_given_one(tmp_path: Path) -> None:
    rng, shown = np.random.default_rng(2), world()["shown"].drop("day")
    flags = {name: pl.Series(rng.random(len(shown)) < rate) for name, rate in (("clicked", 0.3), ("saved", 0.2))}
    shown = shown.with_columns(**flags).with_columns(liked=pl.col("saved") & pl.Series(rng.random(len(shown)) < 0.4))
    (tmp_path / "log").mkdir()
    shown.write_csv(tmp_path / "log/events.csv")
    code, events, said = init(tmp_path / "log", "--click", "saved", "--conversion", "liked")
    assert code == 0 and "clicked" in events["outcomes"], said


@pytest.mark.parametrize(
    "rule", ["act_kind = 4", "act_kind IN (4)", '"act_kind" in (4, 5)', "act_kind = 4 OR act_kind = 5"]
)
def test_codes_of_what_was_done_are_a_flag_each(tmp_path: Path, rule: str) -> None:
    """An exposure may have several: the greatest code would hide a booking that was followed by a save. A rule says
    them in the log's own names."""
    rng = np.random.default_rng(4)
    shown = world()["shown"].with_row_index("id").with_columns(pl.col("id").cast(pl.Int64) + 70_000)
    done = {1: 0.25, 3: 0.4, 4: 0.5, 5: 0.3}  # a click, and of these what follows
    acts, of = list[pl.DataFrame](), shown
    for kind, rate in done.items():
        of = (of if kind != 5 else acts[0]).filter(pl.Series(rng.random(len(of if kind != 5 else acts[0])) < rate))
        acts.append(of.with_columns(act_kind=pl.lit(kind, pl.Int64)))
    (tmp_path / "log").mkdir()
    shown.select("id", *IDS).write_csv(tmp_path / "log/shown.csv")
    every = pl.concat(acts).sample(fraction=1, shuffle=True, seed=1)
    every.select(pl.col("id").alias("shown_id"), "ts", "act_kind").write_csv(tmp_path / "log/acts.csv")
    pl.DataFrame({"act_kind": list(done), "name": ["tap", "form", "booked", "saved"]}).write_csv(
        tmp_path / "log/kinds.csv"
    )
    code, events, said = init(tmp_path / "log", "--conversion", rule)
    assert code == 0 and "act_kind_4" in events["joined"]["acts"]["columns"], said
    last, kinds = shown.filter(pl.col("day") == DAYS[-1])["id"], [4, 5] if "5" in rule else [4]
    good = every.filter(pl.col("act_kind").is_in(kinds), pl.col("id").is_in(last.implode()))["id"].n_unique()
    clicked = every.filter(pl.col("id").is_in(last.implode()))["id"].n_unique()
    assert (
        f"{clicked / len(last):.1%} of rows are clicks" in said and f"{good / clicked:.1%} of clicks are good" in said
    )
