"""What `check` and `init` say of columns that are the same in all rows of a request: of those that are made of its own
clicks, and nothing of what was known before it."""

from __future__ import annotations

import datetime as dt
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from worlds import DAYS, Project, dmtl

from dmtl_cli.guess.columns.roles import Guess, Roles
from dmtl_cli.guess.features.requests import UNSERVED, made_of_the_request, outcomes_of_requests

USERS, ITEMS, REQUESTS = 250, 120, 1_500
FIX = "name it in data.events.outcomes and leave the feature out"
CALLED = {"click": "clicks"}


@cache
def drawn() -> pl.DataFrame:
    """Two days of requests of 1 to 12 items, three of a user one after the other a visit. Of their users a tenth are
    crawlers; a widget, which is the place of a fifth of the requests, cannot be clicked; the mood says much."""
    rng = np.random.default_rng(23)
    parts = []
    for k, day in enumerate(DAYS[:2]):
        user = np.sort(rng.integers(0, USERS, REQUESTS))
        size, mood = np.minimum(12, rng.geometric(0.15, REQUESTS)), rng.integers(0, 4, REQUESTS)
        place = rng.choice(4, REQUESTS, p=[0.2, 0.5, 0.2, 0.1])
        crawler = user < USERS // 10
        slope = np.where(crawler | (place == 0), -99, -2.2 + 0.9 * mood + rng.normal(0, 0.5, USERS)[user])
        of = np.repeat(np.arange(REQUESTS), size)
        n = len(of)
        items = (rng.integers(0, ITEMS, REQUESTS)[of] + pl.Series(of).cum_count().to_numpy()) % ITEMS
        liked = rng.normal(0, 0.5, ITEMS)[items]
        click = rng.random(n) < 1 / (1 + np.exp(-slope[of] - liked))
        start = dt.datetime.fromisoformat(day)
        columns: dict[str, Any] = {
            "reader": user[of], "plant": items, "page": of + k * REQUESTS, "visit": of // 3 + k * REQUESTS,
            "tapped": click.astype(int), "secs": np.round(rng.exponential(30, n) + 1, 1) * click,
            "at": [start + dt.timedelta(seconds=int(s)) for s in of * 50 + rng.integers(0, 5, n)],
            "mood": mood[of], "place": place[of], "crawls": crawler[of], "day": [day] * n,
        }  # fmt: skip
        parts.append(pl.DataFrame(columns))
    return pl.concat(parts)


def honest() -> dict[str, pl.Expr]:
    """What a request knows: its length and what follows it, a code and a word of the place, the user's own rate."""
    n = pl.len().over("page")
    noise = pl.Series(np.random.default_rng(3).normal(0, 1, 2 * REQUESTS))
    before = pl.col("tapped").sum().over("reader") - pl.col("tapped").sum().over("page")
    return {
        "mood_of_page": pl.col("mood"),
        "place_no": pl.col("place"),
        "surface": pl.col("place").replace_strict([0, 1, 2, 3], ["widget", "feed", "search", "mail"]),
        "length": n,
        "height_px": n * 120,
        "at_once": pl.min_horizontal(n, 4),
        "crawler": pl.col("crawls"),
        "rate_of_reader": pl.col("tapped").mean().over("reader").round(3),
        "taps_elsewhere": before,
        "latency_ms": pl.lit(noise.exp().round(3)).gather(pl.col("page")),
        "no_filters": pl.lit(noise).gather(pl.col("page")).clip(0),
        "words": pl.when(pl.col("place") == 2).then(pl.format("query {}", pl.col("page"))),
    }


def leaks() -> dict[str, tuple[pl.Expr, str]]:
    """What came of a request or a visit, each with a part of what is said of it."""
    k, seconds, of_visit = (
        pl.col(c).sum().over(by) for c, by in (("tapped", "page"), ("secs", "page"), ("tapped", "visit"))
    )
    differs = "it tells the number of its clicks: of what differs between requests of one length it leaves "
    whether = "it tells whether there are clicks in it, for 100% of the "
    return {
        "opened": (k, "it is the number of its clicks, for 100% of the "),
        "ctr": ((k / pl.len().over("page")).round(4), differs),
        "left_happy": (k > 0, whether),
        "last_one": (pl.when(k > 0).then(pl.format("plant {}", pl.col("page"))), whether),
        "sum_of_page": (seconds, "it tells "),
        "in_visit": (of_visit, "requests with 0 have no clicks (of their "),
        "sum_of_visit": (pl.col("secs").sum().over("visit"), "requests with 0 have no clicks (of their "),
    }


def project(home: Path, features: dict[str, pl.Expr]) -> Project:
    frame = drawn().with_columns(**features)
    for (day,), part in frame.group_by("day", maintain_order=True):
        (home / f"log/events/day={day}").mkdir(parents=True)
        part.drop("day", "visit", "mood", "place", "crawls").write_parquet(home / f"log/events/day={day}/0.parquet")
    made = Project.create(home, home / "log")
    events = {"user": "reader", "item": "plant", "click": "tapped", "duration": "secs", "time": "at", "request": "page"}
    made.config["data"] = {"root": str(home / "log"), "events": {"path": "events", "partition": "day"} | events}
    kinds = {c: "numeric" if frame[c].dtype.is_numeric() else "categorical" for c in features}
    made.config["features"] = [
        {"name": "reader", "side": "user", "kind": "categorical"},
        {"name": "plant", "side": "item", "kind": "categorical"},
        *({"name": c, "side": "context", "kind": kind} for c, kind in kinds.items()),
    ]
    made.write()
    return made


def said(made: Project, day: str) -> list[str]:
    ended = made.call("check", "--day", day, "--json")
    assert (ended.code, ended.err) == (0, "")
    return [line for line in ended.json["suggestions"] if "request" in line]


def test_what_a_request_knows_is_not_doubted_and_not_served(tmp_path: Path) -> None:
    made = project(tmp_path, honest())
    unread = f"{', '.join(honest())}: {UNSERVED}"
    assert [line for day in DAYS[:2] for line in said(made, day)] == [unread, unread]


@pytest.mark.parametrize(("changed", "known"), [(0.002, True), (0.03, False)])
def test_what_changes_within_requests_no_server_knows_as_it_answers(
    tmp_path: Path, changed: float, known: bool
) -> None:
    """One value of nearly all rows of a request, as of a shelf that plays go on from."""
    differs = pl.Series(np.random.default_rng(11).random(len(drawn())) < changed)
    goes_on = pl.when(pl.lit(differs)).then(9).otherwise(pl.col("mood"))
    (line,) = said(project(tmp_path, {"mood_of_page": pl.col("mood"), "shelf": goes_on}), DAYS[1])
    assert line == f"mood_of_page{', shelf' * known}: {UNSERVED}"


def test_what_a_user_tower_reads_of_a_request_is_told_where_it_is_made_of_clicks_alone(tmp_path: Path) -> None:
    made = project(tmp_path, {"opened": leaks()["opened"][0], "mood_of_page": pl.col("mood")})
    for f in made.config["features"][2:]:
        f |= {"side": "user", "level": "event"}
    made.write()
    (line,) = said(made, DAYS[1])
    assert line.startswith("opened: one value a request, and it is the number of its clicks")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("session_length_sec", True), ("segundos_sesion", True), ("sayfa_ms", True), ("czas_na_stronie", True),
        ("warmth", False), ("page_depth", False), ("avg_page_ms", False),
    ],
)  # fmt: skip
def test_how_long_a_session_was_is_known_when_it_is_over(name: str, told: bool) -> None:
    """It says much of its clicks, as a mood may; its name says that it is no mood."""
    rows = drawn().filter(pl.col("day") == DAYS[0])
    clicks, n = (pl.col("tapped").sum().over("page"), pl.len().over("page"))
    page = np.random.default_rng(5).exponential(60, 2 * REQUESTS).round()
    x = rows.select((40 * clicks + 5 * n).alias("x") + pl.Series(page[rows["page"].to_numpy()])).to_series()
    of = rows.select(user="reader", request="page", click=pl.col("tapped") == 1)
    found = made_of_the_request(x, of, CALLED, name)
    assert (found is not None and "it tells the number of its clicks" in found) == told, found


def test_each_column_that_is_made_of_the_request_is_named(tmp_path: Path) -> None:
    made = project(tmp_path, {c: x for c, (x, _) in leaks().items()})
    lines = {line.partition(": ")[0]: line for line in said(made, DAYS[1])}
    assert lines.keys() == leaks().keys()
    for c, (_, part) in leaks().items():
        assert lines[c].startswith(f"{c}: one value a request, and ") and part in lines[c] and lines[c].endswith(FIX)


def test_without_a_request_nothing_is_said(tmp_path: Path) -> None:
    made = project(tmp_path, {"opened": leaks()["opened"][0]})
    del made.config["data"]["events"]["request"]
    made.write()
    assert said(made, DAYS[1]) == []


def test_init_takes_them_for_outcomes_and_what_a_request_knows_for_features(tmp_path: Path) -> None:
    project(tmp_path, honest() | {c: x for c, (x, _) in leaks().items()})
    ended = dmtl(
        "init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--user", "reader", "--item", "plant", "--json"
    )
    assert ended.code == 0, ended.err
    roles = {line["role"]: line for line in ended.json["roles"]}
    assert roles["request"]["column"] == "page"
    outcomes = set(roles["outcomes"]["why"].split(", "))
    assert outcomes >= leaks().keys() - {"last_one"} and not outcomes & honest().keys()
    (note,) = [line for line in (tmp_path / "mine.yaml").read_text().splitlines() if line.endswith(UNSERVED)]
    assert (
        {"mood_of_page", "place_no", "surface"} <= set(note.strip("# ").partition(": ")[0].split(", ")) <= {*honest()}
    )
    again = dmtl("init", tmp_path / "log", "-o", tmp_path / "again.yaml", "--user", "reader", "--item", "plant")
    assert UNSERVED not in again.out and again.code == 0, "its config and check say it, and nobody has to decide"
    day = ended.json["day"]
    assert UNSERVED in dmtl("check", "--config", tmp_path / "again.yaml", "--day", day).out


@pytest.mark.parametrize("rule", [(), ("--conversion", "saved = 1")])
def test_init_finds_what_is_made_of_another_outcome_than_the_click(tmp_path: Path, rule: tuple[str, ...]) -> None:
    """What a request adds up to of what was saved after a click, and whether anything was."""
    saved = (pl.col("tapped") * (pl.col("secs") > 20)).alias("saved")
    total = saved.sum().over("page")
    project(tmp_path, {"saved": saved, "saves_of_page": total, "any_saved": total > 0, **honest()})
    where = ("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--user", "reader", "--item", "plant")
    ended = dmtl(*where, *rule, "--json")
    assert ended.code == 0, ended.err
    outcomes = next(line["why"] for line in ended.json["roles"] if line["role"] == "outcomes").split(", ")
    assert {"saved", "saves_of_page", "any_saved"} <= {*outcomes} and not honest().keys() & {*outcomes}
    config = (tmp_path / "mine.yaml").read_text()
    assert (
        "saves_of_page  # one value a request, and it is the number of its rows with saved, for 100% of the " in config
    )


def test_what_goes_with_the_seconds_of_a_request_is_an_outcome_where_every_row_is_a_click() -> None:
    """Whatever it makes of their sum; not the number of its rows, nor what was known of the user before."""
    seconds = pl.col("secs").sum().over("page")
    columns = {
        "score": seconds.log1p(),
        "rows_of_page": pl.len().over("page"),
        "mean_of_reader": pl.col("secs").mean().over("reader"),
        "mood_of_page": pl.col("mood"),
    }
    frame = drawn().with_columns(secs=pl.col("secs") + 1 + pl.int_range(pl.len()) * 7 % 50).with_columns(**columns)
    roles = Roles(
        user=Guess("reader", ""), item=Guess("plant", ""), request=Guess("page", ""), duration=Guess("secs", "")
    )
    (found,) = outcomes_of_requests(frame.select("reader", "plant", "page", "secs", *columns), roles, None)
    assert found.column == "score" and "it goes with the sum of its secs (rank correlation 1" in found.why


# -- statistics --------------------------------------------------------------------------------------------------------


def rows(k: np.ndarray, n: int, users: np.ndarray) -> pl.DataFrame:
    """Requests of n rows, the first k of which are clicks."""
    click = np.arange(n) < k[:, None]
    of = np.arange(len(k)).repeat(n)
    return pl.DataFrame({"user": users[of], "request": of, "click": click.ravel().astype(np.int64)})


@pytest.mark.parametrize("wrong", [0.0, 0.02, 0.3])
def test_a_count_may_be_wrong_in_a_few_requests(wrong: float) -> None:
    """Of a copy of the counts some are those of other requests."""
    rng = np.random.default_rng(5)
    k, users = rng.binomial(8, 0.3, 2_000), rng.integers(0, 200, 2_000)
    x = np.where(rng.random(2_000) < wrong, rng.permutation(k), k)
    assert (made_of_the_request(pl.Series(x.repeat(8)), rows(k, 8, users), CALLED) is None) == (wrong > 0.1)


def test_requests_that_all_end_with_one_click_tell_nothing() -> None:
    """As of a log of choices, in which every list was kept until something was chosen."""
    rng = np.random.default_rng(6)
    k, users = np.ones(2_000, np.int64), rng.integers(0, 200, 2_000)
    assert made_of_the_request(pl.Series(k.repeat(8)), rows(k, 8, users), CALLED) is None


def test_what_splits_users_is_no_leak() -> None:
    """Half of them never click, the others do in nearly every request of 20."""
    rng = np.random.default_rng(7)
    users = rng.integers(0, 200, 2_000)
    k = np.where(users % 2 == 0, 0, rng.binomial(20, 0.3, 2_000))
    assert ((k > 0) == (users % 2 == 1)).mean() > 0.99
    assert made_of_the_request(pl.Series((users % 2).repeat(20)), rows(k, 20, users), CALLED) is None
    again = rng.integers(0, 200, 2_000)
    assert made_of_the_request(pl.Series((users % 2).repeat(20)), rows(k, 20, again), CALLED) is not None


def test_where_users_come_once_the_very_number_alone_is_told() -> None:
    """Half of them are bots, which never click; nothing of that is a leak."""
    rng = np.random.default_rng(9)
    users = np.arange(2_000)
    k = np.where(users % 2 == 0, 0, rng.binomial(40, 0.5, 2_000))
    every = rows(k, 40, users)
    assert made_of_the_request(pl.Series((users % 2).repeat(40)), every, CALLED) is None
    line = made_of_the_request(pl.Series(k.repeat(40)), every, CALLED)
    assert (
        line == "one value a request, and it is the number of its clicks, for 100% of the 1,000 requests with several"
    )


def test_a_measure_of_which_the_least_has_no_click_is_one_where_users_have_both() -> None:
    rng = np.random.default_rng(8)
    users = rng.integers(0, 200, 2_000)
    x = np.where(rng.random(2_000) < 0.4, 0.0, rng.exponential(60, 2_000))
    k = np.where(x == 0, 0, rng.binomial(5, 0.1, 2_000))
    line = made_of_the_request(pl.Series(x.repeat(5)), rows(k, 5, users), CALLED)
    zeros = int((x == 0).sum())
    assert line is not None and line.startswith(f"one value a request, and the {zeros} requests with 0 have no clicks")
    of_users = np.where(users < 80, 0.0, x + 1)
    k = np.where(users < 80, 0, rng.binomial(5, 0.1, 2_000))
    assert made_of_the_request(pl.Series(of_users.repeat(5)), rows(k, 5, users), CALLED) is None


def test_a_measure_may_be_infinite_where_there_is_no_click() -> None:
    """Seconds a click, of a request without one divided by 0."""
    rng = np.random.default_rng(5)
    users, k = np.repeat(np.arange(60), 10), rng.integers(0, 4, 600)
    with np.errstate(divide="ignore"):
        x = (30 + rng.random(600)) / k
    line = made_of_the_request(pl.Series(x.repeat(8)), rows(k, 8, users), CALLED)
    assert line is not None and "it tells the number of its clicks" in line
