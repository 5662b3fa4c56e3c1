"""Where the log's files lie: local folders and S3 look the same, and what fails says so in one line."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from storage import Server, answering, url

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.log.formats import source as files_module
from dmtl_cli.data.log.formats.source import Store

Made = Callable[[Path], Store]


@pytest.fixture(params=["local", "s3"])
def store_of(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    """Makes a store of what a local folder holds."""
    if request.param == "local":
        return lambda folder: Store(str(folder))
    server: Server = request.getfixturevalue("s3")
    return lambda folder: Store(server.upload(folder, tmp_path.name))


def put(root: Path, name: str, rows: int = 3) -> Path:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"x": range(rows)}).write_parquet(file, row_group_size=2)
    return file


def refused(code: Exit, *words: object) -> pytest.RaisesExc[UserError]:
    def fits(e: UserError) -> bool:
        return e.code == code and all(str(w) in f"{e.message}; {e.hint}" for w in words)

    return pytest.RaisesExc(UserError, check=fits)


# -- the same wherever they lie ----------------------------------------------------------------------------------------


def test_folders_and_files_in_one_order(store_of: Made, tmp_path: Path) -> None:
    names = [
        "events/day=1/b.parquet",
        "events/day=1/a/z.parquet",
        "events/day=1/a-b.parquet",
        "events/day=1/ä b.parquet",
        "events/day=1/.parquet",
        "events/day=1/_x.parquet",
        "events/day=1/.y.parquet",
        "events/day=1/_SUCCESS",
        "events/day=10/c.parquet",
        "events/day=2/d.parquet",
        "events/top.parquet",
        "other/e.parquet",
    ]
    for name in names:
        put(tmp_path, name)
    store = store_of(tmp_path)
    assert store.folders("events") == ["events/day=1", "events/day=10", "events/day=2"], "one level, no files"
    assert [f.path for f in store.files("events/day=1")] == [
        "events/day=1/a/z.parquet",
        "events/day=1/a-b.parquet",
        "events/day=1/b.parquet",
        "events/day=1/ä b.parquet",
    ]
    assert len(store.files("events")) == 7 and len(store.files(".")) == 8
    assert store.is_folder("events") and store.is_folder("events/day=10")
    assert not store.is_folder("events/day=3") and not store.is_folder("events/top.parquet")
    assert store.folders("none") == [] and store.files("none") == []


@pytest.mark.parametrize("full", [False, True])
def test_what_identifies_a_file(store_of: Made, tmp_path: Path, full: bool) -> None:
    content = put(tmp_path, "events/a.parquet", rows=1000).read_bytes()
    (file,) = store_of(tmp_path).files("events")
    footer = content[-8 - int.from_bytes(content[-8:-4], "little") :]
    sha = hashlib.sha256(content if full else footer).hexdigest()
    digest = sha if full else f"footer:{sha}"
    assert file.identify(full) == {"path": "events/a.parquet", "rows": 1000, "bytes": len(content), "digest": digest}
    assert file.size == len(content) and file.modified_ns > 0


def test_all_bytes_are_digested_chunk_by_chunk(store_of: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "_CHUNK", 1000)
    content = put(tmp_path, "events/a.parquet", rows=500).read_bytes()
    (file,) = store_of(tmp_path).files("events")
    assert file.identify(full=True)["digest"] == hashlib.sha256(content).hexdigest()


def test_row_groups_are_read_alone(store_of: Made, tmp_path: Path) -> None:
    put(tmp_path, "events/a.parquet", rows=5)
    (file,) = store_of(tmp_path).files("events")
    with file.open() as parquet:
        assert [b.to_pydict() for b in parquet.iter_batches(10, [1, 2], ["x"])] == [{"x": [2, 3, 4]}]


def test_a_file_written_again_is_not_the_one_that_was_listed(store_of: Made, tmp_path: Path) -> None:
    put(tmp_path, "events/a.parquet")
    (old,) = store_of(tmp_path).files("events")
    put(tmp_path, "events/a.parquet", rows=9)
    (new,) = store_of(tmp_path).files("events")
    assert old != new and new.identify(full=False)["rows"] == 9
    for read in (lambda: old.identify(full=False), lambda: old.open().__enter__()):
        with refused(Exit.NO_INPUT, old, "changed while", f"in place of {old.size}", "retry"):
            read()


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no Parquet at all", b"PAR1" + b"x" * 100 + b"\xff\0\0\0PAR1"])
def test_what_is_no_parquet(store_of: Made, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "events").mkdir()
    (tmp_path / "events/a.parquet").write_bytes(content)
    (file,) = store_of(tmp_path).files("events")
    for read in (lambda: file.identify(full=True), lambda: file.open().__enter__()):
        with refused(Exit.DATA, file, "not a readable Parquet file", "write the file again"):
            read()


# -- local -------------------------------------------------------------------------------------------------------------


def test_local_paths_are_relative_to_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "log/events/a.parquet")
    put(tmp_path, "users/u.parquet")
    monkeypatch.chdir(tmp_path)
    for root, where in (
        ("log", "log/events"),
        ("./log/", "log/events"),
        (str(tmp_path / "log"), tmp_path / "log/events"),
    ):
        store = Store(root)
        assert store.is_folder("events") and store.where("events") == str(where)
        (file,) = store.files("events")
        assert (str(file), file.parent, file.path) == (f"{where}/a.parquet", str(where), "events/a.parquet")
    assert [f.path for f in Store("log").files("../users")] == ["../users/u.parquet"]
    monkeypatch.chdir("log")
    assert [f.path for f in Store(".").files("events")] == ["events/a.parquet"]


def test_links_are_followed_and_one_to_nowhere_is_missed(tmp_path: Path) -> None:
    put(tmp_path, "elsewhere/day=1/a.parquet")
    (tmp_path / "log").mkdir()
    (tmp_path / "log/events").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/day=1/b.parquet").symlink_to("a.parquet")
    store = Store(str(tmp_path / "log"))
    assert store.is_folder("events") and store.folders("events") == ["events/day=1"]
    a, b = store.files("events/day=1")
    assert a.identify(full=True)["digest"] == b.identify(full=True)["digest"]
    (tmp_path / "elsewhere/day=1/c.parquet").symlink_to("gone.parquet")
    with refused(Exit.NO_INPUT, "c.parquet", "not there any more"):
        store.files("events/day=1")[2].identify(full=False)


def test_links_to_folders_are_followed_but_to_none_that_they_lie_in(tmp_path: Path) -> None:
    for name in ("log/day=1/h0/a.parquet", "log/day=2/z.parquet", "elsewhere/b.parquet", "elsewhere/more/c.parquet"):
        put(tmp_path, name)
    day = tmp_path / "log/day=1"
    (day / "h1").symlink_to(tmp_path / "elsewhere")
    (day / "_h2").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/more/back").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/day").symlink_to(day)
    (day / "h0/up").symlink_to("../../..")
    found = [f.path for f in Store(str(tmp_path / "log")).files("day=1")]
    assert found == ["day=1/h0/a.parquet", "day=1/h1/b.parquet", "day=1/h1/more/c.parquet"]


def test_a_folder_with_two_names_is_read_once(tmp_path: Path) -> None:
    """Its rows counted twice, as where `current` is a link to the newest of several folders."""
    for name in ("log/day=1/run=7/a.parquet", "elsewhere/more/c.parquet", "log/day=1/.run=8/e.parquet"):
        put(tmp_path, name)
    links = {"current": "run=7", "hidden": ".run=8", "h0": "../../elsewhere/more", "h1": "../../elsewhere"}
    for name, to in links.items():
        (tmp_path / "log/day=1" / name).symlink_to(to)
    put(tmp_path, "elsewhere/b.parquet")
    found = [f.path for f in Store(str(tmp_path / "log")).files("day=1")]
    assert found == ["day=1/h0/c.parquet", "day=1/h1/b.parquet", "day=1/hidden/e.parquet", "day=1/run=7/a.parquet"]


@pytest.mark.parametrize("origin", ["", "log/a.csv"])
def test_a_disk_that_refuses_is_not_the_files_fault(tmp_path: Path, origin: str) -> None:
    """As long as no file can be opened: the same file is read once there is room again."""
    put(tmp_path, "events/a.parquet")
    store = Store(str(tmp_path))
    file = replace(store.files("events")[0], origin=origin)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for read in (lambda: file.identify(full=True), lambda: file.open().__enter__(), lambda: file.text().__enter__()):
        resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
        try:
            with refused(Exit.IO, file, file.path, "cannot be read: Too many open files", "run it again"):
                read()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        read()


@pytest.mark.parametrize("look", [Store.folders, Store.entries, Store.children, Store.files])
def test_a_folder_that_cannot_be_read_is_not_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: Callable[[Store, str], object]
) -> None:
    put(tmp_path, "events/day=1/a.parquet")

    def denied(place: object = ".") -> None:  # to root nothing is
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))

    monkeypatch.setattr(os, "listdir", denied)
    monkeypatch.setattr(os, "scandir", denied)
    with refused(Exit.IO, tmp_path / "events", "cannot be listed", "Permission denied"):
        look(Store(str(tmp_path)), "events")


# -- S3 ----------------------------------------------------------------------------------------------------------------


def test_names_of_s3_are_whole_and_without_options(s3: Server, tmp_path: Path) -> None:
    put(tmp_path, "events/a.parquet")
    for path in (f"{tmp_path.name}/log", f"{tmp_path.name}/a log"):
        s3.upload(tmp_path, path)
        for root in (path, path + "/", path.replace(" ", "%20")):
            (file,) = Store(s3.root(root)).files("events")
            assert (str(file), file.parent) == (f"s3://bucket/{path}/events/a.parquet", f"s3://bucket/{path}/events")
            assert file.path == "events/a.parquet"


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_endpoint_and_region_of_the_environment(
    s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    put(tmp_path, "events/a.parquet")
    s3.upload(tmp_path, tmp_path.name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv(name, s3.endpoint)
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    store = Store(f"s3://bucket/{tmp_path.name}")
    assert store.fs.region == "eu-west-3" and len(store.files("events")) == 1
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert Store(s3.root(tmp_path.name)).fs.region == "us-east-1", "what the config says counts"
    assert len(Store(s3.root(tmp_path.name)).files("events")) == 1


def test_a_missing_bucket_is_a_missing_folder(s3: Server) -> None:
    store = Store(url(s3.endpoint, "nobody/log"))
    assert not store.is_folder("events") and not Store(url(s3.endpoint, "nobody")).is_folder(".")
    assert store.folders("events") == [] and store.files("events") == []


def test_an_object_that_vanishes_or_is_torn(s3: Server, tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    pl.DataFrame({"x": range(1000)}).write_parquet(tmp_path / "events/a.parquet")
    content = (tmp_path / "events/a.parquet").read_bytes()
    (file,) = Store(s3.upload(tmp_path, tmp_path.name)).files("events")
    with file.open() as parquet:
        s3.fs.delete_file(f"bucket/{tmp_path.name}/events/a.parquet")
        with pytest.raises(OSError) as gone:
            parquet.read()
    said = file.refusal(gone.value, "damaged")
    assert said.code == Exit.NO_INPUT and f"{file}: not there: " in said.message
    with refused(Exit.NO_INPUT, file, "not there any more"):
        file.identify(full=False)
    s3.put(f"{tmp_path.name}/events/a.parquet", content[:8] + b"\xff" * 400 + content[408:])
    with file.open() as parquet, pytest.raises((pa.ArrowException, OSError)) as torn:
        parquet.read()
    said = file.refusal(torn.value, "damaged Parquet after row 0")
    assert said.code == Exit.DATA and f"{file}: damaged Parquet after row 0: " in said.message


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "AccessDenied", ("denied: ACCESS_DENIED", "AWS_SECRET_ACCESS_KEY")),
        (403, "InvalidAccessKeyId", ("denied: ", "AWS_ACCESS_KEY_ID")),
        (403, "SignatureDoesNotMatch", ("denied: ", "AWS_ACCESS_KEY_ID")),
        (400, "ExpiredToken", ("denied: ", "credentials")),
        (301, "PermanentRedirect", ("denied: ", "region")),
        (503, "SlowDown", ("fails: ", "run it again")),
        (500, "InternalError", ("fails: ", "run it again")),
    ],
)  # fmt: skip
def test_storage_that_refuses(
    s3: Server, monkeypatch: pytest.MonkeyPatch, status: int, code: str, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(files_module, "ATTEMPTS", 1)
    with answering(status, code) as endpoint:
        store = Store(url(endpoint, "bucket/log"))
        file = files_module.File(store, "events/a.parquet", 1, 1)
        for place, ask in (
            ("s3://bucket/log/events", lambda: store.is_folder("events")),
            ("s3://bucket/log/events", lambda: store.folders("events")),
            ("s3://bucket/log/events", lambda: store.files("events")),
            (str(file), lambda: file.identify(full=False)),
            (str(file), lambda: file.open().__enter__()),
        ):
            with refused(Exit.IO, f"{place}: ", *words):
                ask()


def test_storage_that_is_away_or_silent_ends_the_wait(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with refused(Exit.IO, "s3://bucket/log/events: the storage fails", "NETWORK_CONNECTION", "endpoint"):
        Store(url("http://127.0.0.1:1", "bucket/log")).is_folder("events")
    monkeypatch.setattr(files_module, "SILENCE", 1)
    monkeypatch.setattr(files_module, "ATTEMPTS", 1)
    with socket.create_server(("127.0.0.1", 0)) as deaf, refused(Exit.IO, "the storage fails"):
        Store(url(f"http://127.0.0.1:{deaf.getsockname()[1]}", "bucket/log")).is_folder("events")


def test_columns_that_are_not_read_are_not_fetched(s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 20_000
    table = pa.table({"x": pa.array(range(rows)), "wide": pa.array([f"{k * 7919:040}" for k in range(rows)])})
    (tmp_path / "events").mkdir()
    pq.write_table(
        table, tmp_path / "events/a.parquet", row_group_size=rows // 4, compression="none", use_dictionary=False
    )
    (file,) = Store(s3.upload(tmp_path, tmp_path.name)).files("events")
    before = pa.total_allocated_bytes()
    with file.open() as parquet:
        for batch in parquet.iter_batches(100, [2], ["x"], use_threads=False):
            assert batch.num_columns == 1
            assert pa.total_allocated_bytes() - before < file.size / 8, "a column of a row group"
