"""Rows that are requests with lists of what was shown: the log is read as if each element had a row of its own."""

from __future__ import annotations

import copy
import datetime as dt
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import yaml
from formats import write
from storage import Server
from test_log import DAY, rows
from test_ranks import Meeting, Thread, copy_of, current, needs_torchrec, two
from worlds import BASE, DAYS, Project, assert_one_line, dmtl

from dmtl_cli.config.data import Data, Events
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.log.formats.exploded import Exploded
from dmtl_cli.data.log.reader import NOT_ASKED, REPEATED, Log
from dmtl_cli.data.log.values import sizes

FIELDS = ("listing", "rank", "opened", "seconds", "tags")
FEATURES = (
    Feature(name="user", side="user", kind="categorical"),
    Feature(name="listing", column="results.listing", side="item", kind="categorical"),
    Feature(name="tags", column="results.tags", side="item", kind="sequence"),
    Feature(name="rank", column="results.rank", side="context", kind="numeric"),
    Feature(name="town", side="user", kind="categorical"),
)


def requests(day: dt.date = DAY, n: int = 90, seed: int = 3) -> pl.DataFrame:
    """A row a request, with a list of objects: some are empty, some null."""
    rng = np.random.default_rng(seed)
    made = []
    for k in range(n):
        shown: list[dict[str, Any]] | None = []
        for rank, item in enumerate(rng.choice(30, int(rng.integers(1, 9)), replace=False).tolist()):
            opened = bool(rng.random() < 0.3)
            seconds = float(rng.integers(1, 99)) if opened else None
            tags = None if item % 5 == 0 else ["x", "y", "z"][: item % 4]
            shown.append({"listing": f"d{item}", "rank": rank + 1, "opened": opened, "seconds": seconds, "tags": tags})
        user = int(rng.integers(12))
        at = dt.datetime.combine(day, dt.time(), dt.UTC) + dt.timedelta(minutes=10 * k)
        empty = [] if k % 11 == 4 else None if k % 11 == 5 else shown
        made.append({"request": k, "at": at, "user": user, "town": f"t{user % 3}", "results": empty})
    return pl.DataFrame(made)


def flat(frame: pl.DataFrame) -> pl.DataFrame:
    """An element a row, written by hand under the same names."""
    out = []
    for row in frame.iter_rows(named=True):
        results = row.pop("results") or []
        out += [row | {f"results.{name}": one[name] for name in FIELDS} for one in results]
    return pl.DataFrame(out, infer_schema_length=None)


def parallel(frame: pl.DataFrame) -> pl.DataFrame:
    """An object of lists, one a field."""
    lists = [pl.col("results").list.eval(pl.element().struct.field(name)).alias(name) for name in FIELDS]
    return frame.with_columns(results=pl.struct(lists))


def beside(frame: pl.DataFrame) -> pl.DataFrame:
    """A list a field, without an object around them."""
    return parallel(frame).unnest("results").rename({name: f"results.{name}" for name in FIELDS})


def data(root: str | Path, kind: str = "parquet", **more: Any) -> Data:
    roles = {"user": "user", "item": "results.listing", "time": "at", "request": "request"}
    labels = {"click": "results.opened", "duration": "results.seconds"}
    fmt: Any = kind.partition(".")[0]
    return Data(root=str(root), format=fmt, timezone="UTC", events=Events(**roles | labels | more))


def read(data: Data, home: Path) -> pl.DataFrame:
    home.mkdir(exist_ok=True)
    return rows(Log(data, FEATURES, converted=home / "converted").read(DAY, home)).sort("position")


def put(frame: pl.DataFrame, root: Path, kind: str = "parquet") -> str:
    """Writes a day; the path of the config."""
    write(frame, root, f"events_{DAY}", kind)
    return f"events_{{day}}.{kind}"


@pytest.fixture
def plain(tmp_path: Path) -> pl.DataFrame:
    path = put(flat(requests()), tmp_path / "plain")
    found = read(data(tmp_path / "plain", path=path), tmp_path / "plain/work")
    assert len(found) == len(flat(requests())) > 300 and found["click"].sum() > 60
    return found


SHAPES = {
    "objects": (lambda frame: frame, "results"),
    "an object of lists": (parallel, "results"),
    "lists": (beside, tuple(f"results.{name}" for name in FIELDS)),
}


# -- what is read ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [7, sizes.BLOCK])
@pytest.mark.parametrize("shape", SHAPES)
def test_elements_are_read_as_if_they_were_rows(
    tmp_path: Path, plain: pl.DataFrame, shape: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, explode = SHAPES[shape]
    monkeypatch.setattr(sizes, "BLOCK", block)
    path = put(change(requests()), tmp_path / "log")
    assert read(data(tmp_path / "log", path=path, explode=explode), tmp_path / "work").equals(plain)


@pytest.mark.parametrize("kind", ["json", "json.gz"])
@pytest.mark.parametrize("shape", SHAPES)
def test_json_lines(tmp_path: Path, plain: pl.DataFrame, shape: str, kind: str) -> None:
    change, explode = SHAPES[shape]
    path = put(change(requests()), tmp_path / "log", kind)
    types = {"at": "datetime", "results.seconds": "float64", "results.rank": "int64", "results.opened": "bool"}
    found = read(data(tmp_path / "log", kind, path=path, explode=explode, types=types), tmp_path / "work")
    assert found.equals(plain)


@pytest.mark.parametrize("kind", ["parquet", "avro", "delta", "iceberg", "json"])
def test_a_column_beside_the_lists_tells_the_day(tmp_path: Path, plain: pl.DataFrame, kind: str) -> None:
    both = pl.concat([requests(DAY - dt.timedelta(1), seed=4), requests()])
    path = write(both, tmp_path / "log", "events", kind)
    more = {"path": path, "explode": "results", "date_column": "at"}
    types = {"types": {"at": "datetime"}} if kind == "json" else {}
    found = read(data(tmp_path / "log", kind, **more, **types), tmp_path / "work")
    assert found.drop("position").equals(plain.drop("position"))


@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_lakes_of_one_day(tmp_path: Path, plain: pl.DataFrame, kind: str) -> None:
    """Without an object around them, lists of a lake are named one by one."""
    lists = beside(requests()).with_columns(dt=pl.lit(DAY)).rename({f"results.{n}": f"r_{n}" for n in FIELDS})
    write(lists, tmp_path / "log", "events", kind)
    named = {"item": "r_listing", "click": "r_opened", "duration": "r_seconds"}
    explode = tuple(f"r_{n}" for n in FIELDS)
    given = data(tmp_path / "log", kind, path="events", partition="dt", explode=explode, **named)
    features = tuple(f.model_copy(update={"column": f.source.replace("results.", "r_")}) for f in FEATURES)
    day = Log(given, features, converted=tmp_path / "converted").read(DAY, tmp_path)
    assert rows(day).sort("position").equals(plain)


def test_a_log_in_s3(tmp_path: Path, plain: pl.DataFrame, s3: Server) -> None:
    s3.put(f"explode/events_{DAY}.parquet", _bytes(requests(), tmp_path))
    found = data(s3.root("explode"), path="events_{day}.parquet", explode="results")
    assert read(found, tmp_path / "work").equals(plain)


def _bytes(frame: pl.DataFrame, home: Path) -> bytes:
    frame.write_parquet(home / "x.parquet")
    return (home / "x.parquet").read_bytes()


def test_a_computed_column_of_elements_and_the_place_in_the_list(tmp_path: Path) -> None:
    """`explode_position` is the rank that the log has, and what is computed sees one element."""
    path = put(requests(), tmp_path / "log")
    labels = {"click": "same", "duration": None, "conversion": "good"}
    computed = {"same": "place = results.rank", "good": "COALESCE(results.seconds, 0) >= 50 OR results.rank = 1"}
    more = {"explode": "results", "explode_position": "place", "computed": computed}
    found = read(data(tmp_path / "log", path=path, **labels, **more), tmp_path / "work")
    hand = flat(requests())
    assert found["click"].all() and len(found) == len(hand)
    good = (hand["results.seconds"] >= 50).fill_null(False) | (hand["results.rank"] == 1)
    assert found["conversion"].cast(pl.Boolean).to_list() == good.to_list()


def test_a_list_that_is_null_gives_nulls(tmp_path: Path, plain: pl.DataFrame) -> None:
    """Where nothing of a request was clicked its seconds are no list: as a list of nulls."""
    lists = beside(requests())
    none = pl.col("results.seconds").list.drop_nulls().list.len() == 0
    lists = lists.with_columns(pl.when(none).then(None).otherwise("results.seconds").alias("results.seconds"))
    assert lists["results.seconds"].null_count() > 20
    path = put(lists, tmp_path / "log")
    explode = SHAPES["lists"][1]
    assert read(data(tmp_path / "log", path=path, explode=explode), tmp_path / "work").equals(plain)


def test_slices_of_batches_and_large_lists() -> None:
    explode, schema = Exploded(("a", "b"), "b", "k"), [("a", pa.large_list(pa.string())), ("b", pa.list_(pa.int8(), 2))]
    table = pa.table({"a": [["x", "y"], None, ["z", None]], "b": [[1, 2], None, [3, 4]]}, schema=pa.schema(schema))
    lists = explode.lists(table.schema, "f")
    assert lists == ["b", "a"]
    found = explode.of(table.slice(1), lists, str)
    assert found.to_pydict() == {"a": ["z", None], "b": [3, 4], "k": [1, 2]}
    assert found.schema == explode.schema(table.schema, lists)


# -- a chain -----------------------------------------------------------------------------------------------------------


def chain(home: Path, change: Any, **events: Any) -> Project:
    for k, day in enumerate(DAYS[:2]):
        write(change(requests(dt.date.fromisoformat(day), 120, k)), home / "log", f"events_{day}", "parquet")
    config = copy.deepcopy(BASE)
    config["data"] = json.loads(data(home / "log", path="events_{day}.parquet").model_dump_json(exclude_unset=True))
    config["data"]["events"] |= events
    config["features"] = [f.model_dump(mode="json", exclude_unset=True) for f in FEATURES]
    config["features"] += [
        {"name": "reads", "side": "item", "kind": "numeric", "profile": {"count": "read", "half_life_days": 1}},
        {"name": "recent", "side": "user", "kind": "sequence", "profile": {"history": "click"},
         "embedding_name": "listing", "max_length": 5},
    ]  # fmt: skip
    return Project.create(home, home / "log", config=config)


def test_a_chain_is_that_of_the_flat_log(tmp_path: Path) -> None:
    """Profiles and a teacher have the same bytes, from the command line."""
    one = chain(tmp_path / "flat", flat)
    other = chain(tmp_path / "nested", lambda frame: frame, explode="results")
    places = [
        {command: Path(p.done(command, 1)["path"]) for command in ("build-profile", "train-teacher")}
        for p in (one, other)
    ]
    compared = 0
    for command in places[0]:
        mine, theirs = (
            {
                f.relative_to(p[command]): f.read_bytes()
                for f in p[command].rglob("*")
                if f.suffix in (".parquet", ".pt", ".safetensors")
            }
            for p in places
        )
        assert mine == theirs and mine, command
        compared += len(mine)
    assert compared > 3
    found = [p.call("check", "--day", DAYS[1], "--json").json for p in (one, other)]
    for key in ("rows", "users", "items"):
        assert found[0][key] == found[1][key]


@pytest.mark.parametrize("size", [2, 5, 30])  # of 30 some have no row group
def test_ranks_read_what_one_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Each decodes its row groups; elements that came twice, or are not asked for, are left out whoever has them."""
    monkeypatch.setattr(sizes, "BLOCK", 16)
    monkeypatch.setattr(sizes, "POOL", 3)
    lists = beside(requests(n=140))
    ranks = lists["results.rank"].to_list()  # some elements have the id of one of a hundred requests before
    lists = lists.with_columns(ids=pl.Series([r and [f"{k % 100}-{n}" for n in r] for k, r in enumerate(ranks)]))
    folder = tmp_path / f"log/day={DAY}"
    folder.mkdir(parents=True)
    for k, (start, end) in enumerate(((0, 20), (20, 21), (21, 140))):
        lists[start:end].write_parquet(folder / f"{k}.parquet", row_group_size=(7, 1, 9)[k])
    more = {"partition": "day", "where": "town <> 't1' OR \"results.rank\" < 3", "unique": "ids"}
    given = data(tmp_path, path="log", explode=(*SHAPES["lists"][1], "ids"), **more)
    log = Log(given, FEATURES)
    (tmp_path / "alone").mkdir()
    alone, meeting = log.read(DAY, tmp_path / "alone"), Meeting(size)

    def by_rank(k: int) -> Day:
        (tmp_path / f"rank-{k}").mkdir()
        return log.read(DAY, tmp_path / f"rank-{k}", Thread(k, size, meeting=meeting))

    with ThreadPoolExecutor(size) as pool:
        days = list(pool.map(by_rank, range(size)))
    assert min(alone.facts[NOT_ASKED], alone.facts[REPEATED]) > 5 and len(alone.spool) > 1, "what could differ is there"
    for shared in days:
        assert shared.facts == alone.facts
        assert shared.users.equals(alone.users) and shared.items.equals(alone.items)
        assert rows(shared).equals(rows(alone))


@needs_torchrec
def test_under_torchrun(tmp_path: Path) -> None:
    """Two ranks publish the bytes of one: what a profile counts, and the scores of every element."""
    one = chain(tmp_path / "log", lambda frame: frame, explode="results")
    for day in DAYS[:2]:
        file = tmp_path / f"log/log/events_{day}.parquet"
        pl.read_parquet(file).write_parquet(file, row_group_size=17)
    for command in ("build-profile", "train-teacher"):
        one.done(command, 1)
    other = copy_of(one, tmp_path / "two")
    shutil.rmtree(other.ws / "profile")
    one.done("dump-logits", 1)
    for command in ("build-profile", "dump-logits"):
        two(other, command, "--day", DAYS[0])
    for stage, sub in (("profile", ""), ("scores", f"teacher={DAYS[0]}")):
        mine, theirs = (current(p, stage, 1, sub) for p in (one, other))
        files = [f.relative_to(mine) for f in mine.rglob("*.parquet")]
        assert files and all((theirs / f).read_bytes() == (mine / f).read_bytes() for f in files), stage


# -- what is refused ---------------------------------------------------------------------------------------------------


def refused(
    home: Path, frame: pl.DataFrame, words: str, code: int = Exit.DATA, kind: str = "parquet", **more: Any
) -> None:
    made = chain(home, lambda f: f, **more)
    write(frame, home / "log", f"events_{DAYS[0]}", kind)
    made.config["data"]["format"] = kind
    made.config["data"]["events"]["path"] = f"events_{{day}}.{kind}"
    made.write()
    ended = made.call("check", "--day", DAYS[0])
    assert ended.code == code and words in ended.err, ended.err
    assert_one_line(ended.err)


def unequal() -> pl.DataFrame:
    frame = parallel(requests()).unnest("results")
    longer = pl.when(pl.col("request") == 7).then(pl.col("opened").list.concat(pl.lit(True))).otherwise("opened")
    return frame.with_columns(opened=longer).select("request", "at", "user", "town", results=pl.struct(FIELDS))


def test_lists_of_several_lengths(tmp_path: Path) -> None:
    many = len(requests()["results"][7])
    words = f"data.events.explode: results.opened has {many + 1} elements, but results.listing {many}"
    refused(tmp_path / "a", unequal(), f"events_{DAYS[0]}.parquet: row 7: {words}", explode="results")
    words = f"events_{DAYS[0]}.json: row 8 of those that are read: {words}"
    types = {"at": "datetime", "results.opened": "bool", "results.seconds": "float64"}
    refused(tmp_path / "b", unequal(), words, kind="json", explode="results", types=types)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"explode": "result"}, "data.events.explode expects column result, did you mean results?"),
        ({"explode": "town"}, "data.events.explode: column town is large_string, expected lists"),
        ({"explode": "results", "explode_position": "user"}, "explode_position: the file has a column user"),
        ({}, "column results.listing is "),
    ],
)
def test_what_is_no_list(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    refused(tmp_path, requests(), words, **more)


def test_an_element_without_an_item(tmp_path: Path) -> None:
    listing = pl.element().struct.field("listing")
    known = pl.when(pl.element().struct.field("rank") < 4).then(listing).alias("listing")
    others = [pl.element().struct.field(name) for name in FIELDS[1:]]
    frame = requests().with_columns(pl.col("results").list.eval(pl.struct(known, *others)))
    refused(
        tmp_path,
        frame,
        "column results.listing, element 4 of the lists that are read: expected an id",
        explode="results",
    )


def test_a_place_without_lists(tmp_path: Path) -> None:
    made = chain(tmp_path, lambda f: f, explode_position="place")
    ended = made.call("check", "--day", DAYS[0])
    assert ended.code == Exit.CONFIG and "explode_position has no effect without explode" in ended.err


# -- types, fields -----------------------------------------------------------------------------------------------------


def test_types_of_elements(tmp_path: Path) -> None:
    """A type of a column of lists is that of their elements, and a wrong one is told with its row."""
    lines = [{"d": "2026-01-31", "u": 1, "r": {"i": ["a", "b"], "t": ["1:05", None]}}]
    lines += [{"d": "2026-01-31", "u": 2, "r": None}, {"d": "2026-01-31", "u": 3, "r": {"i": ["c"], "t": ["0:07"]}}]
    (tmp_path / "log").mkdir()
    file = tmp_path / "log" / f"events_{DAY}.json"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    events = Events(
        path="events_{day}.json", explode=("r",), user="u", item="r.i", duration="r.t", types={"r.t": "clock"}
    )
    log = Data(root=str(tmp_path / "log"), format="json", events=events)
    features = (Feature(name="u", side="user", kind="categorical"),)
    found = rows(Log(log, features, converted=tmp_path / "c").read(DAY, tmp_path)).sort("position")
    assert found["duration"].fill_nan(None).to_list() == [65.0, None, 7.0] and found["item"].to_list() == [
        "a",
        "b",
        "c",
    ]
    file.write_text(file.read_text().replace("0:07", "soon"))
    with pytest.raises(UserError, match=r"row 3, column r\.t: expected a length of time .*, got 'soon'"):
        Log(log, features, converted=tmp_path / "c").read(DAY, tmp_path)


@pytest.mark.parametrize("kind", ["parquet", "json", "delta"])
def test_a_field_of_a_side_tables_objects_is_a_list(tmp_path: Path, kind: str) -> None:
    items = pl.DataFrame(
        {
            "id": [f"d{k}" for k in range(30)],
            "topics": [None if k % 7 == 0 else [{"slug": f"s{j}", "n": j} for j in range(k % 4)] for k in range(30)],
        }
    )
    made = chain(tmp_path, flat)
    path = write(items, tmp_path / "log", "items", kind)
    made.config["data"]["items"] = {"path": path, "key": "id", "format": kind}
    made.config["features"].append({"name": "topics", "side": "item", "kind": "sequence", "column": "topics.slug"})
    made.write()
    made.done("build-profile", 1)
    taught = Path(made.done("train-teacher", 1)["path"])
    words = pl.concat([pl.read_parquet(f) for f in taught.rglob("*vocabular*.parquet")], how="diagonal")
    assert {"s0", "s1", "s2"} <= set(words["text_value"].drop_nulls())


# -- init --------------------------------------------------------------------------------------------------------------


def listed(home: Path, change: Any, kind: str) -> dict[str, Any]:
    """What `init` writes of a log of requests beside a larger catalogue of items with dates; `check` runs on it."""
    log = home / "log"
    for k in range(3):
        day = dt.date(2026, 3, 1 + k)
        write(change(requests(day, 400, k).drop("town")), log, f"home_{day:%Y%m%d}", kind)
    born = [f"2026-0{1 + k % 2}-1{k % 9} 10:00:00" for k in range(30)]
    catalogue = pl.DataFrame({"id": [f"d{k}" for k in range(30)], "title": ["words " * 9000] * 30, "published": born})
    catalogue.with_columns(show=pl.struct(id=pl.col("id").str.replace("d", "w"))).write_ndjson(log / "listings.jsonl")
    ended = dmtl("init", log, "-o", home / "mine.yaml")
    assert ended.code == 0, ended.err + ended.out
    assert "cookie" not in ended.out and "EDIT" not in ended.out
    made: dict[str, Any] = yaml.safe_load((home / "mine.yaml").read_text())
    return made


@pytest.mark.parametrize("kind", ["parquet", "json", "avro"])
@pytest.mark.parametrize("shape", SHAPES)
def test_init_finds_the_lists(tmp_path: Path, shape: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    change, explode = SHAPES[shape]
    if shape == "lists":
        explode = "results"  # what they have in common is shorter
    made = listed(tmp_path, change, kind)
    events = made["data"]["events"]
    assert events["explode"] == explode and events["path"].startswith("home_{day")
    roles = {"user": "user", "item": "results.listing", "click": "results.opened", "duration": "results.seconds"}
    assert {role: events[role] for role in roles} == roles and made["data"]["items"]["key"] == "id"
    day = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-03", "--json").json
    assert day["rows"] == len(flat(requests(dt.date(2026, 3, 3), 400, 2)))


def test_init_leaves_lists_beside_an_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A history of objects in rows that have an item: the rows are the events, the lists their features."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    frame = flat(requests(DAY, 400)).drop("town").rename({"results.listing": "item_id"})
    past = [[{"item_id": f"d{k}", "watched": 1.5} for k in rng.integers(30, size=3)] for _ in range(len(frame))]
    write(frame.with_columns(past=pl.Series(past)), tmp_path / "log", f"events_{DAY}", "parquet")
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml")
    made = yaml.safe_load((tmp_path / "mine.yaml").read_text())
    assert ended.code == 0 and "explode" not in made["data"]["events"] and made["data"]["events"]["item"] == "item_id"


def test_events_before_a_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Days of rows with a user and a time are the events, though they lack an item and a catalogue has all roles; what
    is not used is named by its pattern."""
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "log"
    for k in range(3):
        day = dt.date(2026, 3, 1 + k)
        shown = requests(day, 400, k).with_columns(shown=pl.col("results").list.eval(pl.element().struct[0]))
        write(shown.drop("results", "town"), log, f"home_{day:%Y%m%d}", "json")
        write(pl.DataFrame({"what": ["ok"], "n": [k]}), log, f"probe_{day:%Y%m%d}", "json")
    many, rng = 2000, np.random.default_rng(2)
    born = [f"2026-0{1 + k % 2}-1{k % 9} 10:00:00" for k in range(many)]
    catalogue = {"id": [f"d{k}" for k in range(many)], "title": [f"t{k // 2} " * 90 for k in range(many)]}
    catalogue |= {
        "user_id": [f"w{k % 9}" for k in range(many)],
        "published": born,
        "seconds": rng.integers(9, 999, many),
    }
    pl.DataFrame(catalogue).write_ndjson(log / "episodes.jsonl")
    assert (log / "episodes.jsonl").stat().st_size > sum(f.stat().st_size for f in log.glob("home_*"))
    ended = dmtl("init", log, "-o", tmp_path / "mine.yaml")
    assert ended.code == Exit.CONFIG and "\nhome_{day}.json: json, 3 days" in f"\n{ended.out}"
    assert "--item shown" in ended.out and "probe_{day}.json: " in ended.out and "not used: .: " not in ended.out


def test_a_catalogue_alone_begins_with_the_edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    born = [dt.datetime(2026, 1, 1) + dt.timedelta(hours=k) for k in range(300)]
    items = {"item_id": range(300), "seller_id": [7000 + k % 40 for k in range(300)], "created_at": born}
    write(pl.DataFrame(items), tmp_path / "log", "items", "parquet")
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml")
    first, second, *_ = ended.out.splitlines()
    assert ended.code == Exit.CONFIG and first.startswith("first: ") and "edit line" in first and first in ended.out[9:]
    assert second == "items.parquet has a row an item and says nothing of clicks: is the log of events elsewhere?"
