"""`init` and `check` ask of a value of which far more rows are clicks, or good ones, whether it was known before the
item was shown; they do not ask of the first place of a list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from initiated import features, made
from scipy.stats.contingency import odds_ratio
from unseen import by_day
from worlds import dmtl

from dmtl_cli.guess.features.telling import ODDS, telling, unchosen

N = 24_000
RNG = np.random.default_rng(9)
PLACE = np.arange(N) % 12
CLICK = RNG.random(N) < np.where(PLACE == 0, 0.35, 0.12)
GOOD = CLICK & (RNG.random(N) < 0.5)
SHELF = RNG.random(N) < np.where(GOOD, 0.3, np.where(CLICK, 0.04, 0.01))
LIKED = CLICK & (RNG.random(N) < np.where(GOOD, 0.6, 0.02))
AT = np.sort(RNG.integers(1772323200, 1772323200 + 3 * 86_400, N))
ASKED = "known before the item was shown? Else name it in data.events.outcomes"


def log(home: Path, more: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)
    ids = {"user_id": rng.integers(0, 300, N), "item_id": rng.integers(0, 90, N), "ts": AT}
    rows = pl.DataFrame({**ids, "opened": CLICK.astype(int), "bought": GOOD.astype(int), "place": PLACE, **more})
    by_day(home / "events", rows, {"at": AT})


def asked_of(home: Path, more: dict[str, Any]) -> tuple[dict[str, str], list[str]]:
    """By feature the comment of `init` where it asks; what `check` asks of a day."""
    ended, raw, text = made(home, lambda root: log(root, more))
    assert ended.code == 0 and {"place", *more} <= features(raw).keys(), ended.err
    told = {
        x.split("name: ")[1].split(",")[0]: x for x in text.splitlines() if "{name: " in x and " of the others" in x
    }
    lines = dmtl("check", "--config", home / "mine.yaml", "--day", "2026-03-02", "--json").json["suggestions"]
    return told, [line for line in lines if ASKED in line]


@pytest.mark.parametrize("as_text", [False, True])
def test_what_is_put_on_a_shelf_once_it_was_read(tmp_path: Path, as_text: bool) -> None:
    shelf = ["mine" if x else "no one" for x in SHELF] if as_text else SHELF.astype(int)
    told, lines = asked_of(tmp_path, {"shelf": shelf, "paper": RNG.random(N) < 0.04})
    value = "mine" if as_text else "1"
    assert told.keys() == {"shelf"} and f" rows with {value} are clicks, " in told["shelf"]
    of_day = AT // 86_400 == 1772323200 // 86_400 + 1
    rates = [CLICK[of_day & mask].mean() for mask in (SHELF, ~SHELF)]
    rows = (
        f"{rates[0]:.0%} of the {(SHELF & of_day).sum():,} rows with {value} are clicks, {rates[1]:.1%} of the others"
    )
    assert lines == [f"shelf: {rows}: {ASKED}"]


def test_a_time_that_most_rows_lack(tmp_path: Path) -> None:
    """Of many numbers, whether there is one."""
    spent = np.where(SHELF, RNG.integers(1, 5000, N), 0)
    told, lines = asked_of(tmp_path, {"spent": spent, "depth": RNG.integers(0, 5000, N)})
    assert told.keys() == {"spent"} and " rows with a value are clicks, " in told["spent"]
    assert [line.split(":")[0] for line in lines] == ["spent"]


def test_what_tells_a_good_click_among_clicks(tmp_path: Path) -> None:
    """A mark that as many clicks as other rows have, but good ones alone."""
    flag = np.where(CLICK, LIKED, RNG.random(N) < LIKED[CLICK].mean()).astype(int)
    told, lines = asked_of(tmp_path, {"flag": flag})
    assert told.keys() == {"flag"} and "are bought, of clicks," in told["flag"]
    assert [line.split(":")[0] for line in lines] == ["flag"] and "are bought, of clicks," in lines[0]


def test_it_asks_of_nothing_that_a_list_decides(tmp_path: Path) -> None:
    assert asked_of(tmp_path, {"paper": RNG.random(N) < 0.04, "half": RNG.integers(0, 2, N)}) == ({}, [])


@pytest.mark.parametrize("kind", ["text", "code"])
def test_rows_that_nobody_chose_are_a_warning(tmp_path: Path, kind: str) -> None:
    """What plays by itself once an item has ended: all of it is a click, of whole requests; and the same where a value
    has many clicks, not all, which says nothing."""
    request = np.arange(N) // 12
    goes_on = (request % 9 == 0) & (np.arange(N) % 24 < 12)
    by_itself = np.where(goes_on, "autoplay", "home").tolist() if kind == "text" else np.where(goes_on, 7, request % 3)
    keen = np.where((request % 9 == 1) & (RNG.random(N) < 0.9), "mail", "web").tolist()

    def write(home: Path) -> None:
        ids = {"request_id": request, "user_id": request % 301, "opened": (CLICK | goes_on).astype(int)}
        log(home, {**ids, "begun_by": by_itself, "medium": keen})

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0 and raw["data"]["events"]["request"] == "request_id", ended.err
    told = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-02", "--json").json["warnings"]
    value, condition = ("autoplay", "begun_by <> 'autoplay'") if kind == "text" else ("7", "begun_by <> 7")
    assert len(told) == 1 and told[0].startswith("begun_by: the "), told
    assert f" rows with {value} are all clicks, " in told[0]
    assert told[0].endswith(f'set "{condition}" as data.events.where'), told
    assert "WARNING: begun_by: the " in ended.out
    left = dmtl("init", tmp_path / "log", "-o", tmp_path / "other.yaml", "--where", condition)
    assert left.code == 0 and "are all clicks" not in left.out


@pytest.mark.parametrize(
    ("alone", "clicked", "rate", "told"),
    [
        (100, 100, 0.15, True), (130, 130, 0.2, True), (99, 99, 0.15, False),
        (100, 99, 0.15, True), (100, 98, 0.15, False),
        (300, 300, 0.9, False), (5_000, 5_000, 0.9, True), (100, 100, 0.6, False),
    ],
)  # fmt: skip
def test_a_hundred_rows_that_are_all_clicks_are_enough(alone: int, clicked: int, rate: float, told: bool) -> None:
    """Unless so many are by chance: of a log of hardly anything but clicks."""
    value = pl.Series(["home"] * 3_000 + ["autoplay"] * alone)
    click = pl.Series([k < 3_000 * rate for k in range(3_000)] + [k < clicked for k in range(alone)])
    found = unchosen(value, click)
    assert (found is not None) == told
    assert not told or found == ("autoplay", alone, pytest.approx(rate))


def test_odds_are_those_of_scipy() -> None:
    """With an exact reference: nothing is asked below the limit, and all is that is surely above it."""
    rng = np.random.default_rng(1)
    asked = 0
    for of in np.linspace(0.02, 0.6, 40):
        flag = rng.random(N) < np.where(CLICK, of, 0.02)
        a, b = int((flag & CLICK).sum()), int((flag & ~CLICK).sum())
        table = [[a, b], [int(CLICK.sum()) - a, int((~CLICK).sum()) - b]]
        found = telling(pl.Series(flag), {"clicks": pl.Series(CLICK)})
        low = odds_ratio(table, kind="sample").confidence_interval(0.9999).low
        assert not found or low > ODDS * 0.95
        assert found or low < ODDS * 1.05
        asked += found is not None
    assert 5 < asked < 35
