"""`init` on whole numbers that are measures, and not codes, by their names, as years, and by what they go with; and on
running totals by what they go with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from initiated import daily, features, frame, made

from dmtl_cli.guess.features.inputs import Input
from dmtl_cli.guess.features.kinds import kind_of
from dmtl_cli.guess.features.measures import by_company
from dmtl_cli.guess.sides import states

N = 900
CODES = Input("zq", "item", "categorical", {}, "90 whole numbers")
PRICE = Input("price", "item", "numeric", {}, "numbers")


def codes(seed: int = 0) -> np.ndarray:
    """Whole numbers that nothing tells from codes but their name."""
    return np.random.default_rng(seed).integers(0, 3_000, 600).repeat(2)


@pytest.mark.parametrize(
    "name",
    [
        *("AlapteruletM2", "size_sqm", "vekt_kg", "leistung_ps", "motor_kw", "harga_rm", "sasaran_idr", "beloeb_dkk"),
        *("PreisChf", "superficie", "antal_sider_km"),
    ],
)
def test_a_unit_or_a_currency_at_the_end_of_a_name_tells_a_number(name: str) -> None:
    assert kind_of(name, pl.Series(name, codes()), None)[0] == "numeric"


@pytest.mark.parametrize(
    "name",
    ["kg_code", "chf_region", "kw", "forms", "pskw", "region_fr", "category_tl", "group_kg", "segment_chf", "brand_l"],
)
def test_no_other_end_does(name: str) -> None:
    assert kind_of(name, pl.Series(name, codes()), None)[0] == "categorical"


@pytest.mark.parametrize("name", ["EpitesEve", "anno", "zq"])
def test_years_are_numbers(name: str) -> None:
    x = pl.Series(name, np.random.default_rng(1).integers(1_962, 2_024, N))
    kind, _, why = kind_of(name, x, None)
    assert kind == "numeric" and why == "1962 to 2023, taken for years"
    assert kind_of("shop_code", x.alias("shop_code"), None)[0] == "categorical"
    assert kind_of(name, x - 100, None)[0] == "categorical", "none of them is of these days"
    assert kind_of("topic", (x + 38).alias("topic"), None)[0] == "categorical", "some are years to come"
    assert kind_of(name, x % 7 + 2_000, None)[0] == "categorical", "so few are as well told each by itself"


def beside(kind: str, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    price = rng.lognormal(5, 0.6, N)
    groups = rng.permutation(8)[np.argsort(np.argsort(price)) * 8 // N]  # of a catalogue, each about as dear
    zq = {
        "areas": price**0.8 * rng.lognormal(1, 0.35, N),
        "what costs more the smaller it is": 9e4 / price * rng.lognormal(0, 0.3, N),
        "codes of any kind": rng.integers(0, 300, N),
        "codes of groups": groups * 100 + rng.integers(0, 30, N),
    }[kind]
    return pl.DataFrame({"zq": np.round(zq).astype(np.int64), "price": price})


@pytest.mark.parametrize("seed", range(5))
def test_codes_that_go_with_a_measure_are_measures(seed: int) -> None:
    for kind in ("areas", "what costs more the smaller it is"):
        found, price = by_company(beside(kind, seed), [CODES, PRICE])
        assert (found.kind, found.column, price) == ("numeric", "zq", PRICE), kind
        assert "which go with price (rank correlation" in found.why
    for kind in ("codes of any kind", "codes of groups"):
        assert by_company(beside(kind, seed), [CODES, PRICE]) == [CODES, PRICE], kind
    key = beside("areas", seed).rename({"price": "year"})
    year = Input("year", "item", "numeric", {}, "taken for years")
    assert by_company(key, [CODES, year]) == [CODES, year], "keys that were given one after the other go with it"
    renamed = Input("zq_code", "item", "categorical", {}, CODES.why)
    assert by_company(beside("areas", seed).rename({"zq": "zq_code"}), [renamed, PRICE]) == [renamed, PRICE]
    assert by_company(beside("areas", seed), [CODES, PRICE], "user") == [CODES, PRICE], "those of another side"


def test_a_running_total_tells_another_one() -> None:
    rng = np.random.default_rng(2)
    total = rng.lognormal(4, 1.2, N)
    much = pl.Series("zq", np.round(total * rng.lognormal(3, 0.5, N)).astype(np.int64))
    totals = {"views_total": pl.Series(np.round(total).astype(np.int64))}
    assert "it goes with views_total, a running total (rank correlation ." in str(states.goes_with(much, totals))
    assert states.goes_with(much.shuffle(seed=1), totals) is None and states.goes_with(much, {}) is None
    assert states.goes_with(much.alias("zq_price"), totals) is None, "a name of a measure"
    assert states.goes_with((much % 2 == 0).cast(pl.Int64).alias("zq"), totals) is None


def test_what_grows_with_time_at_each_items_pace_is_held_back(tmp_path: Path) -> None:
    """Neither the log's counts nor an item's age tell it, but both together."""
    log = frame()
    many = 400
    rng = np.random.default_rng(3)
    pace = rng.lognormal(0, 0.5, many)
    age = rng.integers(10, 900, many)
    items = pl.DataFrame({
        "item_id": np.arange(many),
        "created_at": [f"{d}" for d in np.datetime64("2026-03-03") - age],
        "zq": np.round(pace * age * rng.lognormal(0, 0.2, many) + 20).astype(np.int64),
        "bq": rng.permutation(5_000)[:many],
    })  # fmt: skip
    n = 12_000
    seen = rng.choice(many, n, p=pace / pace.sum())
    at = np.sort(rng.integers(log["ts"].min(), log["ts"].max(), n))  # type: ignore[arg-type, type-var]
    clicked = rng.random(n) < 0.3
    events = pl.DataFrame({
        "user_id": rng.integers(0, 300, n), "item_id": seen, "ts": at, "clicked": clicked.astype(np.int64),
        "watch_seconds": np.round(rng.exponential(40, n), 2) * clicked,
    })  # fmt: skip

    def write(home: Path) -> None:
        daily(events)(home)
        items.write_parquet(home / "items.parquet")

    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0, ended.err
    line = next(x for x in text.splitlines() if "name: zq" in x)
    assert line.strip().startswith("# - {") and ("running total" in line), line
    assert "bq" in features(raw) or "bq: not used" in text
