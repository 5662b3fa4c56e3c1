"""What a newcomer reads: the prints of `init` and the commands in them, in a shop of CSV files."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from initiated import frame, made
from unseen import days_of, drawn
from worlds import dmtl

from dmtl_cli.guess import printed

WORDS = ("oak", "blue", "steel", "mini", "lamp", "pan", "drone")


def shop(home: Path) -> None:
    """Exposures a day, and products of which some cannot be bought, by two columns; some are not listed."""
    x, rows = drawn(0), frame()
    days = pl.Series(days_of(x))
    for day in sorted({*days}):
        rows.filter(days == day).write_csv(home / f"events_{day}.csv")
    ids = rows["item_id"].unique().sort()
    n = np.arange(len(ids))
    pl.DataFrame(
        {
            "item_id": ids,
            "product": [f"{WORDS[k % 7]} {WORDS[k % 5]} {k}" for k in n],
            "text": [" ".join(WORDS * 3) + f" {k}" for k in n],
            "title_image": [f"https://img.example/{k}.jpg" for k in n],
            "added": [f"2026-01-{k % 28 + 1:02} 10:{k % 60:02}:00" for k in n],
            "costs": [f"{k + 10} EUR" for k in n],
            "topic": [f"t{k % 9}" for k in n],
            "availability": ["sold out" if k % 9 == 1 else "in stock" for k in n],
            "is_deleted": ["True" if k % 10 == 3 else "False" for k in n],
        }
    )[4:].write_csv(home / "products.csv")


def test_a_title_within_an_object_is_printed(tmp_path: Path) -> None:
    log = frame()
    songs = [{"item_id": k, "title": {"en": f"{WORDS[k % 7]} {k}"}, "genre": f"g{k % 4}"} for k in range(40)]

    def write(home: Path) -> None:
        log.write_ndjson(home / "events.jsonl")
        (home / "songs.jsonl").write_text("\n".join(map(json.dumps, songs)))

    ended, _, _ = made(tmp_path, write)
    (for_user,) = (line for line in ended.out.splitlines() if line.startswith("  dmtl recommend"))
    assert ended.code == 0 and for_user.endswith(" --columns title.en"), ended.out


@pytest.mark.parametrize("name", ["naslov", "header_text"])
def test_a_title_is_told_from_a_longer_text_of_a_shorter_name(tmp_path: Path, name: str) -> None:
    """By its name in another language, or by fewer words."""
    n = range(40)
    songs = {"item_id": [*n], "opis": [f"{' '.join(WORDS[:5])} {k}" for k in n]}
    songs[name] = [f"{WORDS[k % 7]} {WORDS[k % 5]} {k}" for k in n]

    def write(home: Path) -> None:
        frame().write_ndjson(home / "events.jsonl")
        pl.DataFrame(songs).write_csv(home / "songs.csv")

    ended, _, _ = made(tmp_path, write)
    (for_user,) = (line for line in ended.out.splitlines() if line.startswith("  dmtl recommend"))
    assert ended.code == 0 and for_user.endswith(f" --columns {name}"), ended.out


def test_the_printed_recommend_is_of_what_may_be_served_by_its_name(tmp_path: Path) -> None:
    ended, raw, _ = made(tmp_path, shop)
    assert ended.code == 0, ended.err
    (for_user,) = (line for line in ended.out.splitlines() if line.startswith("  dmtl recommend"))
    assert for_user.endswith(" --columns product") and "--filter" not in ended.out
    assert raw["export"]["items"] == "availability = 'in stock' AND is_deleted = false"
    row = " ".join(ended.out.partition("\nserved  ")[2].partition("\nouts")[0].split())
    lacks = "10% of the sample's items are not in the table"
    told = f"by export.items {raw['export']['items']}: 81% of the table's items are served; {lacks}"
    assert row.startswith(told), ended.out
    (days,) = (shlex.split(line, comments=True) for line in ended.out.splitlines() if line.startswith("  dmtl back"))
    ran = dmtl(*days[1:], "--set", "auto.budget=0")
    assert ran.code == 0, ran.err
    answered = dmtl(*shlex.split(for_user)[1:], "-k", 1000)
    assert (answered.code, answered.err) == (0, "")
    names = [line.split("\t")[2] for line in answered.out.splitlines()]
    table = pl.read_csv(tmp_path / "log/products.csv", infer_schema=False)
    sold = table.filter((pl.col("availability") == "in stock") & (pl.col("is_deleted") == "False"))["product"]
    assert names and {*names} <= {*sold}


def more(home: Path) -> None:
    """The shop with further columns of its events, and a table that nothing refers to."""
    rng, rows = np.random.default_rng(1), frame()
    days = pl.Series(days_of(drawn(0)))
    rows = rows.with_columns(
        device=pl.Series(rng.choice(["app", "web"], len(rows))),
        place=pl.Series(rng.integers(1, 9, len(rows))),
        liked=(pl.Series(rng.random(len(rows)) < 0.3) & (rows["clicked"] == 1)).cast(pl.Int64),
    )
    for day in sorted({*days}):
        rows.filter(days == day).write_csv(home / f"events_{day}.csv")
    pl.DataFrame({"colour": ["red", "blue"], "n": [1, 2]}).write_csv(home / "colours.csv")


def test_after_an_option_what_has_changed_is_printed(tmp_path: Path) -> None:
    first = made(tmp_path, more)[0]
    assert first.code == 0, first.err
    lists = ("outcomes ", "context features ", "not used: colours.csv", "  --conversion ")
    assert all(f"\n{begin}" in first.out for begin in lists), first.out
    log, out = tmp_path / "log", tmp_path / "mine.yaml"
    said = dmtl("init", log, "-o", out, "--timezone", "Asia/Tokyo").out
    assert not any(f"\n{begin}" in said for begin in lists) and "\ntimezone " in said
    (again,) = (line for line in said.splitlines() if line.startswith("as before"))
    names = ("user", "outcomes", "context features", "tables not used", "other good clicks")
    assert all(f" {name}" in again for name in names), again
    said = dmtl("init", log, "-o", out, "--timezone", "Asia/Tokyo", "--conversion", "liked").out
    (line,) = (line for line in said.splitlines() if line.startswith("outcomes "))
    assert line.split()[1:] == ["1", "new:", "watch_seconds;", "gone:", "liked"], line
    assert "context features" in next(line for line in said.splitlines() if line.startswith("as before"))


@pytest.mark.parametrize(
    ("line", "lines", "said"),
    [
        ("WARNING: a: 12% of rows have 0", ["WARNING: a: 36% of rows have 0"], True),
        ("WARNING: f2: 12% empty", ["WARNING: f1: 12% empty, more"], False),
        ("WARNING: id: '7' looks like none", ["WARNING: id: '1001' looks like none"], False),
        ("export.items: a = 1: holds for 88 of 100 items of the table of items: no other is served", [], True),
        ("export.items: a = 1: holds for 2 of 40 items of the table of items: no other is served", [], False),
    ],
)
def test_what_the_day_says_anew_is_printed(line: str, lines: list[str], said: bool) -> None:
    assert printed._is_said(line, lines, "a = 1: 90% of the table's items are served") is said
