"""What is served knows the day that ended: exports with the next morning's tables and a newer profile, through the
command line."""

from __future__ import annotations

import copy
import datetime as dt
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from worlds import BASE, DAYS, Project, events

from dmtl_cli.serving.export import Export
from dmtl_cli.synth.generate import generate

TABLES = ("users", "items")
PROFILED: list[dict[str, Any]] = [
    {
        "name": "last_clicks",
        "side": "user",
        "kind": "sequence",
        "profile": {"history": "click"},
        "embedding_name": "item_id",
        "max_length": 3,
    },
    {"name": "shown", "side": "user", "kind": "numeric", "profile": {"count": "exposure"}, "transform": "log1p"},
    {
        "name": "ctr",
        "side": "item",
        "kind": "numeric",
        "profile": {"rate": "click", "of": "exposure", "half_life_days": 1.0},
    },
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four days; of the fifth only the tables count."""
    out = tmp_path_factory.mktemp("world")
    generate(out, 4, start=dt.date(2026, 1, 1), users=60, items=80, events_per_day=900, seed=1)
    return out / "log"


def arrive(world: Path, log: Path, day: int, *tables: str) -> None:
    for table in tables:
        shutil.copytree(world / table / f"day={DAYS[day - 1]}", log / table / f"day={DAYS[day - 1]}")


def a_project(home: Path) -> Project:
    config = copy.deepcopy(BASE)
    config["features"] = [*BASE["features"], *PROFILED]
    config["evaluate"]["max_users"] = 30
    return Project.create(home, home / "log", config=config)


@pytest.fixture(scope="module")
def chain(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Days 1 and 2, made when nothing of day 3 was there. Read only."""
    home = tmp_path_factory.mktemp("chain")
    for day in (1, 2):
        arrive(world, home / "log", day, "events", *TABLES)
    project = a_project(home)
    ended = project.call("backfill", "--from", DAYS[0], "--to", DAYS[1])
    assert (ended.code, ended.err) == (0, "")
    return project


@pytest.fixture
def project(chain: Project, tmp_path: Path) -> Project:
    """A copy of workspace and log, to be changed."""
    for name in ("ws", "log"):
        shutil.copytree(chain.home / name, tmp_path / name)
    return a_project(tmp_path)


def refresh(project: Project, *arguments: object) -> dict[str, Any]:
    ended = project.call("refresh", "--json", *arguments)
    assert (ended.code, ended.err) == (0, ""), ended.err
    return ended.json


def manifest(made: dict[str, Any] | Path) -> dict[str, Any]:
    folder = made if isinstance(made, Path) else Path(made["path"])
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return found


def latest(project: Project) -> str:
    return (project.ws / "export/LATEST").read_text().strip()


def served(project: Project) -> Path:
    return Path(project.call("path", "export").out.strip())


def current(project: Project, stage: str, day: int) -> str:
    return Path(project.call("path", stage, "--day", DAYS[day - 1]).out.strip()).name.removeprefix("run-")


def parents(made: dict[str, Any]) -> list[tuple[str, str]]:
    return [(p["stage"], p["day"]) for p in manifest(made)["parents"]]


def ids_of(world: Path, table: str, day: int) -> set[int]:
    key = table.removesuffix("s") + "_id"
    return set(pl.read_parquet(world / table / f"day={DAYS[day - 1]}/*.parquet", hive_partitioning=False)[key])


def counted(log: pl.DataFrame) -> pl.DataFrame:
    """Without clicks that repeat one of the same pair and request."""
    first = pl.struct("user_id", "item_id", "request_id", "click").is_first_distinct()
    return log.filter((pl.col("click") == 0) | first)


def test_rows_that_came_after_the_profile_are_told(project: Project) -> None:
    """What was counted is without them, while what users saw is with them: `run` makes both of one log."""
    refresh(project)
    assert not [w for w in manifest(served(project))["facts"].get("warnings", []) if "has changed" in w]
    events(project.home / "log", DAYS[1]).head(50).with_columns(pl.col("user_id") + 1).write_parquet(
        project.home / "log/events" / f"day={DAYS[1]}/late.parquet"
    )
    warnings = manifest(refresh(project))["facts"]["warnings"]
    assert f"the log of {DAYS[1]} has changed since this profile was made of it" in warnings[-1]
    assert project.call("run", "--day", DAYS[1]).code == 0
    assert not [w for w in manifest(refresh(project))["facts"].get("warnings", []) if "has changed" in w]


# -- an export is as of the end of its day -----------------------------------------------------------------------------


def test_users_are_served_as_they_are_when_the_day_has_ended(chain: Project, world: Path) -> None:
    """Histories and counts by hand; everybody whom the profile or the table knows is there."""
    users = pl.read_parquet(served(chain) / "users.parquet")
    log = pl.concat([events(world, day) for day in DAYS[:2]])
    there = set(events(world, DAYS[1])["user_id"])
    assert set(users["user_id"]) == set(log["user_id"]) | ids_of(world, "users", 2)
    rested = set(events(world, DAYS[0])["user_id"]) - there
    assert rested, "some had no event on the day of the export"
    for row in users.iter_rows(named=True):
        mine = counted(log).filter(pl.col("user_id") == row["user_id"])
        its = mine.filter(pl.col("click") == 1)["item_id"].to_list()[-3:]
        assert (row["feature.last_clicks"] or []) == its and row["feature.shown"] == len(mine)
        seen = events(world, DAYS[1]).filter((pl.col("click") == 1) & (pl.col("user_id") == row["user_id"]))
        assert set(row["seen_items"] or []) == set(seen["item_id"])
    user = next(u for u in rested if users.filter(pl.col("user_id") == u)["feature.last_clicks"][0].len())
    assert chain.call("recommend", "--user", user, "-k", 3).code == 0


def test_items_have_the_vectors_of_what_is_known_when_the_day_has_ended(chain: Project, world: Path) -> None:
    """From raw features by hand, through the published tower; also of an item without a parent in any log."""
    export = Export(served(chain))
    ids, vectors = export.items
    assert set(ids) == ids_of(world, "items", 2) | set(events(world, DAYS[1])["item_id"])
    profile = Path(chain.call("path", "profile").out.strip())
    rows = pl.read_parquet(profile / "items.parquet")
    (prior,) = json.loads((profile / "profile.json").read_text())["priors"]
    today = pl.lit(dt.date.fromisoformat(DAYS[1]))
    decay = 0.5 ** (today - pl.col("last_seen")).dt.total_days()
    clicks, shown = (pl.col(f"count.{event}.1") * decay for event in ("click", "exposure"))
    rate = (clicks + prior["strength"] * prior["mean"]) / (shown + prior["strength"])
    known = rows.select(pl.col("id").alias("item_id"), rate.alias("ctr"))
    table = pl.read_parquet(world / f"items/day={DAYS[1]}/*.parquet", hive_partitioning=False)
    raw = pl.DataFrame({"item_id": ids}).join(table, on="item_id", how="left", maintain_order="left")
    raw = raw.join(known, on="item_id", how="left", maintain_order="left").with_columns(
        pl.col("ctr").fill_null(prior["mean"])
    )
    np.testing.assert_allclose(export.vectors(raw, "item"), vectors, atol=1e-5)
    unseen = raw[:1].with_columns(item_id=pl.lit(-5, pl.Int64))
    assert np.isfinite(export.vectors(unseen, "item")).all()


# -- refresh -----------------------------------------------------------------------------------------------------------


def test_without_anything_new_it_is_up_to_date(project: Project) -> None:
    before = project.published()
    made = refresh(project)
    assert made["up_to_date"] and (made["stage"], made["day"]) == ("export", DAYS[1])
    assert project.published() == before
    ended = project.call("refresh")
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_tables_of_the_next_morning_are_served(project: Project, world: Path) -> None:
    """Items born since get vectors, the student is not trained, and what is served is what is measured."""
    old, before = current(project, "export", 2), project.published()
    arrive(world, project.home / "log", 3, *TABLES)
    made = refresh(project)
    assert not made["up_to_date"] and made["day"] == DAYS[1] and made["run_id"] != old
    assert latest(project) == f"day={DAYS[1]}/run-{made['run_id']}"
    changed = {k for k, at in project.published().items() if before.get(k) != at and (project.ws / k).is_file()}
    assert all(k.startswith("export/") for k in changed)
    ids, _ = Export(served(project)).items
    born = ids_of(world, "items", 3) - ids_of(world, "items", 2)
    gone = ids_of(world, "items", 2) - ids_of(world, "items", 3)
    assert born and set(ids) == ids_of(world, "items", 3)
    assert gone & set(events(world, DAYS[1])["item_id"]), "some were shown on the day and are listed no more"
    assert {i["path"].split("/")[1] for i in manifest(made)["inputs"] if i["path"].startswith("items")} == {
        f"day={DAYS[1]}", f"day={DAYS[2]}"
    }  # fmt: skip
    assert refresh(project)["up_to_date"]
    arrive(world, project.home / "log", 3, "events")
    measured = manifest(project.done("evaluate", 3))
    assert measured["facts"]["student"]["run_id"] == made["run_id"]
    assert measured["metrics"]["student.click.ceiling"] == 1, "every item of the day could be retrieved"


def test_a_newer_profile_is_served_by_the_student_before(project: Project, world: Path) -> None:
    arrive(world, project.home / "log", 3, "events", *TABLES)
    assert refresh(project)["day"] == DAYS[1], "its log has arrived, but no profile knows it"
    project.done("build-profile", 3)
    made = refresh(project)
    assert made["day"] == DAYS[2] and not made["up_to_date"]
    told = [("profile", DAYS[2]), ("profile", DAYS[1])]  # the second as of day 3's morning, whose reads tell weights
    assert parents(made) == [("student", DAYS[1]), *told]
    assert latest(project) == f"day={DAYS[2]}/run-{made['run_id']}"
    users = pl.read_parquet(served(project) / "users.parquet")
    clicked = counted(events(world, DAYS[2])).filter(pl.col("click") == 1)
    last = dict(clicked.select("user_id", "item_id").iter_rows())  # of a user's rows the last one stays
    assert {u: h[-1] for u, h in users.select("user_id", "feature.last_clicks").iter_rows() if u in last} == last
    # a student of the day takes its place
    ended = project.stage("run", 3)
    assert ended.code == 0
    assert parents(ended.every[-1]) == [("student", DAYS[2]), *told]
    assert refresh(project)["up_to_date"] and refresh(project)["run_id"] == ended.every[-1]["run_id"]


def test_a_day_can_be_named(project: Project, world: Path) -> None:
    arrive(world, project.home / "log", 3, "events", *TABLES)
    project.done("build-profile", 3)
    newest = refresh(project, "--day", DAYS[2])
    made = refresh(project, "--day", DAYS[1])
    assert made["day"] == DAYS[1] and not made["up_to_date"], "the tables of day 3 are new"
    assert latest(project) == f"day={DAYS[2]}/run-{newest['run_id']}", "never back to an older day"
    again = refresh(project)
    assert again["day"] == DAYS[2] and not again["up_to_date"], "what was served before it is another now"
    assert refresh(project)["run_id"] == again["run_id"]
    ended = project.call("refresh", "--day", DAYS[3])
    assert ended.code == 66 and DAYS[3] in ended.err, "no log and no profile of that day"
    ended = project.call("refresh", "--day", DAYS[0])
    assert ended.code == 66 and f"no published student up to {DAYS[0]}" in ended.err
    for wrong in ("x", "2026-1-1"):
        ended = project.call("refresh", "--day", wrong)
        assert ended.code == 2 and "--day" in ended.err


def test_without_a_student_there_is_nothing_to_refresh(tmp_path: Path, world: Path) -> None:
    arrive(world, tmp_path / "log", 1, "events", *TABLES)
    project = a_project(tmp_path)
    for profiles in (False, True):
        if profiles:
            project.done("build-profile", 1)
        ended = project.call("refresh")
        assert ended.code == 66 and "no published student" in ended.err and "run dmtl run first" in ended.err
        assert not (project.ws / "export").exists()


def test_two_at_once_do_not_meet(project: Project, world: Path) -> None:
    arrive(world, project.home / "log", 3, *TABLES)
    lock = project.ws / "locks" / "chain.lock"
    code = f"import fcntl,sys; f=open({str(lock)!r},'w'); fcntl.flock(f,2); print(1,flush=True); sys.stdin.read()"
    before = latest(project)
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdout.readline()
        ended = project.call("refresh")
        holder.communicate()
    assert ended.code == 75 and str(lock) in ended.err and "retry" in ended.err and latest(project) == before
    assert not refresh(project)["up_to_date"]


def test_a_damaged_student_is_not_served(project: Project, world: Path) -> None:
    arrive(world, project.home / "log", 3, *TABLES)
    before = latest(project)
    folder = Path(project.call("path", "student").out.strip())
    (folder / "model.safetensors").write_bytes(b"")
    ended = project.call("refresh")
    assert ended.code == 65 and "model.safetensors" in ended.err and latest(project) == before


def test_a_lost_export_is_made_again(project: Project) -> None:
    old = current(project, "export", 2)
    shutil.rmtree(project.ws / "export")
    made = refresh(project)
    assert not made["up_to_date"] and made["run_id"] == old and latest(project).endswith(old)


def test_an_evaluation_sees_no_export_of_its_day(project: Project, world: Path) -> None:
    for day in (3, 4):
        arrive(world, project.home / "log", day, "events", *TABLES)
    project.done("build-profile", 3)
    refresh(project)
    assert manifest(project.done("evaluate", 3))["facts"]["student"]["day"] == DAYS[1]
    measured = manifest(project.done("evaluate", 4))
    assert measured["facts"]["student"]["day"] == DAYS[2]
    assert measured["facts"]["student_teacher"]["day"] == DAYS[0], "of the student that was exported again"


# -- profiles in a chain -----------------------------------------------------------------------------------------------


def test_status_and_path_show_profiles(chain: Project) -> None:
    found = chain.call("status", "--json").json["days"]
    assert [found[day]["profile"] for day in DAYS[:2]] == ["published"] * 2
    header, *rows = chain.call("status").out.partition("\n\n")[0].splitlines()
    assert "profile" in header.split() and len(rows) == 2
    path = Path(chain.call("path", "profile", "--day", DAYS[0]).out.strip())
    assert {p.name for p in path.iterdir()} == {"users.parquet", "items.parquet", "profile.json", "manifest.json"}
    assert chain.call("path", "profile").out.strip() != str(path)


def test_a_profile_of_a_late_log_makes_its_children_stale(project: Project) -> None:
    """And running the days again heals them, from the profile on."""
    file = project.home / "log/events" / f"day={DAYS[0]}/part-0.parquet"
    events(project.home / "log", DAYS[0])[:-30].write_parquet(file)
    project.done("build-profile", 1)
    found = project.call("status", "--json").json["days"]
    assert found[DAYS[0]]["profile"] == "published" and found[DAYS[1]]["profile"] == "stale"
    assert found[DAYS[1]]["teacher"] == "stale" and found[DAYS[1]]["student"] == "stale", "their features changed"
    ended = project.call("backfill", "--from", DAYS[0], "--to", DAYS[1], "--json")
    assert ended.code == 0
    remade = [(r["stage"], r["day"]) for r in ended.every if not r["up_to_date"]]
    assert ("profile", DAYS[1]) in remade and ("export", DAYS[1]) in remade and ("profile", DAYS[0]) not in remade
    healed = project.call("status", "--json").json["days"]
    assert {state for day in healed.values() for state in day.values()} == {"published", "not due"}
    assert latest(project).endswith(current(project, "export", 2))


def test_a_chain_elsewhere_exports_the_same_bytes(chain: Project, project: Project) -> None:
    shutil.rmtree(project.ws)
    assert project.call("backfill", "--from", DAYS[0], "--to", DAYS[1]).code == 0
    one, other = served(chain), served(project)
    assert one.name == other.name and one != other
    names = sorted(p.name for p in one.iterdir())
    assert names == sorted(p.name for p in other.iterdir())
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def test_automatic_features_are_those_written_out(project: Project, tmp_path: Path) -> None:
    """The same keys: a chain goes on when the features are written into its config."""
    from dmtl_cli.config.reading import load_config

    shutil.rmtree(project.ws)
    project.config["features"] = "auto"
    project.write()
    made = [project.done(command, 1) for command in ("build-profile", "train-teacher", "dump-logits")]
    features = load_config(project.file).features
    assert len(features) > 20
    project.config["features"] = [f.model_dump(mode="json", exclude_defaults=True) for f in features]
    project.write()
    for command, before in zip(("build-profile", "train-teacher", "dump-logits"), made, strict=True):
        again = project.done(command, 1)
        assert again["up_to_date"] and again["key"] == before["key"]


def test_a_run_makes_up_for_a_night_that_was_missed(project: Project, world: Path) -> None:
    """Its profile is made first, as evaluation needs it; the teacher of that night is not, where that is allowed."""
    for day in (3, 4):
        arrive(world, project.home / "log", day, "events", *TABLES)
    ended = project.call("run", "--day", DAYS[3], "--json", "--allow-gap")
    assert ended.code == 0, ended.err
    made = [(r["stage"], r["day"]) for r in ended.every if not r["up_to_date"]]
    assert made[:3] == [("profile", DAYS[2]), ("profile", DAYS[3]), ("evaluation", DAYS[3])]
    assert made[-1] == ("export", DAYS[3]) and ("teacher", DAYS[2]) not in made


def test_what_was_served_is_compared(project: Project, world: Path) -> None:
    """Each night's export was made before the tables of the next morning were there, and is measured as it was."""
    for day in (3, 4):
        arrive(world, project.home / "log", day, "events", *TABLES)
        if day == 3:
            assert project.stage("run", 3).code == 0
    before = current(project, "export", 3)
    assert project.call("compare", "--day", DAYS[3]).code == 0
    assert current(project, "export", 3) == before
    ended = project.call("compare", "--day", DAYS[3], student__exposure__kappa=0.2)
    assert ended.code == 65 and "student.exposure.kappa" in ended.err, "what was served had another kappa"
    ended = project.call("backfill", "--from", DAYS[1], "--to", DAYS[2], "--json")
    remade = [(r["stage"], r["day"]) for r in ended.every if not r["up_to_date"]]
    assert remade == [("export", DAYS[1]), ("evaluation", DAYS[2]), ("export", DAYS[2])], "nothing is trained"
    assert latest(project).endswith(current(project, "export", 3))
    assert project.call("compare", "--day", DAYS[3]).code == 0


def test_a_setting_shares_the_profiles_that_it_does_not_change(project: Project, world: Path) -> None:
    """And what is compared reads those that it has: a chain of another profile is another base."""
    arrive(world, project.home / "log", 3, "events", *TABLES)
    assert project.call("backfill", "--from", DAYS[0], "--to", DAYS[1]).code == 0
    settings = project.home / "settings.yaml"
    settings.write_text("short: {profile.keep_days: 1}\nslow: {student.learning_rate: 0.001}\n")
    before = project.published()
    ended = project.call("compare", "--day", DAYS[2], "--settings", settings)
    assert ended.code == 0, ended.err
    after = project.published()
    assert all(after[k] == at for k, at in before.items() if (project.ws / k).is_file()), "what is served is only read"
    own = {p.parent.parent.name.split("-")[0] for p in (project.ws / "compare").glob("*/profile/day=*")}
    assert own == {"short"}
    (short,) = (project.ws / "compare").glob("short-*")
    (made,) = [manifest(p) for p in short.glob(f"student/day={DAYS[1]}/run-*")]
    (profile,) = [p for p in made["parents"] if (p["stage"], p["day"]) == ("profile", DAYS[0])]
    assert (short / f"profile/day={DAYS[0]}/CURRENT").read_text().strip() == f"run-{profile['run_id']}"
    assert profile["run_id"] != current(project, "profile", 1)
    for name in ("slow", "long_read_only", "joint"):
        (folder,) = [p for p in (project.ws / "compare").iterdir() if p.name.split("-")[0] == name]
        evaluated = [manifest(p) for p in folder.glob(f"evaluation/day={DAYS[2]}/run-*")]
        (used,) = [p["run_id"] for p in evaluated[0]["parents"] if p["stage"] == "profile"]
        assert used == current(project, "profile", 2), name


def test_items_that_the_catalogue_lacks(world: Path, tmp_path: Path) -> None:
    """They are served and told, or with a key not served at all: of the log's items and of their lists."""
    for day in (1, 2):
        arrive(world, tmp_path / "log", day, "events", *TABLES)
    shown = events(tmp_path / "log", DAYS[1])["item_id"].unique().sort()
    gone = shown[::9].to_list()
    for file in (tmp_path / "log" / "items").rglob("*.parquet"):
        pl.read_parquet(file, hive_partitioning=False).filter(~pl.col("item_id").is_in(gone)).write_parquet(file)
    project = a_project(tmp_path)
    told = f"items are not in the table of items (such as {gone[0]}, {gone[1]}), and are served all the same: "
    assert f"item_id: {len(gone)} of the day's {len(shown)} {told}" in project.call("check", "--day", DAYS[1]).out
    ended = project.call("backfill", "--from", DAYS[0], "--to", DAYS[1])
    assert ended.code == 0
    warned = project.call("status").out
    assert told in warned, warned
    every = Export.open(project.ws).items[0]
    assert {*gone} < {*every}
    assert project.call("export", "--day", DAYS[1], "--set", "export.items=all").code == 0
    ended = project.call("export", "--day", DAYS[1], "--set", "export.items=listed")
    assert (ended.code, ended.err) == (0, "")
    served = Export.open(project.ws)
    assert served.items[0].to_list() == [item for item in every if item not in gone]
    assert not {*served.recommend(str(served.stored_users.example), 1000)["item_id"]} & {*gone}
    assert "not in the table" not in project.call("check", "--day", DAYS[1], "--set", "export.items=listed").out


def test_a_catalogue_needs_a_table(tmp_path: Path) -> None:
    project = a_project(tmp_path)
    del project.config["data"]["items"]
    project.write()
    ended = project.call("check", "--day", DAYS[0], "--set", "export.items=listed")
    assert ended.code == 78 and "export.items: listed needs data.items" in ended.err
