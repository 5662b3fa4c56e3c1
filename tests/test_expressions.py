"""docs/expressions.md: each line of its tables is evaluated as a log's rows are, or refused."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from worlds import Project

from dmtl_cli.config.expressions import null_told_of, roots_of
from dmtl_cli.data.log.values.computed import Computed

PAGE = (Path(__file__).parent.parent / "docs/expressions.md").read_text()
ROW: dict[str, Any] = json.loads(PAGE.split("<!-- row -->")[1].split("```json")[1].split("```")[0])
LINES = [
    (said.replace("\\|", "|"), json.loads(gives))
    for said, gives in re.findall(r"^\| `(.+)` \| `(.+)` \|$", PAGE.split("## What is refused")[0], re.M)
]
REFUSED = re.findall(r"^\| `(.+)` \| `(\d+)` \|$", PAGE.split("## What is refused")[1], re.M)
DAY = "2026-01-01"


def frame(rows: int = 1) -> pl.DataFrame:
    """The page's row, as a Parquet file has it, that often."""
    typed = ROW | {"at": dt.datetime.fromisoformat(ROW["at"]), "day": dt.date.fromisoformat(ROW["day"])}
    outcome = typed.pop("outcome")
    return pl.DataFrame([typed] * rows).with_columns(
        pl.lit(None, pl.Float64).alias("none"),
        pl.struct(**{name: pl.lit(value, pl.Int64) for name, value in outcome.items()}).alias("outcome"),
    )


def flat(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.unnest("outcome", separator=".")


def as_json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, dt.date) else value


def test_the_page_has_its_tables() -> None:
    assert len(LINES) > 100 and len(REFUSED) >= 10
    assert len({text for text, _ in LINES}) == len(LINES)


@pytest.mark.parametrize(("text", "gives"), LINES, ids=[text for text, _ in LINES])
def test_an_expression_gives_what_the_page_says(text: str, gives: Any) -> None:
    assert roots_of(text)
    made = Computed("data.events.computed", {"made": text}).of(flat(frame(3)).to_arrow(), ["made"], "log")
    (column,) = made.columns
    found = [as_json(value) for value in column.to_pylist()]
    assert found == [pytest.approx(gives, abs=1e-5) if isinstance(gives, int | float) else gives] * 3
    assert (type(found[0]) is bool) == (type(gives) is bool)


def test_columns_of_which_an_expression_says_what_null_is() -> None:
    """By its tree: what stands in a text or in quotes is no such word, and a name may have a space."""
    text = """a.b IS NULL OR COALESCE(c, d, 1) = 1 AND NOT ("my e" IS NOT NULL) OR f = 'g IS NULL' OR h > 1"""
    assert null_told_of(text) == ["a.b", "c", "d", "my e"]
    assert null_told_of("x = 1 AND y > 2") == []


def test_a_day_with_all_of_them_is_read(tmp_path: Path) -> None:
    """Through the command line, from Parquet; each is a feature of what it gives."""
    folder = tmp_path / f"log/events/day={DAY}"
    folder.mkdir(parents=True)
    ids = pl.DataFrame({"who": [f"u{k}" for k in range(120)], "what": [f"i{k % 20}" for k in range(120)]})
    events = ids.with_columns(clicked=pl.int_range(120) % 2, seconds=pl.int_range(120) % 50)
    events.hstack(frame(120)).write_parquet(folder / "a.parquet")
    computed = {f"made_{k}": text for k, (text, _) in enumerate(LINES)}
    kinds = {str: "categorical", bool: "categorical", int: "numeric", float: "numeric"}
    features = [
        {"name": f"made_{k}", "side": "context", "kind": kinds[type(gives)]}
        for k, (text, gives) in enumerate(LINES)
        if type(gives) in kinds and "DATE(" not in text and not re.search(r"STRPTIME|AS DATE|INTERVAL", text)
    ]
    named = {"user": "who", "item": "what", "click": "clicked", "duration": "seconds", "computed": computed}
    ids_too = [{"name": side, "side": of, "kind": "categorical"} for side, of in (("who", "user"), ("what", "item"))]
    config = {"seed": 1, "threads": 1, "auto": {"budget": 0}, "data": {"events": named}}
    project = Project.create(tmp_path, tmp_path / "log", config=config | {"features": [*ids_too, *features]})
    ended = project.call("check", "--day", DAY, "--json")
    assert ended.code == 0, ended.err
    unknown = {f["name"]: f["unknown_share"] for f in ended.json["features"]}
    assert len(features) > 90 and all(unknown[f["name"]] == 0 for f in features)


@pytest.mark.parametrize(("text", "code"), REFUSED)
def test_what_the_page_says_is_refused_is(tmp_path: Path, text: str, code: str) -> None:
    named = {"user": "who", "item": "what", "click": "clicked", "conversion": "good", "computed": {"good": text}}
    config = {"seed": 1, "threads": 1, "data": {"events": named}, "features": "auto"}
    (tmp_path / "log").mkdir()
    ended = Project.create(tmp_path, tmp_path / "log", config=config).call("check", "--day", DAY)
    assert ended.code == int(code) and "data.events.computed.good" in ended.err, ended.err


def test_the_pages_config_is_one(tmp_path: Path) -> None:
    text = PAGE.split("```yaml")[1].split("```")[0]
    assert {*yaml.safe_load(text)["data"]["events"]["computed"]} == {"good", "person", "share"}
    for line in yaml.safe_load(text)["data"]["events"]["computed"].values():
        assert roots_of(line)
