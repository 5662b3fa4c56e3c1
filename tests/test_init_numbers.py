"""`init` on whole numbers: which are measured, and which are codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import unseen
from initiated import features, made

from dmtl_cli.guess.features import is_measured, kind_of
from dmtl_cli.guess.files import CSV
from dmtl_cli.guess.texts import Text, settled
from dmtl_cli.guess.values import has_days

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
    assert found == "categorical" and "whole numbers, taken as codes" in why


@pytest.mark.parametrize(
    "name",
    [
        *("alter", "Lesedauer_min", "Anzahl", "edad", "cantidad", "idade", "preço", "âge", "durée", "età", "leeftijd"),
        *("yaş", "süre", "возраст", "количество", "nagasa_sec", "価格", "回数", "lengthInMinutes", "kakaku_yen"),
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
