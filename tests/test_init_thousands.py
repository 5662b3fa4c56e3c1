"""Numbers with signs between their thousands: `init` tells the signs, `data.csv.thousands` reads them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from initiated import features
from test_init_written import MEAN, READ, ROWS, frame, initiated
from worlds import DAYS, dmtl

from dmtl_cli.data.log.values.written import floats
from dmtl_cli.guess.reading.texts import Text, as_typed, signs_of

SIGNS = [(",", "."), (".", ","), (",", " "), (".", "'"), (".", " "), (",", None)]


@given(
    st.lists(st.floats(-1e9, 1e9).map(lambda x: round(x, 2)), min_size=1, max_size=9),
    st.sampled_from(SIGNS), st.sampled_from([" ", "\u00a0", "\u202f"]),
)  # fmt: skip
def test_numbers_with_signs_between_thousands_come_back(
    values: list[float], signs: tuple[str, str | None], space: str
) -> None:
    """Each is read as it is written; of those that have both signs it is told what these are."""
    decimal, thousands = signs
    between = {None: "", " ": space}.get(thousands, thousands)
    one = {",": "\0", ".": decimal}
    written = ["".join(one.get(c, c) for c in f"{x:,.2f}").replace("\0", str(between)) for x in values]
    text = pl.Series("x", written)
    assert floats(text, decimal, thousands).to_list() == pytest.approx(values)
    assert floats(text + " %", decimal, thousands).to_list() == pytest.approx(values)
    large = any(abs(x) >= 1000 for x in values)
    assert signs_of(text) == (signs if large and thousands else None)


def test_what_does_not_stand_between_thousands() -> None:
    odd = ["1.23,5", "12.3456", "1..234", "1.234.56", ".123", "1,234.5", "1234.567", "0.5"]
    assert floats(pl.Series(odd), ",", ".").null_count() == len(odd)
    assert floats(pl.Series(["1.234", "12", "1.234.567,5", None]), ",", ".").to_list() == [1234, 12, 1234567.5, None]
    assert signs_of(pl.Series("x", ["1.234", "12,5"])) is None, "no number has both"
    assert signs_of(pl.Series("x", ["1.234,5", "12.5"])) is None, "one has another sign before its decimals"


@pytest.mark.parametrize(
    ("columns", "signs"),
    [
        ({"fiyat": ["1.494,90", "254,90"] * 9, "puan": ["4,6", "3,9"] * 9}, (",", ".")),
        ({"fiyat": ["1.494,90", "254,90"] * 9, "score": ["4.6", "3.9"] * 9}, (".", None)),
        ({"a": ["1.494,90"] * 9, "b": ["1,494.90"] * 9}, (".", None)),
        ({"price": ["1,494.90", "7"] * 9, "score": ["4.6", "3.9"] * 9}, (".", ",")),
        ({"at": ["03.11.2025"] * 9, "ip": ["10.2.111.4"] * 9, "n": ["1.494"] * 9}, (".", None)),
    ],
)
def test_what_stands_between_thousands(columns: dict[str, list[str]], signs: tuple[str, str | None]) -> None:
    text = as_typed(pl.DataFrame(columns), Text("\t"))[1]
    assert (text.decimal, text.thousands) == signs


def test_words_among_numbers_with_signs_stay(tmp_path: Path) -> None:
    prices = ["1.494,90", "2.300,10", "k.A.", "254,90", None, "n.d."] * 9
    made = as_typed(pl.DataFrame({"preis": prices, "menge": ["1.494,90", "7"] * 27}), Text("\t"))[0]
    assert made["menge"].dtype == pl.Float64 and made["menge"][0] == 1494.9
    assert made["preis"].dtype == pl.Float64 and made["preis"].null_count() == 27, "both stand for null"


@pytest.mark.parametrize(("decimal", "thousands"), [(",", "."), (".", ","), (",", " ")])
def test_a_log_with_signs_between_thousands(tmp_path: Path, decimal: str, thousands: str) -> None:
    """The same features and durations as of plain numbers; `check` names the keys where one is missing."""

    def written(x: float) -> str:
        return f"{x:,.2f}".translate(str.maketrans({",": thousands, ".": decimal}))

    prices = [1.5 * (k % 1200) for k in range(ROWS)]
    read = [None if np.isnan(x) else written(40 * x) for x in READ]
    _, raw, found = initiated(tmp_path, frame(read_seconds=read, price=[written(x) for x in prices]), "csv")
    assert raw["data"]["csv"]["thousands"] == thousands and raw["data"]["csv"].get("decimal", ".") == decimal
    assert raw["data"]["types"]["price"] == "float64" and features(raw)["price"]["kind"] == "numeric"
    assert found["labels"]["duration_seconds"]["mean"] == pytest.approx(40 * MEAN, rel=1e-3)
    del raw["data"]["csv"]["thousands"]
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(raw))
    ended = dmtl("check", "--config", tmp_path / "other.yaml", "--day", DAYS[0])
    assert ended.code == 65 and "expected float64" in ended.err and "data.csv.thousands" in ended.err


def test_numbers_with_signs_between_thousands_in_json_are_told(tmp_path: Path) -> None:
    prices = [f"{1.5 * (k % 1200):,.2f}" for k in range(ROWS)]
    initiated(tmp_path, frame(price=prices), "json")
    told = r"# price: not used: numbers such as '1,(\d{3})\.00' are text: write 1\1 where they are to be a feature"
    assert re.search(told, (tmp_path / "mine.yaml").read_text())
