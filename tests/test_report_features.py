"""Features on a day's page: counts beside those that polars takes of the raw log, PSI beside draws, names and marks."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from worlds import BASE, DAYS, Project

from dmtl_cli.config.reading import load_config
from dmtl_cli.data.log.checked.day import ID
from dmtl_cli.report import library
from dmtl_cli.report.day import _quality_tiles, cost
from dmtl_cli.report.facts import Facts, Numbers, gather
from dmtl_cli.report.features import Drift, drifts, psi
from dmtl_cli.report.page import render
from dmtl_cli.report.words import READ
from dmtl_cli.report.writing import _sections
from dmtl_cli.runs.workspace import Workspace
from dmtl_cli.synth.generate import generate

pytest.importorskip("vl_convert")
NEW = 999_999
MORE: list[dict[str, Any]] = [
    {"name": "price", "side": "item", "kind": "numeric", "transform": "log1p"},
    {"name": "weight", "side": "item", "kind": "numeric", "boundaries": [1.0, 2.0]},
    {"name": "shop", "side": "item", "kind": "categorical", "hash_bucket_size": 7},
    {"name": "picture", "side": "item", "kind": "vector", "dim": 2},
    {"name": "slot", "side": "context", "kind": "categorical"},
    {"name": "speed", "side": "context", "kind": "numeric"},
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Three days; on the third many authors are new, categories are missing, and slots are others."""
    home = tmp_path_factory.mktemp("features")
    generate(home, 3, start=dt.date(2026, 1, 1), users=150, items=60, events_per_day=1200, seed=1)
    for k, day in enumerate(DAYS[:3]):
        _change(home / f"log/items/day={day}", k, items=True)
        _change(home / f"log/events/day={day}", k, items=False)
    config = json.loads(json.dumps(BASE)) | {"gates": {"quality": False}}
    config["features"] += MORE
    made = Project.create(home, home / "log", config=config)
    ended = made.call("backfill", "--from", DAYS[0], "--to", DAYS[2])
    assert (ended.code, ended.err) == (0, "")
    return made


def _change(folder: Path, k: int, *, items: bool) -> None:
    rng = np.random.default_rng(k)
    for file in sorted(folder.glob("*.parquet")):
        rows = pl.read_parquet(file, hive_partitioning=False)
        n = len(rows)
        if not items:
            slots = rng.integers(0, 4, n) if k < 2 else np.zeros(n, np.int64)
            speed = pl.Series("speed", rng.normal(size=n))
            rows.with_columns(pl.Series("slot", slots), speed).write_parquet(file)
            continue
        price = np.where(rng.random(n) < 0.2, np.nan, rng.lognormal(2, 1, n))
        new = [
            pl.Series("price", price),
            pl.Series("weight", rng.random(n) * 3),
            pl.Series("shop", rng.integers(0, 50, n)),
            pl.Series("picture", rng.random((n, 2))).arr.to_list(),
        ]
        if k == 2:
            author = pl.when(pl.int_range(n) % 2 == 0).then(NEW).otherwise("author").alias("author")
            category = pl.when(pl.int_range(n) % 3 == 0).then(None).otherwise("category").alias("category")
            rows = rows.with_columns(author, category)
        rows.with_columns(new).write_parquet(file)


def _found(project: Project, day: str) -> dict[str, Any]:
    found = json.loads(next(project.ws.glob(f"evaluation/day={day}/run-*/curves.json")).read_text())["features"]
    assert isinstance(found, dict)
    return found


def _joined(project: Project, day: str) -> pl.DataFrame:
    """The day's events with the features of their items, from the raw log."""
    log = project.ws.parent / "log"
    read = {
        t: pl.concat([pl.read_parquet(f, hive_partitioning=False) for f in sorted(log.glob(f"{t}/day={day}/*"))])
        for t in ("events", "items")
    }
    first = ["user_id", "item_id", "request_id"]
    clicks = read["events"].filter(pl.col("click") == 1).unique(first, keep="first", maintain_order=True)
    events = pl.concat([read["events"].filter(pl.col("click") == 0), clicks])
    return events.join(read["items"], on="item_id", how="left")


def test_counts_are_those_of_the_raw_log(project: Project) -> None:
    found, rows = _found(project, DAYS[2]), _joined(project, DAYS[2])
    assert found.keys() == {f["name"] for f in [*BASE["features"], *MORE]}
    for name in ("category", "price", "author", "slot"):
        null = rows[name].is_null() | rows[name].is_nan() if name == "price" else rows[name].is_null()
        assert found[name]["null"] == pytest.approx(null.mean(), abs=1e-5), name
    met = pl.concat([_joined(project, day)["author"] for day in DAYS[:2]]).unique()
    unknown = ~rows["author"].is_in(met.implode())
    assert found["author"]["unknown"] == pytest.approx(unknown.mean(), abs=1e-5)
    assert 0.4 < (rows["author"] == NEW).mean() < found["author"]["unknown"] and found["category"]["null"] > 0.2
    assert found["category"]["unknown"] == 0 and found["author"]["null"] == 0
    price = rows["price"].filter(rows["price"].is_finite())
    assert found["price"]["mean"] == pytest.approx(price.mean(), rel=1e-4)
    for name in ("price", "weight", "speed"):
        x = rows[name].to_numpy()
        x = x[np.isfinite(x)]
        expected = np.histogram(x, [-np.inf, *found[name]["edges"], np.inf])[0]
        assert found[name]["groups"] == [len(rows) - len(x), *expected], name
    counts = rows.group_by("slot").len().sort("slot")
    assert [g for g in found["slot"]["groups"] if g] == counts["len"].to_list() == [len(rows)]
    events = rows.group_by("item_id").len()["len"].to_numpy().astype(np.float64)
    assert found["price"]["rows"] == pytest.approx(events.sum() ** 2 / (events**2).sum(), rel=1e-4)
    assert found["slot"]["rows"] == found["user_id"]["rows"] < rows["user_id"].n_unique() + 1e-6


def test_a_list_is_counted_by_its_known_values(project: Project) -> None:
    found = _found(project, DAYS[2])["recent_clicks"]
    assert sum(found["groups"]) == pytest.approx(sum(_found(project, DAYS[2])["slot"]["groups"]))
    assert found["null"] * sum(found["groups"]) <= found["groups"][0] + 1e-6 and 1 < found["mean"] <= 10


def test_what_has_no_groups_and_what_names_nobody(project: Project) -> None:
    found = _found(project, DAYS[2])
    assert "groups" not in found["picture"] and len(found["shop"]["groups"]) == 8 and "unknown" not in found["shop"]
    assert str(NEW) not in json.dumps(found) and ID not in found


def test_what_moved_is_marked_and_what_did_not_is_not(project: Project) -> None:
    facts = gather(Workspace(project.ws), dt.date.fromisoformat(DAYS[2]))
    by_name = {d.name: d for d in drifts(facts)}
    assert {name for name, d in by_name.items() if d.moved} >= {"author", "category", "slot"}
    assert not any(by_name[name].moved for name in ("speed", "price", "weight", "shop", "user_read_cluster"))
    assert by_name["author"].has_risen("unknown") and by_name["category"].has_risen("null")
    text = (project.ws / f"report/day={DAYS[2]}.html").read_text()
    assert 'id="features"' in text and "Values of slot".lower() in text.lower() and "moved</span>" in text
    assert '<span class="note">author</span>' in text and '<span class="note">speed</span>' not in text
    assert '"group":"no known value"' in text and '"group":"0"' in text, "a slot by its value"


def test_a_day_without_a_day_before_compares_nothing(project: Project) -> None:
    text = (project.ws / f"report/day={DAYS[1]}.html").read_text()
    assert "Days to compare with come with the next evaluations." in text and "moved</span>" not in text
    assert 'id="features"' not in (project.ws / f"report/day={DAYS[0]}.html").read_text()


def test_thirty_days_are_one_page_of_a_mail(project: Project, tmp_path: Path) -> None:
    """As many days as a page shows, each with all gates and metrics: it is still at most 1.5 MB."""
    ws, config = Workspace(project.ws), load_config(project.file, [])
    facts = gather(ws, dt.date.fromisoformat(DAYS[2]))
    today = facts.today
    many = [dataclasses.replace(today, day=today.day - dt.timedelta(days=k)) for k in reversed(range(30))]
    page = render("t", "s", _sections(dataclasses.replace(facts, days=many), ws, config), library.library(tmp_path), [])
    assert page.count("2025-12-05") > 20 and len(page.encode()) <= 1_500_000


def test_memory_is_of_the_stage_that_raised_it(project: Project) -> None:
    facts = gather(Workspace(project.ws), dt.date.fromisoformat(DAYS[2]))
    order = [m.run_id for m in facts.runs]
    took = {i: {"seconds": 1.0, "peak_bytes": b} for i, b in zip(order[::-1], (1e8, 1e8, 3e8, 3e8), strict=False)}
    charts: Any = cost(dataclasses.replace(facts, took=took)).blocks[0]
    rows = charts.charts[1].numbers.rows
    assert sorted(size for _, size in rows) == ["100 MB", "300 MB"]
    first = {m.run_id: m.stage for m in facts.runs}
    assert {str(name).split()[0] for name, _ in rows} == {first[order[-1]], first[order[-3]]}


# -- PSI ---------------------------------------------------------------------------------------------------------------


def test_psi_by_hand() -> None:
    p, q = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    value, chance = psi(p, q, 1e9, 1e9)
    assert value == pytest.approx(0.25 * np.log(2) - 0.25 * np.log(2 / 3), rel=1e-6)
    assert chance == pytest.approx(2e-9)
    assert psi(p, q, 1e5, 1e5)[0] == pytest.approx(psi(q, p, 1e5, 1e5)[0])
    assert np.isfinite(psi(np.array([1.0, 0.0]), np.array([0.0, 1.0]), 10, 10)[0])
    assert psi(p, p, 100, 100)[0] == 0


@pytest.mark.parametrize(("n", "m"), [(500, 3000), (4000, 4000)])
def test_psi_by_chance_is_that_of_draws(n: int, m: int) -> None:
    """The mean over draws of one distribution is what `psi` says of chance, to a tenth."""
    rng = np.random.default_rng(3)
    law = np.array([0.3, 0.25, 0.2, 0.1, 0.1, 0.05])
    drawn = [psi(rng.multinomial(n, law) / n, rng.multinomial(m, law) / m, n, m) for _ in range(2000)]
    assert np.mean([value for value, _ in drawn]) == pytest.approx(drawn[0][1], rel=0.1)


def _drift(now: list[float], then: list[list[float]], rows: float = 1000, **more: Any) -> Drift:
    entry: dict[str, Any] = {"side": "item", "kind": "categorical", "rows": rows, "null": 0.0} | more
    return Drift("f", entry | {"groups": now}, [entry | {"groups": groups} for groups in then])


def test_groups_are_joined_without_a_loss() -> None:
    """Every row is in one group, whatever is joined; a vocabulary that grew has new rows among the rare ones."""
    rng = np.random.default_rng(0)
    for edges in ({}, {"edges": [0.0] * 40}):
        for k in range(50):
            then = (rng.pareto(1, 42) * (rng.random(42) < 0.6) * 100 + (np.arange(42) == 5)).tolist()
            then = then if k else [9.0] + [0.0] * 41  # none had a value
            d = _drift(rng.random(44).tolist() if not edges else rng.random(42).tolist(), [then, then], **edges)
            assert d.merged is not None
            joined, p, q = d.merged
            assert all(joined) and sorted(row for rows in joined for row in rows) == list(range(42 if edges else 44))
            assert p.sum() == pytest.approx(1) and q.sum() == pytest.approx(1)
            assert not edges or all(rows == [*range(rows[0], rows[-1] + 1)] for rows in joined)


def test_a_small_day_is_not_marked_for_its_noise() -> None:
    shifted = [0.0, 55.0, 45.0]
    assert _drift([0.0, 70.0, 30.0], [shifted], rows=2000).moved is False, "a PSI of less than .1"
    assert _drift([0.0, 80.0, 20.0], [shifted], rows=2000).moved is True
    assert _drift([0.0, 80.0, 20.0], [shifted], rows=9).moved is False, "of nine items"


def test_days_of_other_edges_are_not_compared(project: Project) -> None:
    facts: Facts = gather(Workspace(project.ws), dt.date.fromisoformat(DAYS[2]))
    before = [json.loads(json.dumps(day)) for day in facts.curves_before]
    before[0]["features"]["price"]["edges"][0] -= 1
    by_name = {d.name: d for d in drifts(dataclasses.replace(facts, curves_before=before))}
    assert not by_name["price"].then and by_name["price"].psi is None and by_name["weight"].then


def test_the_headline_has_the_best_list() -> None:
    found = {"student": 0.3, "read_popularity": 0.1, "popularity": 0.2, "exposure_rate": 0.4}
    named = {f"evaluation:{name}.read.recall@50": value for name, value in found.items()}
    (tile,) = _quality_tiles(Numbers(dt.date(2026, 1, 2), named, {}, {}), 50, READ)
    assert any("exposure_rate" in line and ".4" in line for line in tile.beside) and tile.state == "note"
    (tile,) = _quality_tiles(
        Numbers(dt.date(2026, 1, 2), {k: v for k, v in named.items() if "rate" not in k}, {}, {}), 50, READ
    )
    assert tile.state == "good"
