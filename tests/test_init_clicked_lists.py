"""`init` on requests with a list of what was shown and another of what was opened of it, and a table of what users did
later, in a place where few users see most of what there is."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from initiated import features, made
from worlds import dmtl

START = dt.datetime(2026, 3, 1)
DAYS, USERS, JOBS = 4, 130, 60


def board(home: Path, opened: str = "opened", **more: Any) -> int:
    """Searches of a job board, of each day, and one file of all applications; how many clicks the second day has."""
    rng = np.random.default_rng(4)
    applied, clicks = list[tuple[dt.datetime, int, int]](), 0
    for d in range(DAYS):
        lines = list[str]()
        for k, second in enumerate(np.sort(rng.integers(0, 80_000, 260))):
            at, user = START + dt.timedelta(days=d, seconds=int(second)), int(rng.integers(0, USERS))
            shown = rng.permutation(JOBS)[: rng.integers(6, 12)]
            some = [int(x) for x in shown if rng.random() < 0.2]
            clicks += len(some) * (d == 1)
            applied += [(at + dt.timedelta(minutes=int(rng.integers(2, 600))), user, x) for x in some if x % 3 == 0]
            row = {"search": f"{d}-{k}", "at": at.isoformat(), "seeker_id": f"s{user}"}
            row |= {"shown": [{"job_id": f"j{x}", "rank": n} for n, x in enumerate(shown)]}
            row |= {opened: [f"j{x}" for x in some], "sent": [f"j{x}" for x in some if x % 3 == 0]}
            lines.append(json.dumps(row | more))
        (home / f"searches_{START + dt.timedelta(days=d):%Y-%m-%d}.jsonl").write_text("\n".join(lines) + "\n")
    told = [f"{t:%Y-%m-%dT%H:%M:%S},s{u},j{x}\n" for t, u, x in sorted(applied) if t < START + dt.timedelta(DAYS)]
    (home / "applications.csv").write_text("submitted,seeker_id,job_id\n" + "".join(told))
    return clicks


def test_a_list_beside_what_was_shown_tells_the_clicks(tmp_path: Path) -> None:
    """A third list, of some that were clicked, is no feature."""
    clicks = list[int]()
    ended, raw, text = made(tmp_path, lambda home: clicks.append(board(home)), "--conversion", "applications")
    events = raw["data"]["events"]
    assert ended.code == 0 and events["explode"] == "shown", ended.err
    assert events["computed"]["clicked"] == 'COALESCE(ARRAY_CONTAINS(opened, "shown.job_id"), FALSE)'
    assert not {"opened", "sent"} & features(raw).keys() and "opened" in events["outcomes"]
    assert "# sent: not used: lists that hardly have the row's own item without a click" in text
    checked = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-02", "--json").json
    assert checked["labels"]["clicks"] == clicks[0]


def test_a_table_that_a_rule_names_is_read_where_chance_would_explain_it(tmp_path: Path) -> None:
    ended, raw, text = made(tmp_path / "bare", board)
    assert ended.code == 78 and "joined" not in raw["data"]["events"]
    assert "init --conversion applications reads them by user and item" in text
    ended, raw, _ = made(tmp_path / "told", board, "--conversion", "applications")
    events = raw["data"]["events"]
    assert ended.code == 0 and events["conversion"] == "applications", ended.err
    joined = events["joined"]["applications"]
    assert joined["time"] == "submitted" and joined["columns"]["applications"] == "COUNT(*) > 0"
    checked = dmtl("check", "--config", tmp_path / "told/mine.yaml", "--day", "2026-03-02", "--json").json
    assert 0.2 < checked["labels"]["conversion_rate"] < 0.45, "a third of what was clicked"


def test_the_first_command_names_who_saw_the_lists(tmp_path: Path) -> None:
    """And no number of a request, where no name says who it was."""

    def write(home: Path) -> None:
        board(home)
        for file in home.glob("searches_*"):
            rows = [json.loads(line) for line in file.read_text().splitlines()]
            for k, row in enumerate(rows):
                row |= {"whom": row.pop("seeker_id"), "hits": 12 + k % 90}
                row["shown"] = [{"nr": x["job_id"], "rank": x["rank"]} for x in row["shown"]]
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        (home / "applications.csv").unlink()

    ended, _, _ = made(tmp_path, write)
    again = next(line for line in ended.out.splitlines() if line.startswith("first: "))
    assert ended.code == 78 and again.endswith("--user whom --item shown.nr"), ended.out


@pytest.mark.parametrize("name", ["promoted", "topics"])
def test_a_list_of_another_name_is_no_click(tmp_path: Path, name: str) -> None:
    ended, raw, _ = made(tmp_path, lambda home: board(home, name), "--duration", "shown.rank")
    assert "clicked" not in raw["data"]["events"].get("computed", {}), ended.err
    assert "every row counts as a click" in ended.out
