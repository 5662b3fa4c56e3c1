"""Several rows of an exposure's id: `check` names the column."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from initiated import Made, made
from worlds import DAYS, Project, dmtl

from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.exposures.labels import roles_of
from dmtl_cli.guess.findings.repeats import unique_of

N, RETRIED, CORRECTED = 600, 20, 30
_AT = dt.datetime.fromisoformat(DAYS[0])


def sent() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of exposures, of which some came twice, among them ones first without the click; and one row of each."""
    rng = np.random.default_rng(4)
    click = rng.random(N) < 0.3
    first = pl.DataFrame({
        "imp": [f"i{k:05d}" for k in rng.permutation(N)], "user_id": rng.integers(0, 120, N),
        "item_id": rng.integers(0, 30, N), "opened": click, "seconds": click * rng.exponential(30, N),
        "at": [_AT + dt.timedelta(seconds=60 * k) for k in range(N)], "got": np.arange(N),
    })  # fmt: skip
    again = first[: RETRIED + CORRECTED].with_columns(got=pl.col("got") + N)
    of_clicks = pl.col("got") >= N + RETRIED
    again = again.with_columns(
        opened=pl.col("opened") | of_clicks, seconds=pl.when(of_clicks).then(33.0).otherwise("seconds")
    )
    before = first.with_columns(opened=pl.col("opened") & ~pl.col("got").is_between(RETRIED, RETRIED + CORRECTED - 1))
    kept = pl.concat([before[RETRIED + CORRECTED :], again]).sort("got")
    return pl.concat([before, again]), kept


def project(home: Path, rows: pl.DataFrame, form: str) -> Project:
    place = home / f"log/events/day={DAYS[0]}"
    place.mkdir(parents=True)
    made = Project.create(home, home / "log")
    events = {"user": "user_id", "item": "item_id", "click": "opened", "duration": "seconds", "time": "at"}
    made.config["data"] = {"root": str(home / "log"), "events": events}
    made.config["features"] = [{"name": c, "side": c[:4], "kind": "categorical"} for c in ("user_id", "item_id")]
    if form == "parquet":
        rows.write_parquet(place / "0.parquet")
    elif form == "csv":
        words = rows.with_columns(opened=pl.when("opened").then(pl.lit("J")).otherwise(pl.lit("N")))
        words.write_csv(place / "0.csv")
    else:
        nested = rows.with_columns(key=pl.struct(id="imp"), out=pl.struct(open="opened")).drop("imp", "opened")
        nested.with_columns(pl.col("at").dt.strftime("%Y-%m-%dT%H:%M:%S")).write_ndjson(place / "0.jsonl")
        events["click"] = "out.open"
    if form != "parquet":
        types = {"at": "datetime", "seconds": "float64", "got": "int64"}
        made.config["data"] |= {"format": form, "types": types}
    made.write()
    return made


@pytest.mark.parametrize("form", ["parquet", "csv", "json"])
def test_the_column_that_has_the_id_is_named(tmp_path: Path, form: str) -> None:
    made = project(tmp_path, sent()[0], form)
    ended = dmtl("check", "--config", made.file, "--day", DAYS[0], "--json")
    name, repeats, rows = "key.id" if form == "json" else "imp", RETRIED + CORRECTED, N + RETRIED + CORRECTED
    found = json.loads(ended.out)
    assert found["repeated_ids"] == {"column": name, "repeats": repeats, "rows": rows}
    said = dmtl("check", "--config", made.file, "--day", DAYS[0]).out
    line = f"{name}: {repeats} of {rows} rows repeat the id of one of their user and item, and each counts: "
    assert f"{line}data.events.unique: {name} reads one of each" in said.splitlines()
    assert found["rows"] == rows, "each counts indeed"


def test_codes_that_are_alike_by_chance_are_no_ids(tmp_path: Path) -> None:
    """A number that nearly every row has for itself, shared by rows of different users, beside rows that came twice."""
    rows, _ = sent()
    rng = np.random.default_rng(5)
    rows = rows.with_columns(imp=rng.integers(0, 5000, len(rows)))
    made = project(tmp_path, rows, "parquet")
    found = json.loads(dmtl("check", "--config", made.file, "--day", DAYS[0], "--json").out)
    assert found["duplicate_rows"] == RETRIED + CORRECTED and "repeated_ids" not in found


def test_a_log_without_repeats_is_told_nothing(tmp_path: Path) -> None:
    _, kept = sent()
    found = json.loads(
        dmtl("check", "--config", project(tmp_path, kept, "parquet").file, "--day", DAYS[0], "--json").out
    )
    assert found["duplicate_rows"] == 0 and "repeated_ids" not in found


@pytest.mark.parametrize("level", [None, "event"])
def test_what_a_request_knows_is_not_to_be_written_in_all_rows(tmp_path: Path, level: str | None) -> None:
    """An open case: most requests have none."""
    _, kept = sent()
    kept = kept.with_columns(case=pl.when(pl.col("got") % 3 == 0).then(pl.lit("tax")))
    made = project(tmp_path, kept, "parquet")
    made.config["features"].append(
        {"name": "case", "side": "user", "kind": "categorical"} | ({"level": level} if level else {})
    )
    made.write()
    (line,) = (x for x in made.call("check", "--day", DAYS[0]).out.splitlines() if x.startswith("case: "))
    assert "users have none in their first row of this day and one later" in line
    assert ("write it in all rows" in line) == (level is None) and ("unknown" in line) == (level is None)
    assert ("a teacher reads each row's own value" in line) == (level == "event")


# -- init --------------------------------------------------------------------------------------------------------------


def roles_of_rows(rows: pl.DataFrame) -> Roles:
    return roles_of(rows, {"user": "user_id", "item": "item_id", "click": "opened"})


def test_a_sample_names_the_column() -> None:
    rows, kept = sent()
    found = unique_of(rows, roles_of_rows(rows))
    assert (
        found is not None and found.column == "imp" and found.why.startswith("50 of 650 rows have the imp of another")
    )
    assert unique_of(kept, roles_of_rows(kept)) is None, "no row repeats"
    half = rows.with_columns(imp=pl.when(pl.col("got") % 9 > 0).then("imp"))
    assert unique_of(half, roles_of_rows(half)) is not None, "rows without an id are none"


@pytest.mark.parametrize("kind", ["by chance", "of the pair", "of a few"])
def test_what_is_no_id_of_an_exposure(kind: str) -> None:
    """Numbers alike by chance; a hash of user and item, shown again at another time; of each ten rows one."""
    rows, _ = sent()
    if kind == "by chance":
        rows = rows.with_columns(imp=pl.Series(np.random.default_rng(5).integers(0, 5000, len(rows))))
    elif kind == "of the pair":
        rows = rows[:N].with_columns(imp=pl.struct("user_id", "item_id").hash().cast(pl.String))
        assert rows["imp"].is_duplicated().any()
    else:
        rows = rows.with_columns(imp=pl.format("i{}", pl.col("got") // 10))
    assert unique_of(rows, roles_of_rows(rows)) is None


def test_init_writes_it_and_each_counts_once(tmp_path: Path) -> None:
    rows, kept = sent()
    ended, raw, _ = init_of(tmp_path, rows)
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["unique"] == "imp"
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", DAYS[0], "--json").json
    assert found["rows"] == len(kept) and "repeated_ids" not in found
    ended, raw, _ = init_of(tmp_path / "once", kept)
    assert ended.code == 0 and "unique" not in raw["data"]["events"]


def init_of(home: Path, rows: pl.DataFrame) -> Made:
    def write(log: Path) -> None:
        (log / f"events/day={DAYS[0]}").mkdir(parents=True)
        rows.write_parquet(log / f"events/day={DAYS[0]}/0.parquet")

    return made(home, write, "--click", "opened", "--duration", "seconds")
