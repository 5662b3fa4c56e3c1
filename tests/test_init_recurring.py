"""`init` by the days of rows: which id is the request, which codes are of no use, and what an item has for a day."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import unseen
from initiated import features, made
from worlds import dmtl

from dmtl_cli.guess.exposures.labels import roles_of
from dmtl_cli.guess.features.sides import is_of_day, never_back

ROWS, USERS, ITEMS = 7_200, 90, 120


def rows(seed: int = 0, **more: Any) -> tuple[pl.DataFrame, unseen.Columns]:
    """Visits of three lists of six rows; each list has a moment, each visit lasts some minutes."""
    rng = np.random.default_rng(seed)
    k = np.arange(ROWS)
    page, visit = k // 6, k // 18
    begin = int(unseen.START.timestamp()) + np.sort(rng.integers(0, 3 * 86_000, visit.max() + 1))
    at = begin[visit] + (page % 3) * 140 + rng.integers(0, 3, page.max() + 1)[page]
    user = rng.integers(0, USERS, visit.max() + 1)[visit]
    click = (rng.random(ROWS) < 0.3).astype(int)
    frame = {
        "member_id": user + 900, "sku": [f"s{i}" for i in rng.integers(0, ITEMS, ROWS)], "ts": at, "is_click": click,
        "play_seconds": click * np.round(rng.exponential(30, ROWS), 1),
    }  # fmt: skip
    return pl.DataFrame(frame | more), {"at": at, "page": page, "visit": visit, "item": frame["sku"]}


PAGES, VISITS = np.arange(ROWS) // 6, np.arange(ROWS) // 18


@pytest.mark.parametrize("pages", ["hoja", "reqid", "request_id", "sid"])
@pytest.mark.parametrize("visits", ["besuch", "session_id", "zz"])
def test_the_request_is_the_smallest_group_at_one_time(pages: str, visits: str) -> None:
    own = {
        visits: [f"v{v}" for v in VISITS],
        pages: [f"p{p}" for p in PAGES],
        "line_no": [f"r{k}" for k in range(ROWS)],
    }
    guess = roles_of(rows(**own)[0], {}).request
    assert guess is not None and guess.column == pages and visits in guess.others
    assert guess.why == "6.0 rows each, all of one user at one time"


def test_a_visit_is_the_request_where_nothing_is_smaller() -> None:
    guess = roles_of(rows(besuch=[f"v{v}" for v in VISITS])[0], {}).request
    assert guess is not None and (guess.column, guess.why) == (
        "besuch",
        "18.0 rows each, all of one user within hours",
    )


@pytest.mark.parametrize(("name", "found"), [("pageview_id", True), ("page_view_id", True), ("hoja", False)])
def test_where_users_come_once_its_name_tells_a_request(name: str, found: bool) -> None:
    """By its rows alone it may as well be a second name of the user."""
    guess = roles_of(rows(**{"member_id": PAGES + 900, name: [f"p{p}" for p in PAGES]})[0], {}).request
    assert (guess is not None and guess.column == name) is found


def test_what_is_of_one_item_is_an_exposure_and_no_request() -> None:
    frame, _ = rows(impression_id=[f"e{k}" for k in range(ROWS)], hoja=PAGES)
    again = frame.filter(pl.col("is_click") == 1)
    guess = roles_of(pl.concat([frame, again, again]), {}).request
    assert guess is not None and guess.column == "hoja"


def test_times_as_text_are_no_request() -> None:
    frame, x = rows()
    texts = pl.from_epoch(pl.Series("zeit", x["at"]), "s").dt.strftime("%d.%m.%Y %H:%M:%S")
    assert roles_of(frame.with_columns(texts), {}).request is None


# -- codes that never come back ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["days", "one file"])
def test_codes_that_never_come_back_are_no_features(tmp_path: Path, form: str) -> None:
    """Whatever they are called; what comes back is one, as many values as it may have."""
    rng = np.random.default_rng(1)
    term = [f"q{v}" for v in rng.zipf(1.6, ROWS) % 2_000]
    own = {
        "hoja": PAGES + 70_000,
        "topic": [f"v{v}" for v in VISITS],
        "term": term,
        "pair": [f"x{k // 2}" for k in range(ROWS)],
    }
    frame, x = rows(**own)
    zeit = pl.from_epoch(pl.Series("wann", x["at"]), "s").dt.strftime("%d.%m.%Y %H:%M:%S")

    def write(home: Path) -> None:
        if form == "days":
            unseen.by_day(home / "log", frame.with_columns(zeit), x)
        else:
            frame.with_columns(zeit).write_parquet(home / "log.parquet")

    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0 and raw["data"]["events"]["request"] == "pair", ended.err
    assert features(raw).keys() & {*own, "wann"} == {"term"}
    (line,) = (line for line in text.splitlines() if line.startswith("# topic: not used: "))
    assert line.endswith("400 codes, none of them is there on another day: a request's, session's or row's")
    (line,) = (line for line in text.splitlines() if line.startswith("# wann: not used: texts of times such as '0"))
    assert line.endswith("to be a feature it must be a number, such as the days from then to the day of the row")


def test_few_values_and_few_days_tell_nothing() -> None:
    frame, x = rows()
    users, visits = frame["member_id"], pl.Series("topic", VISITS)
    one = pl.Series([0] * ROWS)
    days = pl.Series(x["at"] // 86_400)
    assert never_back(pl.Series("campaign", x["at"] // 86_400), days, users) is None, "a value a day, but few"
    assert never_back(visits, one, users) == (
        "codes of one user each, of whom many have several: a request's or session's"
    )
    assert never_back(visits.rename("sid"), one, None) == "named like a request or session"
    towns = pl.Series("town", np.random.default_rng(2).integers(0, 300, ROWS))
    assert never_back(towns, one, users) is None and never_back(towns, days, users) is None
    night = pl.Series("topic", np.where(np.arange(ROWS) % 40 == 0, 7, VISITS))
    assert never_back(night, days, users) is not None, "some that last past midnight"


# -- values of an item and a day ---------------------------------------------------------------------------------------


def of_day(x: unseen.Columns, changed: float, seed: int = 3) -> np.ndarray:
    """Prices of which each day changes two thirds; a share of the rows has another one."""
    rng = np.random.default_rng(seed)
    price = rng.integers(100, 9_000, (4, ITEMS)) / 100
    day = x["at"] // 86_400 - x["at"].min() // 86_400
    item = np.array([int(i[1:]) for i in x["item"]])
    return np.where(rng.random(ROWS) < changed, 1.0, price[day, item])


@pytest.mark.parametrize(("changed", "side"), [(0.0, "item"), (0.02, "item"), (0.15, "context")])
def test_a_price_of_the_day_is_the_items(tmp_path: Path, changed: float, side: str) -> None:
    frame, x = rows()
    weekday = pl.Series("weekday", [f"d{d}" for d in x["at"] // 86_400])
    hour = pl.Series("hour", x["at"] // 3_600 % 24)
    frame = frame.with_columns(pl.Series("tarif", of_day(x, changed)), weekday, hour)
    ended, raw, text = made(tmp_path, lambda home: unseen.by_day(home / "log", frame, x))
    assert ended.code == 0 and features(raw)["tarif"]["side"] == side, ended.err
    assert ("one value an item and day, which another day changes" in text) == (side == "item")
    assert features(raw)["weekday"]["side"] == features(raw)["hour"]["side"] == "context", "a day's value is no item's"


@pytest.mark.parametrize("wrong", [0.0, 0.03, 0.2])
def test_init_does_not_doubt_the_side_that_it_writes(tmp_path: Path, wrong: float) -> None:
    """Some rows lack what an item has, or have another value: check says so where init makes no item's of it."""
    frame, x = rows()
    rng, item = np.random.default_rng(7), np.array([int(i[1:]) for i in x["item"]])
    campaign = np.where(rng.random(ROWS) < wrong, rng.integers(0, 3, ROWS), item % 3)
    said = pl.Series(
        "campaign", [None if gap else f"c{c}" for gap, c in zip(rng.random(ROWS) < 0.03, campaign, strict=True)]
    )
    ended, raw, text = made(tmp_path, lambda home: unseen.by_day(home / "log", frame.with_columns(said), x))
    side = features(raw)["campaign"]["side"]
    assert ended.code == 0 and side == ("context" if wrong > 0.1 else "item")
    assert "have several values this day" not in ended.out
    config = tmp_path / "mine.yaml"
    config.write_text(text.replace("{name: campaign, side: context", "{name: campaign, side: item"))
    checked = dmtl("check", "--config", config, "--day", "2026-03-03")
    assert ("have several values this day; the first is taken" in checked.out) == (side == "context")


def test_one_value_an_item_and_day_is_by_the_rows_of_the_day() -> None:
    frame, x = rows()
    days = pl.Series(x["at"] // 86_400)
    frame = frame.with_columns(pl.Series("tarif", of_day(x, 0.0)), pl.Series("at", x["at"] % 7))
    assert is_of_day(frame, "sku", "tarif", days) and not is_of_day(frame, "sku", "tarif", None)
    assert not is_of_day(frame, "sku", "at", days)
    assert not is_of_day(frame, "sku", "tarif", pl.Series([None] * ROWS, dtype=pl.Date))


# -- which id is the item ----------------------------------------------------------------------------------------------


def test_a_code_of_one_user_is_no_item(tmp_path: Path) -> None:
    """Of ids that no name tells, the one with most values may be that of a request or a row. Times that dmtl does not
    read are said, with what to write."""
    frame, x = rows(werk_nr=[f"w{i}" for i in np.random.default_rng(4).integers(0, 150, ROWS)])
    frame = frame.select(
        pl.Series("zeile_nr", range(ROWS)).cast(pl.String),
        pl.Series("vorgang_nr", [f"p{p}" for p in PAGES]),
        pl.from_epoch(pl.Series("zeit", x["at"]), "s").dt.strftime("%d.%m.%Y %H:%M:%S"),
        "werk_nr", "is_click", "play_seconds", pl.Series("slot", np.arange(ROWS) % 6), benutzer_nr="member_id",
    )  # fmt: skip
    ended, raw, text = made(tmp_path, lambda home: unseen.by_day(home / "log", frame, x))
    events = raw["data"]["events"]
    assert ended.code == 0 and (events["user"], events["item"]) == ("benutzer_nr", "werk_nr"), ended.err
    (line,) = (line for line in text.splitlines() if "# time: COLUMN" in line)
    assert "(zeit has times such as '0" in line and "write 2026-01-31 09:15:00 where they are to be read)" in line
    assert features(raw).keys() & {*frame.columns} == {"benutzer_nr", "werk_nr", "slot"}
