"""Gates of a score table: what its stage measures of it, and forged dumps that no student learns from."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forging import current, forge
from worlds import DAYS, Project

from dmtl_cli.config.gates import Gates
from dmtl_cli.runs.gates import judge
from dmtl_cli.scores.gates import Audit, _histogram, _quantile
from dmtl_cli.synth.generate import generate


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    generate(out, 2, start=dt.date(2026, 1, 1), users=80, items=60, events_per_day=1500, seed=1)
    return out / "log"


@pytest.fixture(scope="module")
def chain(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Day 1 and the dumps that a student of day 2 learns from. Read only."""
    made = Project.create(tmp_path_factory.mktemp("chain"), world)
    for command, day, *more in (
        ("build-profile", 1), ("train-teacher", 1), ("dump-logits", 1), ("build-profile", 2),
        ("dump-logits", 2, "--teacher-day", DAYS[0]),
    ):  # fmt: skip
        made.done(command, day, *more)
    return made


@pytest.fixture
def project(chain: Project, world: Path, tmp_path: Path) -> Project:
    made = Project.create(tmp_path, world)
    shutil.copytree(chain.ws, made.ws)
    return made


def dump(project: Project, day: int = 1) -> Path:
    return project.ws / f"scores/day={DAYS[day - 1]}/teacher={DAYS[0]}"


def rewritten(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path, dict[str, Any]], None]:
    """Changes the one part; the manifest counts what is in it."""

    def forged(run: Path, document: dict[str, Any]) -> None:
        (part,) = run.glob("part-*.parquet")
        table = change(pq.read_table(part))
        pq.write_table(table, part, row_group_size=700)
        counts = pl.from_arrow(table).get_column("pair_source").value_counts()  # type: ignore[union-attr]
        document["rows"] = {"scores": len(table), **dict(counts.iter_rows())}

    return forged


def with_value(column: str, row: int, value: float | None) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values[row] = value
        return table.set_column(
            table.column_names.index(column), column, pa.array(values, table.schema.field(column).type)
        )

    return change


def test_a_dump_is_measured(chain: Project) -> None:
    manifest = json.loads((current(dump(chain)) / "manifest.json").read_text())
    gates = {g["name"]: g for g in manifest["gates"]}
    assert all(g["passed"] for g in gates.values())
    events = pl.read_parquet(chain.config["data"]["root"] + f"/events/day={DAYS[0]}/*.parquet")
    repeated = len(events) - manifest["facts"]["log_rows"]
    assert gates["scores.rows.exposed"]["limit"] == [len(events) - repeated] * 2 and 0 <= repeated < 75
    assert gates["scores.wrong.logits"] | {"value": 0, "kind": "integrity"} == gates["scores.wrong.logits"]
    table = pl.read_parquet(current(dump(chain)) / "part-*.parquet")
    logits = table.filter(pl.col("pair_source") == "exposed")["ctr_logit"].to_numpy()
    for name, q in (("p01", 0.01), ("p50", 0.5), ("p99", 0.99)):
        expected = np.quantile(logits, q, method="inverted_cdf")
        assert gates[f"scores.{name}.ctr"]["value"] == pytest.approx(expected, abs=0.0051)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_value("ctr_logit", 800, None), "row 800: ctr_logit: expected a number from -100 to 100, got None"),
        (with_value("ctr_logit", 3, float("nan")), "row 3: ctr_logit: expected a number from -100 to 100, got nan"),
        (with_value("cvr_logit", 3, float("inf")), "row 3: cvr_logit: expected a number from -100 to 100, got inf"),
        (with_value("cvr_logit", 900, 1e30), "row 900: cvr_logit: expected a number from -100 to 100, got 1e+30"),
        (with_value("ctr_logit", 5, 99.0), "row 5: pctr: expected the probability of its calibrated logit"),
        (with_value("pctcvr", 5, 0.5), "row 5: pctcvr: expected pctr times its conversion's, got 0.5"),
        (with_value("pctcvr", 5, 1.0), "row 5: pctcvr: expected a number inside (0, 1), got 1"),
        (with_value("rank", 1, 9), "row 1: rank: expected ranks from 1 within group and pair_source"),
        (with_value("user_id", 7, None), "row 7: user_id: expected a value of the table's day and sources, got None"),
        (lambda t: t.slice(0, 40), "expected an exposed pair for each of the "),
        (lambda t: t.set_column(6, "ctr_logit", t["ctr_logit"].cast(pa.string())), "ctr_logit: expected float32"),
    ],
)  # fmt: skip
def test_a_forged_dump_is_not_learned(project: Project, change: Callable[[pa.Table], pa.Table], said: str) -> None:
    forge(dump(project), rewritten(change))
    ended = project.stage("train-student", 2)
    assert (ended.code, ended.out) == (65, "")
    assert said in ended.err and "run dump-logits again" in ended.err
    assert not (project.ws / "student").exists() and project.scratch_left() == []


def test_a_cut_dump_is_found_where_the_log_has_changed_since(project: Project, tmp_path: Path) -> None:
    """Its own count of the log's rows then is what is left."""
    log = tmp_path / "log"
    shutil.copytree(project.config["data"]["root"], log)
    (file,) = (log / f"events/day={DAYS[0]}").glob("*.parquet")
    pl.read_parquet(file, hive_partitioning=False)[:-5].write_parquet(file)
    project.config["data"]["root"] = str(log)
    project.write()
    forge(dump(project), rewritten(lambda t: t.slice(0, 40)))
    ended = project.stage("train-student", 2)
    assert ended.code == 65 and "expected an exposed pair for each of the 1" in ended.err


def test_rows_that_the_manifest_does_not_count(project: Project) -> None:
    def less(run: Path, document: dict[str, Any]) -> None:
        document["rows"]["negative"] -= 1

    forge(dump(project, 2), less)
    ended = project.stage("train-student", 2)
    assert ended.code == 65 and "negative pairs as its manifest says" in ended.err


def test_quantiles_of_a_log_without_exposures_are_absent() -> None:
    assert [m.name for m in Audit().measures({}) if not m.integrity] == []
    counts = _histogram(np.array([1.0, 2.0, 3.0, np.nan, 1e30], np.float32))
    assert counts.sum() == 3
    value, error = _quantile(counts, 0.5)
    assert value == 2.0 and 0 < error <= 1
    (gate,) = judge(
        [m for m in Audit(logits={"ctr": counts}).measures({}) if m.name == "scores.p50.ctr"],
        Gates(), {"scores.p50.ctr": [40.0]},
    )  # fmt: skip
    assert not gate.passed and gate.baseline == 40.0


def test_a_refusal_of_one_teachers_scores_stays_when_anothers_are_published(project: Project) -> None:
    folder = project.ws / "rejected"
    folder.mkdir()
    own, other = (folder / f"scores-{DAYS[1]}.teacher={day}.txt" for day in (DAYS[0], DAYS[1]))
    for refusal in (own, other):
        refusal.write_text("dmtl: error: too few exposed pairs")
    project.done("dump-logits", 2, "--teacher-day", DAYS[0])
    assert (own.exists(), other.exists()) == (False, True)
    shown = json.loads(project.call("status", "--json").out)
    assert shown["refused"] == [{"stage": "scores", "day": str(DAYS[1]), "reason": "too few exposed pairs"}]
