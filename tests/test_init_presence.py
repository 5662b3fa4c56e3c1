"""`dmtl init` takes a flag for the click by what it stands beside, where its name is in no list."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import unseen
from initiated import features, made
from worlds import dmtl

from dmtl_cli.guess.exposures.labels import just_where, roles_of
from dmtl_cli.guess.reading.files import Files
from dmtl_cli.guess.reading.tables import Table
from dmtl_cli.guess.sides.beside import with_presence

ROWS = 3_000
X = unseen.drawn(41, ROWS)
CLICK = X["click"] == 1
RNG = np.random.default_rng(7)
BOUGHT = (X["bought"] == 1).astype(int)
SECONDS = X["seconds"].tolist()


def log(**more: Any) -> pl.DataFrame:
    ids = {"user_id": X["user"], "item_id": X["item"], "ts": X["at"], "slot": X["position"]}
    return pl.DataFrame(ids | {k: v for k, v in more.items() if v is not None})


def some(frame: pl.DataFrame) -> tuple[str | None, str | None]:
    roles = roles_of(frame, {})
    return roles.click and roles.click.column, roles.duration and roles.duration.column


def null_else(values: Any, there: Any) -> list[Any]:
    return [v if k else None for v, k in zip(values, there, strict=True)]


# -- what is taken -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "way"),
    [("parquet", "bool and null"), ("parquet", "0/1 and 0"), ("csv", "0/1 and 0"), ("csv", "words and null")],
)
@pytest.mark.parametrize(
    ("click", "duration"),
    [("clicaram", "play_s"), ("is_ctr", "dwell_time"), ("klikfeit", "verweilt"), ("b", "n"), ("жмяк", "сек")],
)
def test_a_flag_beside_a_duration_is_the_click(tmp_path: Path, form: str, click: str, duration: str, way: str) -> None:
    flag: Any = {"bool and null": CLICK.tolist(), "0/1 and 0": X["click"]}.get(way, ["NY"[k] for k in X["click"]])
    lasted = SECONDS if way == "0/1 and 0" else null_else(SECONDS, CLICK)
    frame = log(**{click: flag, duration: lasted, "promo": RNG.integers(0, 2, ROWS)})

    def write(home: Path) -> None:
        frame.write_csv(home / "log.csv") if form == "csv" else unseen.by_day(home / "events", frame, X)

    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0, ended.err
    events = raw["data"]["events"]
    assert (events["click"], events["duration"]) == (click, duration)
    true = 1 if way == "0/1 and 0" else "true"
    (line,) = (x for x in text.splitlines() if x.strip().startswith("click: "))
    assert line.endswith(f"ones; {duration} has a value just where it is {true}"), line
    assert "promo" in features(raw) and "every row counts" not in ended.out


def test_a_duration_of_zero_seconds_is_one_where_the_others_are_null() -> None:
    """Whole seconds: many clicks have 0."""
    lasted = null_else([math.floor(s / 20) for s in SECONDS], CLICK)
    assert some(log(bejött=X["click"], dwell_time=lasted)) == ("bejött", "dwell_time")
    zeros = [math.floor(s / 20) for s in SECONDS]
    assert some(log(bejött=X["click"], dwell_time=zeros)) == (None, "dwell_time"), "0 says nothing then"


@pytest.mark.parametrize(("broken", "taken"), [(0.015, True), (0.04, False)])
@pytest.mark.parametrize("way", ["without a duration", "without a click"])
def test_as_many_rows_agree(broken: float, taken: bool, way: str) -> None:
    rows = np.flatnonzero(CLICK)[: int(broken * CLICK.sum())]
    flag, lasted = X["click"].copy(), X["seconds"].copy()
    (lasted if way == "without a duration" else flag)[rows] = 0
    assert some(log(ouvrait=flag, dwell_time=lasted)) == ("ouvrait" if taken else None, "dwell_time")


@pytest.mark.parametrize(("rate", "taken"), [(0.002, False), (0.02, True), (0.65, True), (0.8, False)])
def test_clicks_are_neither_too_few_nor_too_many(rate: float, taken: bool) -> None:
    flag = (np.random.default_rng(3).random(ROWS) < rate).astype(int)
    lasted = np.random.default_rng(4).exponential(30.0, ROWS) * flag
    assert (some(log(ouvrait=flag, dwell_time=lasted))[0] == "ouvrait") == taken


def test_both_sides_count() -> None:
    there, flag = pl.Series([1.0] * 50 + [0.0] * 50), pl.Series([True] * 50 + [False] * 50)
    assert just_where(there, flag)
    assert not just_where(there, pl.Series([True] * 45 + [False] * 55))
    assert not just_where(there, pl.Series([True] * 55 + [False] * 45))
    assert not just_where(there, ~flag)
    often, more = pl.Series([True] * 650 + [False] * 350), pl.Series([1.0] * 662 + [0.0] * 338)
    assert not just_where(more, often), "98% of those with a number, but 3% of the rows without the flag have one"
    assert just_where(pl.Series([0.0] * 50 + [None] * 50), flag) and not just_where(pl.Series([0.0] * 100), flag)


# -- what is not -------------------------------------------------------------------------------------------------------


def test_of_several_that_fit_a_name_chooses() -> None:
    same = X["click"].copy()
    same[np.flatnonzero(CLICK)[:3]] = 0
    roles = roles_of(log(zx=same, clicaram=X["click"], dwell_time=X["seconds"]), {})
    assert roles.click is not None and (roles.click.column, roles.click.others) == ("clicaram", ("zx",))


def test_of_several_that_fit_and_no_name_tells_none_is_taken(tmp_path: Path) -> None:
    frame = log(zx=X["click"], zy=X["click"], dwell_time=X["seconds"])
    _, raw, text = made(tmp_path, lambda home: unseen.by_day(home / "events", frame, X))
    assert "click" not in raw["data"]["events"]
    (line,) = (x for x in text.splitlines() if "# click: COLUMN" in x)
    assert "it may be (init --click COLUMN, or 'EXPRESSION'): zx (0/1, " in line and ", zy (0/1, " in line


@pytest.mark.parametrize("deep", ["gostou", "liked"])
def test_an_outcome_that_is_deeper_is_not_taken(deep: str) -> None:
    """A like, or a purchase, is true more rarely than there is a duration."""
    assert some(log(**{deep: BOUGHT, "dwell_time": X["seconds"]})) == (None, "dwell_time")
    both = log(**{deep: BOUGHT, "clicaram": X["click"], "dwell_time": X["seconds"]})
    assert some(both) == ("clicaram", "dwell_time")


@pytest.mark.parametrize("duration", ["dwell_time", "tempo"])
def test_the_amount_of_a_purchase_is_no_duration(duration: str) -> None:
    """It stands beside a flag as a duration does, and fewer rows have it than have a duration."""
    amount = np.random.default_rng(5).exponential(30.0, ROWS) * BOUGHT
    frame = log(adquiriu=BOUGHT, montante=amount, clicaram=X["click"], **{duration: X["seconds"]})
    assert some(frame) == ("clicaram", duration)
    alone = some(frame.drop("clicaram"))
    assert alone == (None, "dwell_time" if duration == "dwell_time" else None), "the duration says that it is deeper"


@pytest.mark.parametrize("key", ["user", "item"])
def test_an_attribute_of_a_user_or_item_is_no_click(key: str) -> None:
    """Clips have a length, and members of a club the days that they are in it."""
    of = X[key]
    flag = (of % 3 == 0).astype(int)
    length = np.random.default_rng(6).exponential(30.0, int(of.max()) + 1)[of] * flag
    assert some(log(filme=flag, extensão=length)) == (None, None)
    assert some(log(filme=flag, dwell_time=X["seconds"])) == (None, "dwell_time")


def test_durations_of_members_alone_make_no_click_of_the_membership() -> None:
    """The number is a row's, the flag is a user's."""
    member = (X["user"] % 3 == 0).astype(int)
    lasted = np.random.default_rng(8).exponential(30.0, ROWS) * member
    assert some(log(membre=member, dwell_time=lasted)) == (None, "dwell_time")


def test_a_reduction_of_an_item_is_no_duration() -> None:
    """The flag is a row's, the number is an item's, where it is there."""
    promo, each = RNG.integers(0, 2, ROWS), np.random.default_rng(9).exponential(30.0, unseen.ITEMS)
    assert some(log(aktion=promo, rabatt=each[X["item"]] * promo)) == (None, None)


@pytest.mark.parametrize("name", ["liked", "is_dislike", "finished"])
def test_an_outcome_by_its_name_is_no_click(name: str) -> None:
    lasted = np.random.default_rng(10).exponential(30.0, ROWS) * BOUGHT
    assert some(log(**{name: BOUGHT, "dwell_time": lasted})) == (None, "dwell_time")
    assert some(log(entrou=BOUGHT, dwell_time=lasted)) == ("entrou", "dwell_time"), "which it would be by its values"


def test_a_price_by_name_and_a_number_of_few_values_are_no_duration() -> None:
    promo = RNG.integers(0, 2, ROWS)
    off = RNG.exponential(3.0, ROWS) * promo
    assert some(log(aktion=promo, price_off=off)) == (None, None)
    assert some(log(aktion=promo, rabatt=np.ceil(off).clip(0, 5))) == (None, None)
    assert some(log(aktion=promo, rabatt=RNG.uniform(5, 50, ROWS) * promo)) == (None, None), "as many large as small"


def test_without_ids_nothing_is_concluded() -> None:
    """It cannot be told then whose an attribute is."""
    frame = log(clicaram=X["click"], tempo=X["seconds"]).rename({"user_id": "mbr_no", "item_id": "cntnt_no"})
    assert some(frame) == (None, None)
    given = roles_of(frame, {"user": "mbr_no", "item": "cntnt_no"})
    assert given.click is not None and given.duration is not None
    assert (given.click.column, given.duration.column) == ("clicaram", "tempo")


def test_of_two_numbers_that_clicks_alone_have_the_clicks_own_is_no_duration() -> None:
    """How long the click took, which stands first, and how long it lasted, of names that nobody knows."""
    took = null_else((1_000 * RNG.exponential(9, ROWS)).astype(int).tolist(), CLICK)
    lasted = null_else((1_000 * RNG.exponential(30, ROWS)).astype(int).tolist(), CLICK)
    assert some(log(klik=X["click"], klik_po_ms=took, na_karcie_ms=lasted)) == ("klik", "na_karcie_ms")
    assert some(log(klik=X["click"], klik_po_ms=took)) == ("klik", "klik_po_ms"), "there is no other"


def test_the_clicks_own_length_with_a_unit_is_its_duration() -> None:
    lasted = null_else((1_000 * RNG.exponential(40, ROWS)).astype(int).tolist(), CLICK)
    short = null_else((1_000 * RNG.exponential(1, ROWS)).astype(int).tolist(), CLICK)
    assert some(log(lyssna=X["click"], lyssna_ms=lasted, buffert_ms=short)) == ("lyssna", "lyssna_ms")


# -- an object that is there or not ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule", ["offer IS NOT NULL", "offer is not null", "liked OR offer IS NOT NULL", "liked OR offer"]
)
def test_a_rule_may_ask_whether_an_object_is_there(tmp_path: Path, rule: str) -> None:
    """An object has no column: that of its fields which most rows have stands for it."""
    bought = BOUGHT.astype(bool)
    known = RNG.random(ROWS) < 0.6
    offer = [{"note": "n" if k else None, "cents": int(c)} if b else None for b, k, c in zip(
        bought, known, RNG.integers(1, 99, ROWS), strict=True)]  # fmt: skip
    liked = (CLICK & (RNG.random(ROWS) < 0.2)).tolist()
    frame = log(clicked=X["click"], offer=offer, liked=liked)

    def write(home: Path) -> None:
        frame.with_columns(pl.from_epoch("ts", "s").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).write_ndjson(home / "log.jsonl")

    if rule == "liked OR offer":
        (tmp_path / "log").mkdir()
        write(tmp_path / "log")
        ended = dmtl("init", tmp_path / "log", "--conversion", rule)
        what = "log.jsonl has no column offer, which is an object of offer.cents, offer.note; such as offer IS NOT NULL"
        assert ended.code == 2 and what in ended.err, ended.err
        return
    ended, raw, text = made(tmp_path, write, "--conversion", rule, "--timezone", "UTC")
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["computed"]["good"].upper().endswith('"OFFER.CENTS" IS NOT NULL'), text
    day = unseen.days_of(X)[ROWS // 2]
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", day, "--json").json
    mine = np.array([d == day for d in unseen.days_of(X)]) & CLICK
    good = bought | np.array(liked) if "liked" in rule else bought
    assert found["labels"]["conversion_rate"] == pytest.approx(good[mine].mean(), abs=0.02)


def test_only_the_name_of_one_object_is_an_object() -> None:
    """Not what stands in quotes, a word of SQL, a column's name in other letters, or a name that two objects have."""
    rows = pl.DataFrame(
        {"end.at": [1, None], "offer.id": [1, 2], "OFFER": [1, 2], "a.bid.id": [1, 2], "b.bid.id": [1, 2], "n": [1, 2]}
    )
    table = Table(Files("events", "parquet", (("x.parquet", 1),)), rows, None, None)
    for same in (
        "note <> 'offer IS NULL' AND n = 1", "CASE WHEN n = 1 THEN 1 ELSE NULL END IS NULL", "OFFER IS NOT NULL",
        "bid IS NULL", "offer = 1", "offers IS NULL", "x.offer IS NULL",
    ):  # fmt: skip
        assert with_presence(same, [table]) == same
    assert with_presence('"offer" is not null OR offer IS NULL', [table]).count("offer.id") == 2
    assert with_presence("a.bid IS NULL", [table]).replace('"', "") == "a.bid.id IS NULL"
    assert with_presence("offer IS NULL", [table, table]) == "offer IS NULL", "of which table is not said"
