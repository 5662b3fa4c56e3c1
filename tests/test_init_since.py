"""`init` says how a date of users, since when they are there, becomes a number that a tower reads."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import unseen
import yaml
from initiated import daily, frame, made
from worlds import dmtl

FIRST = dt.date(2026, 2, 25)
JOINED = [FIRST - dt.timedelta(days=int(k)) for k in np.random.default_rng(1).exponential(400, unseen.USERS)]
STAMPS = [int(dt.datetime(d.year, d.month, d.day, tzinfo=dt.UTC).timestamp()) for d in JOINED]
WRITTEN: dict[str, list[Any]] = {
    "date": JOINED,
    "ms": [1000 * s for s in STAMPS],
    "timestamp": [dt.datetime.fromtimestamp(s, dt.UTC) for s in STAMPS],
    "text": [f"{d}T00:00:00Z" for d in JOINED],
    "day": [str(d) for d in JOINED],
    "form": [f"{d:%d.%m.%Y}" for d in JOINED],
    "clock": [f"{d:%d.%m.%Y} 00:00" for d in JOINED],
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_date_before_the_first_row_of_each_user_is_proposed_as_a_number(tmp_path: Path, kind: str) -> None:
    last = [dt.datetime(2026, 3, 3, 9, k, tzinfo=dt.UTC) for k in range(unseen.USERS)]
    table = pl.DataFrame({"user_id": range(unseen.USERS), "since": WRITTEN[kind], "last_visit": last})

    def write(home: Path) -> None:
        daily(frame())(home)
        if kind in ("form", "clock", "day"):
            table.write_csv(home / "users.csv")
        else:
            table.write_parquet(home / "users.parquet")

    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0, ended.err
    (line,) = (line for line in text.splitlines() if line.startswith("# since: not used: a time"))
    (last_visit,) = (line for line in text.splitlines() if line.startswith("# last_visit: not used: a time"))
    assert "as a number" not in last_visit, "one of the end of the log"
    found = re.search(r"data\.users\.computed: (\{.*\}) and (\{.*\})$", line)
    assert found is not None, line
    raw["data"]["users"]["computed"] = yaml.safe_load(found[1])
    raw["features"] = ["auto", yaml.safe_load(found[2])]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw))
    checked = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-03", "--json")
    assert checked.code == 0, checked.err
    (one,) = (f for f in checked.json["features"] if f["name"] == "since_day")
    assert (one["kind"], one["unknown_share"]) == ("numeric", 0.0)
