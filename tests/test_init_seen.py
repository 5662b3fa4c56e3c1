"""`init` on logs in which a flag says whether a card was in view, without which nothing is clicked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import unseen
import yaml
from initiated import daily, features, frame, made
from worlds import dmtl

from dmtl_cli.guess.columns import words
from dmtl_cli.guess.exposures.after import needed

X = unseen.drawn(0)
RNG = np.random.default_rng(7)
SEEN = (X["click"] == 1) | (RNG.random(unseen.ROWS) < 0.4)
DAY = "2026-03-02"
CARD = {"card_no": X["position"]}


def log(**more: Any) -> pl.DataFrame:
    return frame(drop=("watch_seconds",), liked=X["bought"], **CARD, **more)


def rows_of(tmp_path: Path) -> int:
    """That `check` reads of a day, repeated clicks among them."""
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", DAY, "--json")
    assert found.code == 0, found.err
    return int(found.json["rows"] + found.json["labels"]["repeated_clicks"])


@pytest.mark.parametrize(
    ("name", "values", "condition", "none"),
    [
        ("in_view", SEEN.astype(int), "in_view = 1", "0"),
        ("nampak", SEEN, "nampak", "false"),
        ("sichtbar", ["ja" if s else "nein" for s in SEEN], "sichtbar = 'ja'", "false"),
        ("viewable_50", [1 if s else None for s in SEEN], "viewable_50 = 1", "nothing"),
        ("是否可见", SEEN.astype(int), '"是否可见" = 1', "0"),
        ("seen_at", [int(t) + 1 if s else None for t, s in zip(X["at"], SEEN, strict=True)], "seen_at IS NOT NULL", ""),
    ],
)
def test_rows_of_cards_that_were_not_seen_are_left_out(
    tmp_path: Path, name: str, values: Any, condition: str, none: str
) -> None:
    ended, raw, text = made(tmp_path, daily(log(**{name: pl.Series(values)})))
    assert ended.code == 0, ended.err
    events = raw["data"]["events"]
    assert events["where"] == condition and name not in events.get("outcomes", []) and name not in features(raw)
    assert "card_no" in features(raw)
    share = f"{1 - SEEN.mean():.0%} of rows have {none or 'nothing'}, none of them clicked"
    undo = "to read such rows too, set data.events.where: null"
    assert f"{name}: {share}: the card was not seen, and is no exposure; {undo}" in text
    assert f"WARNING: {name}: {share}: the card was not seen, and is no exposure: left out" in ended.out
    assert ended.out.count(undo) == 1
    of_day = np.array(unseen.days_of(X)) == DAY
    assert rows_of(tmp_path) == int((of_day & SEEN).sum())
    raw["data"]["events"]["where"] = None  # as the line says
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw))
    assert rows_of(tmp_path) == int(of_day.sum())


@pytest.mark.parametrize("form", ["csv", "json"])
@pytest.mark.parametrize("text", [True, False])
def test_so_it_is_in_files_of_text(tmp_path: Path, form: str, text: bool) -> None:
    values = ["Y" if s else "N" for s in SEEN] if text else SEEN.astype(int).tolist()

    def write(home: Path) -> None:
        rows = log(visible=values)
        rows.write_csv(home / "log.csv") if form == "csv" else rows.write_ndjson(home / "log.jsonl")

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0 and raw["data"]["events"]["where"] == ("visible" if text else "visible = 1"), ended.err
    assert rows_of(tmp_path) == int(((np.array(unseen.days_of(X)) == DAY) & SEEN).sum())


def test_a_step_before_the_click_under_another_name_is_an_outcome(tmp_path: Path) -> None:
    """It may be a hover: a person says what it is, with the line that the reason has."""
    ended, raw, text = made(tmp_path, daily(log(hovered=SEEN.astype(int))))
    assert ended.code == 0 and "where" not in raw["data"]["events"], ended.err
    assert raw["data"]["events"]["outcomes"] == ["hovered"] and "hovered" not in features(raw)
    line = 'where: "hovered = 1"'
    assert (
        f"no row without it is clicked: if it says that the card was seen, write {line} in place of this line" in text
    )
    raw["data"]["events"] |= yaml.safe_load(line)
    del raw["data"]["events"]["outcomes"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw))
    assert rows_of(tmp_path) == int(((np.array(unseen.days_of(X)) == DAY) & SEEN).sum())


def test_of_two_thresholds_the_wider_one_is_taken(tmp_path: Path) -> None:
    long = SEEN & ((X["click"] == 1) | (RNG.random(unseen.ROWS) < 0.5))
    ended, raw, text = made(tmp_path, daily(log(viewable_2s=long, viewable=SEEN)))
    events = raw["data"]["events"]
    assert ended.code == 0 and events["where"] == "viewable" and events["outcomes"] == ["viewable_2s"], ended.err
    assert "viewable_2s  # no row without it is clicked\n" in text


def test_a_few_clicks_without_it_do_not_hide_it() -> None:
    clicked = pl.Series(RNG.random(10_000) < 0.2)
    seen = pl.Series("visible", (RNG.random(10_000) < 0.5) | (clicked.to_numpy() & (RNG.random(10_000) < 0.97)))
    found = needed(seen, clicked)
    assert found is not None and 0 < found.clicks == int((clicked & ~seen).sum())
    assert f"{found.clicks} of them clicked" in found.why
    assert needed(seen.alias("x"), clicked) is None, "of a name that says nothing, nearly none is asked"
    assert needed(seen.head(150), clicked.head(150)) is None, "of few clicks nothing is concluded"


def test_rows_without_a_flag_stay_where_they_are_clicked() -> None:
    clicked = pl.Series(np.arange(4_000) % 5 == 0)
    flag = [None if k % 4 == 0 else int(k % 5 == 0 or k % 3 == 0) for k in range(4_000)]
    found = needed(pl.Series("visible", flag), clicked)
    assert found is not None and found.condition == "(visible = 1 OR visible IS NULL)" and found.rows.sum() > 1_000
    empty = pl.Series("visible", [None if k % 4 == 0 and k % 5 else v for k, v in enumerate(flag)], dtype=pl.Int64)
    found = needed(empty, clicked.set(clicked & empty.is_null(), False))
    assert found is not None and found.condition == "visible = 1"


@pytest.mark.parametrize("what", ["a feature", "of an item", "not on all days"])
def test_other_flags_leave_no_row_out(tmp_path: Path, what: str) -> None:
    """One that rows without a click have less often, what an item is, and one that the first day lacks."""
    values = (RNG.random(unseen.ROWS) < 0.5 + 0.3 * X["click"]).astype(int)
    rows = log(visible=values)
    if what == "of an item":
        rows = rows.with_columns(visible=(pl.col("item_id") % 2)).with_columns(clicked="visible", liked="visible")
        rows = rows.with_columns(clicked=pl.col("clicked") * pl.Series(X["click"]))
        rows = rows.with_columns(liked=pl.col("clicked") * pl.Series(X["bought"]))
    if what == "not on all days":
        first = pl.Series(unseen.days_of(X)) == "2026-03-01"
        rows = rows.with_columns(visible=pl.Series(SEEN.astype(int)).set(first, None))
    ended, raw, _ = made(tmp_path, daily(rows))
    assert ended.code == 0 and "where" not in raw["data"]["events"], ended.err


def test_it_is_beside_the_kinds_of_a_stream(tmp_path: Path) -> None:
    """What was shown is asked for by its kind, and of that what was seen."""
    shown = pl.DataFrame({
        "kind": "impression", "card_id": [f"c{k}" for k in range(unseen.ROWS)], "user_id": X["user"],
        "item_id": X["item"], "ts": X["at"], "in_view": SEEN,
    })  # fmt: skip
    after = shown.filter(pl.Series(X["click"] == 1)).with_columns(
        kind=pl.lit("click"), ts=pl.col("ts") + 5, in_view=pl.lit(None, dtype=pl.Boolean)
    )
    bought = after.filter(pl.Series(X["bought"][X["click"] == 1] == 1)).with_columns(kind=pl.lit("purchase"))
    rows = pl.concat([shown, after, bought]).sort("ts")
    ended, raw, _ = made(tmp_path, lambda home: rows.write_ndjson(home / "log.jsonl"))
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["where"] == "kind = 'impression' AND in_view"
    assert "set data.events.where: \"kind = 'impression'\"" in ended.out
    assert rows_of(tmp_path) == int(((np.array(unseen.days_of(X)) == DAY) & SEEN).sum())


def test_how_long_it_was_in_view_is_no_duration_of_a_click(tmp_path: Path) -> None:
    ms = SEEN * RNG.integers(200, 9_000, unseen.ROWS)
    ended, raw, _ = made(tmp_path, daily(log(in_view_ms=ms)))
    events = raw["data"]["events"]
    assert ended.code == 0 and events["conversion"] == "liked" and events["outcomes"] == ["in_view_ms"], ended.err


def test_in_view_is_no_click(tmp_path: Path) -> None:
    """All that comes of a card is within those that were seen."""
    rows = log(in_view=SEEN.astype(int)).rename({"clicked": "act"})
    ended, raw, _ = made(tmp_path, daily(rows))
    events = raw["data"]["events"]
    assert ended.code == 0 and (events["click"], events["where"]) == ("act", "in_view = 1"), ended.err


@pytest.mark.parametrize(
    "name",
    ["in_view", "isVisible", "ad.viewable_1s", "was_seen", "terlihat", "en_pantalla", "im_sichtfeld", "на_экране"],
)
def test_names_that_say_in_view(name: str) -> None:
    assert words.is_of_sight(name)


@pytest.mark.parametrize(
    "name", ["view", "viewed", "invisible", "seen_before", "times_seen", "last_seen_at", "preview"]
)
def test_names_that_do_not(name: str) -> None:
    assert not words.is_of_sight(name)


def test_a_flag_that_the_click_sets_says_nothing_of_others() -> None:
    """Of rows without a click hardly any has it: nobody scrolls so little."""
    clicked = pl.Series(RNG.random(4_000) < 0.2)
    set_by_click = clicked | pl.Series(RNG.random(4_000) < 0.05)
    assert needed(set_by_click.cast(pl.Int64).alias("in_view"), clicked) is None
    assert needed((clicked | pl.Series(RNG.random(4_000) < 0.4)).cast(pl.Int64).alias("in_view"), clicked) is not None


@pytest.mark.parametrize("broken", [None, 3])
def test_a_day_on_which_the_flag_is_never_set(tmp_path: Path, broken: int | None) -> None:
    """It would have no rows: no `where` is written, though the days that were sampled have the flag."""
    parts = [log(in_view=SEEN.astype(int) * (k != broken)) for k in range(9)]
    at = [part["ts"] % 86_400 + (20_500 + k) * 86_400 for k, part in enumerate(parts)]
    whole = pl.concat([part.with_columns(ts=of_day) for part, of_day in zip(parts, at, strict=True)])
    ended, raw, _ = made(tmp_path, daily(whole))
    assert ended.code == 0 and ("where" in raw["data"]["events"]) == (broken is None), ended.err
