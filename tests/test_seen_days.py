"""`export.seen_days`: what users clicked on some days is left out of an answer, and measures stay those of one day."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from worlds import Project, events

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.log.reader import Log
from dmtl_cli.serving.export import Export
from dmtl_cli.synth.generate import generate

DAYS = ["2026-01-01", "2026-01-02", "2026-01-03"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    out = tmp_path_factory.mktemp("world")
    generate(out, 3, start=dt.date(2026, 1, 1), users=60, items=40, events_per_day=800, seed=1)
    made = Project.create(tmp_path_factory.mktemp("chain"), out / "log")
    made.done("train-teacher", 1)
    made.done("dump-logits", 1)
    made.done("dump-logits", 2, "--teacher-day", DAYS[0])
    made.done("train-student", 2)
    return made


def clicked(log: Path, days: list[str]) -> dict[str, set[int]]:
    rows = pl.concat([events(log, day) for day in days]).filter(pl.col("click") == 1)
    return {str(user): set(items) for user, items in rows.group_by("user_id").agg("item_id").rows()}


def test_what_was_clicked_on_several_days_is_left_out(project: Project) -> None:
    log = Path(project.config["data"]["root"])
    before = project.done("evaluate", 3)["metrics"]
    of_day, of_two = clicked(log, DAYS[1:2]), clicked(log, DAYS[:2])
    files = [*project.ws.glob("export/day=2026-01-02/run-*/users.parquet")]
    users = pl.read_parquet(files[0])
    assert "clicked_items" not in users.columns
    assert {str(u): set(s) for u, s in users.select("user_id", "seen_items").rows() if s} == of_day

    project.config["export"] = {"seen_days": 2}
    project.write()
    project.done("export", 2)
    (newer,) = (f for f in project.ws.glob("export/day=2026-01-02/run-*/users.parquet") if f not in files)
    users = pl.read_parquet(newer)
    served = {str(u) for u in users["user_id"]}
    for column, truth in (("seen_items", of_two), ("clicked_items", of_day)):
        lists = {str(u): s for u, s in users.select("user_id", column).rows() if s}
        assert {u: set(s) for u, s in lists.items()} == {u: s for u, s in truth.items() if u in served}
        assert all(len(s) == len(set(s)) for s in lists.values())
    user = max(of_two, key=lambda u: (u in served, len(of_two[u] - of_day.get(u, set()))))
    top = {
        int(one["item_id"])
        for one in project.call("recommend", "--user", user, "-k", 40, "--exclude-seen", "--json").json["items"]
    }
    every = {int(one["item_id"]) for one in project.call("recommend", "--user", user, "-k", 40, "--json").json["items"]}
    assert of_two[user] - of_day.get(user, set()) and top == every - of_two[user]
    after = project.done("evaluate", 3)["metrics"]
    more = "repeats.found", "repeats.by_chance"
    assert all(after.pop(name) > before.pop(name) for name in more)
    assert after == before, "the list of what was clicked is of one day"


def recalls(project: Project, tops: dict[str, list[int]], day: str) -> float:
    """Mean over users of the share of what they clicked that day which is in their top, of whom there is one."""
    found = clicked(Path(project.config["data"]["root"]), [day])
    return float(np.mean([len(set(tops.get(user, [])) & wanted) / len(wanted) for user, wanted in found.items()]))


@pytest.mark.parametrize("seen", ["click", "conversion"])
def test_what_is_measured_is_what_exclude_seen_answers(project: Project, seen: str) -> None:
    """Of the student and of a list alike, a user at a time: what is left out is not found, and another item is."""
    project.config["export"] = {"seen_days": 2, "seen": seen}
    project.config["evaluate"] = {"topk": [7], "share": 1}
    project.write()
    project.done("export", 2)
    plain = project.done("evaluate", 3)
    project.config["evaluate"] |= {"exclude_seen": True}
    project.write()
    made = project.done("evaluate", 3)
    assert made["rows"]["users"] == made["rows"]["active_users"], "all are measured"
    left_out = made["rows"].pop("excluded")
    assert made["rows"] == plain["rows"]

    export = project.ws / "export" / (project.ws / "export/LATEST").read_text().strip()
    users = pl.read_parquet(export / "users.parquet", columns=["user_id", "seen_items"])
    stored = {str(user): set(items or []) for user, items in users.rows()}
    active = {str(user) for user in events(Path(project.config["data"]["root"]), DAYS[2])["user_id"]}
    assert left_out == sum(len(items) for user, items in stored.items() if user in active) > 0
    (project.ws / "who.csv").write_text("\n".join(["user_id", *sorted(stored, key=int)]))
    for flags, told in ([], plain), (["--exclude-seen"], made):
        out = project.ws / "tops.parquet"
        assert project.call("recommend", "--users", project.ws / "who.csv", "-o", out, "-k", 7, *flags).code == 0
        lists = pl.read_parquet(out).sort("rank").group_by(pl.col("user_id").cast(pl.String)).agg("item_id")
        assert told["metrics"]["student.click.recall@7"] == pytest.approx(recalls(project, dict(lists.rows()), DAYS[2]))

    clicks = clicked(Path(project.config["data"]["root"]), [DAYS[1]])
    count = Counter(item for items in clicks.values() for item in items)
    ranked = sorted(count, key=lambda item: (-count[item], item))
    tops = {user: [item for item in ranked if item not in stored.get(user, set())][:7] for user in stored}
    assert made["metrics"]["popularity.click.recall@7"] == pytest.approx(recalls(project, tops, DAYS[2]))
    assert made["metrics"]["popularity.click.recall@7"] != plain["metrics"]["popularity.click.recall@7"]
    assert made["metrics"]["teacher.ctr.auc"] == plain["metrics"]["teacher.ctr.auc"], "rows are as they are"
    del project.config["evaluate"]


@pytest.mark.parametrize("days", [1, 2])
def test_what_was_a_good_click_alone_is_left_out(project: Project, days: int) -> None:
    """Of what they clicked and did not read long they get more; measures stay those of the day's clicks."""
    log = Path(project.config["data"]["root"])
    project.config["export"] = {"seen": "conversion", "seen_days": days}
    project.write()
    before = {*project.ws.glob("export/day=2026-01-02/run-*")}
    project.done("export", 2)
    (made,) = {*project.ws.glob("export/day=2026-01-02/run-*")} - before
    threshold = json.loads((made / "manifest.json").read_text())["facts"]["threshold_seconds"]
    first = pl.struct("user_id", "item_id", "request_id").is_first_distinct()  # a further click counts for nothing
    rows = pl.concat([events(log, day).filter(pl.col("click") == 1).filter(first) for day in DAYS[2 - days : 2]])
    long = rows.filter(pl.col("read_seconds") > threshold).group_by("user_id").agg("item_id")
    users = pl.read_parquet(made / "users.parquet")
    truth = {str(u): set(items) for u, items in long.rows() if u in users["user_id"]}
    assert {str(u): set(s) for u, s in users.select("user_id", "seen_items").rows() if s} == truth
    of_day = clicked(log, DAYS[1:2])
    assert {str(u): set(s) for u, s in users.select("user_id", "clicked_items").rows() if s} == of_day
    user = max(of_day, key=lambda u: len(of_day[u] - truth.get(u, set())))
    top = project.call("recommend", "--user", user, "-k", 40, "--exclude-seen", "--json").json["items"]
    ids = {int(one["item_id"]) for one in top}
    assert not ids & truth.get(user, set()) and ids & (of_day[user] - truth.get(user, set()))


@pytest.mark.parametrize("code", [Exit.IO, Exit.DATA])
def test_a_storage_that_fails_publishes_no_export_without_a_day(
    project: Project, monkeypatch: pytest.MonkeyPatch, code: Exit
) -> None:
    """It would count as up to date from then on. What is wrong with a day stays wrong."""
    read = Log.read

    def failing(self: Log, day: dt.date, scratch: Path, *rest: Any, **named: Any) -> Day:
        if scratch.name.startswith("seen-"):
            raise UserError("the storage fails", "run it again", code)
        return read(self, day, scratch, *rest, **named)

    project.config["export"] = {"seen_days": int(code)}  # an export that is not there yet
    project.write()
    monkeypatch.setattr(Log, "read", failing)
    ended = project.call("export", "--day", DAYS[1])
    assert ended.code == (74 if code == Exit.IO else 0)


def test_days_that_the_log_lacks_are_none(project: Project) -> None:
    project.config["export"] = {"seen_days": 30}
    project.write()
    project.done("export", 2)
    assert project.call("verify").code == 0


def test_ids_of_another_type_are_nobodys(project: Project) -> None:
    stored = Export.open(project.ws).stored_users
    known = pl.Series([stored.example])
    assert stored.seen(known).equals(stored.among(known).select("user_id", "seen_items"))
    assert len(stored.seen(known)) == 1 and not len(stored.seen(known.cast(pl.String)))
