"""forget: a chain without some users, through the command line: what is gone, what stays, and what goes on."""

from __future__ import annotations

import copy
import datetime as dt
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from test_refresh import PROFILED
from worlds import BASE, DAYS, Project, events, reshape

from dmtl_cli.config.features import Feature
from dmtl_cli.data.features.kinds.kind import Learned
from dmtl_cli.data.features.stored import Stored, read_files, write_files
from dmtl_cli.data.features.vocabulary import Vocabulary
from dmtl_cli.runs import disk
from dmtl_cli.runs.manifest import verify
from dmtl_cli.runs.rewriting import Graph
from dmtl_cli.runs.workspace import Workspace
from dmtl_cli.scores.columns import SOURCES
from dmtl_cli.scores.writer import part_writer
from dmtl_cli.stages.forget import _Users
from dmtl_cli.synth.generate import generate

HIDDEN = {"logs", "locks", "scratch", "rejected", "report"}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    generate(out, 4, start=dt.date(2026, 1, 1), users=40, items=60, events_per_day=400, seed=1)
    return out / "log"


def a_project(home: Path, log: Path) -> Project:
    config = copy.deepcopy(BASE)
    config["features"] = [*BASE["features"], *PROFILED]
    config["evaluate"]["max_users"] = 20
    config["scores"] = {"negatives": 2, "candidates": 3}
    return Project.create(home, log, config=config)


@pytest.fixture(scope="module")
def chain(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two days and a joint run. Read only."""
    project = a_project(tmp_path_factory.mktemp("chain"), log)
    ended = project.call("backfill", "--from", DAYS[0], "--to", DAYS[1])
    assert (ended.code, ended.err) == (0, "")
    project.done("train-joint", 2)
    return project


@pytest.fixture(scope="module")
def gone(chain: Project) -> list[int]:
    """Two users with rows in every table."""
    held = [set(pl.read_parquet(f)[column]) for f, column in tables(chain)]
    return sorted(set.intersection(*held))[:2]


def copied(chain: Project, log: Path, home: Path) -> Project:
    shutil.copytree(chain.ws, home / "ws")
    return a_project(home, log)


@pytest.fixture
def project(chain: Project, log: Path, tmp_path: Path) -> Project:
    """A copy of the workspace, to be changed."""
    return copied(chain, log, tmp_path)


@pytest.fixture(scope="module")
def forgotten(chain: Project, gone: list[int], log: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The chain without the users, done without a fault. Read only."""
    project = copied(chain, log, tmp_path_factory.mktemp("forgotten"))
    assert forget(project, gone)["users"] == 2
    return project


def forget(project: Project, users: list[Any]) -> dict[str, Any]:
    ended = project.call("forget", "--users", written(project, users), "--json")
    assert (ended.code, ended.err) == (0, ""), ended.err
    return ended.json


def written(project: Project, users: list[Any]) -> Path:
    file = project.home / "users.txt"
    file.write_text("".join(f"{user}\n\n" for user in users))
    return file


def tables(project: Project) -> list[tuple[Path, str]]:
    """Every Parquet file with users, and the column of their ids."""
    found = [(f, "id") for f in sorted(project.ws.glob("profile/*/run-*/users.parquet"))]
    found += [(f, "user_id") for f in sorted(project.ws.glob("export/*/run-*/users.parquet"))]
    return found + [(f, "user_id") for f in sorted(project.ws.glob("scores/*/*/run-*/part-*.parquet"))]


def holding(folder: Path, users: list[Any]) -> set[str]:
    """Files below a folder that have one of the ids: any value of a Parquet file, the bytes of all others."""
    found = set()
    texts = [str(user) for user in users]
    for file in (p for p in folder.rglob("*") if p.is_file()):
        if file.suffix == ".parquet":
            frame = pl.read_parquet(file)
            flat = [c.explode() if c.dtype == pl.List else c for c in frame if c.dtype != pl.Array]
            if any(c.cast(pl.String, strict=False).is_in(texts).any() for c in flat):
                found.add(file.relative_to(folder).as_posix())
        elif any(text.encode() in file.read_bytes() for text in texts):
            found.add(file.relative_to(folder).as_posix())
    return found


def tree(project: Project) -> dict[str, bytes]:
    """Everything published."""
    files = (p for p in project.ws.rglob("*") if p.is_file())
    named = {p.relative_to(project.ws).as_posix(): p for p in files}
    return {name: p.read_bytes() for name, p in named.items() if not {*name.split("/")} & {*HIDDEN}}


def whole(project: Project) -> None:
    """Every run is intact, every parent there is, nothing is stale."""
    graph = Graph(Workspace(project.ws))
    assert not graph.unreached()
    for path in graph.everywhere:
        manifest = verify(path)
        assert all(parent["run_id"] in graph.reached for parent in manifest.parents), path
    assert "stale" not in project.call("status").out


def facts(project: Project, *arguments: str) -> dict[str, Any]:
    folder = Path(project.call("path", *arguments).out.strip())
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return found


# -- what is gone ------------------------------------------------------------------------------------------------------


def test_no_file_of_the_workspace_has_them(chain: Project, forgotten: Project, gone: list[int]) -> None:
    held = {Path(name).name for name in holding(chain.ws, gone)}
    assert held == {"users.parquet", "vocabularies.parquet", "part-00000.parquet"}, "the users were everywhere"
    assert holding(forgotten.ws, gone) == set()
    whole(forgotten)


def test_what_is_left_is_what_was_there(chain: Project, forgotten: Project, gone: list[int]) -> None:
    """Row by row: profiles, scores and users of exports less the rows of the users; item vectors and weights as
    they were."""
    for stage in ("profile", "scores", "export", "joint"):
        runs = [sorted(p.ws.glob(f"{stage}/**/run-*/manifest.json")) for p in (chain, forgotten)]
        assert len(runs[0]) == len(runs[1]) > 0
        for old, new in zip(*(sorted(r, key=lambda p: p.parent.parent) for r in runs), strict=True):
            for file in sorted(old.parent.rglob("*")):
                other = new.parent / file.relative_to(old.parent)
                if file.suffix == ".parquet" and file.name != "vocabularies.parquet":
                    rows = pl.read_parquet(file)
                    column = "id" if stage == "profile" else "user_id"
                    kept = rows.filter(~pl.col(column).is_in(gone)) if column in rows.columns else rows
                    same = [c for c in rows.columns if c != "rank"]  # the log's requests are of one user each
                    assert pl.read_parquet(other).select(same).equals(kept.select(same)), file
                elif file.is_file() and file.suffix != ".parquet" and file.name != "manifest.json":
                    assert other.read_bytes() == file.read_bytes(), file


def test_manifests_count_what_is_left(chain: Project, forgotten: Project, gone: list[int]) -> None:
    for stage, table, name in (("profile", "users.parquet", "users"), ("export", "users.parquet", "users")):
        made, was = (facts(p, stage, "--day", DAYS[1]) for p in (forgotten, chain))
        assert made["rows"] == was["rows"] | {name: was["rows"][name] - 2}
        assert made["facts"]["forgotten"][table] == 2 and made["facts"]["replaces"] == was["run_id"]
    made, was = (facts(p, "scores", "--day", DAYS[1]) for p in (forgotten, chain))
    [part] = chain.ws.glob(f"scores/day={DAYS[1]}/teacher={DAYS[1]}/run-*/part-*.parquet")
    theirs = pl.read_parquet(part).filter(pl.col("user_id").is_in(gone))
    removed = dict(theirs["pair_source"].value_counts().iter_rows()) | {"scores": len(theirs)}
    assert made["rows"] == {k: n - removed.get(k, 0) for k, n in was["rows"].items()}
    assert made["metrics"] == {f"rows.{k}": float(n) for k, n in made["rows"].items()}
    assert made["facts"]["forgotten"] == {part.name: len(theirs), "exposed": removed["exposed"]}
    logged = events(Path(chain.config["data"]["root"]), DAYS[1])
    assert removed["exposed"] == len(logged.filter(pl.col("user_id").is_in(gone)))


def test_what_names_nobody_is_not_written_twice(chain: Project, project: Project, gone: list[int]) -> None:
    old = next(project.ws.glob(f"teacher/day={DAYS[1]}/run-*/model.safetensors")).stat()
    found = forget(project, gone)
    new = next(project.ws.glob(f"teacher/day={DAYS[1]}/run-*/model.safetensors")).stat()
    assert (new.st_ino, new.st_mtime_ns, new.st_nlink) == (old.st_ino, old.st_mtime_ns, 1)
    weights = sum(p.stat().st_size for p in project.ws.rglob("*.safetensors"))
    assert 0 < found["freed_bytes"] < weights, "of hard links nothing is freed"
    assert found["removed_runs"] == found["runs"] == len(Graph(Workspace(project.ws)).everywhere)


def test_a_filesystem_without_links(
    forgotten: Project, project: Project, gone: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no(*arguments: Any) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr("os.link", no)
    forget(project, gone)
    assert tree(project) == tree(forgotten)


# -- what goes on ------------------------------------------------------------------------------------------------------


def test_the_days_are_up_to_date_and_the_next_one_goes_on(
    forgotten: Project, log: Path, tmp_path: Path, gone: list[int]
) -> None:
    project = copied(forgotten, log, tmp_path)
    again = project.call("backfill", "--from", DAYS[0], "--to", DAYS[1], "--json")
    assert (again.code, again.err) == (0, "") and all(result["up_to_date"] for result in again.every)
    assert project.done("train-joint", 2)["up_to_date"]
    ended = project.stage("run", 3)
    assert (ended.code, ended.err) == (0, "")
    made = facts(project, "teacher", "--day", DAYS[2])
    before = facts(project, "teacher", "--day", DAYS[1])["run_id"]
    assert {"stage": "teacher", "day": DAYS[1], "run_id": before} in made["parents"]
    rows = [vocabulary(project, day).filter(pl.col("embedding") == "user_id") for day in (1, 2, 3)]
    assert [r["int_value"].null_count() for r in rows] == [2, 2, 2], "their rows stay with nobody"
    back = rows[2].filter(pl.col("int_value").is_in(gone))
    assert len(back) == len(set(events(log, DAYS[2])["user_id"]) & {*gone}) > 0
    assert back["row"].min() > rows[1]["row"].max(), "who comes back begins anew"  # type: ignore[operator]
    assert sorted(rows[2]["row"]) == [*range(1, len(rows[2]) + 1)]


def vocabulary(project: Project, day: int) -> pl.DataFrame:
    folder = Path(project.call("path", "teacher", "--day", DAYS[day - 1]).out.strip())
    return pl.read_parquet(folder / "vocabularies.parquet")


def test_a_server_does_not_know_them_any_more(chain: Project, forgotten: Project, gone: list[int]) -> None:
    ended = forgotten.call("recommend", "--user", gone[0])
    assert ended.code == 66 and "is not in the export" in ended.err
    served = pl.read_parquet(next(chain.ws.glob("export/*/run-*/users.parquet")))["user_id"]
    other = next(user for user in served if user not in gone)
    told = [p.call("recommend", "--user", other, "-k", 5).out for p in (chain, forgotten)]
    assert told[0] == told[1] != ""


def test_a_second_call_publishes_nothing(forgotten: Project, log: Path, gone: list[int], tmp_path: Path) -> None:
    project = copied(forgotten, log, tmp_path)
    before = tree(project)
    found = forget(project, gone)
    assert found == dict.fromkeys(found, 0) | {"unknown": 2} and tree(project) == before
    ended = project.call("forget", "--users", written(project, gone))
    assert ended.out.startswith("0 users forgotten, 2 of the file are unknown\nnothing had to be published again")


def test_one_after_the_other(forgotten: Project, project: Project, gone: list[int]) -> None:
    """The counts add up, and `replaces` is the run before."""
    forget(project, gone[:1])
    between = facts(project, "scores", "--day", DAYS[1])
    forget(project, gone[1:])
    whole(project)
    made, once = (facts(p, "scores", "--day", DAYS[1]) for p in (project, forgotten))
    assert made["facts"]["forgotten"] == once["facts"]["forgotten"] and made["rows"] == once["rows"]
    assert made["facts"]["replaces"] == between["run_id"] and made["files"] == once["files"]


def test_all_users_may_go(project: Project, chain: Project) -> None:
    everyone = {user for f, column in tables(chain) for user in pl.read_parquet(f)[column]}
    assert forget(project, sorted(everyone))["users"] == len(everyone)
    whole(project)
    ended = project.stage("build-profile", 3)
    assert ended.code == 80 and "inputs.new_share.users is 1" in ended.err, "nobody is known any more"
    forced = ("--force-publish", "everybody asked to be forgotten")
    assert project.done("build-profile", 3, *forced)["rows"]["users"] > 0
    assert project.done("train-teacher", 3, *forced)["rows"]["log"] > 0


# -- pointers, leftovers, comparisons ----------------------------------------------------------------------------------


def test_what_a_pointer_or_a_child_still_names(
    forgotten: Project, project: Project, gone: list[int], log: Path
) -> None:
    """An export that was published again is superseded, but served, pinned and measured: it is rewritten and stays. A
    superseded run that nobody names is deleted, and so is what is in scratch/ and was rejected."""
    ended = project.stage("run", 3)
    assert (ended.code, ended.err) == (0, "")
    first = Path(project.call("path", "export", "--day", DAYS[1]).out.strip())
    second = project.done("export", 2, student__exposure__kappa=0.5)["run_id"]
    project.done("export", 2, student__exposure__kappa=0.4)
    for name in ("LATEST", "PINNED"):
        (project.ws / "export" / name).write_text(f"day={DAYS[1]}/{first.name}\n")
    shutil.copytree(first, project.ws / f"rejected/export-{DAYS[1]}")
    (project.ws / f"rejected/export-{DAYS[2]}.txt").write_text("dmtl: error: why\n")
    shutil.copytree(first, project.ws / f"scratch/export-{DAYS[1]}/run")
    found = forget(project, gone)
    assert found["removed_runs"] == found["runs"] + 1, "the one of kappa .5"
    latest, pinned = ((project.ws / "export" / name).read_text() for name in ("LATEST", "PINNED"))
    served = project.ws / "export" / latest.strip()
    assert latest == pinned and served.parent == first.parent
    assert json.loads((served / "manifest.json").read_text())["facts"]["replaces"] == first.name[4:]
    assert len([*first.parent.glob("run-*")]) == 2 and not (first.parent / f"run-{second}").exists()
    assert holding(project.ws, gone) == set()
    assert [p.name for p in (project.ws / "rejected").iterdir()] == [f"export-{DAYS[2]}.txt"]
    assert project.scratch_left() == []
    parents = [p["run_id"] for p in facts(project, "evaluation", "--day", DAYS[2])["parents"]]
    assert served.name[4:] in parents


def test_comparisons_are_rewritten_with_their_base(project: Project, gone: list[int]) -> None:
    ended = project.stage("run", 3)
    assert (ended.code, ended.err) == (0, "")
    assert project.done("compare", 3)["rows"]["evaluations"] > 3
    assert {name.split("/")[0] for name in holding(project.ws / "compare", gone)} >= {"click_only", "long_read_only"}
    left = [project.ws / "compare" / name for name in ("rejected/joint-x/users", "scratch/checkpoint-joint-x")]
    for file in left:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
    forget(project, gone)
    assert not any(file.exists() for file in left), "a joint run is made there"
    assert holding(project.ws, gone) == set()
    whole(project)
    assert project.done("compare", 3)["up_to_date"], "its table names the new evaluations"


# -- faults ------------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Ends a command at once: nothing in it catches this."""


def killed(project: Project, users: list[int], after: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """A call that ends before a number of renames were done; how many it did."""
    done = 0
    real: Callable[[Path, Path], Path] = Path.replace

    def replace(self: Path, target: Path) -> Path:
        nonlocal done
        if done == after:
            raise Killed
        done += 1
        return real(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replace)
        try:
            project.call("forget", "--users", written(project, users))
        except Killed:
            assert done == after
    return done


@pytest.mark.parametrize("part", [0.03, 0.1, 0.33, 0.52, 0.66, 0.9])
def test_a_call_that_is_killed_is_finished_by_the_next(
    forgotten: Project, chain: Project, project: Project, gone: list[int], part: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = len(Graph(Workspace(chain.ws)).everywhere)
    renames = 3 * runs + 1  # into place, CURRENT, out of the way; one LATEST
    after = round(part * renames)
    killed(project, gone, after, monkeypatch)
    graph = Graph(Workspace(project.ws))
    for path in graph.pointers.values():
        verify(path)  # every stage has its old run or its new one
    assert len(graph.everywhere) != runs or after == 0 or part > 0.66
    forget(project, gone)
    assert tree(project) == tree(forgotten)


def test_the_renames_are_those_counted(
    chain: Project, project: Project, gone: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert killed(project, gone, 10_000, monkeypatch) == 3 * len(Graph(Workspace(chain.ws)).everywhere) + 1


def test_others_are_forgotten_after_a_kill(
    chain: Project, project: Project, gone: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a call for one user, then a call for both: what names an old run is led to the newest one."""
    killed(project, gone[:1], round(1.1 * len(Graph(Workspace(chain.ws)).everywhere)), monkeypatch)
    forget(project, gone)
    assert holding(project.ws, gone) == set()
    whole(project)


def test_the_pin_moves_before_latest(project: Project, gone: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The other way round, a crash between them and the next publication would serve forgotten users again."""
    moved: list[str] = []

    def point(pointer: Path, text: str, draft: Path) -> None:
        moved.append(pointer.name)
        disk.point(pointer, text, draft)

    ended = project.call("rollback", "--to", DAYS[1])
    assert ended.code == 0, ended.err
    monkeypatch.setattr("dmtl_cli.runs.rewriting.point", point)
    forget(project, gone)
    assert [name for name in moved if name != "CURRENT"] == ["PINNED", "LATEST"]


def test_a_damaged_run_is_not_published_again(project: Project, gone: list[int]) -> None:
    file = next(project.ws.glob(f"teacher/day={DAYS[1]}/run-*/model.safetensors"))
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    ended = project.call("forget", "--users", written(project, gone))
    assert ended.code == 65 and "model.safetensors: its sha256 is not that of the manifest" in ended.err


def test_a_full_disk_leaves_what_was_there(project: Project, gone: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError("Error writing bytes to file. Detail: [errno 28] No space left on device")

    before = tree(project)
    with monkeypatch.context() as patched:
        patched.setattr(pq.ParquetWriter, "write_table", full)
        ended = project.call("forget", "--users", written(project, gone))
    assert ended.code == 74 and "No space left" in ended.err and tree(project) == before
    assert forget(project, gone)["users"] == 2 and project.scratch_left() == []


def test_a_damaged_run_that_nobody_names_goes(forgotten: Project, log: Path, tmp_path: Path) -> None:
    """Nobody can tell whom it holds. One that is whole and holds none of them stays."""
    project, nobody = copied(forgotten, log, tmp_path), [1]
    rewritten = Path(project.call("path", "export").out.strip())
    project.done("export", 2, student__exposure__kappa=0.5)
    assert forget(project, nobody)["removed_runs"] == 1 and not rewritten.exists()
    kept = Path(project.call("path", "export").out.strip())
    project.done("export", 2, student__exposure__kappa=0.4)
    assert forget(project, nobody)["removed_runs"] == 0 and kept.is_dir()
    (kept / "users.parquet").write_bytes(b"PAR1 no more")
    assert forget(project, nobody)["removed_runs"] == 1 and not kept.exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"1\n\n x7\n", ":3: expected a user id, an integer (int64), got ' x7'"),
        (b"9223372036854775808", ":1: expected a user id, an integer (int64)"),
        (b"1.0\n", ":1: expected"),
        ("\u0661\n".encode(), ":1: expected"),
        (b"1\n\xff\n", ":2: not UTF-8"),
    ],
)
def test_a_line_that_is_no_id(forgotten: Project, tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "users").write_bytes(content)
    before = forgotten.published()
    ended = forgotten.call("forget", "--users", tmp_path / "users")
    assert ended.code == 65 and told in ended.err and str(tmp_path) in ended.err
    assert forgotten.published() == before


def test_files_that_are_none(forgotten: Project, log: Path, tmp_path: Path) -> None:
    assert forgotten.call("forget", "--users", tmp_path / "no").code == 66
    ended = forgotten.call("forget", "--users", tmp_path)
    assert ended.code == 65 and "is not a regular file" in ended.err
    (tmp_path / "users").write_text("")
    ended = a_project(tmp_path, log).call("forget", "--users", tmp_path / "users")
    assert ended.code == 66 and "no published run" in ended.err


def test_ids_of_text(log: Path, tmp_path: Path) -> None:
    """A line is the id, blanks and all."""
    named = (pl.lit("u ") + pl.col("user_id").cast(pl.String)).alias("user_id")
    reshape(log, tmp_path / "log", lambda frame, _: frame.with_columns(named), days=1)
    config = copy.deepcopy(BASE)
    del config["data"]["users"], config["data"]["items"]
    config["features"] = [f for f in BASE["features"] if f["name"] in ("user_id", "item_id")]
    project = Project.create(tmp_path, tmp_path / "log", config=config)
    for command in ("build-profile", "train-teacher", "dump-logits"):
        project.done(command, 1)
    gone = [*events(tmp_path / "log", DAYS[0])["user_id"].unique().sort()[:2]]
    assert len(holding(project.ws, gone)) == 3
    (tmp_path / "users").write_bytes(f"\ufeff{gone[0]}\r\n{gone[1]}\nu\n".encode())
    ended = project.call("forget", "--users", tmp_path / "users", "--json")
    assert (ended.json["users"], ended.json["unknown"]) == (2, 1)
    assert holding(project.ws, gone) == set()
    whole(project)
    assert all(project.done(c, 1)["up_to_date"] for c in ("build-profile", "train-teacher", "dump-logits"))


# -- formats -----------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    values=st.lists(st.integers(-5, 30), min_size=1, max_size=20, unique=True),
    text=st.booleans(),
    admitted=st.integers(0, 20),
    gone=st.lists(st.integers(-5, 40), max_size=12, unique=True),
)
def test_a_vocabulary_keeps_its_rows(
    tmp_path_factory: pytest.TempPathFactory, values: list[int], text: bool, admitted: int, gone: list[int]
) -> None:
    """The forgotten have no row, all others theirs; whoever is new, or comes back, gets one that nobody had."""
    folder, kind = tmp_path_factory.mktemp("v"), pl.String() if text else pl.Int64()
    written = pl.Series(sorted(map(str, values)) if text else sorted(values), dtype=kind)
    rows = [k + 1 if k < admitted else 0 for k in range(len(values))]
    frame = pl.DataFrame({"value": written, "row": rows, "count": 1, "last_seen": dt.date(2026, 1, 1)})
    features = (
        Feature(name="user_id", side="user", kind="categorical"),
        Feature(name="who_paid", side="context", kind="categorical", column="user_id", embedding_name="payer"),
        Feature(name="uploader", side="item", kind="categorical", column="user_id", embedding_name="uploader"),
    )
    vocabularies = {
        n: Vocabulary(frame.cast({"row": pl.Int32, "count": pl.Int64})) for n in ("user_id", "payer", "uploader")
    }
    stored = Stored(features, Learned({**vocabularies}, {}), {"user": "int64", "item": "int64"})
    write_files(folder, stored, {"embedding_rows": {n: v.rows for n, v in vocabularies.items()}})
    users = _Users(pl.Series("id", list(map(str, gone)) if text else gone, dtype=kind))
    out = folder / "out"
    out.mkdir()
    (out / "features.json").write_bytes((folder / "features.json").read_bytes())
    users._rewrite_vocabularies(["payer", "user_id"], *(f / "vocabularies.parquet" for f in (folder, out)))
    read = read_files(out).learned.vocabularies
    asked = pl.Series([*written, *users.ids, None], dtype=kind)
    expected = dict(zip(written, rows, strict=True))
    for name, forgets in (("user_id", True), ("payer", True), ("uploader", False)):
        made = read[name]
        assert isinstance(made, Vocabulary) and made.rows == vocabularies[name].rows
        known = {v: r for v, r in expected.items() if not (forgets and v in users.ids)}
        assert [*made.lookup(asked)] == [known.get(v, 0) for v in asked]
        later = made.of_type(kind) if made.dtype is None else made
        grown = later.grow(pl.DataFrame({"value": asked, "count": 1}, schema_overrides={"value": kind}), DAY, 1)
        assert sorted(r for r in grown.frame["row"] if r) == [*range(1, grown.rows)]
        now = dict(zip(asked, grown.lookup(asked), strict=True))
        assert all(now[v] == known[v] or not known[v] for v in known) and now[None] == 0
        assert all(now[v] >= vocabularies[name].rows for v in now if v is not None and not known.get(v))


DAY = dt.date(2026, 1, 2)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(SOURCES), st.integers(0, 3)), max_size=30),
    st.sets(st.integers(0, 3)),
    st.integers(1, 4),
)
def test_ranks_are_counted_again(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[int, str, int]], gone: set[int], groups: int
) -> None:
    """Against a loop over the rows, where groups are of several users and a row group has several groups."""
    folder = tmp_path_factory.mktemp("s")
    rows = [
        {"user_id": user, "item_id": k, "pair_source": source, "group": group, "ctr_logit": float(k)}
        for k, (group, source, user) in enumerate(sorted(pairs, key=lambda pair: pair[:2]))
    ]
    frame = ranked(rows)
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    with part_writer(folder / "old.parquet", table.schema) as writer:
        for low in range(0, 4, groups):
            some = frame.filter(pl.col("group").is_between(low, low + groups - 1))
            writer.write_table(some.to_arrow(compat_level=pl.CompatLevel.oldest()))
    users = _Users(pl.Series("id", sorted(gone), dtype=pl.Int64))
    users._rewrite_part(folder / "old.parquet", folder / "new.parquet")
    made = pl.read_parquet(folder / "new.parquet")
    assert made.equals(ranked([row for row in rows if row["user_id"] not in gone]))
    assert pq.read_schema(folder / "new.parquet").equals(table.schema)


def ranked(rows: list[dict[str, Any]]) -> pl.DataFrame:
    counts: dict[tuple[int, str], int] = {}
    ranks = []
    for row in rows:
        key = (row["group"], row["pair_source"])
        counts[key] = counts.get(key, 0) + 1
        ranks.append(counts[key])
    kinds = {"user_id": pl.Int64, "item_id": pl.Int64, "pair_source": pl.String, "group": pl.Int64}
    frame = pl.DataFrame(rows, schema={**kinds, "ctr_logit": pl.Float32})
    return frame.with_columns(pl.Series("rank", ranks, dtype=pl.Int32))


def test_weights_stay(chain: Project, forgotten: Project) -> None:
    """What the docs say: the vector is still there, and the encoder knows how many there are."""
    for project in (chain, forgotten):
        folder = Path(project.call("path", "teacher", "--day", DAYS[1]).out.strip())
        stored = load_file(folder / "model.safetensors")["embedding.user_id"]
        assert len(stored) == read_files(folder).learned.vocabularies["user_id"].rows
        assert np.isfinite(stored).all()
