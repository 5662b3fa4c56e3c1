"""A log in S3 is the log on disk: the same tables, the same run ids; and what storage does wrong, through the CLI."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from storage import Server, answering, listing_milliseconds, serving, url
from worlds import DAYS, Project

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.reading import load_config
from dmtl_cli.data.log.formats.source import File, Store
from dmtl_cli.data.log.reader import Log
from dmtl_cli.synth.generate import generate

EVENTS = f"events/day={DAYS[0]}/part-0.parquet"


@pytest.fixture(scope="session")
def small_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days, with tables of users and items beside the events."""
    out = tmp_path_factory.mktemp("small")
    generate(out, 2, start=dt.date(2026, 1, 1), users=60, items=40, events_per_day=800, seed=1)
    return out / "log"


@pytest.fixture(scope="session")
def remote(s3: Server, small_log: Path) -> str:
    """data.root of the same log in S3. Read only."""
    return s3.upload(small_log, "shared/log")


def project(home: Path, root: str | Path) -> Project:
    made = Project.create(home, home)
    made.config["data"]["root"] = str(root)
    made.write()
    return made


@pytest.mark.parametrize("digest", ["footer", "full"])
def test_inputs_and_days_are_those_of_the_local_log(tmp_path: Path, small_log: Path, remote: str, digest: str) -> None:
    days, inputs = [], []
    for name, root in (("local", small_log), ("remote", remote)):
        config = load_config(project(tmp_path / name, root).file, [f"data.digest={digest}"])
        log = Log(config.data, config.features)
        with pytest.raises(UserError, match=r"the log has 2026-01-01 \.\. 2026-01-02"):
            log.find(dt.date(2026, 1, 3))
        days.append(log.read(dt.date(2026, 1, 1), tmp_path / name))
        inputs.append(log.inputs(dt.date(2026, 1, 1)))
    one, two = days
    assert inputs[0] == inputs[1] and len({i["path"].partition("/")[0] for i in inputs[0]}) == 3
    assert one.users.equals(two.users) and one.items.equals(two.items) and one.facts == two.facts
    for name in ("clicked", "repeated", "user_events", "item_events", "item_clicks"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name
    for a, b in zip(one.blocks(), two.blocks(), strict=True):
        assert np.array_equal(a.position, b.position) and np.array_equal(a.duration, b.duration, equal_nan=True)
        assert np.array_equal(a.user, b.user) and np.array_equal(a.item, b.item) and np.array_equal(a.click, b.click)


def test_a_log_with_a_date_column(s3: Server, tmp_path: Path, small_log: Path) -> None:
    """Footers tell which files hold a day, in S3 too; a file written again is looked at again."""
    whole = pl.read_parquet(small_log / EVENTS, hive_partitioning=False)
    (tmp_path / "log/events").mkdir(parents=True)
    for day in (1, 2, 3):
        whole.with_columns(d=pl.date(2026, 1, day)).write_parquet(tmp_path / f"log/events/{day}.parquet")
    made = project(tmp_path, s3.upload(tmp_path / "log", tmp_path.name))
    del made.config["data"]["events"]["partition"], made.config["data"]["users"], made.config["data"]["items"]
    del made.config["data"]["events"]["request"]
    made.config["data"]["events"]["date_column"] = "d"
    made.config["features"] = [f for f in made.config["features"] if f["name"] in ("user_id", "item_id")]
    made.write()
    config = load_config(made.file)
    log = Log(config.data, config.features)
    day = dt.date(2026, 1, 2)
    assert [i["path"] for i in log.inputs(day)] == ["events/2.parquet"]
    assert len(log.read(day, tmp_path)) == len(whole)
    whole.head(9).with_columns(d=day).write_parquet(tmp_path / "log/events/3.parquet")
    s3.upload(tmp_path / "log", tmp_path.name)
    assert [i["path"] for i in log.inputs(day)] == ["events/2.parquet", "events/3.parquet"]
    assert len(log.read(day, tmp_path)) == len(whole) + 9


def test_a_storage_that_lists_more_digits_than_it_tells_of_one_file(s3: Server, remote: str, tmp_path: Path) -> None:
    """No file seems to have changed while it was read."""
    with listing_milliseconds(s3.endpoint) as endpoint:
        config = load_config(project(tmp_path, remote.replace(s3.endpoint, endpoint)).file)
        log = Log(config.data, config.features)
        assert len(log.read(dt.date(2026, 1, 1), tmp_path)) > 700
        (file,) = Store(config.data.root).files(EVENTS.rpartition("/")[0])
        assert file == Store(config.data.root).file(EVENTS)


def test_stages_make_the_same_runs(tmp_path: Path, small_log: Path, remote: str) -> None:
    made: dict[str, list[dict[str, Any]]] = {}
    for name, root in (("local", small_log), ("remote", remote)):
        one = project(tmp_path / name, root)
        made[name] = [
            one.done("train-teacher", 1),
            one.done("dump-logits", 1),
            one.done("dump-logits", 2, "--teacher-day", DAYS[0]),
            one.done("train-student", 2),
        ]
    for here, there in zip(made["local"], made["remote"], strict=True):
        assert (here["run_id"], here["key"]) == (there["run_id"], there["key"]), here["stage"]
    assert "s3://" not in (Path(made["remote"][0]["path"]) / "manifest.json").read_text()
    again = project(tmp_path / "remote", remote).done("train-teacher", 1)
    assert again["up_to_date"] and again["run_id"] == made["local"][0]["run_id"]


def test_a_process_of_its_own_ends_in_silence(tmp_path: Path, remote: str) -> None:
    file = project(tmp_path, remote).file
    command = [sys.executable, "-m", "dmtl_cli.cli", "check", "--config", file, "--day", DAYS[0], "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["rows"] > 700 and found["join"] == {"users_joined": 1.0, "items_joined": 1.0}


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.fixture
def own(s3: Server, small_log: Path, tmp_path: Path) -> Iterator[Project]:
    """A project over a copy of the log in S3, to be damaged; nothing may be published from it."""
    made = project(tmp_path, s3.upload(small_log, tmp_path.name))
    yield made
    assert made.published() == {} and made.scratch_left() == []


def test_what_is_not_there(own: Project, s3: Server) -> None:
    ended = own.stage("train-teacher", 3)
    assert ended.code == 66 and f"no folder s3://bucket/{own.home.name}/events/day={DAYS[2]}" in ended.err
    assert f"the log has {DAYS[0]} .. {DAYS[1]}" in ended.err
    for root in (url(s3.endpoint, "nobody/log"), s3.root("nothing/here")):
        ended = own.stage("train-teacher", 1, data__root=root)
        place = root.partition("?")[0]
        assert ended.code == 66 and f"events: no folder {place}/events; set data.root" in ended.err
    s3.fs.delete_dir(f"bucket/{own.home.name}/users/day={DAYS[0]}")
    ended = own.stage("train-teacher", 1)
    assert ended.code == 66 and f"users: no folder s3://bucket/{own.home.name}/users/day={DAYS[0]}" in ended.err


def test_a_damaged_object(own: Project, s3: Server, small_log: Path) -> None:
    content, file = (small_log / EVENTS).read_bytes(), f"s3://bucket/{own.home.name}/{EVENTS}"
    s3.put(f"{own.home.name}/{EVENTS}", content[:-20])
    ended = own.stage("train-teacher", 1)
    assert ended.code == 65 and f"{file}: not a readable Parquet file" in ended.err
    s3.put(f"{own.home.name}/{EVENTS}", content[:8] + b"\xff" * 64 + content[72:])
    ended = own.stage("train-teacher", 1)
    assert ended.code == 65 and f"{file}: damaged Parquet" in ended.err


def test_an_object_that_vanishes_between_listing_and_reading(
    own: Project, s3: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = Store.files

    def files(store: Store, path: str, *suffixes: Any) -> list[File]:
        found = listed(store, path, *suffixes)
        for file in found:
            s3.fs.delete_file(f"bucket/{own.home.name}/{file.path}")
        return found

    monkeypatch.setattr(Store, "files", files)
    ended = own.stage("train-teacher", 1)
    assert ended.code == 66 and f"s3://bucket/{own.home.name}/{EVENTS}: not there any more; retry later" in ended.err


def test_storage_that_denies_or_is_away(own: Project) -> None:
    with answering(403, "AccessDenied") as endpoint:
        ended = own.stage("train-teacher", 1, data__root=url(endpoint, "bucket/log"))
    assert ended.code == 74 and "s3://bucket/log/events: denied: ACCESS_DENIED" in ended.err
    assert "AWS_SECRET_ACCESS_KEY" in ended.err
    ended = own.stage("train-teacher", 1, data__root=url("http://127.0.0.1:1", "bucket/log"))
    assert ended.code == 74 and "s3://bucket/log/events: the storage fails" in ended.err
    assert "run it again" in ended.err


def test_storage_that_dies_while_a_day_is_read(
    s3: Server, small_log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pq.read_table(small_log / EVENTS, partitioning=None)
    pq.write_table(table, tmp_path / "split.parquet", row_group_size=200)
    read = pq.ParquetFile.iter_batches
    with serving() as mortal:
        made = project(tmp_path, mortal.upload(small_log, "log"))
        mortal.put(f"log/{EVENTS}", (tmp_path / "split.parquet").read_bytes())

        def dying(parquet: pq.ParquetFile, size: int, *arguments: Any, **named: Any) -> Iterator[Any]:
            for batch in read(parquet, 200, *arguments, **named):
                mortal.kill()
                yield batch

        monkeypatch.setattr(pq.ParquetFile, "iter_batches", dying)
        ended = made.stage("train-teacher", 1)
    assert ended.code == 74 and f"s3://bucket/log/{EVENTS}: the storage fails: NETWORK" in ended.err
    assert made.published() == {} and made.scratch_left() == []


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (
            "data.root",
            "gs://bucket/log",
            "data.root: expected a local folder or s3://bucket/prefix, got 'gs://bucket/log'",
        ),
        ("data.root", "file:///log", "data.root: expected a local folder or s3://bucket/prefix"),
        ("data.root", "s3:///log", "data.root: expected a local folder or s3://bucket/prefix"),
        ("data.root", "s3://key:secret@bucket/log", "data.root: credentials belong in the environment"),
        ("data.root", "s3://bucket/log?retries=3", "data.root: unknown option retries, expected region"),
        ("data.root", "s3://bucket/log?scheme=ftp", "data.root: expected a value of each option, and http or https"),
        ("data.root", "s3://bucket/log?region=", "data.root: expected a value of each option"),
        ("data.truth", "s3://bucket/truth", "data.truth: expected a local folder, got 's3://bucket/truth'"),
        ("workspace", "s3://bucket/ws", "workspace: expected a local folder"),
    ],
)
def test_places_that_are_refused_with_the_config(tmp_path: Path, key: str, value: str, words: str) -> None:
    ended = project(tmp_path, "log").call("check", "--day", DAYS[0], "--set", f"{key}={value}")
    assert ended.code == 78 and words in ended.err and "secret" not in ended.err
