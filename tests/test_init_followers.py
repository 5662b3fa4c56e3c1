"""init: which rows came of what was shown, in logs as firms write them: mails that are read on the next day, apps that
are opened from elsewhere, applications that name the page they began at, reads that began at a bookshelf."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from worlds import dmtl

from dmtl_cli.guess.outcomes.aggregates import number_of

DAYS = [dt.date(2026, 3, 1) + dt.timedelta(days=k) for k in range(4)]
LAST = DAYS[-1]
Rows = list[dict[str, Any]]


class World:
    """What was shown on four days, 1,200 exposures each, with what came of it: rows by table and day."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.tables: dict[str, dict[dt.date, Rows]] = {}
        self.truth = {"rows": 0, "clicks": 0, "good": 0}

    def add(self, table: str, day: dt.date, **row: Any) -> None:
        self.tables.setdefault(table, {}).setdefault(day, []).append(row)

    def exposures(self) -> Any:
        """(day, number, user, item, list, place, when) of each, in the order of times."""
        number = 0
        for day in DAYS:
            start = dt.datetime.combine(day, dt.time())
            for page in range(150):
                user, at = f"u{self.rng.integers(110)}", start + dt.timedelta(minutes=9 * page)
                for place, item in enumerate(self.rng.choice(60, 8, replace=False).tolist()):
                    number += 1
                    yield day, number, user, item, f"l{(number - 1) // 8}", place, at

    def count(self, day: dt.date, click: bool, good: bool) -> None:
        if day == LAST:
            self.truth["rows"] += 1
            self.truth["clicks"] += click
            self.truth["good"] += click and good

    def write(self, home: Path, form: str = "parquet") -> None:
        for table, by_day in self.tables.items():
            for day, rows in by_day.items():
                file = home / table / f"{day}.{form}"
                file.parent.mkdir(parents=True, exist_ok=True)
                if form == "parquet":
                    pl.DataFrame(rows, infer_schema_length=None).write_parquet(file)
                else:
                    file.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows))


def guessed(home: Path, *more: str) -> tuple[dict[str, Any], str, str]:
    ended = dmtl("init", home, "-o", home.parent / "mine.yaml", "--force", *more)
    assert ended.code == 0, ended.err
    text = (home.parent / "mine.yaml").read_text()
    return yaml.safe_load(text), text, ended.out


def agrees(home: Path, truth: dict[str, int], day: dt.date = LAST) -> None:
    ended = dmtl("check", "--config", home.parent / "mine.yaml", "--day", day, "--json")
    assert ended.code == 0, ended.err
    labels = ended.json["labels"]
    assert ended.json["rows"] == truth["rows"]
    assert labels["click_rate"] == pytest.approx(truth["clicks"] / truth["rows"], abs=1e-4)
    assert labels["conversion_rate"] == pytest.approx(truth["good"] / truth["clicks"], abs=1e-4)


def test_reads_that_began_at_a_bookshelf_are_of_no_exposure(tmp_path: Path) -> None:
    """A third of the reads name none, of whatever item: what a few of them were shown before is chance."""
    world = World()
    for day, number, user, item, page, place, at in world.exposures():
        own = f"imp{number}"
        world.add("shown", day, id=own, user_id=user, title_id=item, ts=at, page_id=page, slot=place)
        read = world.rng.random() < 0.25
        pages = int(world.rng.integers(1, 20))
        if read:
            world.add(
                "reads", day, imp_id=own, user_id=user, title_id=item, ts=at + dt.timedelta(minutes=1), page=pages
            )
        if world.rng.random() < 0.12:
            shelf = {"imp_id": None, "user_id": user, "title_id": int(world.rng.integers(60))}
            world.add("reads", day, **shelf, ts=at + dt.timedelta(minutes=3), page=19)
        world.count(day, read, pages >= 15)
    world.write(tmp_path / "log")
    raw, _, _ = guessed(tmp_path / "log", "--conversion", "page >= 15")
    reads = raw["data"]["events"]["joined"]["reads"]
    assert (reads["key"], "within" in reads) == ("imp_id", False)
    agrees(tmp_path / "log", world.truth)


@pytest.mark.parametrize(("late", "written"), [(0.3, True), (0.05, False), (0.0, None)])
def test_what_is_read_on_the_next_day(tmp_path: Path, late: float, written: bool | None) -> None:
    """Of mails: a day reads the next file too where a tenth of what came lies there, and a comment says so of less."""
    world = World()
    for day, number, user, item, mail, place, at in world.exposures():
        world.add("sent", day, line_id=number, mail_id=mail, user_id=user, article_id=item, place=place, ts=at)
        if world.rng.random() < 0.3:
            on = day + dt.timedelta(days=1) if world.rng.random() < late and day != LAST else day
            world.add("reads", on, mail_id=mail, article_id=item, seconds=int(world.rng.integers(5, 300)))
    world.write(tmp_path / "log")
    raw, text, _ = guessed(tmp_path / "log", "--conversion", "its_seconds >= 60")
    reads = raw["data"]["events"]["joined"]["reads"]
    assert reads.get("days_after") == (1 if written else None)
    assert ("lies in later days' files" in text) == (written is not None)
    assert ("# days_after: 1" in text) == (written is False)


def test_applications_name_the_page_they_began_at(tmp_path: Path) -> None:
    """Pages name a list and an ad, applications a page."""
    world = World()
    for day, number, user, item, page, place, at in world.exposures():
        world.add("lists", day, list_id=page, user_id=user, ad_id=item, place=place, ts=at)
        opened, sent = world.rng.random() < 0.3, world.rng.random() < 0.4
        when = at + dt.timedelta(seconds=40)
        if opened:
            view = {"view_id": 70_000 + number, "list_id": page, "user_id": user, "ad_id": item}
            world.add("ad_views", day, **view, opened_at=when, seconds=int(world.rng.integers(1, 99)))
        if opened and sent:
            state = "sent" if world.rng.random() < 0.7 else "begun"
            application = {"application_id": number, "view_id": 70_000 + number, "user_id": user}
            world.add("applications", day, **application, state=state, begun_at=when)
            sent = state == "sent"
        world.count(day, opened, opened and sent)
    world.write(tmp_path / "log")
    raw, _, _ = guessed(tmp_path / "log", "--conversion", "its_state = 'sent'")
    tables = raw["data"]["events"]["joined"]
    assert (tables["applications"]["key"], tables["applications"]["through"]) == ("view_id", "ad_views.view_id")
    agrees(tmp_path / "log", world.truth)


def test_calls_that_name_no_page_are_of_their_user_and_item(tmp_path: Path) -> None:
    """Messages name the page they began at, calls do not."""
    world = World(5)
    for day, number, user, item, page, place, at in world.exposures():
        world.add("shown", day, shown_id=f"s{number}", user_id=user, car_id=item, page_id=page, place=place, ts=at)
        opened, asked = world.rng.random() < 0.3, world.rng.random() < 0.4
        when = at + dt.timedelta(seconds=30)
        if opened:
            view = {"view_id": f"v{number}", "shown_id": f"s{number}", "user_id": user, "car_id": item}
            world.add("views", day, **view, opened_at=when, seconds=int(world.rng.integers(1, 99)))
        if opened and asked:
            named = f"v{number}" if world.rng.random() < 0.6 else None
            contact = {"contact_id": number, "view_id": named, "user_id": user, "car_id": item}
            world.add("contacts", day, **contact, sent_at=when + dt.timedelta(minutes=3))
        world.count(day, opened, opened and asked)
    world.write(tmp_path / "log")
    raw, text, _ = guessed(tmp_path / "log", "--conversion", "contacts")
    tables = raw["data"]["events"]["joined"]
    assert "clicked" in tables["views"]["columns"] and "clicked" not in tables["contacts"]["columns"]
    assert (tables["contacts"]["time"], tables["contacts"]["within"]) == ("sent_at", "1h")
    assert "of its rows have no view_id" in text
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", LAST, "--json").json
    rate = world.truth["good"] / world.truth["clicks"]
    assert rate <= found["labels"]["conversion_rate"] < 1.1 * rate  # some were shown twice in the hour


def stream(world: World, first_open: str, page: str) -> None:
    """One stream, whose pages name the impression that led there, if one did; first opens know user and item alone."""
    for day, number, user, item, page_id, place, at in world.exposures():
        base = {"did": user, "app": item, "ts": at.isoformat()}
        world.add("events", day, **base, ev="imp", imp_id=f"i{number}", list_id=page_id, slot=place, ref=None)
        opened, used = world.rng.random() < 0.3, world.rng.random() < 0.4
        if opened:
            later = base | {"ts": (at + dt.timedelta(seconds=9)).isoformat(), "ref": f"i{number}"}
            world.add("events", day, **later, ev=page, imp_id=None)
        if world.rng.random() < 0.1:  # a page from a search
            found = {"did": user, "app": int(world.rng.integers(60)), "ts": at.isoformat(), "ref": None}
            world.add("events", day, **found, ev=page, imp_id=None)
        if opened and used:
            world.add("events", day, **base | {"ts": (at + dt.timedelta(minutes=2)).isoformat()}, ev=first_open)
        world.count(day, opened, used)


@pytest.mark.parametrize(("first_open", "page"), [("first_open", "page_view"), ("launched", "detail"), ("q7", "q5")])
def test_pages_that_name_what_was_shown_are_clicks_whatever_they_are_called(
    tmp_path: Path, first_open: str, page: str
) -> None:
    world = World()
    stream(world, first_open, page)
    world.write(tmp_path / "log", "jsonl")
    raw, _, _ = guessed(tmp_path / "log", "--conversion", first_open)
    tables = raw["data"]["events"]["joined"]
    assert (tables["later"]["key"], tables["later"]["event_key"]) == ("ref", "imp_id")
    assert tables["later"]["columns"] == {"clicked": f"COUNT(CASE WHEN ev = '{page}' THEN 1 END) > 0"}
    assert (tables["beside"]["time"], tables["beside"]["within"]) == ("ts", "1h")
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", LAST, "--json").json
    rate = world.truth["good"] / world.truth["clicks"]
    assert found["labels"]["click_rate"] == pytest.approx(world.truth["clicks"] / world.truth["rows"], abs=1e-4)
    assert rate <= found["labels"]["conversion_rate"] < 1.1 * rate  # some were shown twice in the hour


def test_kinds_that_have_no_item_are_no_clicks(tmp_path: Path) -> None:
    """As an app that is opened: what names an exposure is told without it."""
    world = World()
    for day, number, user, item, page, place, at in world.exposures():
        base = {"user_id": user, "item_id": item, "ts": at.isoformat(), "msg": f"m{number}"}
        world.add("events", day, **base, event="card_shown", list_id=page, slot=place)
        tapped, saved = world.rng.random() < 0.3, world.rng.random() < 0.3
        if tapped:
            world.add("events", day, **base, event="card_tap")
        if tapped and saved:
            world.add("events", day, **base, event="card_save")
        if place == 0:
            for _ in range(3):
                world.add("events", day, user_id=user, item_id=None, ts=at.isoformat(), msg=None, event="app_open")
        world.count(day, tapped, saved)
    world.write(tmp_path / "log", "jsonl")
    raw, _, _ = guessed(tmp_path / "log", "--conversion", "card_save")
    later = raw["data"]["events"]["joined"]["later"]
    assert (later["key"], "app_open" in str(later["columns"])) == ("msg", False)
    agrees(tmp_path / "log", world.truth)


def test_a_stream_without_a_header(tmp_path: Path) -> None:
    """Clicks of a search have no list; what was bought names user and item alone."""
    world = World()
    for day, _, user, item, page, place, at in world.exposures():
        start = int(at.replace(tzinfo=dt.UTC).timestamp())
        base = {"a": 5_000 + int(user[1:]), "b": 90_000 + item}
        world.add("log", day, **base, kind="exp", ts=start, place=place, page=page)
        clicked, bought = world.rng.random() < 0.3, world.rng.random() < 0.4
        if clicked:
            world.add("log", day, **base, kind="clk", ts=start + 5, place=place, page=page)
        if world.rng.random() < 0.05:
            world.add("log", day, a=base["a"], b=int(world.rng.integers(60)) + 90_000, kind="clk", ts=start, page="")
        if clicked and bought:
            world.add("log", day, **base, kind="buy", ts=start + 90, page="")
        world.count(day, clicked, bought)
    (tmp_path / "log").mkdir()
    for day, rows in world.tables["log"].items():
        columns = ["a", "b", "kind", "ts", "place", "page"]
        table = pl.DataFrame(rows, infer_schema_length=None).select(columns).sort("ts", maintain_order=True)
        table.write_csv(tmp_path / "log" / f"behavior_{day:%Y%m%d}.csv", include_header=False)
    raw, _, said = guessed(tmp_path / "log", "--conversion", "buy")
    tables = raw["data"]["events"]["joined"]
    assert set(tables) == {"later", "beside"} and tables["beside"]["within"] == "1h", said
    assert tables["later"]["columns"] == {"clicked": "COUNT(CASE WHEN column_3 = 'clk' THEN 1 END) > 0"}
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", LAST, "--json").json
    assert found["rows"] == world.truth["rows"]
    assert found["labels"]["click_rate"] == pytest.approx(world.truth["clicks"] / world.truth["rows"], abs=1e-4)


def test_a_length_that_all_rows_of_an_id_have_is_no_sum() -> None:
    """The film's, which each heartbeat has; where all heartbeats are as long as each other they are summed."""
    by = pl.Series(np.repeat(np.arange(200), 4))
    film = pl.Series("duration_sec", np.repeat(np.random.default_rng(0).integers(3_000, 9_000, 200), 4))
    assert number_of(film, by, is_length=False) == "MAX(duration_sec)"
    assert number_of(pl.Series("play_seconds", [10] * 800), by, is_length=False) == "SUM(play_seconds)"


@pytest.mark.parametrize(("again", "unknown"), [(True, False), (False, True)], ids=["heartbeats", "a row a read"])
def test_who_left_before_the_first_heartbeat_has_read_for_no_time(tmp_path: Path, again: bool, unknown: bool) -> None:
    """Of heartbeats every ten seconds a click without one was left at once, so it is no good one; of a page that is
    left, and says how long it was open, a click without a row is one of which nobody knows."""
    world, lost = World(), 0
    for day, number, user, item, page, place, at in world.exposures():
        own = {"impression_id": f"imp{number}", "user_id": user, "article_id": item}
        world.add("impressions", day, **own, ts=at, page_id=page, slot=place)
        click, seconds = world.rng.random() < 0.4, int(world.rng.exponential(25))
        if click:
            world.add("clicks", day, **own, ts=at + dt.timedelta(seconds=1))
            told = range(10, seconds + 1, 10) if again else [seconds] * (world.rng.random() < 0.7)
            for k in told:
                rest = {"ts": at + dt.timedelta(seconds=k), "read_seconds": k}
                world.add("reads", day, impression_id=own["impression_id"], **rest)
            lost += day == LAST and not told
        world.count(day, click, seconds >= 30)
    world.write(tmp_path / "log")
    raw, text, _ = guessed(tmp_path / "log")
    columns = raw["data"]["events"]["joined"]["reads"]["columns"]
    assert raw["data"]["events"]["duration"] in columns, text
    made = columns[raw["data"]["events"]["duration"]]
    assert made == ("COALESCE(MAX(read_seconds), 0)" if again else "SUM(read_seconds)")
    ended = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", LAST, "--json", "--set", "labels.long_read=29")
    labels = ended.json["labels"]
    assert lost > 100 and labels.get("clicks_without_duration", 0) == (lost if unknown else 0)
    if again:
        rate = labels["long_read_rate_at_29"]
        assert rate == pytest.approx(world.truth["good"] / world.truth["clicks"], abs=1e-4)


def test_numbers_of_another_column_are_no_ids_of_what_was_shown(tmp_path: Path) -> None:
    """The items' numbers are also some of the exposures': heartbeats without a user are of exposures all the same, and
    these no table of theirs."""
    world = World()
    for day, number, user, item, page, place, at in world.exposures():
        own = {"exposure_key": 4_000 + number, "listing_id": 5_000 + item}
        world.add("shown", day, **own, uid=user, time=at, page_id=page, slot=place)
        click, seconds = world.rng.random() < 0.3, int(world.rng.exponential(25))
        if click:
            world.add("opens", day, exposure_key=own["exposure_key"], time=at + dt.timedelta(seconds=1))
            for k in range(10, seconds + 1, 10):
                world.add("heartbeats", day, **own, time=at + dt.timedelta(seconds=k), seconds=k)
        world.count(day, click, seconds >= 30)
    world.write(tmp_path / "log")
    raw, text, said = guessed(tmp_path / "log")
    events = raw["data"]["events"]
    assert (events["path"], events["user"], events["item"]) == ("shown/{day}.parquet", "uid", "listing_id"), said
    assert {*events["joined"]} == {"opens", "heartbeats"} and "second table" not in said
    assert "OR heartbeats" not in text and "--conversion heartbeats" not in text, "each has a duration"


def test_tokens_of_exposures_are_no_times(tmp_path: Path) -> None:
    """Numbers of a clock and a counter, as many firms give ids, are nanoseconds of some year by their size."""
    world = World()
    for day, number, user, item, page, place, at in world.exposures():
        token = (352_000_000_000 + 57_000 * number << 22) + number % 4096
        world.add("shown", day, view_token=token, uid=user, video_id=item, time=at, page_id=page, slot=place)
        if world.rng.random() < 0.3:
            world.add("opens", day, view_token=token, uid=user, video_id=item)
            world.add("watch", day, view_token=token, seconds=int(world.rng.exponential(25)) + 1)
    world.write(tmp_path / "log")
    raw, _, said = guessed(tmp_path / "log")
    keys = {name: one["key"] for name, one in raw["data"]["events"]["joined"].items()}
    assert keys == {"opens": "view_token", "watch": "view_token"}, said


# -- kinds without an id, files of hours and of other days -------------------------------------------------------------


def apps(split: bool, late: float) -> World:
    """Views and installations name what was shown; sessions name a device and an app, many of them on the next day."""
    world = World()
    for day, number, user, item, page, place, at in world.exposures():
        app = f"app{item}"
        own = {"impression_id": f"i{number}", "device_id": user, "package": app}
        world.add("shown", day, **own, ts=at, page_id=page, slot=place)
        clicked, installed = world.rng.random() < 0.3, world.rng.random() < 0.6
        minutes = int(world.rng.integers(1, 40))
        base = {"device_id": user, "package": app}
        if clicked:
            named = {"kind": "view", "impression_id": f"i{number}", "minutes": None}
            world.add("actions", day, **base, **named, ts=at + dt.timedelta(seconds=9))
            if installed:
                world.add("actions", day, **base, **named | {"kind": "install"}, ts=at + dt.timedelta(seconds=40))
                on = day + dt.timedelta(days=world.rng.random() < late)
                row = {"kind": "session_end", "impression_id": None, "minutes": minutes}
                if on <= LAST:
                    when = at + (on - day) + dt.timedelta(minutes=2)
                    world.add("sessions" if split else "actions", on, **base, **row, ts=when)
        if day == DAYS[1]:
            world.truth["clicks"] += clicked
            world.truth["good"] += clicked and installed and minutes >= 20
    return world


def found_good(home: Path, day: dt.date) -> tuple[int, int]:
    labels = dmtl("check", "--config", home.parent / "mine.yaml", "--day", day, "--json").json["labels"]
    return labels["clicks"], labels["conversions"]


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_kinds_of_rows_without_an_id_are_read_by_user_and_item(tmp_path: Path, form: str) -> None:
    world = apps(split=False, late=0.95)
    world.write(tmp_path / "log", form)
    raw, _, said = guessed(tmp_path / "log", "--conversion", "SUM(minutes) >= 20", "--within", "48h")
    joined = raw["data"]["events"]["joined"]
    assert joined["actions"]["key"] == "impression_id" and "within" not in joined["actions"], said
    later = joined["actions_later"]
    assert later["where"] == "kind = 'session_end'" and "SUM(minutes)" in later["columns"].values()
    clicks, good = found_good(tmp_path / "log", DAYS[1])
    assert clicks == world.truth["clicks"]
    assert good == pytest.approx(world.truth["good"], rel=0.1), "a pair may be shown twice"


def test_what_comes_later_is_found_in_folders_of_hours(tmp_path: Path) -> None:
    world = apps(split=True, late=0.6)
    for table in ("shown", "actions", "sessions"):
        for day, rows in world.tables[table].items():
            frame = pl.DataFrame(rows, infer_schema_length=None)
            for (hour,), part in frame.group_by(pl.col("ts").dt.hour()):
                file = tmp_path / f"log/{table}/day={day}/hour={hour:02}/part.parquet"
                file.parent.mkdir(parents=True)
                part.write_parquet(file)
    raw, _, said = guessed(tmp_path / "log", "--conversion", "SUM(minutes) >= 20", "--within", "48h")
    assert raw["data"]["events"]["joined"]["sessions"]["days_after"] >= 1, said
    _, good = found_good(tmp_path / "log", DAYS[1])
    assert good == pytest.approx(world.truth["good"], rel=0.1)


@pytest.mark.parametrize(
    ("zone", "browsed", "hour", "wait", "late"),
    [("Asia/Tokyo", 22, 9, 8, True), ("America/Chicago", 1, 21, 4, False)],
)
def test_days_of_the_users_tell_what_comes_later(
    tmp_path: Path, zone: str, browsed: int, hour: int, wait: int, late: bool
) -> None:
    """Files are of days in UTC, and a fifth of what is shown is of another day where the users live. What was shown in
    Tokyo at six in the evening and is ordered at two in the night is of one file, and of two days; what was shown in
    Chicago at three and is ordered at seven is of two files, and of one day."""
    world = World()
    for day, number, user, item, page, place, _ in world.exposures():
        orders = int(page[1:]) % 5 > 0
        minute = 60 * (hour if orders else browsed) + int(page[1:]) % 50
        at = dt.datetime.combine(day, dt.time(), dt.UTC) + dt.timedelta(minutes=minute)
        world.add("shown", day, card_id=f"c{number}", user_id=user, item_id=item, ts=at, page=page, slot=place)
        if world.rng.random() < 0.4:
            world.add("clicks", day, card_id=f"c{number}", ts=at + dt.timedelta(seconds=5))
            came = at + dt.timedelta(hours=wait)
            if orders and world.rng.random() < 0.5:
                world.add("orders", came.date(), card_id=f"c{number}", ts=came)
    world.add("orders", DAYS[0], card_id="c0", ts=dt.datetime.combine(DAYS[0], dt.time(12), dt.UTC))  # a file a day
    world.write(tmp_path / "log")
    raw, _, said = guessed(tmp_path / "log", "--conversion", "orders", "--timezone", zone)
    events = raw["data"]["events"]
    assert events["date_column"] == "ts", said
    assert events["joined"]["orders"].get("days_after") == (1 if late else None), said


# -- a till, mails of several articles, lessons ------------------------------------------------------------------------


def coupons(width: int, coded: float) -> World:
    """Coupons that are shown and activated; a till's lines name the card, few of them a coupon, from the first of an
    activation on.

    Args:
        width: of the card's number at the till, with leading zeros in the app.
        coded: share of the till's lines with a coupon.
    """
    world = World()
    for day, _, user, item, page, place, at in world.exposures():
        card = f"{int(user[1:]) + 1_000:010}"
        row = {"zeit": at, "kartennr": card, "coupon_code": f"C{item:03}", "seite": page, "platz": place}
        activated, redeemed = world.rng.random() < 0.3, world.rng.random() < 0.5
        world.add("app", day, **row, aktiviert=int(activated))
        if activated and redeemed:
            when = at + dt.timedelta(hours=2)
            line = {"zeit": when, "kartennr": card.lstrip("0").zfill(width)}
            world.add("kassenbons", when.date(), **line, coupon_code=f"C{item:03}", betrag=9)
            for k in range(round(1 / coded) - 1):
                world.add("kassenbons", when.date(), **line, coupon_code=None, betrag=k)
    return world


def test_few_lines_of_a_till_have_a_coupon(tmp_path: Path) -> None:
    world = coupons(width=10, coded=0.25)
    world.write(tmp_path / "log")
    raw, _, said = guessed(tmp_path / "log", "--conversion", "kassenbons", "--within", "24h")
    assert "kassenbons" in raw["data"]["events"]["joined"], said
    assert raw["data"]["events"]["joined"]["kassenbons"]["key"] == "exposure"


def test_a_table_whose_cards_are_written_otherwise_says_how(tmp_path: Path) -> None:
    coupons(width=4, coded=1).write(tmp_path / "log")
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--conversion", "kassenbons")
    said = "kassenbons/{day}.parquet tells nothing of what was shown: its rows name items (coupon_code, each in several"
    assert ended.code == 2 and said in ended.err
    assert "with leading zeros, 10 characters long" in ended.err and "has no column" not in ended.err


def test_an_array_of_a_csv_that_is_exploded_keeps_its_type(tmp_path: Path) -> None:
    """Mails with a list of articles as JSON, clicks that name a mail and an article."""
    world = World()
    for day, _, user, item, mail, place, at in world.exposures():
        if place == 0:
            world.add("sends", day, send_id=mail, user_id=user, sent_at=at, article_ids=[])
        world.tables["sends"][day][-1]["article_ids"].append(f"a{item}")
        clicked, seconds = world.rng.random() < 0.3, int(world.rng.exponential(40))
        if clicked:
            world.add("clicks", day, send_id=mail, user_id=user, article_id=f"a{item}", seconds_on_page=seconds)
        world.count(day, clicked, seconds >= 30)
    for table, by_day in world.tables.items():
        (tmp_path / "log" / table).mkdir(parents=True)
        for day, rows in by_day.items():
            frame = pl.DataFrame(rows, infer_schema_length=None)
            if table == "sends":
                frame = frame.with_columns(
                    article_ids=pl.Series([json.dumps(x) for x in frame["article_ids"].to_list()])
                )
            frame.write_csv(tmp_path / "log" / table / f"{day}.csv")
    raw, _, said = guessed(tmp_path / "log", "--conversion", "seconds_on_page >= 30")
    assert raw["data"]["types"]["article_ids"] == "list<text>" and raw["data"]["events"]["explode"] == "article_ids", (
        said
    )
    agrees(tmp_path / "log", world.truth)


def test_a_share_of_what_was_read_begins_where_it_was_started(tmp_path: Path) -> None:
    """A rating has no start; how much of a lesson was done has."""
    world = World()
    for day, _, user, item, page, place, at in world.exposures():
        started, done = world.rng.random() < 0.2, float(world.rng.integers(1, 101))
        row = {"child_id": user, "lesson_id": item, "at": at, "shelf": page, "col": place}
        world.add("home", day, **row, started=started, completed_pct=done if started else None)
        world.count(day, started, True)
    world.write(tmp_path / "log")
    raw, _, said = guessed(tmp_path / "log")
    events = raw["data"]["events"]
    assert (events["click"], events["duration"]) == ("started", "completed_pct"), said
    assert "durations of clicks" in said and "seconds of a click" not in said


def test_profiles_of_an_account_may_be_the_users(tmp_path: Path) -> None:
    """A table has a row for each account and number of a child, and what it says to write is read."""
    world = World()
    for day, _, user, item, page, place, at in world.exposures():
        row = {"parent_id": f"p{int(user[1:]) // 3}", "child_id": int(user[1:]) % 3 + 1, "lesson_id": item, "at": at}
        world.add("home", day, **row, shelf=page, col=place, started=world.rng.random() < 0.2, done=1)
    world.write(tmp_path / "log")
    pairs = sorted({(row["parent_id"], row["child_id"]) for rows in world.tables["home"].values() for row in rows})
    profiles = pl.DataFrame(pairs, schema=["parent_id", "child_id"], orient="row").with_columns(
        age=pl.int_range(pl.len())
    )
    profiles.write_parquet(tmp_path / "log/profiles.parquet")
    options = ("--user", "parent_id", "--conversion", "started AND done = 1")
    _, _, said = guessed(tmp_path / "log", *options)
    (line,) = (line for line in said.splitlines() if "is each of these a user?" in line)
    assert line.startswith("WARNING: profiles.parquet: it has a row for each parent_id and child_id")
    made = yaml.safe_load(line.partition("Then write computed: ")[2].partition(" and user: ")[0])
    of_users = yaml.safe_load(line.partition("in data.events, ")[2].removesuffix(" in data.users"))
    raw = yaml.safe_load((tmp_path / "mine.yaml").read_text())
    raw["data"]["events"] |= {"user": "somebody", "computed": raw["data"]["events"]["computed"] | made}
    raw["data"]["users"] = of_users
    raw["features"] = ["auto", {"name": "age", "side": "user", "kind": "numeric"}]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw))
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", LAST, "--json")
    assert found.code == 0 and found.json["join"]["users_joined"] == 1, found.err
    assert found.json["users"] == len(pairs)


@pytest.mark.parametrize("resent", [0.05, 0.0])
def test_beats_that_are_sent_again_are_read_once(tmp_path: Path, resent: float) -> None:
    """A beat has a number of its own and the time at which it was received; beats of one session are none twice."""
    world, beat = World(), 0
    for day, number, user, item, page, place, at in world.exposures():
        world.add("shown", day, token=f"t{number}", user_id=user, stream_id=item, ts=at, page=page, slot=place)
        for k in range(int(world.rng.integers(1, 4)) if world.rng.random() < 0.4 else 0):
            beat += 1
            row = {"token": f"t{number}", "beat_nr": beat, "visit": f"v{number}", "seconds": 10}
            world.add("beats", day, **row, got=at + dt.timedelta(seconds=10 * k))
            if world.rng.random() < resent:
                world.add("beats", day, **row, got=at + dt.timedelta(seconds=10 * k + 3))
    world.write(tmp_path / "log")
    raw, _, said = guessed(tmp_path / "log")
    beats = raw["data"]["events"]["joined"]["beats"]
    assert beats.get("unique") == ("beat_nr" if resent else None), said


@pytest.mark.parametrize("column", ["impression_id", "id"])
def test_only_what_was_shown_has_the_user_and_the_item(tmp_path: Path, column: str) -> None:
    """A stream whose other rows have the id of what was shown, and nothing else."""
    world = World()
    for day, number, user, item, page, place, at in world.exposures():
        own = {column: number}
        row = {"event": "impression", **own, "uid": user, "item_id": item, "ts": at, "page": page, "slot": place}
        world.add("log", day, **row)
        click, seconds = world.rng.random() < 0.3, int(world.rng.exponential(25))
        if click:
            world.add("log", day, event="click", **own, ts=at + dt.timedelta(seconds=1))
            for k in range(10, seconds + 1, 10):
                world.add("log", day, event="heartbeat", **own, ts=at + dt.timedelta(seconds=k), read_seconds=k)
        world.count(day, click, seconds >= 30)
    world.write(tmp_path / "log")
    _, _, said = guessed(tmp_path / "log")
    ended = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", LAST, "--json", "--set", "labels.long_read=29")
    labels = ended.json["labels"]
    assert (ended.json["rows"], labels["clicks"]) == (world.truth["rows"], world.truth["clicks"]), said
    assert labels["long_read_rate_at_29"] == pytest.approx(world.truth["good"] / world.truth["clicks"], abs=1e-4)
