"""init: in a file of several kinds of events, what comes of a click names what the click began, and no exposure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from test_init_streams import DAYS, Rows, agrees, checked, config_of, drawn

from dmtl_cli.guess.outcomes.aggregates import number_of


def played(rows: Rows) -> Rows:
    """A click begins a play; who leaves or applies says so of the play, whose seconds are told while it lasts."""
    made: Rows = []
    for row in rows:
        if row["type"] == "click":
            made.append(row | {"play_id": f"p{row['impression_id']}"})
        elif row["type"] in ("leave", "apply"):
            of = {"play": f"p{row['impression_id']}"}
            rest = {k: v for k, v in row.items() if k not in ("impression_id", "stay_ms")} | of
            told = [{"id": f"{row['id']}b{k}", "type": "beat", "seconds": 10 * k} for k in (1, 2, 3)]
            ends = row["type"] == "leave"
            made += [rest | beat for beat in told if ends] + [rest | ({"seconds": 31 + len(made) % 60} if ends else {})]
        else:
            made.append(row)
    return made


def write_days(root: Path) -> None:
    root.mkdir()
    for day in DAYS:
        rows = played(drawn(day)[0])
        (root / f"events_{day}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_what_came_of_a_click_is_of_its_exposure(tmp_path: Path) -> None:
    write_days(tmp_path / "log")
    events, _ = config_of(tmp_path / "log", "--conversion", '"apply"')
    later, plays = events["joined"]["later"], events["joined"]["after_clicks"]
    assert (later["key"], later["event_key"], list(later["columns"])) == ("impression_id", "id", ["clicked"])
    assert (plays["key"], plays["event_key"], plays["through"]) == ("play", "id", "later.play_id")
    assert {"apply", "leave", "beat"} <= {*plays["columns"]} and plays["columns"]["most_seconds"] == "MAX(seconds)"
    assert events["click"] == "clicked"
    agrees(checked(tmp_path / "log"), drawn(DAYS[1])[1])


def test_seconds_that_are_told_while_a_play_lasts_are_no_sum(tmp_path: Path) -> None:
    write_days(tmp_path / "log")
    events, _ = config_of(tmp_path / "log")
    assert events["duration"] == "most_seconds"


def test_an_id_that_only_what_came_later_has_is_of_no_click(tmp_path: Path) -> None:
    """Pings of the app, whose ids no click has."""
    (tmp_path / "log").mkdir()
    for day in DAYS:
        rows = [row | ({"ping": f"x{k}"} if row["type"] == "search" else {}) for k, row in enumerate(drawn(day)[0])]
        (tmp_path / "log" / f"events_{day}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(config_of(tmp_path / "log")[0]["joined"]) == ["later"]


@pytest.mark.parametrize(
    ("name", "each", "made"),
    [
        ("told again, a row in fifty late", "grows", "MAX"),
        ("a heartbeat of ten seconds", "same", "SUM"),
        ("pages, each its own", "any", "SUM"),
    ],
)
def test_a_number_that_grows(name: str, each: str, made: str) -> None:
    rng = np.random.default_rng(3)
    by, values = np.repeat(np.arange(200), 5), np.tile(np.arange(1, 6) * 10, 200)
    if each == "grows":
        for late in range(0, len(values) - 1, 50):
            values[[late, late + 1]] = values[[late + 1, late]]
    elif each == "same":
        values = np.full(len(by), 10)
    else:
        values = rng.integers(1, 60, len(by))
    assert number_of(pl.Series("seconds", values), pl.Series(by), is_length=False) == f"{made}(seconds)", name
