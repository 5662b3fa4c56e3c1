"""MovieTweetings as a log: text ids, days in UTC, genres and years, and nothing of a day or later in its tables."""

from __future__ import annotations

import datetime as dt
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest

from dmtl_cli.config.reading import load_config
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.log.checked.day import ID
from dmtl_cli.data.log.reader import Log

ROOT = Path(__file__).parents[1]
RAW = Path(__file__).parents[2] / "shared/data/movietweetings"
CONFIG = ROOT / "configs/movietweetings.yaml"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"scripts/{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


prepare = script("prepare_movietweetings")

NOON = int(dt.datetime(2013, 3, 1, 12, tzinfo=dt.UTC).timestamp())
DAY = 86_400
MIDNIGHT = NOON + DAY // 2  # the first second of the 2nd

RATINGS = [
    ("007", "0114508", 8, NOON),
    ("7", "0114508", 7, NOON + 1),
    ("7", "0114508", 7, NOON + 1),  # an exact duplicate
    ("7", "2844", 10, MIDNIGHT - 1),  # the last second of the 1st
    ("7", "0004936", 9, MIDNIGHT + 5),  # new that day; stands before an earlier rating
    ("9", "0114508", 0, MIDNIGHT),
    ("007", "2844", 9, MIDNIGHT + DAY - 1),
    ("007", "0004936", 7, MIDNIGHT + DAY),
    ("7", "0000001", 10, MIDNIGHT + DAY + 1),  # not in movies.dat, rated this once
    ("9", "2844", 8, MIDNIGHT + DAY + 2),
]
"""4 ratings on the 1st (one twice), 3 on the 2nd, 3 on the 3rd"""

FILMS = """0114508::Species (1995)::Action|Horror|Sci-Fi
2844::Fantômas :: À l'ombre (II) (1913)::Crime
0004936::The Bank::
0114508::Species again (1996)::Drama
"""


def write_raw(raw: Path, rows: list[tuple[str, str, int, int]], films: str = FILMS) -> Path:
    raw.mkdir()
    (raw / "ratings.dat").write_text("".join(f"{u}::{m}::{r}::{t}\n" for u, m, r, t in rows))
    (raw / "movies.dat").write_text(films, encoding="utf-8")
    (raw / "users.dat").write_text("left alone\n")
    return raw


def table(log: Path, kind: str, day: str) -> pl.DataFrame:
    return pl.read_parquet(log / kind / f"day={day}" / "part-0.parquet", hive_partitioning=False)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp = tmp_path_factory.mktemp("movietweetings")
    assert prepare.main([str(write_raw(tmp / "raw", RATINGS)), str(tmp / "deep/log")]) == 0
    assert [p.name for p in (tmp / "deep").iterdir()] == ["log"]
    return tmp / "deep/log"


def test_days_are_utc_and_ids_stay_text(log: Path) -> None:
    assert sorted(p.name for p in log.iterdir()) == ["events", "items"]
    for kind in ("events", "items"):  # every film of the 1st is new that day: nothing of it is left
        assert sorted(p.name for p in (log / kind).iterdir()) == ["day=2013-03-02", "day=2013-03-03"]
    second = table(log, "events", "2013-03-02")
    assert second.rows() == [("9", "tt0114508", MIDNIGHT, 0, False), ("007", "tt2844", MIDNIGHT + DAY - 1, 9, True)]
    assert second.columns == ["user_id", "movie_id", "time", "rating", "liked"]
    third = table(log, "events", "2013-03-03")
    assert third["user_id"].to_list() == ["007", "9"]
    assert third["movie_id"].to_list() == ["tt0004936", "tt2844"]
    assert third["liked"].to_list() == [False, True]  # 7 is not liked, 8 is


def test_films_are_those_rated_before_the_day(log: Path) -> None:
    second, third = table(log, "items", "2013-03-02"), table(log, "items", "2013-03-03")
    assert second["movie_id"].to_list() == ["tt0114508", "tt2844"]
    assert third["movie_id"].to_list() == ["tt0004936", "tt0114508", "tt2844"]
    assert third["genres"].to_list() == [None, "Action|Horror|Sci-Fi", "Crime"]
    assert third["year"].to_list() == [None, 1995, 1913]
    assert third["title"][2] == "Fantômas :: À l'ombre (II) (1913)"
    assert second.schema == third.schema


def test_a_day_and_what_follows_never_reach_its_catalogue(log: Path, tmp_path: Path) -> None:
    """With every rating from the 2nd on another one, by other users of other films, the films of the 2nd are the same;
    with those of the 3rd alone, the events of the 2nd too."""
    for day, changed in ((2, MIDNIGHT), (3, MIDNIGHT + DAY)):
        rows = [(u + "5", "2844", 10 - r, t) if t >= changed else (u, m, r, t) for u, m, r, t in RATINGS]
        raw = write_raw(tmp_path / f"raw{day}", rows)
        assert prepare.main([str(raw), str(tmp_path / f"log{day}")]) == 0
        items = table(tmp_path / f"log{day}", "items", f"2013-03-0{day}")
        assert items.equals(table(log, "items", f"2013-03-0{day}"))
    assert table(tmp_path / "log3", "events", "2013-03-02").equals(table(log, "events", "2013-03-02"))
    assert not table(tmp_path / "log3", "events", "2013-03-03").equals(table(log, "events", "2013-03-03"))


def test_days_are_the_last_ones_with_all_earlier_films(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write_raw(tmp_path / "raw", RATINGS)
    assert prepare.main([str(raw), str(tmp_path / "log"), "--days", "1"]) == 0
    assert "1 days, 2 rows (1 of films that were new that day left out)" in capsys.readouterr().out
    for kind in ("events", "items"):
        assert [p.name for p in (tmp_path / "log" / kind).iterdir()] == ["day=2013-03-03"]
        assert table(tmp_path / "log", kind, "2013-03-03").equals(table(log, kind, "2013-03-03"))


def test_a_second_run_replaces_the_first(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", RATINGS)
    assert prepare.main([str(raw), str(tmp_path / "log")]) == 0
    before = {p.relative_to(tmp_path): p.read_bytes() for p in (tmp_path / "log").rglob("*.parquet")}
    (tmp_path / "log/events/day=2012-01-01").mkdir()
    (raw / "ratings.dat").write_text("".join(reversed((raw / "ratings.dat").read_text().splitlines(keepends=True))))
    assert prepare.main([str(raw), str(tmp_path / "log")]) == 0
    assert not (tmp_path / "log/events/day=2012-01-01").exists()
    assert before == {p.relative_to(tmp_path): p.read_bytes() for p in (tmp_path / "log").rglob("*.parquet")}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log", "raw"]


def _line(file: str, at: int, text: str) -> Callable[[Path], None]:
    """Puts this text in place of line `at`, counted from 1."""

    def spoil(raw: Path) -> None:
        lines = (raw / file).read_text().splitlines()
        lines[at - 1] = text
        (raw / file).write_text("\n".join(lines) + "\n")

    return spoil


def _no_films(raw: Path) -> None:
    (raw / "movies.dat").unlink()


def _no_rows(raw: Path) -> None:
    (raw / "ratings.dat").write_text("")


def _bytes(raw: Path) -> None:
    (raw / "movies.dat").write_bytes("0004936::Fantômas (1913)::Crime\n".encode("latin-1"))


def _once(raw: Path) -> None:
    (raw / "ratings.dat").write_text(f"1::1::8::{NOON}\n2::1::8::{NOON + 1}\n")


@pytest.mark.parametrize(
    ("spoil", "code", "said"),
    [
        (_no_films, 66, "movies.dat: no such file"),
        (_no_rows, 66, "ratings.dat: no rows"),
        (_bytes, 65, "movies.dat: not UTF-8"),
        (_once, 65, "no film is rated again on a later day"),
        (_line("ratings.dat", 3, "7::0114508::7"), 65, "ratings.dat: line 3: expected user::film::rating::time"),
        (_line("ratings.dat", 10, "7::0114508::11::1365029107"), 65, "line 10: expected"),
        (_line("ratings.dat", 2, "7::Species::7::1365029107"), 65, "got '7::Species::7::1365029107'"),
        (_line("ratings.dat", 1, "::0114508::7::1365029107"), 65, "line 1: expected"),
        (_line("ratings.dat", 4, ""), 65, "line 4: expected"),
        (_line("movies.dat", 2, "2844::Fantômas (1913)"), 65, "movies.dat: line 2: expected film::title (year)"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(
    spoil: Callable[[Path], None], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write_raw(tmp_path / "raw", RATINGS)
    spoil(raw)
    assert prepare.main([str(raw), str(tmp_path / "log")]) == code
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]


def test_a_folder_that_is_no_log_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = write_raw(tmp_path / "raw", RATINGS)
    assert prepare.main([str(raw), str(raw)]) == 65
    assert "will not be replaced" in capsys.readouterr().err
    assert prepare.main([str(tmp_path / "nowhere"), str(tmp_path / "log")]) == 66
    assert prepare.main([str(raw), str(tmp_path / "log"), "--days", "0"]) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]


def test_the_config_reads_what_is_written(log: Path, tmp_path: Path) -> None:
    config = load_config(CONFIG, [f"data.root={log}"])
    columns = tuple(f for f in config.features if f.profile is None)
    day = Log(config.data, columns).read(dt.date(2013, 3, 3), tmp_path)
    assert (len(day), len(day.users), day.items[ID].to_list()) == (2, 2, ["tt0004936", "tt0114508", "tt2844"])
    assert day.facts["items_joined"] == 1
    assert [b.labels(None)[0].tolist() for b in day.blocks()] == [[False, True]]
    encoder = Encoder(columns).grow([day])
    assert encoder.vocabularies["genres"].frame["value"].to_list() == ["Crime"]  # of films that were rated
    assert set(encoder.vocabularies["movie_id"].frame["value"]) == {"tt2844", "tt0004936"}


@pytest.mark.skipif(not RAW.is_dir(), reason="shared/data/movietweetings is not here")
def test_the_real_snapshot(tmp_path: Path) -> None:
    log = tmp_path / "log"
    days = prepare.prepare(RAW, log)
    assert len(days) == 185  # of 186: on the first every film is new
    assert (days[0].day, days[-1].day) == (dt.date(2013, 3, 1), dt.date(2013, 9, 1))
    assert sum(d.rows + d.left_out for d in days) == 100_000 - 245

    raw = [line.split("::") for line in (RAW / "ratings.dat").read_text().splitlines()]
    rows = sorted((int(t), u, f"tt{m}", int(r)) for u, m, r, t in raw)
    assert len({u for _, u, _, _ in rows}) == 16_554 and len({m for _, _, m, _ in rows}) == 10_506
    start = int(dt.datetime(2013, 8, 1, tzinfo=dt.UTC).timestamp())
    before = [r for r in rows if r[0] < start]
    films = {m for _, _, m, _ in before}
    want = [r for r in rows if start <= r[0] < start + DAY and r[2] in films]
    got = table(log, "events", "2013-08-01")
    assert got.select("time", "user_id", "movie_id", "rating").rows() == want
    assert got["liked"].to_list() == [r >= 8 for _, _, _, r in want]

    items = table(log, "items", "2013-08-01")
    assert set(items["movie_id"]) == films
    assert items["year"].null_count() == 0 and items["year"].is_between(1890, 2013).all()
    assert 0.5 < sum(r >= 8 for *_, r in rows) / 100_000 < 0.51
