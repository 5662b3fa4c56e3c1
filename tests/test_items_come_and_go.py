"""Items that come and go within a log: what `init` writes of the times since which and until which they are there."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from initiated import made
from shelf import CAME, DAYS, ITEMS, day, put

NAMES = ("beschikbaar_vanaf", "kolom_7")
FROM = day(0) or dt.date.min


def version(home: Path, **columns: list[Any]) -> str | None:
    ended, raw, _ = made(home, lambda log: put(log, **columns), "--user", "lid_id")
    assert ended.code == 0, ended.err
    found = raw["data"]["items"].get("version")
    assert found is None or isinstance(found, str)
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["date", "text", "yyyymmdd"])
def test_a_day_since_which_items_are_there_is_their_version(tmp_path: Path, name: str, kind: str) -> None:
    """No item is shown before it, and those that came within the log are from then on, whatever it is called."""
    came = [FROM + dt.timedelta(days=c) for c in CAME]
    write = {"date": lambda d: d, "text": str, "yyyymmdd": lambda d: int(f"{d:%Y%m%d}")}[kind]
    assert version(tmp_path, **{name: [write(d) for d in came]}) == name


def test_a_day_that_says_something_else_is_none(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    changed = [FROM + dt.timedelta(days=int(d)) for d in rng.integers(-30, DAYS, ITEMS)]  # on any day
    loaded = [FROM + dt.timedelta(days=k % 2) for k in range(ITEMS)]  # as the log begins, which shows nothing before it
    printed = [FROM + dt.timedelta(days=c - 40) for c in CAME]
    later = [FROM + dt.timedelta(days=c - 4 if c >= 0 else c) for c in CAME]  # shown, but days after it
    columns = {"kolom_1": changed, "kolom_2": loaded, "kolom_3": printed, "kolom_4": later}
    assert version(tmp_path, **columns) is None


def test_a_name_is_a_help_and_no_more(tmp_path: Path) -> None:
    """Of several that fit, the one that is named so; one that is named so and does not fit is none."""
    came = [FROM + dt.timedelta(days=c) for c in CAME]
    wrong = [FROM + dt.timedelta(days=3)] * ITEMS
    assert version(tmp_path / "both", kolom_7=came, beschikbaar_vanaf=came) == "beschikbaar_vanaf"
    assert version(tmp_path / "wrong", published_on=wrong, kolom_7=came) == "kolom_7"


def test_of_few_that_came_another_name_tells_nothing(tmp_path: Path) -> None:
    came = [c if k < 36 else -9 for k, c in enumerate(CAME)]
    assert sum(c >= 2 for c in came) == 5
    at = [FROM + dt.timedelta(days=c) for c in came]
    assert version(tmp_path / "other", kolom_7=at) is None
    assert version(tmp_path / "named", beschikbaar_vanaf=at) == "beschikbaar_vanaf"
