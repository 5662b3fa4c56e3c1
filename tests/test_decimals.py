"""Numbers of warehouses, which write each of them as a decimal: read as int64 without decimals, else as float64."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import unseen
from initiated import made
from worlds import dmtl

WHOLE, PARTS = pl.Decimal(38, 0), pl.Decimal(12, 2)


def rows() -> tuple[pl.DataFrame, dict[str, Any]]:
    x = unseen.drawn(0)
    frame = pl.DataFrame(
        {
            "MEMBER_ID": x["user"] + 10**15,
            "LESSON_ID": x["item"] + 1,
            "SEEN_AT": pl.Series(x["at"]).cast(pl.Int64),
            "OPENED": x["click"].astype(int),
            "SECONDS": x["seconds"].round(2),
            "TAGS": [[int(i) % 5, int(i) % 3 + 10] for i in x["item"]],
        }
    )
    return frame, x


def config_of(home: Path, frame: pl.DataFrame, x: dict[str, Any]) -> dict[str, Any]:
    home.mkdir()
    ended, raw, _ = made(home, lambda log: unseen.by_day(log / "log", frame, x))
    assert ended.code == 0, ended.err
    day = sorted({*unseen.days_of(x)})[-1]
    found = dmtl("check", "--config", home / "mine.yaml", "--day", day, "--json")
    assert found.code == 0, found.err
    read = {key: value for key, value in found.json.items() if key not in ("estimates", "next")}
    return {"data": {**raw["data"], "root": ""}, "features": raw["features"], "check": read}


def test_a_log_of_decimals_is_one_of_numbers(tmp_path: Path) -> None:
    frame, x = rows()
    ids = [c for c in frame.columns if c not in ("SECONDS", "TAGS")]
    decimals = frame.with_columns(pl.col(ids).cast(WHOLE), pl.col("SECONDS").cast(PARTS))
    decimals = decimals.with_columns(pl.col("TAGS").cast(pl.List(WHOLE)))
    found = [config_of(tmp_path / name, one, x) for name, one in (("plain", frame), ("decimals", decimals))]
    assert found[0]["data"]["events"]["user"] == "MEMBER_ID" and found[0] == found[1]


def test_a_number_of_more_than_64_bits(tmp_path: Path) -> None:
    frame, x = rows()
    config_of(tmp_path / "log", frame, x)
    (path,) = (tmp_path / "log/log/log").glob("*2026-03-03*/*.parquet")
    table = pq.read_table(path)
    ids = pa.array([Decimal(10) ** 30] * len(table), pa.decimal128(38, 0))
    pq.write_table(table.set_column(0, "MEMBER_ID", ids), path)
    ended = dmtl("check", "--config", tmp_path / "log/mine.yaml", "--day", "2026-03-03")
    assert ended.code == 65 and "column MEMBER_ID is decimal128(38, 0), with numbers of more than 64 bits" in ended.err
    assert ended.err.endswith("write them as text\n")
