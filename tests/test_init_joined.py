"""init: a table of what came of exposures becomes columns of the events; what is known before them does not."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from formats import write
from worlds import dmtl

DAYS = ("2026-01-01", "2026-01-02")


def shown(day: str, n: int = 1500) -> pl.DataFrame:
    rng = np.random.default_rng(int(day[-1]))
    times = [f"{day}T{k // 60 % 24:02}:{k % 60:02}:00Z" for k in np.sort(rng.integers(0, 1440, n))]
    return pl.DataFrame(
        {
            "impression_id": [f"{day[-2:]}-{k}" for k in rng.permutation(n)],
            "shown_at": times,
            "user_id": [f"u{k}" for k in rng.integers(80, size=n)],
            "item_id": [f"i{k}" for k in rng.integers(60, size=n)],
            "device": rng.choice(["web", "app"], n),
        }
    )


def clicks(day: str, n: int = 1500) -> pl.DataFrame:
    rng = np.random.default_rng(10 + int(day[-1]))
    ids = [*rng.choice([f"{day[-2:]}-{k}" for k in range(n)], n // 5).tolist(), "mail-1", "mail-2"]
    seconds = np.round(rng.lognormal(4, 1, len(ids))).astype(int)
    clocks = [f"{s // 3600}:{s // 60 % 60:02}:{s % 60:02}" for s in seconds.tolist()]
    saved = (rng.random(len(ids)) < 0.2).astype(int)
    return pl.DataFrame({"impression_id": ids, "time_on_page": clocks, "saved": saved, "note": "x"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for day in DAYS:
        write(shown(day), tmp_path / "log/impressions", day, "csv")
        write(clicks(day), tmp_path / "log/clicks", f"clicks_{day}", "csv")
    items = pl.DataFrame({"item_id": [f"i{k}" for k in range(60)], "genre": [f"g{k % 5}" for k in range(60)]})
    write(items, tmp_path / "log", "items", "csv")
    return tmp_path / "log"


def config_of(root: Path, *more: str) -> tuple[dict[str, Any], str]:
    out = root.parent / "made.yaml"
    ended = dmtl("init", root, "-o", out, "--force", *more)
    assert ended.code == 0, ended.err
    return yaml.safe_load(out.read_text()), ended.out


def checked(root: Path) -> dict[str, Any]:
    ended = dmtl("check", "--config", root.parent / "made.yaml", "--day", DAYS[0], "--json")
    assert ended.code == 0, ended.err
    return ended.json


def test_clicks_of_their_own_are_joined(root: Path) -> None:
    config, out = config_of(root)
    events = config["data"]["events"]
    assert (events["click"], events["duration"]) == ("clicked", "time_on_page") and "outcomes" not in events
    made = {"clicked": "COUNT(*) > 0", "time_on_page": "SUM(time_on_page)", "saved": "MAX(saved)"}
    expected = {"path": "clicks/clicks_{day}.csv", "key": "impression_id", "columns": made}
    assert events["joined"] == {"clicks": expected} and config["data"]["types"]["time_on_page"] == "clock"
    assert not {f["name"] for f in config["features"] if f != "auto"} & {*made, "impression_id"}
    assert "not used: clicks" not in out and " rows are of the day's exposures" in out
    labels, table = checked(root)["labels"], clicks(DAYS[0])
    known = table.filter(pl.col("impression_id").is_in(shown(DAYS[0])["impression_id"].implode()))
    assert labels["click_rate"] == round(known["impression_id"].n_unique() / 1500, 4)
    assert labels["clicks_without_duration"] == 0


def test_a_click_that_a_table_makes_is_told_by_its_rows(root: Path) -> None:
    """`clicked` is no name of the log's, nor is the flag of a kind, which alone is a click."""
    _, out = config_of(root)
    (line,) = (line for line in out.splitlines() if line.startswith("click "))
    assert line.endswith("% ones, whether there is a row in clicks/clicks_{day}.csv") and "named" not in line
    text = (root.parent / "made.yaml").read_text()
    assert "% ones, whether there is a row in clicks/clicks_{day}.csv\n" in text
    for day in DAYS:
        rows = clicks(day).select("impression_id", kind=pl.lit("click"))
        bought = rows.gather_every(3).with_columns(kind=pl.lit("order"))
        write(pl.concat([rows, bought]), root / "clicks", f"clicks_{day}", "csv")
    _, out = config_of(root)
    assert "% ones, whether there is a row in clicks/clicks_{day}.csv where kind = 'click'" in out
    assert "% ones, whether there is a row in clicks/clicks_{day}.csv where kind = 'order'" in out


@pytest.mark.parametrize("lacks", [0.0, 0.04, 0.15])
def test_the_click_is_a_row_of_the_kind_that_nearly_all_have(root: Path, lacks: float) -> None:
    """Though no word says so: some are saved without being opened. Where many are, any row is a click."""
    for day in DAYS:
        ids = shown(day)["impression_id"].head(300)
        opened, saved = ids.slice(round(lacks * 300)), ids.head(60)
        kinds = [pl.DataFrame({"impression_id": k, "jenis": v}) for k, v in ((opened, "buka"), (saved, "simpan"))]
        write(pl.concat(kinds), root / "clicks", f"clicks_{day}", "csv")
        (root / f"clicks/clicks_{day}.csv").rename(root / f"clicks/aktivitas_{day}.csv")
    (root / "clicks").rename(root / "aktivitas")
    config, out = config_of(root, "--conversion", "simpan")
    events, opening = config["data"]["events"], "COUNT(CASE WHEN jenis = 'buka' THEN 1 END) > 0"
    made = events["joined"]["aktivitas"]["columns"]
    assert events["click"] == "clicked" and made["clicked"] == ("COUNT(*) > 0" if lacks != 0.04 else opening)
    assert (" where jenis = 'buka'" in out.partition("\nclick ")[2].partition("\n")[0]) == (lacks == 0.04)
    assert checked(root)["labels"]["clicks"] == (288 if lacks == 0.04 else 300)


def test_a_column_of_theirs_may_have_the_tables_name(root: Path) -> None:
    config, _ = config_of(root, "--conversion", "clicks.saved = 1 OR clicks.time_on_page >= 90")
    assert config["data"]["events"]["computed"] == {"good": "COALESCE(saved = 1 OR time_on_page >= 90, FALSE)"}
    for day in DAYS:
        ids = shown(day)["impression_id"].head(300)
        kinds = [pl.DataFrame({"impression_id": k, "state": v}) for k, v in ((ids, "seen"), (ids.head(60), "kept"))]
        write(pl.concat(kinds), root / "clicks", f"clicks_{day}", "csv")
    for rule in ("clicks.state = 'kept'", "clicks.kept", "kept"):
        config, _ = config_of(root, "--conversion", rule)
        assert checked(root)["labels"]["conversions"] == 60, rule


@pytest.mark.parametrize(("asked", "closed"), [(0.3, True), (0.95, False)])
def test_a_flag_of_who_was_not_asked_is_no(root: Path, asked: float, closed: bool) -> None:
    """Beside a column of another table, by which the rule cannot be tried."""
    for day in DAYS:
        rng, rows = np.random.default_rng(int(day[-1])), shown(day)
        quiz = pl.Series("passed", rng.random(len(rows)) < 0.5).set(pl.Series(rng.random(len(rows)) > asked), None)
        rows = rows.with_columns(
            clicked=pl.Series(rng.random(len(rows)) < 0.3), stay_ms=pl.Series(rng.integers(0, 90_000, len(rows)))
        )
        for file in (root / "impressions").glob(f"*{day}*"):
            file.unlink()
        write(rows.with_columns(quiz), root / "impressions", day, "parquet")
    for file in (root / "clicks").iterdir():
        file.unlink()
    (root / "clicks").rmdir()
    items = pl.DataFrame({"item_id": [f"i{k}" for k in range(60)], "length": [k * 1000 for k in range(60)]})
    (root / "items.csv").unlink()
    write(items, root, "items", "parquet")
    config, _ = config_of(root, "--conversion", "stay_ms >= length OR passed")
    rule = config["data"]["events"]["computed"]["good"]
    assert rule == (
        "COALESCE(stay_ms >= items.length OR passed, FALSE)" if closed else "stay_ms >= items.length OR passed"
    )


def test_an_expression_names_their_columns(root: Path) -> None:
    config, _ = config_of(root, "--conversion", "time_on_page >= 90 OR saved = 1")
    assert config["data"]["events"]["computed"] == {"good": "COALESCE(time_on_page >= 90 OR saved = 1, FALSE)"}
    assert 0.2 < checked(root)["labels"]["conversion_rate"] < 0.6


def test_another_name_of_the_id_and_one_file_of_all_days(root: Path) -> None:
    for kind, table in (("impressions", shown), ("clicks", clicks)):
        whole = pl.concat([table(day) for day in DAYS])
        for file in (root / kind).iterdir():
            file.unlink()
        (root / kind).rmdir()
        write(whole.rename({"impression_id": "of"}) if kind == "clicks" else whole, root, kind, "csv")
    config, _ = config_of(root)
    events = config["data"]["events"]
    assert (events["date_column"], events["click"]) == ("shown_at", "clicked")
    table = events["joined"]["clicks"]
    assert (table["path"], table["key"], table["event_key"]) == ("clicks.csv", "of", "impression_id")
    assert 0.1 < checked(root)["labels"]["click_rate"] < 0.25


def with_clicks(root: Path, day: str) -> None:
    """The exposures with a click of their own."""
    (root / f"clicks/clicks_{day}.csv").unlink()
    row = pl.int_range(pl.len())
    frame = shown(day).with_columns(click=(row % 6 == 0).cast(pl.Int8))
    seconds = pl.when(pl.col("click") == 1).then(row % 97 + 1)
    write(frame.with_columns(seconds=seconds), root / "impressions", day, "csv")


def test_what_each_exposure_has_may_be_known_before_it(root: Path) -> None:
    """A table of where each was shown has a row for each exposure: it is none of what came of them."""
    for day in DAYS:
        with_clicks(root, day)
        write(shown(day).select("impression_id", page=pl.int_range(pl.len()) % 7), root / "pages", day, "csv")
    config, out = config_of(root)
    assert "joined" not in config["data"]["events"] and config["data"]["events"]["click"] == "click"
    assert "not used: pages" in out


def test_rows_beside_a_click_are_another_outcome(root: Path) -> None:
    """The table's name is that of the column which tells whether there is a row."""
    for day in DAYS:
        with_clicks(root, day)
        write(shown(day).head(200).select("impression_id", paid=pl.int_range(pl.len())), root / "orders", day, "csv")
    config, _ = config_of(root)
    events = config["data"]["events"]
    made = {"orders": "COUNT(*) > 0", "paid": "MAX(paid)"}
    assert events["click"] == "click" and events["joined"]["orders"]["columns"] == made
    assert not {f["name"] for f in config["features"] if f != "auto"} & {*made}
    assert checked(root)["joined"]["orders"]["rows"] == 200


def catalogue(root: Path, *, days: bool) -> None:
    """A log with its own clicks, and a list of its items that looks like events: a person each, a name that some share
    and a day. The file of items is the larger one."""
    root.mkdir()
    frames = [with_label(day) for day in DAYS]
    for day, frame in zip(DAYS, frames, strict=True):
        write(frame, root / "shown", day, "parquet")
    if not days:
        for file in (root / "shown").iterdir():
            file.unlink()
        (root / "shown").rmdir()
        write(pl.concat(frames), root, "shown", "parquet")
    rng = np.random.default_rng(4)
    n = 600
    works = {"work_id": [f"i{k}" for k in range(n)], "title": [f"Name {k % 500} of it" for k in range(n)]}
    more = {"since": [f"2025-{k % 12 + 1:02}-{k % 28 + 1:02}" for k in range(n)], "text": ["long " * 500] * n}
    authors = pl.DataFrame({"id": [f"a{k}" for k in rng.integers(120, size=n)]}).to_struct("author")
    write(pl.DataFrame({**works, **more}).with_columns(authors), root, "works", "parquet")


def with_label(day: str) -> pl.DataFrame:
    """Exposures without an id of their own, each with what came of it."""
    rng = np.random.default_rng(int(day[-1]))
    frame = shown(day).drop("impression_id").rename({"item_id": "work_id"})
    frame = frame.with_columns(opened=pl.Series(rng.random(len(frame)) < 0.3))
    seconds = pl.Series(np.round(rng.lognormal(4, 1, len(frame)), 1))
    return frame.with_columns(reading_seconds=pl.when("opened").then(seconds))


@pytest.mark.parametrize("days", [True, False])
@pytest.mark.parametrize("more", [(), ("--user", "user_id"), ("--item", "work_id")])
def test_a_catalogue_is_no_table_of_exposures(tmp_path: Path, days: bool, more: tuple[str, ...]) -> None:
    """Of an exposure one user has rows, of an item many have."""
    catalogue(tmp_path / "log", days=days)
    config, _ = config_of(tmp_path / "log", *more)
    events = config["data"]["events"]
    assert (events["user"], events["item"], events["click"]) == ("user_id", "work_id", "opened")
    assert "joined" not in events and config["data"]["items"]["path"] == "works.parquet"


def chained(root: Path) -> tuple[int, int]:
    """Clicks name what was shown, baskets clicks, orders baskets and returns orders, each by the id of its rows; what
    is in a basket is of another size than what was shown. Orders and returns of the first day."""
    rng, counts = np.random.default_rng(8), {}
    names = {"clicks": 0.3, "baskets": 0.6, "orders": 0.6, "returns": 0.3}
    for day in DAYS:
        rows, above = shown(day, 3_000), "impression_id"
        write(rows, root / "shown", day, "parquet")
        for name, part in names.items():
            own = f"{name[:-1]}_id"
            rows = rows.filter(pl.Series(rng.random(len(rows)) < part))
            ids = pl.Series(own, [f"{day[-2:]}-{name[:2]}{k}" for k in rng.permutation(len(rows))])
            rows = rows.select("user_id", pl.format("{}-XL", "item_id").alias("item_id"), above, ids)
            write(rows, root / name, day, "parquet")
            counts.setdefault(name, len(rows))
            above = own
    return counts["orders"], counts["returns"]


def test_tables_that_name_each_other_row_by_row_are_read_to_the_last(tmp_path: Path) -> None:
    root = tmp_path / "log"
    orders, returns = chained(root)
    rule = ("--conversion", "orders AND NOT returns")
    for more, good in (((), orders), (rule, orders - returns)):
        config, text = config_of(root, *more)
        joined = config["data"]["events"]["joined"]
        assert {name: one.get("through") for name, one in joined.items()} == {
            "clicks": None, "baskets": "clicks.click_id", "orders": "baskets.basket_id", "returns": "orders.order_id"
        }  # fmt: skip
        assert "second table" not in text
        labels = checked(root)["labels"]
        assert round(labels["conversion_rate"] * labels["clicks"]) == good, more


def test_tables_that_name_the_same_rows_make_no_column_twice(tmp_path: Path) -> None:
    """Baskets and wishes, each of which names a click and has an amount."""
    rng, root = np.random.default_rng(9), tmp_path / "log"
    for day in DAYS:
        frame = shown(day, 3_000)
        write(frame, root / "shown", day, "parquet")
        clicked = frame.filter(pl.Series(rng.random(len(frame)) < 0.3)).select("user_id", "item_id", "impression_id")
        clicked = clicked.with_columns(pl.Series("click_id", [f"{day[-2:]}-c{k}" for k in range(len(clicked))]))
        write(clicked, root / "clicks", day, "parquet")
        for name in ("baskets", "wishes"):
            some = clicked.filter(pl.Series(rng.random(len(clicked)) < 0.5)).drop("impression_id")
            amount = pl.Series("amount", rng.integers(1, 900, len(some)))
            write(some.with_columns(amount), root / name, day, "parquet")
    joined = config_of(root, "--conversion", "baskets")[0]["data"]["events"]["joined"]
    assert {one.get("through") for one in joined.values()} == {None, "clicks.click_id"} and len(joined) == 3
    made = [pair for one in joined.values() for pair in one["columns"].items()]
    assert len({c for c, _ in made}) == len(made) and sum("amount" in text for _, text in made) == 1
    assert checked(root)["joined"].keys() == joined.keys()


def test_a_table_with_clicks_is_the_log_beside_a_larger_one_of_items(tmp_path: Path) -> None:
    """Of lists whose user and items no name tells, compressed; and each job has a company, which an id names."""
    rng = np.random.default_rng(6)
    log = tmp_path / "log"
    log.mkdir()
    for day in DAYS:
        with gzip.open(log / f"searches-{day}.jsonl.gz", "wt") as file:
            for k in range(150):
                opened = [int(x) for x in rng.random(10) < 0.2]
                one = {
                    "search_id": f"{day[-2:]}-{k:04}",
                    "timestamp": f"{day}T{k // 60:02}:{k % 60:02}:00Z",
                    "candidate": {"id": f"c-{rng.integers(60)}", "years": int(rng.integers(20))},
                    "result_ids": [900_000 + int(x) for x in rng.choice(200, 10, replace=False)],
                    "clicked": opened,
                    "dwell_s": [round(float(rng.exponential(30)), 1) if x else None for x in opened],
                }
                file.write(json.dumps(one) + "\n")
    with (log / "jobs.jsonl").open("w") as file:
        for k in range(200):
            one = {
                "job_id": 900_000 + k,
                "title": f"Specialist {k} " + "of it " * 60,
                "company": {"id": k % 50, "size": "SML"[k % 3]},
                "posted_at": f"2025-12-{k % 28 + 1:02}T10:00:00Z",
            }
            file.write(json.dumps(one) + "\n")
    assert (log / "jobs.jsonl").stat().st_size > sum(f.stat().st_size for f in log.glob("*.gz"))
    config, _ = config_of(log)
    events = config["data"]["events"]
    assert (events["path"], events["user"], events["item"]) == ("searches-{day}.jsonl.gz", "candidate.id", "result_ids")
    assert events["click"] == "clicked" and config["data"]["items"]["path"] == "jobs.jsonl"


def test_what_came_of_exposures_may_have_its_user_and_time(root: Path) -> None:
    """Its rows name exposures, of one user each, however many there are of one."""
    for day in DAYS:
        own = clicks(day).with_columns(clicked=1)
        beside = own.join(shown(day), on="impression_id", how="inner").rename({"shown_at": "clicked_at"})
        beside = pl.concat([beside, beside]).drop("item_id", "device")
        write(beside, root / "clicks", f"clicks_{day}", "csv")
    config, _ = config_of(root)
    events = config["data"]["events"]
    assert events["path"] == "impressions/{day}.csv" and events["joined"]["clicks"]["key"] == "impression_id"


def test_the_error_names_the_table_that_has_a_given_column(tmp_path: Path) -> None:
    catalogue(tmp_path / "log", days=True)
    args = ("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--user", "user_id", "--item")
    ended = dmtl(*args, "title")
    assert ended.code == 2 and "has no column title, works.parquet has one; it has " in ended.err
    ended = dmtl(*args, "nothing")
    assert ended.code == 2 and "has no column nothing; it has " in ended.err


@pytest.mark.parametrize(("marks", "day"), [(3, 3), (2, 2), (0, 3)])
def test_finished_days_of_what_came_are_marked(tmp_path: Path, marks: int, day: int) -> None:
    """A day whose clicks are still being written is not the one that is proposed."""
    for k in range(1, 4):
        of = f"2026-01-0{k}"
        for name, frame in (("shown", shown(of)), ("clicks", clicks(of))):
            write(frame, tmp_path / f"log/{name}/dt={of}", "part-0", "parquet" if name == "shown" else "csv")
            if name == "shown" or k <= marks:
                (tmp_path / f"log/{name}/dt={of}/_SUCCESS").touch()
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "made.yaml")
    assert ended.code == 0, ended.err
    events = yaml.safe_load((tmp_path / "made.yaml").read_text())["data"]["events"]
    assert events["success_file"] == "_SUCCESS"
    assert events["joined"]["clicks"].get("success_file") == ("_SUCCESS" if marks else None)
    assert f"day 2026-01-0{day}: " in ended.out and "success_file: _SUCCESS, and a day" not in ended.out


def test_a_stream_is_marked_in_both_of_its_tables(tmp_path: Path) -> None:
    """They are of the same files, which are converted once."""
    for day in DAYS:
        rows = shown(day).with_columns(event=pl.lit("item_shown"))
        more = rows.sample(400, seed=2).with_columns(event=pl.lit("item_clicked"))
        bought = more.head(100).with_columns(event=pl.lit("item_bought"))
        write(pl.concat([rows, more, bought]), tmp_path / f"log/events/dt={day}", "part-0", "csv")
        (tmp_path / f"log/events/dt={day}/_SUCCESS").touch()
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "made.yaml")
    assert ended.code == 0, ended.err
    events = yaml.safe_load((tmp_path / "made.yaml").read_text())["data"]["events"]
    assert [events["success_file"], *(one["success_file"] for one in events["joined"].values())] == ["_SUCCESS"] * 2
    assert "success_file: _SUCCESS, and a day" not in ended.out


def test_tables_of_one_folder_are_told_apart(tmp_path: Path) -> None:
    """Files by day of exposures, clicks and items lie side by side; those of a second table of items are named."""
    rng, log = np.random.default_rng(0), tmp_path / "log"
    for day in DAYS:
        write(shown(day), log, f"shown_{day}", "csv")
        write(clicks(day), log, f"clicks_{day}", "csv")
        ids = {"item_id": [f"i{k}" for k in range(60)]}
        write(pl.DataFrame({**ids, "genre": [f"g{k % 5}" for k in range(60)]}), log, f"items_{day}", "csv")
    for k in range(3):
        stock = {"item_id": [f"i{n}" for n in range(k, 60, 3)], "stock": rng.integers(0, 90, 20)}
        write(pl.DataFrame(stock), log, f"stock_{k}", "csv.gz")
    ended = dmtl("init", log, "-o", tmp_path / "made.yaml")
    assert ended.code == 0, ended.err
    text = (tmp_path / "made.yaml").read_text()
    data = yaml.safe_load(text)["data"]
    assert (
        data["items"]["path"] == "items_{day}.csv" and data["events"]["joined"]["clicks"]["path"] == "clicks_{day}.csv"
    )
    assert "# stock_*.csv.gz: not used: a second table of items, beside items_{day}.csv" in text


def test_what_is_joined_is_not_said_to_be_unused(tmp_path: Path) -> None:
    """Shards of clicks and of a second table of items lie beside the folders of the others."""
    rng, log = np.random.default_rng(0), tmp_path / "log"
    every = pl.concat([clicks(day) for day in DAYS])
    for day in DAYS:
        write(shown(day), log / "shown", day, "csv")
    write(pl.DataFrame({"item_id": [f"i{k}" for k in range(60)], "genre": ["a", "b"] * 30}), log, "items", "csv")
    for k in range(3):
        write(every.gather_every(3, k), log, f"clicks_{k}", "csv.gz")
        stock = {"item_id": [f"i{n}" for n in range(k, 60, 3)], "stock": rng.integers(0, 90, 20)}
        write(pl.DataFrame(stock), log, f"stock_{k}", "csv.gz")
    ended = dmtl("init", log, "-o", tmp_path / "made.yaml")
    assert ended.code == 0, ended.err
    text = (tmp_path / "made.yaml").read_text()
    assert yaml.safe_load(text)["data"]["events"]["joined"]["clicks"]["path"] == "clicks_*.csv.gz"
    assert "stock_*.csv.gz: not used: a second table of items" in text and "# .: " not in text
    assert ".: not used" not in ended.out and "clicks_*.csv.gz: not used" not in text


def test_a_rule_names_any_column_of_what_came(tmp_path: Path) -> None:
    """A time that is there where somebody applied, of which nothing is made by itself."""
    for day in DAYS:
        came = (
            clicks(day)
            .drop("saved", "note")
            .with_columns(
                applied_ms=pl.Series([1_767_225_600_000 + k if k % 3 else None for k in range(len(clicks(day)))])
            )
        )
        write(shown(day), tmp_path / "log/impressions", day, "parquet")
        write(came, tmp_path / "log/clicks", day, "parquet")
    config, _ = config_of(tmp_path / "log", "--conversion", "applied_ms IS NOT NULL")
    events = config["data"]["events"]
    assert events["joined"]["clicks"]["columns"]["applied_ms"] == "MAX(applied_ms)"
    assert events["computed"]["good"] == "applied_ms IS NOT NULL"
    of_day = clicks(DAYS[0])["impression_id"].to_frame().with_row_index("k").filter(pl.col("k") % 3 > 0)
    many = len(set(of_day["impression_id"]) & set(shown(DAYS[0])["impression_id"]))
    labels = checked(tmp_path / "log")["labels"]
    assert labels["click_rate"] * labels["conversion_rate"] * len(shown(DAYS[0])) == pytest.approx(many, abs=0.5)


def sittings(day: str) -> pl.DataFrame:
    """Rows of one to three sittings an exposure, with a list of what was done in each."""
    rng = np.random.default_rng(20 + int(day[-1]))
    ids = rng.choice([f"{day[-2:]}-{k}" for k in range(1500)], 300, replace=False)
    rows: dict[str, list[Any]] = {"impression_id": [], "furthest": [], "acts": []}
    for key in ids.tolist():
        for _ in range(int(rng.integers(1, 4))):
            rows["impression_id"].append(key)
            rows["furthest"].append(int(rng.integers(0, 100)))
            kinds = [k for k, p in (("follow", 0.1), ("like", 0.3), ("comment", 0.1)) if rng.random() < p]
            rows["acts"].append([{"act": k, "pts": int(rng.integers(1, 9))} for k in kinds])
    return pl.DataFrame(rows, schema_overrides={"acts": pl.List(pl.Struct({"act": pl.String, "pts": pl.Int64}))})


@pytest.mark.parametrize(
    ("rule", "good"),
    [
        ("furthest >= 60 OR follow", lambda x: x["far"] or "follow" in x["acts"]),
        ("MAX(furthest) >= 60 OR follow", lambda x: x["far"] or "follow" in x["acts"]),
        ("furthest >= 60 OR ARRAY_CONTAINS(acts.act, 'follow')", lambda x: x["far"] or "follow" in x["acts"]),
        ("follow AND NOT comment", lambda x: "follow" in x["acts"] and "comment" not in x["acts"]),
        ("SUM(pts) >= 9", lambda x: x["pts"] >= 9),
    ],
)
def test_words_and_sums_of_lists_of_what_came_of_exposures(tmp_path: Path, rule: str, good: Any) -> None:
    """Of several rows of an exposure one is enough for a word, and numbers of all lists are added up."""
    for day in DAYS:
        write(shown(day), tmp_path / "log/impressions", f"day={day}", "parquet")
        write(sittings(day), tmp_path / "log/sittings", f"day={day}", "parquet")
    config, _ = config_of(tmp_path / "log", "--conversion", rule)
    events = config["data"]["events"]
    assert "good" in events["computed"] and events["joined"]["sittings"]["columns"], events
    of = (
        sittings(DAYS[0])
        .with_columns(pl.col("acts").list.eval(pl.element().struct["act"]).alias("kinds"))
        .with_columns(pl.col("acts").list.eval(pl.element().struct["pts"]).list.sum().alias("pts"))
        .group_by("impression_id")
        .agg(pl.col("furthest").max() >= 60, pl.col("kinds").explode().drop_nulls(), pl.col("pts").sum())
    )
    mine = [good({"far": far, "acts": acts, "pts": pts}) for _, far, acts, pts in of.rows()]
    labels = checked(tmp_path / "log")["labels"]
    assert (labels["clicks"], labels["conversions"]) == (len(of), sum(mine))


def test_a_click_is_a_kind_of_what_came(tmp_path: Path) -> None:
    """By its own word, as a rule names it."""
    opened = dict[str, int]()
    for day in DAYS:
        write(shown(day), tmp_path / "log/impressions", f"day={day}", "parquet")
        rng = np.random.default_rng(30 + int(day[-1]))
        keys = rng.choice([f"{day[-2:]}-{k}" for k in range(1500)], 300, replace=False)
        kinds = [[k for k, p in (("open", 0.7), ("save", 0.4), ("hide", 0.3)) if rng.random() < p] for _ in keys]
        rows = [(key, kind) for key, of in zip(keys.tolist(), kinds, strict=True) for kind in of]
        write(
            pl.DataFrame(rows, ["impression_id", "act"], orient="row"), tmp_path / "log/acts", f"day={day}", "parquet"
        )
        opened[day] = sum("open" in of for of in kinds)
    _, out = config_of(tmp_path / "log", "--conversion", "save")
    assert "whether there is a row in acts" in out and "each has" not in out, out
    config, _ = config_of(tmp_path / "log", "--click", "open", "--conversion", "save")
    assert config["data"]["events"]["click"] == "act_open"
    assert checked(tmp_path / "log")["labels"]["clicks"] == opened[DAYS[0]]


def test_a_kind_that_each_row_has_is_named_beside_the_click(tmp_path: Path) -> None:
    """Whether there is a row is then the same as that kind."""
    for day in DAYS:
        write(shown(day), tmp_path / "log/impressions", f"day={day}", "parquet")
        keys = [f"{day[-2:]}-{k}" for k in range(0, 1500, 5)]
        rows = [(k, "open") for k in keys] + [(k, "save") for k in keys[::3]] + [(k, "hide") for k in keys[1::4]]
        write(
            pl.DataFrame(rows, ["impression_id", "act"], orient="row"), tmp_path / "log/acts", f"day={day}", "parquet"
        )
    config, out = config_of(tmp_path / "log", "--conversion", "save")
    assert config["data"]["events"]["click"] == "clicked"
    assert "whether there is a row in acts/day={day}.parquet; each has act_open" in " ".join(out.split()), out


def test_a_sum_of_lists_that_two_tables_have_is_of_the_first(tmp_path: Path) -> None:
    for day in DAYS:
        write(shown(day), tmp_path / "log/impressions", f"day={day}", "parquet")
        for name in ("sittings", "visits"):
            write(sittings(day), tmp_path / f"log/{name}", f"day={day}", "parquet")
    config, _ = config_of(tmp_path / "log", "--conversion", "SUM(pts) >= 9")
    made = [
        c for one in config["data"]["events"]["joined"].values() for c in one["columns"] if c.startswith("total_pts")
    ]
    assert made == ["total_pts"] and checked(tmp_path / "log")["labels"]["conversions"] > 0


@pytest.mark.parametrize(
    ("rule", "again", "told"),
    [("stay_ms >= 9000", True, True), ("stay_ms >= 9000", False, False), ("MAX(stay_ms) >= 9000", True, False)],
)
def test_a_rule_of_what_is_added_up_is_said_to_be_one(root: Path, rule: str, again: bool, told: bool) -> None:
    """Where an exposure has several rows."""
    for day in DAYS:
        rows = clicks(day).select("impression_id", stay_ms=pl.int_range(pl.len()) % 20 * 1000)
        rows = rows.unique("impression_id", keep="first", maintain_order=True)
        write(pl.concat([rows, *([rows.gather_every(4)] if again else [])]), root / "clicks", f"clicks_{day}", "csv")
    _, out = config_of(root, "--conversion", rule)
    said = "stay_ms is the sum of an exposure's rows, MAX(stay_ms) the greatest"
    assert (said in " ".join(out.split())) == told, out


def test_what_a_click_was_on_is_no_kind_of_rows(root: Path) -> None:
    """Of a table that is called clicks each row is one."""
    for day in DAYS:
        ids = shown(day)["impression_id"].head(300)
        areas = [
            pl.DataFrame({"impression_id": k, "area": v})
            for k, v in ((ids.slice(12), "title"), (ids.head(60), "image"))
        ]
        write(pl.concat(areas), root / "clicks", f"clicks_{day}", "csv")
    config, _ = config_of(root, "--conversion", "image")
    assert config["data"]["events"]["joined"]["clicks"]["columns"]["clicked"] == "COUNT(*) > 0"
    assert checked(root)["labels"]["clicks"] == 300
