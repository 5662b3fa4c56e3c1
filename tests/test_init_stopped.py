"""What was withdrawn, told by what is shown: of a table of items that is one state for all days, a column of which one
value's items stop while the others go on, in whatever language its words are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import yaml
from initiated import features, made
from unseen import by_day
from worlds import dmtl

ITEMS, DAYS, ROWS = 400, 4, 40_000
BEGIN = 1772323200
LAST = "2026-03-04"
Ints = npt.NDArray[np.int64]


def log(home: Path, end: Ints, items: pl.DataFrame, sparse: bool = False) -> None:
    """Exposures of items, each until some day; of a sparse log most items have a few."""
    rng = np.random.default_rng(6)
    weight = np.exp(rng.normal(0, 1.5 if sparse else 0.3, ITEMS))
    n = ROWS // 10 if sparse else ROWS
    at = np.sort(rng.integers(BEGIN, BEGIN + DAYS * 86_400, n))
    day = (at - BEGIN) // 86_400
    item = np.empty(n, np.int64)
    for d in range(DAYS):
        there = weight * (end > d)
        item[day == d] = rng.choice(ITEMS, int((day == d).sum()), p=there / there.sum())
    click = rng.random(n) < 0.2
    rows = {"user_id": rng.integers(0, 400, n), "item_id": item, "ts": at, "clicked": click.astype(int)}
    seconds = np.where(click, rng.exponential(30, n), 0.0)
    by_day(home / "events", pl.DataFrame({**rows, "watch_seconds": seconds}), {"at": at})
    items.write_parquet(home / "items.parquet")


def ends(rng: np.random.Generator, part: float) -> Ints:
    """[items] days after which each is shown no more, some of them within the log."""
    return np.where(rng.random(ITEMS) < part, rng.integers(1, DAYS, ITEMS), DAYS)


def suggested(config: Path) -> list[str]:
    ended = dmtl("check", "--config", config, "--day", LAST, "--json")
    assert ended.code == 0, ended.err
    found: list[str] = ended.json["suggestions"]
    return found


@pytest.mark.parametrize("kind", ["words", "flag", "number", "three"])
def test_a_state_of_the_end_is_for_what_is_served_alone(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(2)
    end = ends(rng, 0.3)
    gone = end < DAYS
    words = ["vendido" if g else "en venta" for g in gone]
    three = ["retirado" if g and k % 3 == 0 else w for k, (g, w) in enumerate(zip(gone, words, strict=True))]
    values = {"words": words, "flag": gone, "number": np.where(gone, 7, 3), "three": three}[kind]
    there = "situ = 'en venta'"
    still = {"words": there, "flag": "situ = false", "number": "situ = 3", "three": there}[kind]
    items = pl.DataFrame({"item_id": range(ITEMS), "situ": values, "tone": rng.choice(["red", "blue"], ITEMS)})
    ended, raw, text = made(tmp_path, lambda home: log(home, end, items))
    assert ended.code == 0 and features(raw).keys() == {"user_id", "item_id", "tone"}, ended.err
    (line,) = (line for line in text.splitlines() if line.startswith("# situ: not used: "))
    assert "it tells what was withdrawn" in line and line.endswith(
        f"(export.items: {still} leaves it out of what is served)"
    )
    assert raw["export"] == {"items": still} and "--filter" not in ended.out
    assert not [line for line in suggested(tmp_path / "mine.yaml") if "withdrawn" in line]
    raw["features"].append({"name": "situ", "side": "item", "kind": "categorical"})
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw))
    (line,) = (line for line in suggested(tmp_path / "mine.yaml") if "withdrawn" in line)
    assert line.endswith("which earlier days did not know: leave it out, or write a table a day (data.items.partition)")
    del raw["export"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw))
    (line,) = (line for line in suggested(tmp_path / "mine.yaml") if "withdrawn" in line)
    assert line.startswith("situ: in a table of items that is one for all days, ")
    assert f"(export.items: {still} leaves it out of what is served): " in line
    assert f" of {gone.sum():,} items with " in line and "are not shown on the last day" in line


@pytest.mark.parametrize("kind", ["lot", "news", "sparse", "shorter"])
def test_what_says_nothing_of_the_end_is_a_feature(tmp_path: Path, kind: str) -> None:
    """Values by lot; items of all values that stop, of one sooner; few rows of most items."""
    rng = np.random.default_rng(3)
    tone = rng.choice(["red", "blue", "green"], ITEMS, p=[0.5, 0.3, 0.2])
    end = ends(rng, {"lot": 0.3, "news": 0.9, "sparse": 0.1, "shorter": 0.3}[kind])
    if kind == "shorter":
        end = np.where(tone == "green", np.minimum(end, rng.integers(1, DAYS + 1, ITEMS)), end)
    items = pl.DataFrame({"item_id": range(ITEMS), "tone": tone})
    ended, raw, _ = made(tmp_path, lambda home: log(home, end, items, kind == "sparse"))
    assert ended.code == 0 and "tone" in features(raw), ended.err
    assert not [line for line in suggested(tmp_path / "mine.yaml") if "withdrawn" in line]
