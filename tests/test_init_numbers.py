"""`init` on whole numbers: which are measured, and which are codes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import unseen
from initiated import daily, features, frame, made
from worlds import dmtl

from dmtl_cli.guess.columns.values import has_days, is_measured
from dmtl_cli.guess.features.kinds import kind_of, refusal
from dmtl_cli.guess.reading.files import CSV
from dmtl_cli.guess.reading.texts import Text, settled

N = 6_000


def numbers(kind: str) -> np.ndarray:
    rng = np.random.default_rng(8)
    return {
        "ages": rng.normal(41, 12, N).clip(16, 96).round(),
        "minutes": rng.gamma(3, 20, N).round(),
        "uniform codes": rng.integers(0, 200, N),
        "codes of any frequency": rng.choice(200, N, p=rng.dirichlet(np.ones(200))),
        "codes by frequency": np.sort(rng.zipf(1.5, N) % 300),
        "codes far apart": rng.integers(0, 60, N) * 1_001,
    }[kind].astype(np.int64)


@pytest.mark.parametrize("kind", ["ages", "minutes"])
def test_a_measure_is_a_number_under_any_name(kind: str) -> None:
    x = pl.Series("zq", numbers(kind))
    found, options, why = kind_of("zq", x, None)
    assert (found, options) == ("numeric", {"num_buckets": 20}) and why.endswith(", spread as a measure is")
    assert kind_of("zq_code", x.alias("zq_code"), None)[0] == "categorical", "a name of a code is one"
    assert not is_measured(pl.Series(np.random.default_rng(0).permutation(x.to_numpy().max() + 1)[x.to_numpy()])), (
        "numbers given anew are codes"
    )


@pytest.mark.parametrize("kind", ["uniform codes", "codes of any frequency", "codes by frequency", "codes far apart"])
def test_codes_stay_codes(kind: str) -> None:
    found, _, why = kind_of("zq", pl.Series("zq", numbers(kind)), None)
    assert found == "categorical" and "whole numbers" in why


def of_items(kind: str, seed: int) -> np.ndarray:
    """Whole numbers of 1,000 items, hundreds of distinct ones: of most there are one to four."""
    rng, n = np.random.default_rng(seed), 1_000
    groups = np.array([100, 200, 300, 400, 500])[rng.choice(5, n, p=[0.1, 0.2, 0.4, 0.2, 0.1])]
    some = rng.dirichlet(np.ones(500)) * np.exp(-(((np.arange(500) - 250) / 120) ** 2))
    return {
        "pages": rng.normal(300, 90, n).clip(40),
        "minutes": rng.lognormal(6.2, 0.3, n),
        "cents": rng.normal(20_000, 4_000, n),
        "prices": 10_000 * rng.lognormal(6, 0.7, n).astype(np.int64) + 9_000,
        "kilometres": rng.lognormal(12, 0.7, n),
        "pages and one encyclopedia": np.append(rng.normal(300, 90, n).clip(40), 9_000),
        "codes that are as frequent": rng.integers(0, 500, n),
        "codes of any frequency": rng.choice(500, n, p=rng.dirichlet(np.ones(500))),
        "codes by frequency": np.sort(rng.zipf(1.5, n) % 500),
        "codes in any order": rng.permutation(3_000)[:500][rng.zipf(1.3, n) % 500],
        "numbers of their own": rng.choice(20_000, n, replace=False),
        "codes by age": rng.beta(1, 3, n) * 3_000,
        "codes of two digits and two": rng.integers(0, 20, n) * 100 + rng.integers(0, 20, n),
        "codes of groups": groups + rng.integers(0, 30, n),
        "codes of which the middle ones are frequent": rng.choice(500, n, p=some / some.sum()),
    }[kind].astype(np.int64)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["pages", "minutes", "cents", "prices", "pages and one encyclopedia"])
def test_a_measure_of_items_is_a_number_under_any_name(kind: str, seed: int) -> None:
    found, options, why = kind_of("zq", pl.Series("zq", of_items(kind, seed)), None)
    assert (found, options) == ("numeric", {"num_buckets": 20}) and why.endswith(", spread as a measure is")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "kind",
    [
        *("codes that are as frequent", "codes of any frequency", "codes by frequency", "codes in any order"),
        *("numbers of their own", "codes by age", "codes of two digits and two", "codes of groups"),
        "codes of which the middle ones are frequent",
    ],
)
def test_codes_of_items_stay_codes(kind: str, seed: int) -> None:
    assert kind_of("zq", pl.Series("zq", of_items(kind, seed)), None)[0] == "categorical"


@pytest.mark.parametrize("seed", range(4))
def test_a_measure_of_which_each_item_has_one_of_its_own_is_no_id(seed: int) -> None:
    measured, codes = (pl.Series("zq", of_items(kind, seed)) for kind in ("kilometres", "numbers of their own"))
    assert refusal(measured, True, False) is None and kind_of("zq", measured, None)[0] == "numeric"
    assert "a value of its own" in (refusal(codes, True, False) or "")
    later = pl.Series("zq", np.arange(1_000) * 7 + 12_000)
    assert "a value of its own" in (refusal(later, True, False) or ""), "given one after the other"


@pytest.mark.parametrize(
    "name",
    [
        *("alter", "Lesedauer_min", "Anzahl", "edad", "cantidad", "idade", "preço", "âge", "durée", "età", "leeftijd"),
        *("yaş", "süre", "возраст", "количество", "nagasa_sec", "価格", "回数", "lengthInMinutes", "kakaku_yen"),
        *("paginas", "Seiten", "erscheinungs_jahr"),
    ],
)
def test_a_name_of_a_measure_tells_a_number(name: str) -> None:
    x = pl.Series(name, numbers("uniform codes"))
    assert kind_of(name, x, None)[0] == "numeric"


@pytest.mark.parametrize("name", ["region", "zip", "Kategorie", "marca", "onehot_feat3"])
def test_other_names_tell_none(name: str) -> None:
    assert kind_of(name, pl.Series(name, numbers("uniform codes")), None)[0] == "categorical"


def test_numbers_that_are_none_or_huge() -> None:
    assert not is_measured(pl.Series([], dtype=pl.Float64))
    assert not is_measured(pl.Series([0.0, 1e300, float("inf"), float("nan")] * 20))
    assert not is_measured(pl.Series([2.0**63 + 4096 * k for k in range(400)])), "hashes as unsigned numbers"
    assert not is_measured(pl.Series([0.0, 1e300, *range(400)]) * 3) and not is_measured(pl.Series([7.0] * 400))


DAYS = [
    "2026/02/10",
    "10.2.2026",
    "28/02/2026",
    "05-11-25",
    "2026年2月10日",
    "20260210",
    "3 février 2024",
    "3. Mai 2024",
]


@pytest.mark.parametrize("day", DAYS)
@pytest.mark.parametrize("clock", ["", " 09:15", " 9:15:22.5"])
def test_days_as_people_write_them(day: str, clock: str) -> None:
    assert has_days(pl.Series([day + clock] * 30))


@pytest.mark.parametrize(
    "text", ["10.2.1", "8.0.13", "12345678", "20269910", "1/2", "Room 3 2026", "v2026", "99.99.2026"]
)
def test_what_is_no_day(text: str) -> None:
    assert not has_days(pl.Series([text] * 30))


def test_days_as_text_of_a_side_table_are_no_categories(tmp_path: Path) -> None:
    x = unseen.drawn(9)
    frame = pl.DataFrame({
        "user_id": x["user"], "item_id": x["item"], "ts": x["at"], "is_click": x["click"], "play_seconds": x["seconds"],
    })  # fmt: skip
    joined = [f"{1 + u % 28:02d}/{1 + u % 12:02d}/2025" if u % 9 else None for u in range(unseen.USERS)]

    def write(home: Path) -> None:
        unseen.by_day(home / "log", frame, x)
        pl.DataFrame({"user_id": range(unseen.USERS), "alta": joined, "zone": ["a", "b"] * 30}).write_parquet(
            home / "users.parquet"
        )

    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0 and "zone" in features(raw) and "alta" not in features(raw), ended.err
    assert "# alta: not used: texts of days such as '02/02/2025': to be a feature it must be a number" in text


@pytest.mark.parametrize(("texts", "number"), [(["e25", "E7", ""], False), (["-", "."], False), (["-.5", "1e3"], True)])
def test_an_exponent_alone_is_no_number(texts: list[str], number: bool) -> None:
    (made,), _ = settled(pl.DataFrame({"id": texts}), CSV, Text())
    assert made.dtype == (pl.Float64 if number else pl.String) and made.drop_nulls().len() == len(
        [t for t in texts if t]
    )


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_floats_that_are_named_like_ids_are_told(tmp_path: Path, form: str) -> None:
    """With what makes ids of those that are whole: `check` reads it."""
    x = unseen.drawn(0)
    rows = frame().with_columns(pl.col("item_id").cast(pl.Float64))

    def write(home: Path) -> None:
        days = pl.Series(unseen.days_of(x))
        for day in days.unique():
            getattr(rows.filter(days == day), f"write_{form}")(home / f"events_{day}.{form}")

    ended, _, text = made(tmp_path, write)
    said = "name the column of the item's id; item_id is named like one, and has floats (38.0), which are no ids: write"
    assert ended.code == 78 and said in ended.err, ended.err
    refused = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--item", "item_id", "--force")
    assert (
        refused.code == 2 and "item_id is Float64, such as 38.0; write integers, or item: item_key and" in refused.err
    )
    keys = re.search(r"# item: .* or (item: item_key) and (computed: .*) in data.events\n", text)
    assert keys is not None
    (tmp_path / "mine.yaml").write_text(text.replace(keys[0], f"{keys[1]}\n    {keys[2]}\n"))
    assert dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-03").code == 0


def test_floats_with_fractions_are_no_ids(tmp_path: Path) -> None:
    ended, _, _ = made(tmp_path, daily(frame().with_columns(pl.col("item_id") + 0.5)))
    assert ended.code == 78 and "item_id is named like one, and has floats (38.5), which are no ids: name" in ended.err
