"""`init` and `check` tell lengths of time that were measured once an item was shown from those known before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import unseen
from initiated import daily, features, frame, made
from worlds import dmtl

from dmtl_cli.guess.columns import words
from dmtl_cli.guess.exposures.after import measured

MEASURED = [
    "synlig_ms",
    "vidno_ms",
    "on_screen_sec",
    "zichtbaarSeconden",
    "view.hover_ms",
    "видимость_мс",
    "滞在秒数",
    "card.ms_viewed",
]
KNOWN = [
    "seconds_since_last_visit", "session_age_s", "search_latency_ms", "sekunder_siden_siste_s",
    "seit_letztem_besuch_ms", "eta_s", "上次访问秒数", "hour", "minutes", "price", "visible_price", "images",
    "ms_viewed_7d", "recently_viewed", "past_ms_watched", "user_total_ms_viewed", "lifetime_ms_viewed",
    "avg_seconds_read",
]  # fmt: skip


def lengths(n: int, seed: int = 3) -> Any:
    """Numbers of their own in each row."""
    return np.random.default_rng(seed).integers(200, 9_000, n)


@pytest.mark.parametrize("name", MEASURED)
def test_names_of_what_is_measured(name: str) -> None:
    assert words.is_measured(name)


@pytest.mark.parametrize("name", KNOWN)
def test_names_of_what_was_known(name: str) -> None:
    assert not words.is_measured(name)


def test_values_say_first_what_was_known() -> None:
    """One value an item, a user and item, an item and day, or a request; a few values, as of a setting."""
    rng, n = np.random.default_rng(0), 4_000
    of = {"user": pl.Series(rng.integers(0, 40, n)), "item": pl.Series(rng.integers(0, 30, n))}
    of |= {"request": pl.Series(np.arange(n) // 8), "day": pl.Series(np.arange(n) // 1_000)}
    by = lengths(10_000)
    known = {
        "item": of["item"], "request": of["request"], "day": of["item"] + 40 * of["day"],
        "both": of["item"] + 40 * of["user"],
    }  # fmt: skip
    assert "measured once an item is shown" in str(measured(pl.Series("gone_ms", lengths(n)), of))
    for what, code in known.items():
        assert measured(pl.Series("gone_ms", by[code.to_numpy()]), of) is None, what
    assert measured(pl.Series("gone_ms", rng.integers(0, 5, n) * 1_000), of) is None, "settings"
    assert measured(pl.Series("gone_ms", lengths(n) - 5_000), of) is None, "a difference"


def test_what_is_measured_in_each_row_is_an_outcome(tmp_path: Path) -> None:
    n, x = unseen.ROWS, unseen.drawn(0)
    more: dict[str, Any] = {
        "synlig_ms": lengths(n),
        "seconds_since_last_visit": lengths(n, 4),
        "session_age_s": lengths(n, 5),
        "clip_ms": lengths(unseen.ITEMS, 6)[x["item"]],
        "scan_ms": lengths(n, 7)[x["request"]],
        "request_id": x["request"],
    }
    ended, raw, text = made(tmp_path, daily(frame(**more)))
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["outcomes"] == ["synlig_ms"]
    assert {"seconds_since_last_visit", "session_age_s", "clip_ms", "scan_ms"} <= {*features(raw)}
    config = tmp_path / "mine.yaml"
    assert not [s for s in suggested(config) if "measured once" in s]
    config.write_text(
        text.replace("features:\n", "features:\n  - {name: synlig_ms, side: context, kind: numeric, num_buckets: 9}\n")
        .replace("    outcomes:", "    # outcomes:")
        .replace("      - synlig_ms", "      # - synlig_ms")
    )
    (line,) = (s for s in suggested(config) if "measured once" in s)
    assert line.startswith("synlig_ms: its name says a length of time") and "data.events.outcomes" in line


def suggested(config: Path) -> list[str]:
    ended = dmtl("check", "--config", config, "--day", "2026-03-03", "--json")
    assert ended.code == 0, ended.err
    found: list[str] = ended.json["suggestions"]
    return found


@pytest.mark.parametrize("name", ["comment_stay_time", "profileStayTime", "dwell_time_ms", "stay_duration"])
def test_time_that_somebody_stayed_is_known_after(name: str) -> None:
    """In most rows it is 0, so that no value tells it, nor the click."""
    assert words.is_known_after(name)


@pytest.mark.parametrize("name", ["stay_days_of_trip", "length_of_stay", "days_stayed_before"])
def test_another_stay_is_not(name: str) -> None:
    assert not words.is_known_after(name)


@pytest.mark.parametrize(
    "name",
    ["replay_cnt", "num_replays", "loop_count", "rewatches", "exit_after", "exited", "session_ended", "swiped_away"],
)
def test_what_somebody_does_with_a_video_is_known_after(name: str) -> None:
    assert words.is_known_after(name)


@pytest.mark.parametrize("name", ["exit_page", "session_ends_at", "loop_region", "replay_allowed", "has_exit"])
def test_what_an_item_or_a_page_has_is_not(name: str) -> None:
    assert not words.is_known_after(name)


def test_what_models_learn_is_an_outcome(tmp_path: Path) -> None:
    """By its name alone, where it is 0 and 1: it hardly tells the click, and may have one value an item."""
    rng, x = np.random.default_rng(5), unseen.drawn(0)
    by_item = (x["item"] % 9 > 0).astype(int)
    more = {
        "label": by_item,
        "is_positive": rng.integers(0, 2, unseen.ROWS),
        "target_group": rng.integers(0, 2, unseen.ROWS),
    }
    ended, raw, _ = made(tmp_path, daily(frame(**more)))
    assert ended.code == 0 and {"label", "is_positive"} <= {*raw["data"]["events"]["outcomes"]}, ended.err
    assert not {"label", "is_positive"} & {*features(raw)} and "target_group" in features(raw)
    ended, raw, _ = made(tmp_path / "b", daily(frame(is_negative=by_item)))
    assert ended.code == 0 and "is_negative" in features(raw), "what an article is"
