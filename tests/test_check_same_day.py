"""What `check` says of features of the events that are made of the day itself; nothing of honest ones."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import hypergeom, spearmanr
from worlds import DAYS, Project

from dmtl_cli.guess.features import rates

USERS, ITEMS, ROWS = 300, 150, 9_000
THREE = DAYS[:3]
FIX = "name it in data.events.outcomes and leave the feature out, or give the value of the day before"
TOLD = pl.col("tapped").sum().alias("k"), pl.len().alias("n"), pl.col("good").sum().alias("z")


@cache
def drawn() -> pl.DataFrame:
    """Three days of events: readers and plants are tapped as often on all of them, `good` if read for long. The last
    ten readers are crawlers, which never tap."""
    rng = np.random.default_rng(17)
    eager, liked = rng.normal(-0.8, 0.6, USERS), rng.normal(0, 0.6, ITEMS)
    eager[-10:] = -99
    parts = []
    for day in THREE:
        u, i = rng.choice(USERS, ROWS, p=rng.dirichlet(np.full(USERS, 4.0))), rng.integers(0, ITEMS, ROWS)
        tapped = rng.random(ROWS) < 1 / (1 + np.exp(-eager[u] - liked[i]))
        secs = rng.exponential(30, ROWS) * tapped
        at = [dt.datetime.fromisoformat(day) + dt.timedelta(seconds=int(s)) for s in rng.integers(0, 86_400, ROWS)]
        columns = {"reader": u, "plant": i, "tapped": tapped.astype(int), "secs": secs, "at": at, "slope": eager[u]}
        parts.append(pl.DataFrame(columns).with_columns(day=pl.lit(day), good=secs > secs[tapped].mean()))
    return pl.concat(parts)


def by_day(key: str) -> pl.DataFrame:
    """Of each id and day, in order: `n` events, `k` taps, `z` good ones, and those of the days up to it (`N`, `K`)."""
    days = pl.DataFrame({"day": THREE}).join(drawn().select(key).unique(), how="cross")
    told = days.join(drawn().group_by("day", key).agg(*TOLD), on=["day", key], how="left").fill_null(0).sort(key, "day")
    return told.with_columns(N=pl.col("n").cum_sum().over(key), K=pl.col("k").cum_sum().over(key))


def beside(key: str, **columns: pl.Expr) -> pl.DataFrame:
    """The events with columns of their reader or plant on the day."""
    return drawn().join(by_day(key).select("day", key, **columns), on=["day", key], how="left", maintain_order="left")


def grade(reads: pl.Expr) -> pl.Expr:
    return pl.when(reads == 0).then(pl.lit("C")).when(reads < 3).then(pl.lit("B")).otherwise(pl.lit("A"))


def project(home: Path, frame: pl.DataFrame, features: Mapping[str, tuple[str, str]]) -> Project:
    """A log of the frame's events, with features (side, kind) of them."""
    for (day,), part in frame.group_by("day"):
        (home / f"log/events/day={day}").mkdir(parents=True)
        part.drop("day", "good").sort("at").write_parquet(home / f"log/events/day={day}/0.parquet")
    made = Project.create(home, home / "log")
    events = {"user": "reader", "item": "plant", "click": "tapped", "duration": "secs", "time": "at"}
    made.config["data"] = {"root": str(home / "log"), "events": {"path": "events", "partition": "day"} | events}
    made.config["features"] = [
        {"name": "reader", "side": "user", "kind": "categorical"},
        {"name": "plant", "side": "item", "kind": "categorical"},
        *({"name": c, "side": side, "kind": kind} for c, (side, kind) in features.items()),
    ]
    made.write()
    return made


def said(made: Project, day: str) -> list[str]:
    ended = made.call("check", "--day", day, "--json")
    assert (ended.code, ended.err) == (0, "")
    found: list[str] = ended.json["suggestions"]
    return found


# -- made of the day ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["item", "context"])
def test_a_rate_of_some_days_that_the_first_day_tells(tmp_path: Path, side: str) -> None:
    frame = beside("plant", rate_7d=(pl.col("K") / pl.col("N")).round(4))
    made = project(tmp_path, frame, {"rate_7d": (side, "numeric")})
    first = by_day("plant").filter((pl.col("day") == THREE[0]) & (pl.col("k") > 0) & (pl.col("k") < pl.col("n")))
    seen = f"it is the share of clicks on the day, for 100% of the {len(first)} items with some: {FIX}"
    assert said(made, THREE[0]) == [f"rate_7d: {seen}"]
    assert said(made, THREE[2]) == [f"rate_7d: on {THREE[0]}, the first day of the log, {seen}"]


def test_a_score_that_is_written_back(tmp_path: Path) -> None:
    """A level a user and day, and a little noise in each row."""
    noise = pl.Series(np.random.default_rng(1).normal(0, 0.01, len(drawn())))
    frame = beside("reader", churn=0.9 - pl.col("k") / pl.col("n")).with_columns(pl.col("churn") + noise)
    made = project(tmp_path, frame, {"churn": ("context", "numeric")})
    (line,) = said(made, THREE[1])
    assert line.startswith("churn: it follows a user's share of clicks on the day (rank correlation -.")
    assert "with that of the day before; " in line and line.endswith(f"with that of the day after): {FIX}")


def test_a_grade_of_the_day(tmp_path: Path) -> None:
    made = project(tmp_path, beside("reader", grade=grade(pl.col("z"))), {"grade": ("context", "categorical")})
    today = by_day("reader").filter((pl.col("day") == THREE[2]) & (pl.col("n") > 0))
    none = today.filter(pl.col("z") == 0)
    would = today["z"].sum() / today["n"].sum() * none["n"].sum()
    rows = f"of their {none['n'].sum():,} rows {would:,.0f} would be, as of all"
    usual = "and on the days beside it they have as others do"
    assert said(made, THREE[2]) == [
        f"grade: the {len(none)} users with C have no reads on the day ({rows}, {usual}): {FIX}"
    ]


def test_the_number_of_the_days_clicks(tmp_path: Path) -> None:
    made = project(tmp_path, beside("reader", taps=pl.col("k")), {"taps": ("user", "numeric")})
    several = by_day("reader").filter((pl.col("day") == THREE[1]) & (pl.col("k") > 1))
    number = f"it is the number of the day's clicks, for 100% of the {len(several)} users with several"
    assert said(made, THREE[1]) == [f"taps: {number}: {FIX}"]


# -- honest ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["entity", "context"])
def test_what_was_known_before_the_day_is_not_doubted(tmp_path: Path, side: str) -> None:
    """Rates and grades of the day before and of all days before, traits that tell the click, prices, the length of the
    day's list, a rare code, and one of crawlers who never click."""
    rng = np.random.default_rng(2)
    eve = {c: pl.col(c).shift(1).over("reader") for c in "knzKN"}
    frame = beside(
        "reader",
        eve_rate=eve["k"] / eve["n"],
        rate_before=(eve["K"] / eve["N"]).round(4),
        eve_grade=grade(eve["z"]),
        taps_before=eve["K"],
        shown_today=pl.col("n"),
    )
    own = pl.col("plant")
    of_plants = by_day("plant").select("day", "plant", plant_rate=(pl.col("K") / pl.col("N")).shift(1).over("plant"))
    price = pl.DataFrame({"plant": range(ITEMS), "price": rng.lognormal(2, 1, ITEMS).round(2)})
    frame = frame.join(of_plants, on=["day", "plant"], how="left").join(price, on="plant", how="left")
    frame = frame.with_columns(
        crawls=pl.when(pl.col("reader") >= USERS - 10).then(pl.lit("yes")).otherwise(pl.lit("no")),
        plan=pl.when(pl.col("reader") < 4).then(pl.lit("gold")).otherwise(pl.lit("free")),
        patient=(pl.col("slope") * 2).round(0).cast(pl.String),
        colour=pl.when(own < 3).then(pl.lit("blue")).otherwise(pl.lit("green")),
    )
    codes = {"eve_grade": "user", "crawls": "user", "plan": "user", "patient": "user", "colour": "item"}
    users = ("eve_rate", "rate_before", "taps_before", "shown_today", "slope")
    measured = dict.fromkeys(users, "user") | {"price": "item", "plant_rate": "item"}
    kinds = dict.fromkeys(codes, "categorical") | dict.fromkeys(measured, "numeric")
    features = {c: (s if side == "entity" else "context", kinds[c]) for c, s in (codes | measured).items()}
    made = project(tmp_path, frame, features)
    asked = [line for day in THREE for line in said(made, day) if "prices" not in line]
    assert asked == []


def test_a_day_without_others_tells_its_own_count_alone(tmp_path: Path) -> None:
    """Whether a score follows the day's rate more than other days' cannot be told; a code without a click can."""
    columns = {"churn": pl.col("k") / pl.col("n") + (pl.col("reader") % 7) / 10, "grade": grade(pl.col("z"))}
    frame = beside("reader", **columns).filter(pl.col("day") == THREE[0])
    made = project(tmp_path, frame, {"churn": ("user", "numeric"), "grade": ("user", "categorical")})
    (line,) = said(made, THREE[0])
    assert line.startswith("grade: the ") and "days beside it" not in line


# -- statistics --------------------------------------------------------------------------------------------------------


def ids(k: np.ndarray, n: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame({"id": np.arange(len(k)), "rows": n, "click": k, "click_of": n})


def test_correlations_are_those_of_scipy_where_both_days_have_as_many_events() -> None:
    rng = np.random.default_rng(3)
    n, p = np.full(400, 30), rng.beta(3, 8, 400)
    own, eve, after = (ids(rng.binomial(n, p), n) for _ in range(3))
    x = pl.Series(np.sqrt(own["click"].to_numpy()) + rng.normal(0, 0.1, 400) - 5.5 * p)
    r, r_eve, r_after = (spearmanr(x, day["click"]).statistic for day in (own, eve, after))
    line = rates.followed(x, own, lambda: {"the day before": eve, "the day after": after}, "click", "clicks", "user")
    told = [f"{round(v, 2) + 0.0:.2f}".replace("0.", ".") for v in (r, r_eve, r_after)]
    assert line is not None and f"(rank correlation {told[0]}; {told[1]} with" in line and f"; {told[2]} with" in line


def test_a_day_with_more_events_has_the_closer_rate() -> None:
    """A trait follows it more closely, and is not made of it."""
    rng = np.random.default_rng(4)
    p = rng.beta(4, 16, 600)
    many, few = np.full(600, 300), np.full(600, 6)
    own, eve = ids(rng.binomial(many, p), many), ids(rng.binomial(few, p), few)
    close, far = (spearmanr(p, d["click"]).statistic for d in (own, eve))
    assert close > 2 * far and np.arctanh(close) - np.arctanh(far) > 4 * np.sqrt(2 / 597)
    assert rates.followed(pl.Series(p), own, lambda: {"the day before": eve}, "click", "clicks", "user") is None


@pytest.mark.parametrize("seed", range(5))
def test_the_chance_is_a_hypergeometric_one_in_each_stratum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 64, 200)
    here, empty = rng.random(200) < 0.1, rng.random(200) < 0.7
    empty |= here
    stratum, exact = np.log2(n).astype(int), 0.0
    for s in np.unique(stratum):
        in_it = stratum == s
        drawn_ids = int(here[in_it].sum())
        exact += hypergeom.logpmf(drawn_ids, int(in_it.sum()), int(empty[in_it].sum()), drawn_ids)
    assert rates.chance(here, empty, rates.by_rows(n)) == pytest.approx(exact, abs=1e-8)


def test_users_of_few_rows_are_no_surprise() -> None:
    """Guests come once, and hardly click, whoever of those that come once they are."""
    rng = np.random.default_rng(5)
    n = np.repeat([50, 20], [600, 240])
    k = np.where(n == 50, rng.binomial(50, 0.1, 840), np.arange(840) % 30 == 0)
    guest = (n == 20) & (np.cumsum((n == 20) & (k == 0)) <= 40) & (k == 0)
    code = pl.Series(np.where(guest, "guest", "member"))
    assert guest.sum() == 40 and k.sum() / n.sum() * n[guest].sum() > rates.EXPECTED
    assert hypergeom.logpmf(40, 840, (k == 0).sum(), 40) < rates.CHANCE, "among all they would be one"
    assert rates.without(code, ids(k, n), dict, "click", "clicks", "user") is None
    fewer = np.where(guest, k, np.maximum(k, 1))
    assert rates.without(code, ids(fewer, n), dict, "click", "clicks", "user") is not None


def test_a_code_of_clicks_alone() -> None:
    n = np.full(200, 20)
    k = np.where(np.arange(200) < 60, 20, 6)
    code = pl.Series(["hit"] * 60 + ["other"] * 140)
    others = {"the day before": ids(np.full(200, 10), n)}
    line = rates.without(code, ids(k, n), lambda: others, "click", "clicks", "item")
    of_all = f"{1200 * k.sum() / n.sum():,.0f}"
    usual = "as of all, and on the days beside it they have as others do"
    assert (
        line == f"the 60 items with hit have clicks alone on the day (of their 1,200 rows {of_all} would be, {usual})"
    )
    stable = {"the day before": ids(k, n)}
    assert rates.without(code, ids(k, n), lambda: stable, "click", "clicks", "item") is None
