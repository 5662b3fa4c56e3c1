"""In which zone the times are since which items are there: `init` writes it, and `check` says where it is another."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from initiated import made
from worlds import dmtl

from dmtl_cli.guess.sides.births import naive, zone_told

FIRST = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
ZONES = ("Asia/Shanghai", "Europe/Stockholm", "America/New_York", "Asia/Kolkata", "Pacific/Honolulu")


def born(seed: int, of: str, items: int = 200) -> tuple[pl.Series, pl.Series]:
    """When items were first shown, minutes or hours after they came, and when they came as clocks of a zone say."""
    rng = np.random.default_rng(seed)
    came = [FIRST + dt.timedelta(seconds=int(s)) for s in rng.integers(0, 5 * 86_400, items)]
    shown = [at + dt.timedelta(seconds=int(s)) for at, s in zip(came, rng.exponential(7200, items), strict=True)]
    since = [at.astimezone(ZoneInfo(of)).replace(tzinfo=None) for at in came]
    return pl.Series(shown, dtype=pl.Datetime("us", "UTC")), pl.Series(since, dtype=pl.Datetime("us"))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), local=st.sampled_from(ZONES), is_utc=st.booleans())
def test_the_zone_in_which_no_item_is_shown_before_it_is_there(seed: int, local: str, is_utc: bool) -> None:
    truth = "UTC" if is_utc else local
    told = zone_told(*born(seed, truth), local)
    assert told is not None and told[0] == truth


@pytest.mark.parametrize("hours", [1, 7, 14])
@pytest.mark.parametrize("local", ["UTC", "America/New_York"])
def test_another_zone_ahead_of_utc(hours: int, local: str) -> None:
    told = zone_told(*born(1, f"Etc/GMT-{hours}"), local)
    assert told is not None and told[0] == f"Etc/GMT-{hours}"


def test_items_that_come_again_are_few() -> None:
    shown, since = born(2, "UTC")
    early = pl.Series(np.arange(len(shown)) % 40 == 0)
    shown = pl.select(pl.when(early).then(shown - dt.timedelta(hours=3)).otherwise(shown)).to_series()
    told = zone_told(shown, since, "Asia/Shanghai")
    assert told is not None and told[0] == "UTC" and "5 before" in told[1]


def test_of_few_items_or_none_nothing_is_told() -> None:
    shown, since = born(3, "UTC", 4)
    assert zone_told(shown, since, "Asia/Shanghai") is None
    assert zone_told(shown, since - dt.timedelta(days=40), "Asia/Shanghai") is None, "all were there long before"
    assert zone_told(shown.head(0), since.head(0), "Asia/Shanghai") is None
    shown, since = born(3, "UTC")
    assert zone_told(shown, since, "UTC") is None, "nothing is to choose"
    scattered = since + pl.Series(np.random.default_rng(1).integers(-200, 200, len(since))).cast(pl.Int64) * pl.Series(
        [dt.timedelta(hours=1)]
    )
    assert zone_told(shown, scattered, "Asia/Shanghai") is None, "it says of no zone when items came"


def test_times_that_name_no_zone() -> None:
    at = dt.datetime(2026, 3, 1, 9, 30)
    assert naive(pl.Series([at])) is not None and naive(pl.Series(["2026-03-01T09:30:00", None])) is not None
    zoned = (f"2026-03-01T09:30:00{zone}" for zone in ("Z", "+02:00", " UTC", "+02"))
    for named in (at.replace(tzinfo=dt.UTC), *zoned, "x", 3):
        assert naive(pl.Series([named])) is None


# -- of a log ----------------------------------------------------------------------------------------------------------

DAYS, A_DAY, ITEMS = 4, 900, 80
SEOUL = ZoneInfo("Asia/Seoul")
BEGIN = dt.datetime(2026, 3, 5, tzinfo=SEOUL).astimezone(dt.UTC)
LAST = "2026-03-08"


def put(home: Path, of: str) -> None:
    """Folders of days of Seoul with naive times of UTC, and items that come all the time and are shown soon after it,
    with naive times of a zone."""
    rng = np.random.default_rng(4)
    n = DAYS * A_DAY
    at = np.sort(rng.integers(0, DAYS * 86_400, n))
    came = np.sort(rng.integers(-86_400, DAYS * 86_400, ITEMS))
    there = np.searchsorted(came, at)  # so many items have come
    newest = rng.random(n) < 0.3
    item = np.where(newest, there - 1, (rng.random(n) * there).astype(int))
    click = rng.random(n) < 0.3
    shown = [BEGIN + dt.timedelta(seconds=int(s)) for s in at]
    rows = pl.DataFrame({
        "user_id": rng.integers(0, 150, n), "item_id": item, "clicked": click,
        "watch_seconds": click * rng.exponential(40, n), "shown_at": [s.replace(tzinfo=None) for s in shown],
        "day": [str(s.astimezone(SEOUL).date()) for s in shown],
    })  # fmt: skip
    for (day,), part in rows.group_by("day", maintain_order=True):
        (home / f"events/day={day}").mkdir(parents=True)
        part.drop("day").write_parquet(home / f"events/day={day}/0.parquet")
    listed = [(BEGIN + dt.timedelta(seconds=int(s))).astimezone(ZoneInfo(of)).replace(tzinfo=None) for s in came]
    kinds = [f"k{k % 7}" for k in range(ITEMS)]
    pl.DataFrame({"item_id": range(ITEMS), "kind": kinds, "listed_at": listed}).write_parquet(home / "items.parquet")


@pytest.mark.parametrize(
    ("of", "written"), [("UTC", "UTC"), ("Asia/Seoul", None), ("Pacific/Auckland", "Etc/GMT-13")], ids=str
)
def test_a_log_whose_items_have_times_of_another_zone(tmp_path: Path, of: str, written: str | None) -> None:
    ended, raw, text = made(tmp_path, lambda home: put(home, of))
    assert ended.code == 0, ended.err
    items = raw["data"]["items"]
    assert raw["data"]["timezone"] == "Asia/Tokyo" and items["version"] == "listed_at"
    assert items.get("version_timezone") == written and (f"version_timezone: {written}  # " in text) == (
        written is not None
    )

    def told() -> list[str]:
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw))
        ended = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", LAST, "--json")
        assert ended.code == 0, ended.err
        return [line for line in ended.json["suggestions"] if line.startswith("listed_at: ")]

    assert told() == []
    items.pop("version_timezone", None)
    fix = f": set data.items.version_timezone: {written}"
    assert [line.endswith(fix) for line in told()] == [True] * (written is not None)
    items["version_timezone"] = "Europe/Lisbon"
    (line,) = told()
    assert line.startswith("listed_at: times without a zone are read as those of Europe/Lisbon, yet ")
    assert line.endswith(f"version_timezone: {written or 'Asia/Tokyo'}")


def test_a_day_that_does_not_tell_it_says_what_to_write_if_it_is_so(tmp_path: Path) -> None:
    """All items are of a month ago."""
    _, raw, _ = made(tmp_path, lambda home: put(home, "UTC"))
    path = tmp_path / "log/items.parquet"
    old = pl.read_parquet(path).with_columns(pl.col("listed_at") - dt.timedelta(days=30))
    old.write_parquet(path)
    del raw["data"]["items"]["version_timezone"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw))
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", LAST, "--json").json["suggestions"]
    seen = "listed_at: times without a zone are read as those of Asia/Tokyo"
    assert f"{seen}: if they are UTC, set data.items.version_timezone: UTC" in found
