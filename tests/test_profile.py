"""Profiles: what is stored equals a plain loop over events, what a feature reads is worked out by hand, and a chain of
them is published through the command line."""

from __future__ import annotations

import copy
import datetime as dt
import itertools
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import BASE, DAYS, Project, events

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.config.reading import load_config
from dmtl_cli.config.schema import Config
from dmtl_cli.data.features.kinds import kind_of
from dmtl_cli.data.features.kinds.kind import Learned
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.log.values import sizes
from dmtl_cli.data.profile import today, update
from dmtl_cli.data.profile.plan import Plan, Rate
from dmtl_cli.data.profile.priors import STRENGTHS, Fit
from dmtl_cli.data.profile.stored import Profile, unknown
from dmtl_cli.synth.generate import generate

START = dt.date(2026, 1, 1)
Row = dict[str, Any]


def feature(name: str, side: str, profile: dict[str, Any], **options: Any) -> Row:
    kind = "sequence" if "history" in profile else "numeric"
    return {"name": name, "side": side, "kind": kind, "profile": profile, **options}


def config_of(home: Path, shape: Row, features: list[Row], **profile: int) -> Config:
    ids = [{"name": "user_id", "side": "user", "kind": "categorical"}]
    ids.append({"name": "item_id", "side": "item", "kind": "categorical"})
    shown = {"user": "user_id", "item": "item_id", **shape}
    whole = {"data": {"events": shown}, "features": [*ids, *features], "profile": profile}
    return load_config(Project.create(home, home / "log", config=whole).file, [])


# -- a chain equals a plain loop over its events -----------------------------------------------------------------------

SHAPES: dict[str, Row] = {
    "exposures": {"click": "click", "duration": "seconds", "time": "at", "request": "request"},
    "clicks alone": {"duration": "seconds", "time": "at"},
    "no time": {"click": "click", "conversion": "bought", "conversions": {"id": "like", "user": "shared"}},
}
TIMES = {"timestamps": pl.Datetime("ms"), "seconds": pl.Int64, "text": pl.String}
HALF_LIVES = (None, 0.0, 1.0, 7.0, 0.5)
THRESHOLD = 20.0


def random_rows(rng: random.Random, day: dt.date, text: bool) -> list[Row]:
    """Few users, items, times and requests, so that all repeat; some ids appear on this day alone."""
    midnight = dt.datetime.combine(day, dt.time())
    prefix = (lambda k: f"id{k}") if text else (lambda k: k * 1_000_003 - 5_000_000)
    own = day.day * 100
    return [
        {
            "user_id": prefix(rng.choice([*range(12), own, own + 1])),
            "item_id": prefix(rng.choice([*range(8), own])),
            "at": midnight + dt.timedelta(hours=rng.randrange(4)),
            "click": rng.random() < 0.5,
            "seconds": rng.choice([None, 5.0, 20.0, 25.0]),
            "request": rng.randrange(3),
            **{name: rng.choice([True, False, None]) for name in ("bought", "like", "shared")},
        }
        for _ in range(rng.randrange(20, 90))
    ]


def write_day(log: Path, day: dt.date, rows: list[Row], time: pl.DataType | type[pl.DataType] | None = None) -> None:
    frame = pl.DataFrame(rows, infer_schema_length=None)
    if "at" in frame.columns:
        frame = frame.with_columns(
            pl.col("at").dt.epoch("s") if time == pl.Int64 else pl.col("at").cast(time or pl.Datetime("ms"))
        )
    folder = log / "events" / f"day={day}"
    folder.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(folder / "part-0.parquet", row_group_size=17)


class Loop:
    """The reference: dictionaries and loops."""

    def __init__(self, shape: Row, lengths: dict[str, int], keep_days: int) -> None:
        self.shape, self.lengths, self.keep_days = shape, lengths, keep_days
        self.sides: dict[str, dict[Any, Row]] = {"user": {}, "item": {}}

    def happened(self, row: Row) -> list[str]:
        click = row["click"] if "click" in self.shape else True
        read = row["bought"] if "conversion" in self.shape else (row["seconds"] or 0.0) > THRESHOLD
        further = [name for name, column in self.shape.get("conversions", {}).items() if row[column]]
        shown = ["exposure"] if "click" in self.shape else []
        return [*shown, *(["click", *(["read"] if read else []), *further] if click else [])]

    def add(self, day: dt.date, rows: list[Row]) -> None:
        seen, kept = set(), []
        for row in rows:
            pair = (row["user_id"], row["item_id"], row["request"])
            if "request" not in self.shape or not row["click"] or pair not in seen:
                kept.append(row)
                seen |= {pair} if row["click"] else set()
        if "time" in self.shape:
            kept.sort(key=lambda row: row["at"])
        for side, stored in self.sides.items():
            todays: dict[Any, list[Row]] = {}
            for row in kept:
                todays.setdefault(row[f"{side}_id"], []).append(row)
            for key, its in todays.items():
                self.renew(day, stored.setdefault(key, {"first": day, "last": day, "counts": {}, "lists": {}}), its)
            for key in [k for k, one in stored.items() if (day - one["last"]).days >= self.keep_days]:
                del stored[key]

    def renew(self, day: dt.date, one: Row, its: list[Row]) -> None:
        days = (day - one["last"]).days
        for (event, h), count in one["counts"].items():
            one["counts"][event, h] = count * (1.0 if h is None else float(days == 0) if h == 0 else 0.5 ** (days / h))
        for row in its:
            for event in self.happened(row):
                for h in HALF_LIVES:
                    one["counts"][event, h] = one["counts"].get((event, h), 0.0) + 1
                at = row["at"] if "time" in self.shape else dt.datetime.combine(day, dt.time())
                one["lists"].setdefault(event, []).append((row["item_id"], at))
        one["last"] = day


def check(stored: Profile, loop: Loop, plan: Plan, known_times: bool) -> None:
    for side, expected in loop.sides.items():
        rows = list(pl.read_parquet(stored.folder / f"{side}s.parquet").iter_rows(named=True))
        assert [row["id"] for row in rows] == sorted(expected)
        for row in rows:
            one = expected[row["id"]]
            assert (row["first_seen"], row["last_seen"]) == (one["first"], one["last"])
            for event, h in plan.counts[side]:
                name = f"count.{event}.{'all' if h is None else f'{h:g}'}"
                assert row[name] == pytest.approx(one["counts"].get((event, h), 0.0), rel=1e-5), name
            for event, length in plan.histories.items() if side == "user" else ():
                items, times = (
                    zip(*one["lists"].get(event, [])[-length:], strict=True) if event in one["lists"] else ([], [])
                )
                assert row[f"history.{event}"] == [*items], event
                if known_times:
                    assert row[f"time.{event}"] == [*times], event
                else:
                    assert len(row[f"time.{event}"]) == len(times)


@pytest.mark.parametrize("text", [False, True], ids=["integers", "text"])
@pytest.mark.parametrize(("shape", "time"), [*((s, t) for s in list(SHAPES)[:2] for t in TIMES), ("no time", "text")])
@pytest.mark.parametrize("tiny", [False, True], ids=["whole", "in slices"])
def test_a_chain_equals_a_loop_over_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str, time: str, text: bool, tiny: bool
) -> None:
    if tiny:
        for module, name, value in (
            (today, "SLICE_ROWS", 3), (today, "SLICE_EVENTS", 7), (update, "GROUP", 4), (sizes, "BLOCK", 5),
            (sizes, "POOL", 2),
        ):  # fmt: skip
            monkeypatch.setattr(module, name, value)
    rng = random.Random(f"{shape} {time} {text}")
    names = [
        *(["exposure"] if "click" in SHAPES[shape] else []),
        "click",
        "read",
        *SHAPES[shape].get("conversions", {}),
    ]
    features = [
        feature(f"{side}_{e}_{k}", side, {"count": e, **({} if h is None else {"half_life_days": h})})
        for side in ("user", "item")
        for e in names
        for k, h in enumerate(HALF_LIVES)
    ]
    lengths = {event: 1 + 2 * k for k, event in enumerate(names)}
    features += [feature(f"last_{e}", "user", {"history": e}, max_length=n) for e, n in lengths.items()]
    features.append(feature("shorter", "user", {"history": names[-1]}, max_length=1))
    config = config_of(tmp_path, SHAPES[shape], features, keep_days=3)
    threshold = None if "conversion" in SHAPES[shape] else THRESHOLD
    plan, loop = Plan.of(config), Loop(SHAPES[shape], lengths, 3)
    before = None
    for k in (0, 1, 2, 5, 6):
        day = START + dt.timedelta(days=k)
        rows = random_rows(rng, day, text)
        write_day(tmp_path / "log", day, rows, TIMES[time])
        (scratch := tmp_path / f"tmp{k}").mkdir()
        (folder := tmp_path / f"profile{k}").mkdir()
        read = Log(config.data, (), timed=True).read(day, scratch)
        done = update.update(before, read, plan, threshold, 3, scratch, folder)
        known = {side: set(stored) for side, stored in loop.sides.items()}
        loop.add(day, rows)
        for side, stored in loop.sides.items():
            todays = {row[f"{side}_id"] for row in rows}
            its, gone = todays & known[side], known[side] - set(stored)
            assert done[side] == update.Updated(len(stored), len(its), len(todays - its), len(gone))
        before = Profile.open(folder)
        assert before.day == day
        check(before, loop, plan, known_times=time != "text" or shape == "no time")


@given(st.lists(st.integers(0, 60), unique=True), st.lists(st.integers(0, 60), unique=True, min_size=1), st.data())
@settings(max_examples=150, deadline=None)
def test_two_streams_go_in_step(old: list[int], new: list[int], data: st.DataObject) -> None:
    def cut(ids: list[int]) -> Iterator[pl.DataFrame]:
        ids = sorted(ids)
        while ids:
            n = data.draw(st.integers(1, len(ids)))
            yield pl.DataFrame({"id": ids[:n]}, schema={"id": pl.Int64})
            ids = ids[n:]

    empty = pl.DataFrame(schema={"id": pl.Int64})
    pairs = [(a["id"].to_list(), b["id"].to_list()) for a, b in update.in_step(cut(old), cut(new), empty)]
    assert [i for a, _ in pairs for i in a] == sorted(old) and [i for _, b in pairs for i in b] == sorted(new)
    whole = [a + b for a, b in pairs]
    assert all(whole) and all(max(x) < min(y) for x, y in itertools.pairwise(whole))


def test_blocks_have_times_only_where_they_are_read(tmp_path: Path) -> None:
    config = config_of(tmp_path, SHAPES["exposures"], [])
    write_day(tmp_path / "log", START, rows := random_rows(random.Random(1), START, text=False))
    blocks = {timed: next(Log(config.data, (), timed=timed).read(START, tmp_path).blocks()) for timed in (True, False)}
    times = blocks[True].time
    assert times is not None and times.to_list() == [rows[k]["at"] for k in blocks[True].position]
    assert blocks[False].time is None


def test_times_are_instants_of_their_day() -> None:
    def at(*values: Any, kind: Any = None) -> list[dt.datetime]:
        rows = pl.DataFrame({"_time": pl.Series(values, dtype=kind)})
        return today.instants(rows, START).to_list()

    midnight, noon = dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 1, 12)
    seconds = int(noon.replace(tzinfo=dt.UTC).timestamp())
    assert at(seconds, seconds * 1000, 12, -3) == [noon, noon, midnight, midnight]
    assert at(seconds + 0.25, float("nan")) == [noon.replace(microsecond=250_000), midnight]
    assert at(noon, kind=pl.Datetime("ns")) == at(noon, kind=pl.Datetime("us")) == [noon]
    tokyo = pl.Series([noon]).dt.replace_time_zone("Asia/Tokyo")
    assert at(*tokyo, kind=tokyo.dtype) == [dt.datetime(2026, 1, 1, 3)]
    assert at("12:00") == at(dt.time(12)) == at(dt.datetime(2027, 1, 1)) == [midnight]
    assert today.instants(pl.DataFrame({"user": [1, 2]}), START).to_list() == [midnight] * 2


# -- priors ------------------------------------------------------------------------------------------------------------

RATE = Rate("item", "click", "exposure", None)


def prior(k: list[float], n: list[float]) -> tuple[float, float]:
    rows = pl.DataFrame({"count.click.all": k, "count.exposure.all": n, "last_seen": [START] * len(k)})
    fit = Fit([RATE], START)
    for part in rows.cast({"count.click.all": pl.Float32, "count.exposure.all": pl.Float32}).iter_slices(7):
        fit.add(part)
    found = fit.priors()[RATE]
    return found.mean, found.strength


def test_a_prior_is_that_of_kleinman() -> None:
    """Against the paper's formula with weights n, term by term."""
    rng = np.random.default_rng(3)
    n = rng.integers(1, 40, 200)
    k = rng.binomial(n, rng.beta(2, 6, 200))
    p, w, mean = k / n, n.sum(), k.sum() / n.sum()
    s = sum(n_i * (p_i - mean) ** 2 for n_i, p_i in zip(n, p, strict=True))
    noise = mean * (1 - mean)
    chance = sum((n_i / n_i) * (1 - n_i / w) for n_i in n)
    gamma = (s - noise * chance) / (noise * (sum(n_i * (1 - n_i / w) for n_i in n) - chance))
    assert prior(k.tolist(), n.tolist()) == (pytest.approx(mean), pytest.approx(1 / gamma - 1, rel=1e-6))


def test_a_prior_finds_the_strength_of_drawn_rates() -> None:
    rng = np.random.default_rng(4)
    n = rng.integers(1, 100, 20_000)
    mean, strength = prior(rng.binomial(n, rng.beta(2, 6, len(n))).tolist(), n.tolist())
    assert mean == pytest.approx(0.25, abs=0.005) and strength == pytest.approx(8, rel=0.05)


@pytest.mark.parametrize("half_life", [1, 7])
def test_decayed_events_are_worth_less_than_their_number(half_life: int) -> None:
    """Rates drawn with strength 8, seen in thirty days of few events."""
    rng = np.random.default_rng(5)
    rates, names = rng.beta(2, 6, 50_000), ["count.click", "count.exposure", "count.exposure"]
    counters = np.zeros((3, len(rates)))
    for _ in range(30):
        shown = rng.poisson(0.7, len(rates))
        clicked = rng.binomial(shown, rates)
        counters = counters * (0.5 ** (np.array([1, 1, 2]) / half_life))[:, None] + [clicked, shown, shown]
    columns = [f"{name}.{h:g}" for name, h in zip(names, (half_life, half_life, half_life / 2), strict=True)]
    fit = Fit([rate := Rate("item", "click", "exposure", float(half_life))], START)
    fit.add(pl.DataFrame(dict(zip(columns, counters, strict=True))).with_columns(pl.lit(START).alias("last_seen")))
    found = fit.priors()[rate]
    assert found.mean == pytest.approx(0.25, abs=0.005) and found.strength == pytest.approx(8, rel=0.15)


@pytest.mark.parametrize(
    ("k", "n", "expected"),
    [
        ([0.0], [0.0], (0.0, STRENGTHS[0])),
        ([0.0, 0.0], [5.0, 9.0], (0.0, STRENGTHS[0])),
        ([2.0, 4.0], [2.0, 4.0], (1.0, STRENGTHS[0])),
        ([5.0, 10.0], [10.0, 20.0], (0.5, STRENGTHS[1])),
        ([0.0, 90.0], [90.0, 90.0], (0.5, STRENGTHS[0])),
        ([1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], (0.25, STRENGTHS[1])),
    ],
    ids=["no event", "never", "always", "equal rates", "as far apart as can be", "one event each"],
)
def test_priors_at_the_edge(k: list[float], n: list[float], expected: tuple[float, float]) -> None:
    mean, strength = prior(k, n)
    assert (mean, strength) == (pytest.approx(expected[0]), expected[1])


# -- values of features, by hand ---------------------------------------------------------------------------------------

VALUES = [
    feature("clicks", "item", {"count": "click"}),
    feature("clicks_0d", "item", {"count": "click", "half_life_days": 0.0}),
    feature("clicks_2d", "item", {"count": "click", "half_life_days": 2.0}),
    feature("ctr", "item", {"rate": "click", "of": "exposure", "prior_strength": 4.0}),
    feature("ctr_2d", "item", {"rate": "click", "of": "exposure", "half_life_days": 2.0, "prior_strength": 4.0}),
    feature("fitted", "item", {"rate": "click", "of": "exposure"}),
    feature("age", "item", {"age": "first_seen"}),
    feature("rest", "item", {"age": "last_seen"}),
    feature("last_clicks", "user", {"history": "click"}, max_length=3),
    feature("last_two", "user", {"history": "click"}, max_length=2),
    feature("shown", "user", {"count": "exposure"}),
]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Profile, dict[str, Feature]]:
    """Day 1: user 1 is shown items 10, 11, 10, 12 and clicks all but 11. Day 3: user 2 is shown 10, without a click."""
    home = tmp_path_factory.mktemp("small")
    shape = {"click": "click", "duration": "seconds"}
    config = config_of(home, shape, VALUES)
    days = {0: [(1, 10, True), (1, 11, False), (1, 10, True), (1, 12, True)], 2: [(2, 10, False)]}
    before = None
    for k, rows in days.items():
        day = START + dt.timedelta(days=k)
        names = ("user_id", "item_id", "click")
        write_day(home / "log", day, [{**dict(zip(names, row, strict=True)), "seconds": 30.0} for row in rows])
        (folder := home / f"profile{k}").mkdir()
        read = Log(config.data, (), timed=True).read(day, home)
        update.update(before, read, Plan.of(config), THRESHOLD, 60, home, folder)
        before = Profile.open(folder)
    assert before is not None
    return before, {f.name: f for f in config.features}


def values(
    small: tuple[Profile, dict[str, Feature]], side: str, ids: list[int], days: int, *names: str
) -> pl.DataFrame:
    profile, features = small
    return profile.features(side, pl.Series(ids), [features[n] for n in names], START + dt.timedelta(days=days))


def test_counts_are_those_of_the_day_asked_for(small: tuple[Profile, dict[str, Feature]]) -> None:
    found = values(small, "item", [12, 10, 99, 11], 2, "clicks", "clicks_0d", "clicks_2d")
    assert found["clicks"].to_list() == [1.0, 2.0, 0.0, 0.0]
    assert found["clicks_0d"].to_list() == [0.0, 0.0, 0.0, 0.0], "yesterday's alone"
    assert found["clicks_2d"].to_list() == [0.5, 1.0, 0.0, 0.0], "two days later"
    later = values(small, "item", [12, 10], 6, "clicks", "clicks_2d")
    assert later["clicks"].to_list() == [1.0, 2.0] and later["clicks_2d"].to_list() == [0.125, 0.25]
    with pytest.raises(ValueError, match="as of 2026-01-02"):
        values(small, "item", [10], 1, "clicks")


def test_rates_are_smoothed(small: tuple[Profile, dict[str, Feature]]) -> None:
    """All exposures 5, clicks 3; with half-life 2 days 3 and 1.5."""
    found = values(small, "item", [10, 99], 2, "ctr", "ctr_2d", "fitted")
    assert found["ctr"].to_list() == pytest.approx([(2 + 4 * 0.6) / (3 + 4), 0.6])
    assert found["ctr_2d"].to_list() == pytest.approx([(1 + 4 * 0.5) / (2 + 4), 0.5])
    fitted = small[0].priors[RATE]
    assert fitted.mean == pytest.approx(0.6)
    assert found["fitted"][0] == pytest.approx((2 + fitted.strength * 0.6) / (3 + fitted.strength))


def test_a_read_rate_is_of_clicks_with_a_known_duration(tmp_path: Path) -> None:
    """Item 10: four clicks, two with a duration, one of them a long read; item 11: one long read; an exposure each."""
    rate = {"rate": "read", "of": "click", "prior_strength": 2.0}
    features = [feature("read_rate", "item", rate), feature("ctcvr", "item", {**rate, "of": "exposure"})]
    config = config_of(tmp_path, {"click": "click", "duration": "seconds"}, features)
    seconds = {10: [THRESHOLD + 1, 1.0, None, None], 11: [THRESHOLD + 1]}
    rows = [{"item_id": i, "click": True, "seconds": s} for i, known in seconds.items() for s in known]
    rows += [{"item_id": i, "click": False, "seconds": None} for i in seconds]
    write_day(tmp_path / "log", START, [{"user_id": 1, **row} for row in rows])
    read = Log(config.data, (), timed=True).read(START, tmp_path)
    update.update(None, read, Plan.of(config), THRESHOLD, 60, tmp_path, tmp_path)
    found = Profile.open(tmp_path).features("item", pl.Series([10, 11]), config.features[-2:], START)
    mean = 2 / 3  # of all clicks with a known duration
    assert found["read_rate"].to_list() == pytest.approx([(1 + 2 * mean) / (2 + 2), (1 + 2 * mean) / (1 + 2)])
    mean = 2 / 5  # an exposure without a click is known
    assert found["ctcvr"].to_list() == pytest.approx([(1 + 2 * mean) / (3 + 2), (1 + 2 * mean) / (2 + 2)])


def test_ages_and_histories_of_unknown_ids_are_null(small: tuple[Profile, dict[str, Feature]]) -> None:
    found = values(small, "item", [11, 10, 99], 4, "age", "rest")
    assert found["age"].to_list() == [4.0, 4.0, None] and found["rest"].to_list() == [4.0, 2.0, None]
    users = values(small, "user", [3, 2, 1], 4, "last_clicks", "last_two", "shown")
    assert users["last_clicks"].to_list() == [None, [], [10, 10, 12]] and users["shown"].to_list() == [0.0, 1.0, 4.0]
    assert users["last_two"].to_list() == [None, [], [10, 12]]


def test_lists_are_made_of_counts(small: tuple[Profile, dict[str, Feature]]) -> None:
    profile, _ = small
    as_of = START + dt.timedelta(days=3)
    assert profile.ids("item").to_list() == [10, 11, 12] and profile.ids("user").to_list() == [1, 2]
    assert profile.counts("item", "read", 1.0, as_of).to_dict(as_series=False) == {
        "id": [10, 12],
        "count": [0.25, 0.125],
    }
    assert profile.counts("item", "exposure", 0.0, profile.day)["id"].to_list() == [10]
    with pytest.raises(UserError, match=r"no column count.click.3: .*built for other features") as raised:
        profile.counts("item", "click", 3.0, as_of)
    assert "use a new workspace" in raised.value.line()


@pytest.mark.parametrize("text", [False, True], ids=["integers", "text"])
def test_row_groups_without_wanted_ids_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bool
) -> None:
    """Ids of any range, in any order, over many row groups: each gets its own row."""
    monkeypatch.setattr(update, "GROUP", 4)
    config = config_of(tmp_path, SHAPES["exposures"], [feature("shown", "user", {"count": "exposure"})])
    ids = [f"é{k:03d}" if text else k * 10 - 300 for k in range(60)]
    row = {"item_id": 1, "at": dt.datetime(2026, 1, 1), "click": False, "seconds": None, "request": 1}
    rows = [{"user_id": key, **row} for k, key in enumerate(ids) for _ in range(k + 1)]
    write_day(tmp_path / "log", START, rows)
    (folder := tmp_path / "profile").mkdir()
    read = Log(config.data, (), timed=True).read(START, tmp_path)
    update.update(None, read, Plan.of(config), THRESHOLD, 60, tmp_path, folder)
    profile, rng, opened = Profile.open(folder), random.Random(1), []
    group = pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda *a, **k: opened.append(a[1]) or group(*a, **k))
    for start, end in ((0, 60), (17, 21), (58, 60), (0, 1), (30, 30)):
        asked = rng.sample(range(start, end), end - start)
        absent = ["a", "é0165", "ü"] if text else [-1000, -135, 1000]
        opened.clear()
        wanted = pl.Series([*(ids[k] for k in asked), *(absent if start == 17 else [])], dtype=read.users[":id"].dtype)
        found = profile.features("user", wanted, [f for f in config.features if f.profile], START)
        assert found["shown"].to_list() == [k + 1.0 for k in asked] + [0.0] * (len(wanted) - len(asked))
        needed = {0, *(k // 4 for k in asked)}
        assert set(opened) >= needed if start == 17 else set(opened) == needed


def test_what_a_profile_does_not_have_is_refused(small: tuple[Profile, dict[str, Feature]], tmp_path: Path) -> None:
    profile, features = small
    further = features["ctr"].model_copy(update={"profile": features["ctr"].profile.model_copy(update={"of": "read"})})  # type: ignore[union-attr]
    cases = {
        "ids are string": (pl.Series(["10"]), features["clicks"]),
        "no prior of click per read": (pl.Series([10]), further),
    }
    for said, (ids, f) in cases.items():
        with pytest.raises(UserError, match=said) as told:
            profile.features("item", ids, [f], profile.day)
        assert told.value.code == 65 and told.value.hint
    folder = shutil.copytree(profile.folder, tmp_path / "copy")
    facts = json.loads((folder / "profile.json").read_text())
    (folder / "profile.json").write_text(json.dumps(facts | {"format": 2}))
    with pytest.raises(UserError, match="format 2, this dmtl reads 1"):
        Profile.open(folder)


def test_what_is_unknown_can_be_encoded(small: tuple[Profile, dict[str, Feature]]) -> None:
    _, features = small
    chosen = [f for f in features.values() if f.profile is not None]
    frame = unknown(chosen, pl.Series([1, 2, 3]))
    assert frame.columns == [f.name for f in chosen] and frame.null_count().row(0) == (3,) * len(chosen)
    learned = Learned({}, {f.name: {"mean": 0.0, "std": 1.0} for f in chosen})
    assert all(len(kind_of(f).encode(frame[f.name], learned)) == 3 for f in chosen)


# -- a chain through the command line ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("log")
    generate(out, 4, start=START, users=50, items=40, events_per_day=600, seed=1)
    return out / "log"


@pytest.fixture
def own(log: Path, tmp_path: Path) -> Project:
    """A project over a copy of the log; its chain begins with a window of two days."""
    config = copy.deepcopy(BASE)
    config["features"] = "auto"
    config["teacher"]["first_window_days"] = 2
    return Project.create(tmp_path, Path(shutil.copytree(log, tmp_path / "log")), config=config)


def build(own: Project, day: int, **settings: object) -> list[Row]:
    """Every profile that the command published, or found."""
    ended = own.call("build-profile", "--day", DAYS[day - 1], **settings)
    assert ended.code == 0, ended.err
    logged = [json.loads(line) for line in own.logged("build-profile", day).splitlines()]
    start = max(k for k, line in enumerate(logged) if line["event"] == "started")
    return [line for line in logged[start:] if line["event"] in ("published", "up_to_date")]


def manifest(result: Row) -> Row:
    found: Row = json.loads((Path(result["path"]) / "manifest.json").read_text())
    return found


def test_a_chain_begins_with_warm_days_and_a_window(own: Project) -> None:
    done = build(own, 3)
    assert [r["day"] for r in done] == DAYS[:3], "one warm day is all that the log has"
    clicked = pl.concat([events(own.home / "log", day).filter(pl.col("click") == 1) for day in DAYS[1:3]])
    seconds = clicked.unique(["user_id", "item_id", "request_id"])["read_seconds"].mean()
    manifests = [manifest(r) for r in done]
    for found in manifests:
        assert found["facts"] == {"threshold_seconds": pytest.approx(seconds), "window": DAYS[1:3]}
    assert [[p["day"] for p in m["parents"]] for m in manifests] == [[], DAYS[:1], DAYS[1:2]]
    inputs = [[i["path"].split("/")[1].removeprefix("day=") for i in m["inputs"]] for m in manifests]
    assert inputs == [DAYS[:3], DAYS[1:2], DAYS[2:3]]
    for day in (1, 2, 3, 3):
        again = build(own, day)
        assert [r["day"] for r in again] == [DAYS[day - 1]] and again[0]["up_to_date"]
    assert own.scratch_left() == []


def test_a_gap_ends_the_warm_days_but_not_the_window(own: Project) -> None:
    shutil.rmtree(own.home / "log" / "events" / f"day={DAYS[1]}")
    assert [r["day"] for r in build(own, 4)] == DAYS[2:4]
    ended = own.call("build-profile", "--day", DAYS[2], workspace=own.home / "other")
    assert ended.code == 66 and DAYS[1] in ended.err


def test_no_side_table_is_read(own: Project) -> None:
    for name in ("users", "items"):
        shutil.rmtree(own.home / "log" / name)
    known = build(own, 4)[-1]["metrics"]
    assert 0 < known["users.known_share"] <= 1 and known["users.dropped"] == 0


def test_an_interrupted_beginning_goes_on(own: Project) -> None:
    whole = build(own, 3)
    for day in DAYS[1:3]:
        shutil.rmtree(own.ws / "profile" / f"day={day}")
    again = build(own, 3)
    assert [(r["day"], r["run_id"]) for r in again] == [(r["day"], r["run_id"]) for r in whole[1:]]
    shutil.rmtree(own.ws / "profile" / f"day={DAYS[2]}")
    assert [r["day"] for r in build(own, 4)] == DAYS[2:4], "the window is completed before a day after it"


def test_a_late_day_makes_those_after_it_stale(own: Project) -> None:
    build(own, 2)
    keys = {day: build(own, day)[0]["key"] for day in (3, 4)}
    file = own.home / "log" / "events" / f"day={DAYS[2]}" / "part-0.parquet"
    events(own.home / "log", DAYS[2])[:-20].write_parquet(file)
    assert build(own, 4)[0]["up_to_date"], "day 3 is not made again yet"
    for day in (3, 4):
        (done,) = build(own, day)
        assert not done["up_to_date"] and done["key"] != keys[day]


def test_a_damaged_parent_is_refused_until_it_is_made_again(own: Project) -> None:
    *_, last = build(own, 2)
    file = Path(last["path"]) / "users.parquet"
    file.write_bytes(file.read_bytes()[:-9])
    ended = own.call("build-profile", "--day", DAYS[2])
    assert ended.code == 65 and str(file) in ended.err
    assert build(own, 2)[0]["run_id"] == last["run_id"]
    build(own, 3)


def test_the_first_of_a_chain_is_made_again_from_its_window(own: Project) -> None:
    first, *_ = build(own, 3)
    file = Path(first["path"]) / "items.parquet"
    file.unlink()
    assert [(r["day"], r["run_id"]) for r in build(own, 1)] == [(DAYS[0], first["run_id"])]


def test_a_rerun_elsewhere_gives_the_same_bytes(own: Project) -> None:
    twin = Project.create(own.home / "twin", own.home / "log", config=own.config)
    for one, other in zip(build(own, 3), build(twin, 3), strict=True):
        assert one["run_id"] == other["run_id"], "which the hash of every file is in"
        assert manifest(one)["files"] == manifest(other)["files"]


def test_a_profile_knows_nothing_of_later_days(own: Project) -> None:
    """But the threshold, which is given here."""
    twin = Project.create(
        own.home / "twin", Path(shutil.copytree(own.home / "log", own.home / "log2")), config=own.config
    )
    file = own.home / "log2" / "events" / f"day={DAYS[2]}" / "part-0.parquet"
    events(own.home / "log2", DAYS[2])[::-2].write_parquet(file)
    one, other = build(own, 3, labels__long_read=20.0), build(twin, 3, labels__long_read=20.0)
    assert [a["key"] == b["key"] for a, b in zip(one, other, strict=True)] == [False, False, False]
    assert [manifest(a)["files"] == manifest(b)["files"] for a, b in zip(one, other, strict=True)] == [
        True,
        True,
        False,
    ]


def test_only_what_features_read_of_profiles_counts(own: Project) -> None:
    (*_, last) = build(own, 2)
    own.config["features"] = [
        {"name": "user_id", "side": "user", "kind": "categorical"},
        {"name": "item_id", "side": "item", "kind": "categorical", "hash_bucket_size": 100},
        feature("shown", "user", {"count": "exposure"}),
        feature("ctr", "item", {"rate": "click", "of": "exposure", "half_life_days": 7.0}, num_buckets=3),
    ]
    own.write()
    (done,) = build(own, 3)
    users = pl.read_parquet(Path(done["path"]) / "users.parquet")
    assert users.columns == ["id", "first_seen", "last_seen", "count.exposure.all"]
    counted = events(own.home / "log", DAYS[2]).filter(
        pl.struct("user_id", "item_id", "request_id", "click").is_first_distinct() | (pl.col("click") == 0)
    )
    both = users.join(counted["user_id"].value_counts(name="n").rename({"user_id": "id"}), on="id", how="left")
    assert both["count.exposure.all"].to_list() == both["n"].fill_null(0).to_list(), "none is known of days before"
    own.config["features"][0]["min_count"] = 2
    own.config["features"][3] = feature("ctr", "item", {"rate": "click", "of": "exposure", "half_life_days": 7.0})
    own.write()
    assert build(own, 3)[0]["up_to_date"], "neither is of the profile"
    own.config["features"] = "auto"
    own.write()
    (again,) = build(own, 3)
    assert not again["up_to_date"] and last["run_id"] == manifest(again)["parents"][0]["run_id"]


def test_ids_of_another_type_are_refused(own: Project) -> None:
    build(own, 2)
    file = own.home / "log" / "events" / f"day={DAYS[2]}" / "part-0.parquet"
    events(own.home / "log", DAYS[2]).cast({"item_id": pl.String}).write_parquet(file)
    ended = own.call("build-profile", "--day", DAYS[2])
    assert ended.code == 65 and f"day {DAYS[2]}: item ids are string, the profile of {DAYS[1]} has int64" in ended.err


def test_the_threshold_of_a_chain_does_not_move(own: Project) -> None:
    build(own, 2, labels__long_read=20.0)
    ended = own.call("build-profile", "--day", DAYS[2], labels__long_read=30.0)
    assert ended.code == 65 and "labels.long_read is 30 s, the chain's is 20 s" in ended.err


def test_days_that_were_missed_are_made_first(own: Project) -> None:
    """As if each had been made in its night; a day that the log lacks is left out."""
    build(own, 2)
    twin = Project.create(own.home / "twin", own.home / "log", config=own.config)
    whole = [done for day in (2, 3, 4) for done in build(twin, day)]
    made = build(own, 4)
    assert [(r["day"], r["run_id"]) for r in made] == [(r["day"], r["run_id"]) for r in whole[2:]]
    for day in (3, 4):
        shutil.rmtree(own.ws / "profile" / f"day={DAYS[day - 1]}")
    shutil.rmtree(own.home / "log" / "events" / f"day={DAYS[2]}")
    assert [r["day"] for r in build(own, 4)] == DAYS[3:]
