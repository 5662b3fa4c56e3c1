"""What is unfinished, foreign, there twice, no file at all or far too large is refused in one line, through the CLI."""

from __future__ import annotations

import datetime as dt
import os
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from storage import Server
from test_check import EVENTS
from worlds import DAYS, Ended, Project, dmtl

from dmtl_cli.config import days, parsing
from dmtl_cli.config.errors import UserError
from dmtl_cli.config.secrets import has_credentials, masked, masked_override
from dmtl_cli.data.log import memory
from dmtl_cli.data.log.checked import checks
from dmtl_cli.data.log.files import day_files

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCY"


@pytest.fixture
def own(tmp_path: Path) -> Project:
    """One day of one file, without side tables."""
    write(tmp_path, "a.parquet", EVENTS)
    made = Project.create(tmp_path, tmp_path / "log")
    made.config["data"] = {"root": str(tmp_path / "log"), "events": {"click": "click", "duration": "seconds"}}
    made.config["features"] = [
        {"name": "age", "side": "user", "kind": "numeric"},
        {"name": "price", "side": "item", "kind": "numeric"},
    ]
    made.write()
    return made


def write(home: Path, name: str, frame: dict[str, Any] | pa.Table, day: str = DAYS[0], **options: Any) -> Path:
    file = home / f"log/events/day={day}" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(frame if isinstance(frame, pa.Table) else pl.DataFrame(frame).to_arrow(), file, **options)
    return file


def checked(made: Project, *arguments: str) -> Ended:
    return made.call("check", "--day", DAYS[0], "--json", *arguments)


OTHER = EVENTS | {"age": [1] * 6}


@pytest.mark.parametrize("remote", [False, True])
def test_what_a_writer_has_not_finished_is_not_the_days(own: Project, remote: bool, request: Any) -> None:
    hidden = ("_temporary/0/b", ".spark-staging-1/b", "hour=3/_tmp/b", "_b", ".b", "_committed_1")
    for k, name in enumerate(hidden):
        write(own.home, f"{name}.parquet", EVENTS | {"age": [k] * 6})
    (own.home / f"log/events/day={DAYS[0]}/.a.parquet.crc").write_bytes(b"crc")
    if remote:
        server: Server = request.getfixturevalue("s3")
        own.config["data"]["root"] = server.upload(own.home / "log", own.home.name)
        own.write()
    assert checked(own).json["rows"] == 6
    if not remote:
        write(own.home, "hour=3/b.parquet", OTHER)
        assert checked(own).json["rows"] == 12, "or the walk sees no folder at all"


def test_a_day_without_its_success_file_is_not_there_yet(own: Project) -> None:
    marker = own.home / f"log/events/day={DAYS[0]}/_SUCCESS"
    ended = checked(own, "--set", "data.events.success_file=_SUCCESS")
    assert ended.code == 66 and f"{marker.parent} has no _SUCCESS: not finished; retry" in ended.err
    marker.touch()
    assert checked(own, "--set", "data.events.success_file=_SUCCESS").json["rows"] == 6
    assert checked(own).json["finished"] == ["events"]
    assert "set data.events.success_file: _SUCCESS" in own.call("check", "--day", DAYS[0]).out
    ended = checked(own, "--set", "data.events.success_file=a/b")
    assert ended.code == 78 and "expected a file's name" in ended.err


def test_two_folders_of_one_day(own: Project) -> None:
    write(own.home, "b.parquet", OTHER, day=DAYS[0].replace("-", ""))
    ended = checked(own)
    assert ended.code == 65 and "are of one day" in ended.err
    assert f"day={DAYS[0]}" in ended.err and f"day={DAYS[0].replace('-', '')}" in ended.err


@pytest.mark.parametrize("digest", ["auto", "footer", "full"])
def test_one_file_twice(own: Project, digest: str) -> None:
    first = own.home / f"log/events/day={DAYS[0]}/a.parquet"
    shutil.copy(first, first.with_name("b.parquet"))
    ended = checked(own, "--set", f"data.digest={digest}")
    assert ended.code == 65 and f"{first} and {first.with_name('b.parquet')} have the same bytes" in ended.err


def test_equal_footers_are_a_suspicion_alone(own: Project) -> None:
    """Without statistics files of other values have one footer."""
    options = {"write_statistics": False, "use_dictionary": False, "compression": "none"}
    write(own.home, "a.parquet", EVENTS, **options)
    write(own.home, "b.parquet", OTHER, **options)
    assert checked(own, "--set", "data.digest=footer").json["rows"] == 12
    for name in ("a", "b"):
        write(own.home, f"{name}.parquet", pl.DataFrame(EVENTS).to_arrow().slice(0, 0 if name == "a" else 6))
    write(own.home, "c.parquet", pl.DataFrame(EVENTS).to_arrow().slice(0, 0))
    assert checked(own).json["rows"] == 6, "files without rows may be alike"


def test_a_flipped_bit_is_another_input(own: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from dmtl_cli.config.reading import load_config
    from dmtl_cli.data.log.reader import Log

    def digests() -> list[str]:
        return [i["digest"] for i in Log(load_config(own.file).data, ()).inputs(dt.date.fromisoformat(DAYS[0]))]

    file, before = own.home / f"log/events/day={DAYS[0]}/a.parquet", digests()
    content, stat = bytearray(file.read_bytes()), file.stat()
    content[40] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert digests() != before
    monkeypatch.setattr(day_files, "FULL", 10)
    assert digests()[0].startswith("footer:")


@pytest.mark.parametrize("link", [False, True])
def test_what_is_no_file_is_never_opened(own: Project, link: bool) -> None:
    place = own.home / f"log/events/day={DAYS[0]}/b.parquet"
    fifo = own.home / "fifo" if link else place
    os.mkfifo(fifo)
    if link:
        place.symlink_to(fifo)
    ended = checked(own)
    assert ended.code == 65 and f"{place}: expected a regular file, found a FIFO" in ended.err


def test_a_config_that_is_no_file(own: Project) -> None:
    os.mkfifo(own.home / "fifo")
    for command, options in (("check", ["--config", own.home / "fifo"]), ("status", ["--config", "/dev/zero"])):
        ended = dmtl(command, *options, *(["--day", DAYS[0]] if command == "check" else []))
        assert ended.code == 78 and "expected a regular file" in ended.err
    ended = own.call("compare", "--day", DAYS[0], "--settings", own.home / "fifo")
    assert ended.code == 78 and "expected a regular file" in ended.err


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 8)}]" for k in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("#" * (parsing.MOST_BYTES + 1), "1,000,001 bytes, expected at most 1,000,000"),
        (BOMB, "more than 20,000 values, with those that aliases repeat"),
        ("[" * 100_000, ":1: not YAML: nested more than 50 deep"),
        ("\n".join(" " * k + "a:" for k in range(100)), ":51: not YAML: nested more than 50 deep"),
        ("\n".join(f"a{k}: &a{k} [*a{k - 1}]" if k else "a0: &a0 [x]" for k in range(80)), "nested more than 50 deep"),
        ("- 1\n" * 30_000, "more than 20,000 values"),
        ("? [a, b]\n: 1\n", ":1: not YAML: a key is a list or a mapping, expected text"),
    ],
    ids=["size", "aliases", "flow", "block", "chain", "values", "key"],
)
def test_yaml_that_is_no_config(own: Project, text: str, words: str) -> None:
    settings = own.home / "settings.yaml"
    settings.write_text(text)
    ended = own.call("compare", "--day", DAYS[0], "--settings", settings)
    assert ended.code == 78 and f"{settings}" in ended.err and words in ended.err
    own.file.write_text(text)
    ended = checked(own)
    assert ended.code == 78 and f"{own.file}" in ended.err and words in ended.err


def test_a_path_of_too_many_keys(own: Project) -> None:
    ended = checked(own, "--set", ".".join(["a"] * 5000) + "=1")
    assert ended.code == 2 and "--set a.a.a" in ended.err


# -- memory ------------------------------------------------------------------------------------------------------------


def frame(rows: int, **more: Any) -> pa.Table:
    plain = {"user_id": range(rows), "item_id": [1] * rows, "click": [True] * rows, "seconds": [1.0] * rows}
    return pl.DataFrame(plain | {"age": [1] * rows, "price": [1.0] * rows} | more).to_arrow()


TEXT = {"name": "t", "side": "context", "kind": "categorical"}
LIST = {"name": "t", "side": "context", "kind": "sequence"}
REPEATED = ["x" * 20_000] * 500
PREFIXED = [f"{'x' * 20_000}{k}" for k in range(500)]


@pytest.mark.parametrize(
    ("column", "feature", "options"),
    [
        (REPEATED, TEXT, {}),
        ([[v] for v in REPEATED], LIST, {}),
        (PREFIXED, TEXT, {"use_dictionary": False, "column_encoding": {"t": "DELTA_BYTE_ARRAY"}}),
        ([[7] * 1_000_000] + [[7]] * 499, LIST, {}),
    ],
    ids=["dictionary", "lists of text", "prefixes", "lists of numbers"],
)
def test_a_small_file_of_large_values(
    own: Project, monkeypatch: pytest.MonkeyPatch, column: Any, feature: dict[str, Any], options: dict[str, Any]
) -> None:
    own.config["features"].append(feature)
    own.write()
    file = write(own.home, "a.parquet", frame(500, t=column), compression="zstd", **options)
    assert checked(own).code == 0, "a few megabytes are not refused"
    ended = checked(own, "--set", "max_memory=5MB")
    assert ended.code == 65 and f"{file}: with it" in ended.err and "at most 5.0 MB" in ended.err
    monkeypatch.setattr(memory, "SMALL", 1_000_000)
    monkeypatch.setattr(memory, "EXPANDS", 50)
    ended = checked(own)
    assert ended.code == 65 and f"{file}: its columns take more than" in ended.err
    assert "times its size" in ended.err


def test_values_of_one_prefix_are_counted_a_few_at_a_time(own: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """40 ids of a megabyte, of which the file has one."""
    ids = pa.array(["x" * 1_000_000 + str(k) for k in range(40)])
    options = {"use_dictionary": False, "column_encoding": {"user_id": "DELTA_BYTE_ARRAY"}}
    file = write(own.home, "a.parquet", frame(40).set_column(0, "user_id", ids), **options)
    for name, value in (("SMALL", 30_000_000), ("EXPANDS", 5), ("_AT_ONCE", 4_000_000)):
        monkeypatch.setattr(memory, name, value, raising=False)
    default, counting = pa.default_memory_pool(), pa.proxy_memory_pool(pa.system_memory_pool())
    monkeypatch.setattr(pa, "system_memory_pool", lambda: counting)  # whose memory a run takes
    pa.set_memory_pool(counting)
    try:
        ended = checked(own)
    finally:
        pa.set_memory_pool(default)
    assert ended.code == 65 and f"{file}: its columns take more than" in ended.err
    assert 1_000_000 < counting.max_memory() < 20_000_000


def test_columns_that_nothing_reads_cost_nothing(own: Project) -> None:
    write(own.home, "a.parquet", frame(500, t=REPEATED))
    assert checked(own, "--set", "max_memory=5MB").code == 0


def test_more_rows_than_a_file_can_hold(own: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MANY", 1000)
    table = frame(200_000, user_id=[1] * 200_000)
    file = write(own.home, "a.parquet", table)
    ended = checked(own)
    assert ended.code == 65 and f"{file}: 200,000 rows in" in ended.err and "less than a bit a row" in ended.err


@pytest.mark.parametrize("long", [1, 6])
def test_ids_that_are_too_long(own: Project, monkeypatch: pytest.MonkeyPatch, long: int) -> None:
    """One of them is found when it is read, many before."""
    for module in (checks, memory):
        monkeypatch.setattr(module, "LONGEST", 10_000)
    monkeypatch.setattr(memory, "_HEADERS", 1000)
    ids = ["x" * 50_000 + str(k) for k in range(long)] + [str(k) for k in range(6 - long)]
    file = write(own.home, "a.parquet", EVENTS | {"user_id": ids}, use_dictionary=False)
    ended = checked(own)
    assert ended.code == 65 and f"{file}: column user_id" in ended.err and "at most 10,000 bytes" in ended.err


def test_a_day_of_many_row_groups_streams(own: Project) -> None:
    """What counts is held at once, not the day: here 20 row groups of 4 MB each."""
    write(own.home, "a.parquet", frame(600_000), row_group_size=30_000)
    ended = checked(own, "--set", "max_memory=8MB")
    assert ended.json["rows"] == 600_000


@pytest.mark.parametrize(
    ("given", "size"),
    [("8GB", 8 * 10**9), ("8GiB", 8 * 2**30), ("1.5 MB", 1_500_000), ("2000000", 2_000_000)],
)
def test_sizes_in_words(own: Project, given: str, size: int) -> None:
    from dmtl_cli.config.reading import load_config

    assert load_config(own.file, [f"max_memory={given}"]).max_memory == size
    ended = checked(own, "--set", "max_memory=much")
    assert ended.code == 78 and "max_memory: expected bytes, or text such as 8GB" in ended.err


# -- secrets and the terminal ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "root",
    [
        f"s3://AKIAKEYKEY:{SECRET}@bucket/log",
        f"s3://AKIAKEYKEY:{SECRET}",
        f"s3:/AKIAKEYKEY:{SECRET}@bucket/log",
        f"s3://{SECRET.replace('/', '+')}@bucket/log",
        f"s3://bucket/log?access_key=AKIAKEYKEY&secret_key={SECRET}",
        f"s3://bucket/log?session_token={SECRET}&region=us-east-1",
        f"s3://bucket/log?AWS_SECRET_ACCESS_KEY={SECRET}",
        f"s3://bucket/log#secret={SECRET}",
        f"s3://bucket/log?{SECRET}",
        f"s3://bucket/log?endpoint_override=http://KEYKEY:{SECRET}@host",
        f"s3://bucket/log?endpoint_override=http%3A%2F%2FKEYKEY%3A{SECRET}%40host",
        f"https://bucket.s3.amazonaws.com/log?X-Amz-Signature={SECRET}",
    ],
)
@pytest.mark.parametrize("key", ["data.root", "data.truth", "workspace", "data.rot", "data.events.path", "threads"])
def test_a_secret_stands_nowhere(own: Project, root: str, key: str) -> None:
    if root.endswith(f"?{SECRET}"):
        key = "data.root"  # a word without a name is refused as its option alone
    own.ws.mkdir()
    for command in ("check", "train-teacher"):
        ended = own.call(command, "--day", DAYS[0], "--set", f"{key}={root}")
        said = ended.out + ended.err + "".join(p.read_text() for p in own.ws.rglob("*.jsonl"))
        assert ended.code == 78 and SECRET not in said and SECRET.partition("/")[2] not in said, said
    assert own.published() == {}


def test_a_secret_in_a_file_and_in_what_is_no_config(own: Project) -> None:
    own.ws.mkdir()
    own.config["data"]["root"] = f"s3://KEYKEY:{SECRET}@bucket"
    own.write()
    line = next(k for k, text in enumerate(own.file.read_text().splitlines(), 1) if SECRET in text)
    for command in ("check", "train-teacher"):
        ended = own.call(command, "--day", DAYS[0])
        assert ended.code == 78 and f"{own.file}:{line}: data.root: credentials belong in the environment" in ended.err
    calls = [
        own.call("check", "--day", f"s3://KEYKEY:{SECRET}@bucket"),
        own.call("check", "--day", DAYS[0], f"s3://KEYKEY:{SECRET}@bucket"),
        own.call("train-teacher", "--day", DAYS[0], "--threads", f"secret_key={SECRET}"),
        own.call("train-teacher", "--day", DAYS[0], "--set", f"data.secret_key={SECRET}"),
        own.call("train-teacher", "--day", DAYS[0], "--set", f"data.options={{secret: {SECRET}"),
    ]
    logs = "".join(p.read_text() for p in own.ws.rglob("*.jsonl"))
    for ended in calls:
        assert ended.code in (2, 78) and SECRET not in ended.err + logs, ended.err


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/log?endpoint_override=http://127.0.0.1:9000&scheme=http&region=us-east-1",
        "s3://bucket/user@host/log", "http://[::1]:9000", "events: no folder s3://bucket: denied",
        "/data/100%/log", "check AWS_SECRET_ACCESS_KEY, or a profile", "c.yaml:12: a@b",
    ],
)  # fmt: skip
def test_what_is_no_secret(text: str) -> None:
    assert not has_credentials(text) and masked(text) == text


def test_what_is_masked() -> None:
    assert masked(f"no folder s3://KEY:{SECRET}@bucket there") == "no folder s3://*** there"
    assert masked("a secret_key=abc, b") == "a secret_key=***, b"
    assert masked_override("data.root=s3://K:S@b") == "data.root=***" and masked_override("seed=1") == "seed=1"


def test_control_characters_do_not_reach_the_terminal(own: Project) -> None:
    write(own.home, "a.parquet", EVENTS | {"\x1b[31mred\u202e": [1] * 6})
    ended = checked(own, "--set", "data.events.user=\x1b[2Jwho")
    assert ended.code in (65, 78) and ended.err.rstrip("\n").isprintable()
    line = UserError("a\x1b[31m\x00\u202eb\ud800").line()
    assert line == "dmtl: error: a\\x1b[31m\\x00\\u202eb\\ud800"
    ended = checked(own, "--set", "data.events.click=clik")
    assert ended.code == 65 and "\\x1b[31mred\\u202e" in ended.err


@pytest.mark.parametrize(
    "day", ["0001-01-01", "2024-W09-4", "20240101", "\uff12\uff10\uff12\uff14-01-01", "2024-13-01", "1899-12-31"]
)
def test_what_is_no_day(own: Project, day: str) -> None:
    for command in ("check", "train-teacher"):
        ended = own.call(command, "--day", day)
        assert ended.code == 2 and "expected a day as YYYY-MM-DD" in ended.err
    folder = day.replace("20240101", "2024-W01")
    assert days.folder_day(folder) is None
