"""`dmtl recommend --feature`: raw values at the command line count as over HTTP and as in a file, or are refused."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal as assert_same
from serving_over_http import Running, running
from worlds import Project

from dmtl_cli.config.errors import UserError
from dmtl_cli.runs.artifact import publish
from dmtl_cli.runs.workspace import Workspace
from dmtl_cli.serving.export import Export
from dmtl_cli.serving.given import parsed, with_near

FROZEN = Path(__file__).parent / "contract" / "frozen" / "shown"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The frozen export of every kind of feature, as a chain publishes one."""
    home = tmp_path_factory.mktemp("home")
    made = Project.create(home, home / "log")
    frozen = Export(folder())
    assert frozen.key
    with publish(Workspace(made.ws), "export", dt.date(2026, 1, 3), latest=True, key=frozen.key) as pub:
        for file in folder().iterdir():
            shutil.copy(file, pub.path)
        pub.seal({"key": frozen.key, "config": {}, "seed": 1, "versions": {}, "threads": 1})
    return made


def folder() -> Path:
    (found,) = FROZEN.glob("day=*/run-*")
    return found


@pytest.fixture(scope="module")
def server(project: Project) -> Iterator[Running]:
    with running(project.ws) as found:
        yield found


GIVEN: list[tuple[list[str], dict[str, Any]]] = [
    (["hour=8"], {"hour": "8"}),
    (["battery=12.5", "device=5"], {"battery": 12.5, "device": "5"}),
    (["premium=true"], {"premium": True}),
    (["premium=0"], {"premium": 0}),
    (["age=true", "visits=-3", "spend=1e3"], {"age": 1, "visits": -3, "spend": 1000.0}),
    (["topics=a||c"], {"topics": "a||c"}),
    (['topics=["c", null, "a"]'], {"topics": ["c", None, "a"]}),
    (["queries=x, y"], {"queries": "x, y"}),
    (['history=["item-03", "item-05"]'], {"history": ["item-03", "item-05"]}),
    (["taste=[0.5, -1, null]", "country=DE"], {"taste": [0.5, -1, None], "country": "DE"}),
    (["age=", "topics="], {"age": None, "topics": None}),
    (["clicks=12", "country=a=b"], {"clicks": 12, "country": "a=b"}),
]
_SEEN = "not a value of this export, so it counts as never seen (OOV):"
TOLD = {
    "hour=8": f"dmtl: --feature hour: {_SEEN} '8' (did you mean '08'?)\n",
    'history=["item-03", "item-05"]': f"dmtl: --feature history: {_SEEN} 'item-03'\n",
    "country=a=b": f"dmtl: --feature country: {_SEEN} 'a=b'\n",
}
"""what is said of values of GIVEN that the frozen export has not"""


@pytest.mark.parametrize("who", ["known", "new", "guest"])
@pytest.mark.parametrize(("given", "sent"), GIVEN, ids=[" ".join(texts) for texts, _ in GIVEN])
def test_values_count_as_over_http(
    project: Project, server: Running, given: list[str], sent: dict[str, Any], who: str
) -> None:
    user = {"known": str(Export.open(project.ws).users["user_id"][3]), "new": str(2**62), "guest": None}[who]
    texts = [word for text in given for word in ("--feature", text)]
    named = [] if user is None else ["--user", user]
    ended = project.call("recommend", *named, *texts, "-k", 30, "--exclude-seen", "--json")
    assert (ended.code, ended.err) == (0, "".join(TOLD[text] for text in given if text in TOLD)), ended.err
    body = {"user": user, "features": sent, "k": 30, "exclude_seen": True}
    answer = server.client.post("/recommend", json=body)
    assert answer.status_code == 200, answer.text
    (result,) = answer.json()["results"]
    assert (ended.json["user"], ended.json["known"]) == (user, who == "known")
    assert [row["item_id"] for row in ended.json["items"]] == [row["item_id"] for row in result["items"]]
    scores = [row["score"] for row in result["items"]]
    assert [row["score"] for row in ended.json["items"]] == pytest.approx(scores, abs=1e-6) and len(set(scores)) > 1


def test_values_count_as_in_a_file(project: Project, tmp_path: Path) -> None:
    """Of a known user in place of what is stored, and what is not given stays; of somebody new it is unknown."""
    user = Export.open(project.ws).users["user_id"][3]
    values = {"battery": 12.5, "country": "DE", "topics": "a|c", "age": 70.0}
    file, out = tmp_path / "users.parquet", tmp_path / "top.parquet"
    pl.DataFrame({"user_id": [user, 2**62], **{name: [value] * 2 for name, value in values.items()}}).write_parquet(
        file
    )
    assert project.call("recommend", "--users", file, "-o", out, "-k", 9).code == 0
    texts = [word for name, value in values.items() for word in ("--feature", f"{name}={value}")]
    for who in (user, 2**62):
        items = project.call("recommend", "--user", who, *texts, "-k", 9, "--json").json["items"]
        many = pl.read_parquet(out).filter(pl.col("user_id") == who)
        assert [row["item_id"] for row in items] == many["item_id"].cast(pl.String).to_list()
    stored = project.call("recommend", "--user", user, "-k", 9, "--json").json
    given = project.call("recommend", "--user", user, *texts, "-k", 9, "--json").json
    assert stored["known"] and stored["items"] != given["items"]


@pytest.mark.parametrize("kappa", [0, 0.25, 3])
def test_how_much_counts_what_is_shown_may_be_said(
    project: Project, server: Running, tmp_path: Path, kappa: float
) -> None:
    export, out = Export.open(project.ws), tmp_path / "top.parquet"
    users = export.users["user_id"][:2].to_list()
    (tmp_path / "users.txt").write_text("\n".join(map(str, users)))
    given = ("-k", 9, "--kappa", kappa)
    assert project.call("recommend", "--users", tmp_path / "users.txt", "-o", out, *given).code == 0
    many = pl.read_parquet(out)
    for user in users:
        items = project.call("recommend", "--user", user, *given, "--json").json["items"]
        asked = {"user": str(user), "k": 9, "kappa": kappa}
        (served,) = server.client.post("/recommend", json=asked).json()["results"]
        mine = many.filter(pl.col("user_id") == user)
        assert [row["item_id"] for row in items] == [row["item_id"] for row in served["items"]]
        assert [row["score"] for row in items] == pytest.approx(mine["score"].to_list(), abs=1e-6)
        assert [row["score"] for row in items] == pytest.approx([row["score"] for row in served["items"]], abs=1e-5)
        assert (max(abs(row["exposure"]) for row in items) == 0) == (kappa == 0)
    assert project.call("recommend", "--user", user, "-k", 9, "--kappa", "nan").code == 2
    assert project.call("recommend", "--user", user, "-k", 9, "--kappa", "-1").code == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("visits", 2.7),
        ("premium", 2),
        ("premium", "1"),
        ("age", True),
        ("clicks", 3),
        ("lots", ["1", "x", "2"]),
        ("topics", ["c", None, "a"]),
        ("history", [3]),
        ("country", 5),
        ("device", 5),
        ("taste", [1, 0, -1]),
    ],
)
def test_values_of_other_types_than_the_log_has_count_in_a_file_as_over_http(
    project: Project, tmp_path: Path, name: str, value: Any
) -> None:
    """The other user of the file says nothing of it, so it is as it is stored."""
    export, file = Export(folder()), tmp_path / "users.parquet"
    users = export.users["user_id"][:2].to_list()
    pl.DataFrame({"user_id": users, name: [value, None]}).write_parquet(file)
    assert project.call("recommend", "--users", file, "-k", 5, "-o", tmp_path / "top.parquet").code == 0
    expected = [
        export.recommend(str(user), 5, values=values)["score"].to_list()
        for user, values in zip(users, [{name: value}, None], strict=True)
    ]
    found = pl.read_parquet(tmp_path / "top.parquet").sort("user_id", "rank")["score"].to_list()
    assert found == pytest.approx([score for scores in expected for score in scores], abs=1e-5)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("premium", 2.7, "feature premium: a categorical value is not whole"),
        ("lots", [1.5, 2.0], "feature lots: a categorical value is not whole"),
        ("age", "12", "feature age: expected numbers, got text"),
        ("taste", ["1", "2", "3"], "feature taste: expected lists of 3 numbers, got lists of text"),
    ],
)
def test_a_file_is_refused_what_http_refuses(
    project: Project, tmp_path: Path, name: str, value: Any, said: str
) -> None:
    export, file = Export(folder()), tmp_path / "users.parquet"
    user = export.users["user_id"][0]
    pl.DataFrame({"user_id": [user], name: [value]}).write_parquet(file)
    ended = project.call("recommend", "--users", file, "-o", tmp_path / "top.parquet")
    assert ended.code == 65 and said in ended.err
    with pytest.raises(UserError, match=said):
        export.recommend(str(user), 5, values={name: value})


def test_somebody_new_is_told(project: Project) -> None:
    ended = project.call("recommend", "--user", 2**62, "--feature", "hour=08", "-k", 3)
    assert ended.code == 0 and len(ended.out.splitlines()) == 3
    assert ended.err == f"dmtl: user {2**62} is not in the export: their list is of what --feature says alone\n"
    assert project.call("recommend", "--feature", "hour=08", "-k", 3).err == ""
    ended = project.call("recommend", "--user", 2**62)
    assert ended.code == 66 and "somebody new by --feature NAME=VALUE" in ended.err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ["batery=5"],
            "no feature 'batery' of users, did you mean battery?; expected some of user_id, premium, country",
        ),
        (["Battery=5"], "no feature 'Battery' of users, did you mean battery?"),
        (["COUNTRY=DE"], "no feature 'COUNTRY' of users, did you mean country?"),
        (["user.id=5"], "no feature 'user.id' of users, did you mean user_id?"),
        (["price=5"], "no feature 'price' of users"),
        (["hour"], "--feature hour: expected NAME=VALUE"),
        (["age=old"], "--feature age: expected a number, got 'old'"),
        (["age=1_000"], "--feature age: expected a number, got '1_000'"),
        (["age=[3]"], "--feature age: expected a number, got '[3]'"),
        (["premium=yes"], "--feature premium: expected an integer, got 'yes'"),
        (["user_id=me"], "--feature user_id: expected an integer, got 'me'"),
        (["history=item-03"], """--feature history: expected a JSON list such as ["a", "b"], got 'item-03'"""),
        (["history=[[1]]"], "--feature history: expected a JSON list"),
        (["history=" + "[" * 60_000], "--feature history: expected a JSON list"),
        (["taste=1,2,3"], "--feature taste: expected a JSON list of 3 numbers, got '1,2,3'"),
        (["taste=[1, 2]"], "--feature taste: expected a JSON list of 3 numbers, got '[1, 2]'"),
        (['taste=[1, 2, "3"]'], "--feature taste: expected a JSON list of 3 numbers"),
        (["age=1", "age=2"], "--feature age is given twice"),
    ],
)
def test_what_is_no_value_is_refused(project: Project, given: list[str], said: str) -> None:
    texts = [word for text in given for word in ("--feature", text)]
    ended = project.call("recommend", "--user", 2**62, *texts)
    assert ended.code == 2 and said in ended.err, ended.err


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ("country=de", "'de' (did you mean 'DE'?)"),
        ("country= D e", "' D e' (did you mean 'DE'?)"),
        ("country=E\u0301", "'E\u0301' (did you mean 'e\u0301'?)"),  # the frozen log has é in two writings
        ("country=rare", "'rare'"),  # waits for more rows, so that it has none of its own yet
        ("country=XX", "'XX'"),
        ('topics=["A", "b", "nothing"]', "'A' (did you mean 'a'?), 'nothing'"),
        ('topics=["v", "w", "x", "y", "z"]', "'v', 'w', 'x' and 2 more"),
        ("premium=7", "'7'"),
    ],
)
def test_a_value_that_the_export_has_not_is_said(project: Project, given: str, near: str) -> None:
    """It goes on, and its list is that of an unknown value."""
    ended = project.call("recommend", "--feature", given, "-k", 5, "--json")
    name = given.partition("=")[0]
    assert ended.code == 0 and ended.err == f"dmtl: --feature {name}: {_SEEN} {near}\n"
    for known in ("country=DE", 'topics=["a", "d"]', "premium=0", "device=never-seen", "age=77", "country="):
        assert project.call("recommend", "--feature", known, "-k", 5).err == ""


def test_a_feature_is_told_by_the_column_that_it_reads(project: Project, tmp_path: Path) -> None:
    """A column in Greek, whose feature is called by its side."""
    at = next(Path(project.ws).glob("export/day=*/run-*/features.json"))
    text = at.read_text()
    stored = json.loads(text)
    next(f for f in stored["features"] if f["name"] == "country")["column"] = "χώρα"
    copied = tmp_path / at.parent.name
    shutil.copytree(at.parent, copied)
    (copied / "features.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match="no feature 'χώρα' of users, did you mean country, which reads this column"):
        parsed(Export(copied).encoder, ["χώρα=DE"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["tags=X"], ["tags: no item of this export has 'X' (did you mean 'x'?)"]),
        (['tags=["x", "Z ", "no"]'], ["tags: no item of this export has 'Z ' (did you mean 'z'?), 'no'"]),
        (["publisher=70"], ["publisher: no item of this export has 70"]),
        (["tags=x", "publisher=[4, 70]"], ["publisher: no item of this export has 70"]),
        (["tags=x", 'publisher={"min": 70}', "item_id=null"], []),
    ],
)
def test_a_filter_by_a_value_that_no_item_has_is_said(project: Project, given: list[str], said: list[str]) -> None:
    texts = [word for text in given for word in ("--filter", text)]
    ended = project.call("recommend", "--feature", "premium=0", *texts, "--json")
    assert ended.code == 0 and ended.err == "".join(f"dmtl: --filter {line}\n" for line in said)
    if not ended.json["items"]:
        assert project.call("recommend", "--feature", "premium=0", *texts).out == "", "no item is no line"


def test_a_list_of_integers(project: Project, tmp_path: Path) -> None:
    """The frozen export of text users has integer items, which a history names."""
    frozen = next((FROZEN.parent / "plain").glob("day=*/run-*"))
    made = Project.create(tmp_path, tmp_path / "log")
    key = Export(frozen).key
    assert key
    with publish(Workspace(made.ws), "export", dt.date(2026, 1, 3), latest=True, key=key) as pub:
        for file in frozen.iterdir():
            shutil.copy(file, pub.path)
        pub.seal({"key": key, "config": {}, "seed": 1, "versions": {}, "threads": 1})
    export = Export.open(made.ws)
    watched = export.items[0][:2].to_list()
    ended = made.call("recommend", "--feature", f"watched={json.dumps(watched)}", "--json")
    same = made.call("recommend", "--feature", f"watched={json.dumps([str(item) for item in watched])}", "--json")
    assert ended.code == 0 and ended.json == same.json
    ended = made.call("recommend", "--feature", 'watched=["a"]')
    assert ended.code == 2 and "--feature watched: expected integers, as the log has, got '[\"a\"]'" in ended.err
    ended = made.call("recommend", "--feature", "watched=7")
    assert ended.code == 2 and "expected a JSON list such as [3, 5], got '7'" in ended.err
    ended = made.call("recommend", "--feature", "watched=[3.5]")
    assert ended.code == 65 and "feature watched" in ended.err


def test_an_empty_text_is_not_near_to_zero() -> None:
    assert with_near([""], pl.Series(["0", "1"])) == "''"
    assert with_near(["00", "01"], pl.Series(["0", "1"])) == "'00' (did you mean '0'?), '01' (did you mean '1'?)"


# -- what training had of who has no event -----------------------------------------------------------------------------


@pytest.mark.parametrize("user", ["777", None])
def test_who_is_new_has_no_clicks_and_no_average_of_them(project: Project, server: Running, user: str | None) -> None:
    export, file = Export(folder()), project.ws / "new.csv"
    assert export.unseen("user") == {"clicks": 0.0} and {*export.unseen("item")} == {"ctr"}
    new = export.recommend(user, 5, values={"hour": "08"})
    assert_same(new, export.recommend(user, 5, values={"hour": "08", "clicks": 0}))
    average = export.recommend(user, 5, values={"hour": "08", "clicks": None})["score"]
    assert (new["score"] - average).abs().max() > 1e-3, "null is another thing, and may be said"
    body = {"user": user, "features": {"hour": "08"}, "k": 5} if user else {"features": {"hour": "08"}, "k": 5}
    (answer,) = server.client.post("/recommend", json=body).json()["results"]
    assert [one["item_id"] for one in answer["items"]] == new["item_id"].to_list()
    pl.DataFrame({"user_id": [user], "hour": ["08"]}, schema={"user_id": pl.String, "hour": pl.String}).write_csv(file)
    ended = project.call("recommend", "--users", file, "-k", "5", "-o", file.with_suffix(".parquet"))
    assert ended.code == 0, ended.err
    written = pl.read_parquet(file.with_suffix(".parquet")).sort("rank")
    assert written["item_id"].to_list() == new["item_id"].to_list()


def test_no_value_in_a_file_is_what_is_stored_or_of_who_is_new(project: Project) -> None:
    """A column of a file is of all its users: an empty cell says nothing of one of them."""
    file, export = project.ws / "both.csv", Export(folder())
    known = str(export.users["user_id"][0])
    file.write_text(f"user_id,clicks\n{known},\n777,\n777,5\n")
    ended = project.call("recommend", "--users", file, "-k", "3", "-o", file.with_suffix(".parquet"))
    assert ended.code == 0, ended.err
    found = pl.read_parquet(file.with_suffix(".parquet")).sort("row", "rank")["score"].to_list()
    told = [(known, None), ("777", {}), ("777", {"clicks": 5})]
    expected = [export.recommend(user, 3, values=values)["score"].to_list() for user, values in told]
    assert found == pytest.approx([score for scores in expected for score in scores], abs=1e-5)
    assert max(abs(a - b) for a, b in zip(expected[1], expected[2], strict=True)) > 1e-3


def test_a_new_item_has_the_prior_of_its_rate(server: Running) -> None:
    prior = Export(folder()).unseen("item")["ctr"]

    def vector(row: dict[str, Any]) -> list[float]:
        made: list[list[float]] = server.client.post("/vectors", json={"side": "item", "rows": [row]}).json()["vectors"]
        return made[0]

    assert vector({}) == vector({"ctr": prior}) != vector({"ctr": None})


@pytest.mark.parametrize("number", ["0", True, [], None])
def test_what_is_no_number_of_who_is_new_is_refused(tmp_path: Path, number: Any) -> None:
    shutil.copytree(folder(), tmp_path / "run")
    described = json.loads((tmp_path / "run/features.json").read_text())
    described["unseen"]["clicks"] = number
    (tmp_path / "run/features.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match="unseen: clicks: expected a finite number"):
        Export(tmp_path / "run")
