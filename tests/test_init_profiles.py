"""init: a log of several kinds of events beside a table of people, each with a row of their own, of whom several may
have one account."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import initiated
import numpy as np
import polars as pl

from dmtl_cli.guess.exposures.labels import roles_of
from dmtl_cli.guess.exposures.references import is_listed
from dmtl_cli.guess.reading.tables import tables

START = dt.datetime(2026, 1, 1, 6)


def write(home: Path) -> None:
    """Events by day, and people whose columns of places and of when they were last there look like items and times."""
    rng = np.random.default_rng(0)
    people, titles = 400, 150
    names = [f"{1000 + n // 2}-{n % 2}" for n in range(people)]
    rows, views = list[tuple[object, ...]](), 0
    for day in range(4):
        for visit in range(150):
            who, at = int(rng.integers(people)), START + dt.timedelta(days=day, seconds=360 * visit)
            for title in rng.choice(titles, 6, replace=False).tolist():
                views, at = views + 1, at + dt.timedelta(seconds=25)
                seen = (f"v{views:06d}", 1000 + who // 2, names[who], f"s{day}-{visit}", 7000 + title)
                rows.append((at, "TitelVist", *seen))
                if rng.random() < 0.2:
                    rows.append((at + dt.timedelta(seconds=20), "TitelKlik", *seen))
    columns = ("Tid", "EventName", "VisningId", "KontoId", "ProfilId", "SessionId", "TitelId")
    events = pl.DataFrame(rows, schema=columns, orient="row")
    for (day,), frame in events.group_by(pl.col("Tid").dt.date()):
        folder = home / "AppEvents" / f"{day}"
        folder.mkdir(parents=True)
        frame.with_columns(pl.col("Tid").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).write_csv(folder / "part.csv")
    (home / "Profiler").mkdir()
    pl.DataFrame({
        "KontoId": [1000 + n // 2 for n in range(people)],
        "ProfilId": names,
        "Postnr": rng.integers(1000, 1350, people),
        "SidstAktiv": [f"2026-01-0{1 + n % 4}T10:00:{n % 60:02d}Z" for n in range(people)],
        "ErIntern": rng.random(people) < 0.1,
    }).write_csv(home / "Profiler" / "all.csv")  # fmt: skip
    (home / "Titler").mkdir()
    pl.DataFrame({
        "TitelId": range(7000, 7000 + titles), "Genre": [f"g{n % 7}" for n in range(titles)],
    }).write_csv(home / "Titler" / "all.csv")  # fmt: skip


def test_a_table_of_people_is_no_log_of_events(tmp_path: Path) -> None:
    _, raw, _ = initiated.made(tmp_path, write)
    events = raw["data"]["events"]
    assert "AppEvents" in events["path"]
    assert (events["user"], events["item"], events["click"]) == ("ProfilId", "TitelId", "clicked")
    assert events["request"] == "SessionId"
    assert raw["data"]["users"]["key"] == "ProfilId" and raw["data"]["items"]["key"] == "TitelId"


def test_people_are_told_from_exposures_by_their_days_and_items(tmp_path: Path) -> None:
    """Where no kinds of events and no click tell which table is the log, an id with rows of several items on several
    days is a person's, and one whose rows are of one item is what was shown."""
    write(tmp_path)
    found = {table.files.path.partition("/")[0]: table for table in tables(str(tmp_path)).tables}
    log = found["AppEvents"]
    shown = log.frame.filter(pl.col("EventName") == "TitelVist").drop("EventName")
    of = roles_of(shown, {"user": "ProfilId", "item": "TitelId"})
    assert of.click is None
    beside = [(replace(log, frame=shown), of)]
    assert is_listed(found["Profiler"], beside)
    views = replace(log, frame=shown.select("VisningId", "ProfilId", "TitelId"))
    assert not is_listed(views, beside)
