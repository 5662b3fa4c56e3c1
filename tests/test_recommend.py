"""`dmtl recommend` for one user and for a file of them over a real chain; the keys that `dmtl forget` leaves."""

from __future__ import annotations

import datetime as dt
import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from worlds import Project

from dmtl_cli.runs.manifest import MANIFEST
from dmtl_cli.serving import Export
from dmtl_cli.serving.batch import read_users
from dmtl_cli.synth.generate import generate


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two days, whose export has int8 vectors and an index."""
    home = tmp_path_factory.mktemp("chain")
    generate(home / "world", 2, start=dt.date(2026, 1, 1), users=60, items=80, events_per_day=800, seed=1)
    project = Project.create(home, home / "world" / "log")
    project.config["export"] = {"vectors": "int8", "index": "ivf"}
    project = Project.create(home, home / "world" / "log", config=project.config)
    for day in (1, 2):
        assert project.stage("run", day).code == 0
    return project


def the_export(project: Project) -> Path:
    return Path(project.call("path", "export").out.strip())


def test_its_manifest_says_what_is_kept(chain: Project) -> None:
    document = json.loads((the_export(chain) / MANIFEST).read_text())
    assert 0.8 < document["metrics"]["vectors.recall@50"] <= 1
    assert document["metrics"]["index.recall@50"] > 0.9
    gates = {gate["name"]: gate for gate in document["gates"]}
    assert gates["export.index_recall"]["kind"] == "quality" and gates["export.index_recall"]["passed"]
    assert gates["export.mapped"]["passed"] and document["config"]["export"]["faiss"]
    export = Export.open(chain.ws)
    assert export.key == document["key"] and len(export.item_features) == len(export.items[0])
    stored = {f.name for f in export.encoder.features_of_side("item") if f.kind != "vector"}
    assert {*export.item_features.columns} == stored and export.item_features.null_count().sum_horizontal()[0] == 0


def test_a_batch_is_one_after_the_other(chain: Project, tmp_path: Path) -> None:
    users = pl.read_parquet(the_export(chain) / "users.parquet")["user_id"].to_list()
    (tmp_path / "users.txt").write_text("".join(f"{u}\n" for u in [*users[:9], 10**9]))
    out = tmp_path / "top.parquet"
    ended = chain.call("recommend", "--users", tmp_path / "users.txt", "-o", out, "-k", 5)
    assert (ended.code, ended.out) == (0, "")
    assert ended.err == f"dmtl: 9 users in {out}; 1 user not in the export and left out: 1000000000\n"
    whole, first = pl.read_parquet(out), out.read_bytes()
    for user in users[:9]:
        one = chain.call("recommend", "--user", user, "-k", 5, "--json").json["items"]
        batch = whole.filter(pl.col("user_id") == user)["item_id"].cast(pl.String)
        assert batch.to_list() == [row["item_id"] for row in one]
    told = chain.call("recommend", "--users", tmp_path / "users.txt", "-o", out, "-k", 5, "--json").json
    assert {k: told[k] for k in ("known", "cold", "unknown")} == {"known": 9, "cold": 0, "unknown": 1}
    assert out.read_bytes() == first


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_file_may_call_the_ids_as_the_log_does(chain: Project, tmp_path: Path, ending: str) -> None:
    """They are users of the export then, and not people who are known by one feature alone."""
    users = pl.read_parquet(the_export(chain) / "users.parquet").select(member="user_id").head(5)
    file, out = tmp_path / f"users.{ending}", tmp_path / "top.parquet"
    users.write_csv(file) if ending == "csv" else users.write_parquet(file)
    told = chain.call("recommend", "--users", file, "-o", out, "-k", 5, "--json", "--set", "data.events.user=member")
    assert told.code == 0 and {k: told.json[k] for k in ("known", "cold", "unknown")} == {
        "known": 5,
        "cold": 0,
        "unknown": 0,
    }, told.err
    (tmp_path / "users.txt").write_text("".join(f"{u}\n" for u in users["member"]))
    assert chain.call("recommend", "--users", tmp_path / "users.txt", "-o", tmp_path / "x.parquet", "-k", 5).code == 0
    assert pl.read_parquet(out).equals(pl.read_parquet(tmp_path / "x.parquet"))


def test_beside_user_id_the_logs_own_name_is_a_feature(tmp_path: Path) -> None:
    file = tmp_path / "users.csv"
    file.write_text("user_id,uid,age\n1,1,30\n2,2,31\n")
    both = read_users(file, pl.Int64(), ["uid", "age"], "uid")
    assert both.schema["uid"] == pl.Int64 and both["uid"].to_list() == both["user_id"].to_list() == [1, 2]


@pytest.mark.parametrize(
    "given", [[], ["--user", 1, "--users", "x"], ["--users", "x"], ["--user", 1, "-o", "x.parquet"]]
)
def test_one_or_many(chain: Project, given: list[object]) -> None:
    ended = chain.call("recommend", *given)
    assert ended.code == 2 and "--users FILE with -o" in ended.err


def test_a_table_is_named_parquet_and_appears_whole(chain: Project, tmp_path: Path) -> None:
    (tmp_path / "users.txt").write_text("1\n")
    assert chain.call("recommend", "--users", tmp_path / "users.txt", "-o", tmp_path / "x.csv").code == 2
    ended = chain.call("recommend", "--users", tmp_path / "users.txt", "-o", tmp_path / "no" / "x.parquet")
    assert ended.code in (66, 73) and ended.err.count("\n") == 1


def test_only_verify_hashes(chain: Project) -> None:
    run = the_export(chain)
    file = run / "item_tower.pt2"
    whole = file.read_bytes()
    user = pl.read_parquet(run / "users.parquet")["user_id"][0]
    try:
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        ended = chain.call("recommend", "--user", user, "--verify")
        assert ended.code == 65 and "item_tower.pt2" in ended.err
        file.write_bytes(whole[:-1])
        ended = chain.call("recommend", "--user", user)
        assert ended.code == 65 and "item_tower.pt2" in ended.err
    finally:
        file.write_bytes(whole)


def test_forget_keeps_the_keys(chain: Project, tmp_path: Path) -> None:
    """Files that are written again carry the key that the others have, which the manifest then names."""
    shutil.copytree(chain.home, tmp_path / "home")
    project = Project.create(tmp_path / "home", Path(chain.config["data"]["root"]), config=chain.config)
    before = Export.open(project.ws)
    gone = before.users["user_id"][0]
    (tmp_path / "gone").write_text(f"{gone}\n")
    assert project.call("forget", "--users", tmp_path / "gone").code == 0
    after = Export.open(project.ws)
    assert after.folder != before.folder and after.key == before.key
    document = json.loads((after.folder / MANIFEST).read_text())
    assert document["facts"]["files_key"] == after.key != document["key"]
    assert gone not in after.users["user_id"]
    assert project.stage("run", 2).code == 0


# -- columns of items, and filters by them -----------------------------------------------------------------------------


def table_of(project: Project, day: str = "2026-01-02") -> pl.DataFrame:
    return pl.read_parquet(Path(project.config["data"]["root"]) / f"items/day={day}/*.parquet")


def someone(project: Project) -> int:
    return int(pl.read_parquet(the_export(project) / "users.parquet")["user_id"][0])


def test_columns_of_the_export_and_of_the_table_of_items_stand_behind_the_score(chain: Project) -> None:
    """The cluster is no feature: it is read from the table of the export's day, a category from the export."""
    user, names = someone(chain), ("category", "item_click_cluster")
    assert "item_click_cluster" not in Export.open(chain.ws).item_features.columns
    plain = chain.call("recommend", "--user", user, "-k", 5)
    shown = chain.call("recommend", "--user", user, "-k", 5, "--columns", ",".join(names))
    lines = [line.split("\t") for line in shown.out.splitlines()]
    assert shown.code == 0 and [line[:2] for line in lines] == [line.split("\t") for line in plain.out.splitlines()]
    known = {str(row["item_id"]): [str(row[c]) for c in names] for row in table_of(chain).iter_rows(named=True)}
    assert [line[2:] for line in lines] == [known[line[0]] for line in lines]
    again = [word for name in names for word in ("--columns", name)]
    assert chain.call("recommend", "--user", user, "-k", 5, *again).out == shown.out
    document = chain.call("recommend", "--user", user, "-k", 5, "--columns", "category", "--json").json
    assert [[item["item_id"], str(item["columns"]["category"])] for item in document["items"]] == [
        [line[0], line[2]] for line in lines
    ]
    assert all("columns" not in item for item in chain.call("recommend", "--user", user, "--json").json["items"])


def test_columns_are_printed_as_people_read_them(chain: Project, tmp_path: Path) -> None:
    """A full-width space and one that does not break are spaces, a decimal is a number, a day has no quotes; what a
    terminal would obey stays an escape."""
    served = Export.open(chain.ws).items[0]
    names = ["雨の\u3000章", "12\u00a0rue", "a\u200bb", "بی\u200cقرار", None]
    more = pl.DataFrame({"item_id": served, "name": [names[k % 5] for k in range(len(served))]})
    more = more.with_columns(cost=pl.lit("130.50").cast(pl.Decimal(10, 2)), until=dt.date(2026, 5, 30))
    more = more.with_columns(at=pl.lit(dt.datetime(2026, 5, 30, 8)), new=True, days=pl.concat_list("until"))
    more.write_parquet(tmp_path / "more.parquet")
    given = ("--items", tmp_path / "more.parquet", "--columns", "name,cost,until,at,new,days", "-k", 1000)
    ended = chain.call("recommend", "--user", someone(chain), *given)
    assert ended.code == 0, ended.err
    assert {line.split("\t")[2] for line in ended.out.splitlines()} == {
        "雨の 章",
        "12 rue",
        "a\\u200bb",
        "بی\u200cقرار",
        "",
    }
    others = {tuple(line.split("\t")[3:]) for line in ended.out.splitlines()}
    assert others == {("130.50", "2026-05-30", "2026-05-30 08:00:00", "true", "2026-05-30")}


def test_columns_are_json_where_a_number_is_none(chain: Project, tmp_path: Path) -> None:
    served = Export.open(chain.ws).items[0]
    prices, pairs = [math.nan, math.inf, 2.5], [[1.5, math.nan], None, [-math.inf]]
    more = {"price": [prices[k % 3] for k in range(len(served))], "*": [pairs[k % 3] for k in range(len(served))]}
    more["size"] = [{"width": math.nan, "height": 2}] * len(served)
    pl.DataFrame({"item_id": served, **more}).write_parquet(tmp_path / "more.parquet")
    given = ("--items", tmp_path / "more.parquet", "--columns", "price,*,size", "-k", 1000, "--json")
    ended = chain.call("recommend", "--user", someone(chain), *given)
    items = json.loads(ended.out, parse_constant=pytest.fail)["items"]
    assert [item["columns"].pop("size") for item in items] == [{"width": None, "height": 2}] * len(items)
    assert {json.dumps(item["columns"]) for item in items} == {
        '{"price": null, "*": [1.5, null]}',
        '{"price": null, "*": null}',
        '{"price": 2.5, "*": [null]}',
    }


def test_a_filter_leaves_the_items_that_have_a_value(chain: Project, tmp_path: Path) -> None:
    user, table = someone(chain), table_of(chain)
    served = Export.open(chain.ws).items[0]
    table = table.filter(pl.col("item_id").is_in(served.implode()))
    wanted = {
        "item_click_cluster=3": pl.col("item_click_cluster") == 3,
        "category=[1, 2]": pl.col("category").is_in([1, 2]),
        'category={"min": 4}': pl.col("category") >= 4,
    }
    for given, holds in wanted.items():
        found = chain.call("recommend", "--user", user, "-k", 1000, "--filter", given, "--json").json["items"]
        mine = {str(i) for i in table.filter(holds)["item_id"]}
        assert {item["item_id"] for item in found} == mine and 0 < len(mine) < len(served), given
    (tmp_path / "users.txt").write_text(f"{user}\n")
    pl.DataFrame({"item_id": served, "stock": [k % 2 for k in range(len(served))]}).write_parquet(
        tmp_path / "s.parquet"
    )
    more = ("--items", tmp_path / "s.parquet", "--filter", "stock=1", "--filter", "category=[1, 2]", "-k", 1000)
    ended = chain.call("recommend", "--users", tmp_path / "users.txt", "-o", tmp_path / "top.parquet", *more)
    assert ended.code == 0, ended.err
    both = table.filter(wanted["category=[1, 2]"] & pl.col("item_id").is_in(served.gather_every(2, 1).implode()))
    assert {*pl.read_parquet(tmp_path / "top.parquet")["item_id"]} == {*both["item_id"]}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--columns", "categori"], "--columns: no column 'categori', did you mean category?"),
        (["--filter", "categori=1"], "--filter: no column 'categori', did you mean category?"),
        (["--filter", "category=north"], "--filter: category: expected Int64, got 'north'"),
        (["--filter", "category"], "--filter: expected COLUMN=VALUE, got 'category'"),
        (["--filter", "category=1", "--filter", "category=2"], "--filter: category is given twice"),
        (["--filter", "category=" + "[" * 5_000], "--filter: category: expected a value, a list of values or"),
        (["--filter", 'category={"most": 2}'], "--filter: category: expected a value, a list of values or"),
    ],
)
def test_a_column_or_value_that_no_item_has_is_a_mistake(chain: Project, given: list[str], said: str) -> None:
    ended = chain.call("recommend", "--user", someone(chain), *given)
    assert ended.code == 2 and said in ended.err, ended.err


def test_columns_are_for_one_user(chain: Project, tmp_path: Path) -> None:
    (tmp_path / "users.txt").write_text("1\n")
    given = ("--users", tmp_path / "users.txt", "-o", tmp_path / "x.parquet", "--columns", "category")
    ended = chain.call("recommend", *given)
    assert ended.code == 2 and "a table of many is joined by item_id" in ended.err


def test_a_person_sees_what_the_columns_are(chain: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal alone: a program reads items from the first line on."""
    call = ("recommend", "--user", someone(chain), "-k", 3, "--columns", "category")
    plain = chain.call(*call).out
    monkeypatch.setattr("dmtl_cli.cli.serving.sys", SimpleNamespace(stdout=SimpleNamespace(isatty=lambda: True)))
    told = chain.call(*call).out
    assert told == f"item_id\tscore\tcategory\n{plain}" and len(plain.splitlines()) == 3
