"""`dmtl serve`: answers are those of the export, by HTTP; what is refused, and how; no request fails while it swaps."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_over_http import FULL, ITEMS, USERS, Running, point, publish_export, publish_two, running
from test_models import ITEM, USER, encoder_of, feature

from dmtl_cli.config.errors import UserError
from dmtl_cli.serving import api
from dmtl_cli.serving.answers import Answers, Users
from dmtl_cli.serving.attributes import Attributes
from dmtl_cli.serving.batch import read_users
from dmtl_cli.serving.export import Export
from dmtl_cli.serving.places import Places
from dmtl_cli.serving.requests import Health, Made, Recommended
from dmtl_cli.student.export import files

FROZEN = Path(__file__).parent / "contract" / "frozen"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_two(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def server(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Of the first export, with further columns of items."""
    more = tmp_path_factory.mktemp("items") / "items.parquet"
    further().write_parquet(more)
    with running(home, more) as found:
        yield found


def further() -> pl.DataFrame:
    """Of all items but 64, and one that is not there."""
    ids = [*range(5, 64), 999]
    days = [f"2026-01-{1 + n % 28:02}" for n in ids]
    return pl.DataFrame(
        {
            "item_id": ids,
            "title": [f"Über {n % 7}" for n in ids],
            "stock": [n % 4 != 0 for n in ids],
            "rank": [None if n % 5 == 0 else str(n / 2) for n in ids],
            "seen_at": [f"2026-01-{1 + n % 28:02}T{n % 24:02}:30:00Z" for n in ids],
            "published": [f"{1 + n % 28:02}.01.2026" for n in ids],
            "since": pl.Series(days).str.to_date(),
        }
    )


def post(server: Running, path: str, body: Any) -> tuple[int, Any]:
    answer = server.client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    return answer.status_code, answer.json()


def top(server: Running, **body: Any) -> list[str]:
    code, found = post(server, "/recommend", body)
    assert code == 200, found
    return [item["item_id"] for item in found["results"][0]["items"]]


# -- the same answers as by other ways ---------------------------------------------------------------------------------


def test_a_known_user_gets_what_the_export_gives(server: Running, home: Path) -> None:
    export = Export.open(home)
    users = [str(user) for user in export.users["user_id"]]
    code, many = post(server, "/recommend", {"users": users, "k": 7, "exclude_seen": True})
    assert code == 200 and len(many["results"]) == len(users)
    Recommended.model_validate(many, strict=True)
    assert many["export"] == {"day": "2026-01-01", "run_id": export.folder.name[4:], "key": "00" * 32}
    for user, result in zip(users, many["results"], strict=True):
        expected = export.recommend(user, 7, exclude_seen=True)
        assert (result["user"], result["known"]) == (user, True)
        assert [item["item_id"] for item in result["items"]] == [str(i) for i in expected["item_id"]]
        assert [item["score"] for item in result["items"]] == pytest.approx(expected["score"].to_list(), abs=1e-6)
    one = post(server, "/recommend", {"user": users[3], "k": 7, "exclude_seen": True})[1]["results"]
    alone, among = one[0].pop("items"), many["results"][3].pop("items")
    assert one == many["results"][3:4] and len(alone) == 7
    assert [x["item_id"] for x in alone] == [x["item_id"] for x in among]
    # a product of many users may differ from that of one in its last digit
    assert [x["score"] for x in alone] == pytest.approx([x["score"] for x in among], abs=1e-6)
    without = top(server, user=users[3], k=60)
    seen = {str(i) for i in range(5, 14)}
    assert seen & {*without} and not seen & {*top(server, user=users[3], k=60, exclude_seen=True)}


def test_who_is_not_known(server: Running) -> None:
    code, found = post(server, "/recommend", {"users": ["4", "5", str(2**70)], "k": 2.0})
    assert code == 200
    assert [(r["user"], r["known"], len(r["items"])) for r in found["results"]] == [
        ("4", True, 2),
        ("5", False, 0),
        (str(2**70), False, 0),
    ]
    code, found = post(server, "/recommend", {"user": "5"})
    assert code == 404 and found["error"].startswith("user '5' is not in the export of 2026-01-01")
    raw = {"history": [5, 6], "taste": [0.1, 0.2, 0.3]}
    bodies = [{"features": raw}, {"user": "5", "features": raw}, {"features": raw | {"user_id": "5"}}]
    guest, named, by_id = (post(server, "/recommend", body)[1]["results"][0] for body in bodies)
    assert not guest["known"] and not named["known"]
    assert named["items"] == by_id["items"] != guest["items"], "an earlier day gave this id a row"
    nobody = post(server, "/recommend", {"user": str(2**70), "features": raw})[1]["results"][0]
    assert nobody["items"] == guest["items"]
    # the same raw values as a stored user has are that user
    stored = USERS.filter(pl.col("user_id") == 4).drop(":id").to_dicts()[0]
    assert top(server, features=stored) == top(server, user="4")
    other = {"taste": [-9.0, 9.0, -9.0]}
    expected = top(server, features=stored | other)
    assert top(server, user="4", features=other) == expected != top(server, user="4"), "what is sent replaces"


@pytest.mark.parametrize("world", ["shown", "plain", "coarse", "half"])
def test_the_frozen_answers(world: str) -> None:
    """Raw values of every kind, as docs/export.md has them; NaN and infinity, which JSON has not, are left out."""
    folder = FROZEN / world / (FROZEN / world / "LATEST").read_text().strip()
    export = Export(folder).load()
    with running(folder, load=False) as server:
        attributes = Attributes(export.items[0], export.item_features)
        server.served.now = Answers(export, dt.date(2026, 1, 3), "0" * 12, Users(export), attributes)
        asked, users = 0, {*map(str, export.users["user_id"])}
        for case in json.loads((FROZEN / "cases.json").read_text()):
            request, expected, why = case["request"], case["expected"], case["why"]
            if case["export"] != world or '"float":' in json.dumps(request):
                continue
            asked += 1
            if "raw" in request and "user" not in request:  # where what is not named is unknown
                request["raw"] = dict.fromkeys(export.unseen(request["side"])) | request["raw"]
                code, found = post(server, "/vectors", {"side": request["side"], "rows": [request["raw"]]})
                # a server refuses a name that is no feature, which is ignored in a table
                assert (code in (400, 422)) == ("error" in expected or "no_such" in request["raw"]), why
                if code == 200 and "kappa" not in request:
                    Made.model_validate(found)
                    assert found["vectors"][0] == pytest.approx(expected["vector"], abs=1e-6), why
            if "k" in request:
                body = {k: v for k, v in request.items() if k in ("user", "k", "exclude_seen", "kappa")}
                if "raw" in request or request["user"] not in users:
                    body["features"] = request.get("raw", {})
                code, found = post(server, "/recommend", body)
                assert (code == 400) == ("error" in expected), why
                items = found["results"][0]["items"] if code == 200 else []
                wanted = expected.get("items", [])
                assert [i["item_id"] for i in items] == [i["item_id"] for i in wanted], why
                assert [i["score"] for i in items] == pytest.approx([i["score"] for i in wanted], abs=1e-5)
        assert asked > 9
        if world == "plain":  # whose users are text
            code, found = post(server, "/recommend", {"users": ["user-01", "\ud800"]})
            assert (code, found["error"][:31]) == (400, "user: text with half of a surro") and not server.said
        if world == "half":
            rows = [{"account": of} for of in (2**53 + 1, str(2**53 + 1), 2**53)]
            bare, text, below = post(server, "/vectors", {"side": "user", "rows": rows})[1]["vectors"]
            assert bare == text != below, "a bare integer is read exactly"
        if world == "shown":
            check_kappa(server, export)


def check_kappa(server: Running, export: Export) -> None:
    user = str(export.users["user_id"][0])
    items = post(server, "/recommend", {"user": user, "k": 30})[1]["results"][0]["items"]
    for item in items:
        assert item["exposure"] + item["preference"] == pytest.approx(item["score"], abs=1e-5)
    bare = post(server, "/recommend", {"user": user, "k": 30, "kappa": 0})[1]["results"][0]["items"]
    assert [i["score"] for i in bare] == pytest.approx(sorted((i["preference"] for i in items), reverse=True), abs=1e-5)
    more = post(server, "/recommend", {"user": user, "k": 30, "kappa": 2 * export.kappa})[1]["results"][0]["items"]
    twice = sorted((2 * i["exposure"] + i["preference"] for i in items), reverse=True)
    assert [i["score"] for i in more] == pytest.approx(twice, abs=1e-5)


def test_new_items_get_the_vector_they_are_found_by(server: Running, home: Path) -> None:
    export = Export.open(home)
    rows = ITEMS.drop(":id").to_dicts()
    code, found = post(server, "/vectors", {"side": "item", "rows": rows})
    assert code == 200 and np.allclose(found["vectors"], export.items[1], atol=1e-6)
    assert post(server, "/vectors", {"side": "item", "rows": [{}]})[0] == 200


def test_values_of_several_types_are_read_one_by_one(server: Running) -> None:
    """JSON writes 1.0 as 1 too, and an id is the same as an integer and as text."""
    asked = [
        {"taste": [1, 0.5, True]},
        {"taste": [1.0, 0.5, 1.0]},
        {"history": [5, "6", 7.0, None]},
        {"history": [5, 6, 7]},
    ]
    rows = post(server, "/vectors", {"side": "user", "rows": asked})[1]["vectors"]
    assert rows[0] == rows[1] and rows[2] == rows[3] != rows[0]
    prices = post(server, "/vectors", {"side": "item", "rows": [{"price": 1}, {"price": 2.5}, {"price": 1.0}]})[1]
    assert prices["vectors"][0] == prices["vectors"][2] != prices["vectors"][1]


def test_health_and_metrics(server: Running, home: Path) -> None:
    health = server.client.get("/healthz").json()
    assert Health.model_validate(health).run_id == Export.open(home).folder.name[4:]
    assert health["age_days"] > 300 and health["loaded_seconds"] >= 0 and health["problem"] is None
    assert (health["users"], health["items"]) == (40, 60)
    asked = 'dmtl_serve_requests_total{code="200",path="/recommend"}'
    before, users = server.metric(asked), server.metric("dmtl_serve_users_total")
    top(server, user="4"), post(server, "/recommend", {"users": ["4", "5", "6"]})
    assert server.metric(asked) == before + 2 and server.metric("dmtl_serve_users_total") == users + 3
    assert server.metric("dmtl_serve_day_timestamp_seconds") == 1767225600
    assert server.metric('dmtl_serve_seconds_count{path="/recommend"}') >= before + 2


def test_the_api_describes_itself(server: Running) -> None:
    document = server.client.get("/openapi.json").json()
    assert set(document["paths"]) == {"/recommend", "/vectors", "/healthz", "/metrics"}
    told = document["paths"]["/recommend"]["post"]["responses"]
    assert set(told) == {"200", "400", "404", "413", "422", "500", "503"}
    assert {
        code: r["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2] for code, r in told.items()
    } == {code: "Recommended" if code == "200" else "Problem" for code in told}


# -- filters -----------------------------------------------------------------------------------------------------------


def holds(value: Any, wanted: Any) -> bool:
    """What docs/serve.md says of a filter, item by item."""
    if isinstance(wanted, dict):
        low, high = wanted.get("min"), wanted.get("max")
        return value is not None and (low is None or value >= low) and (high is None or value <= high)
    some = wanted if isinstance(wanted, list) else [wanted]
    if isinstance(value, list):
        return any(v in some for v in value)
    return value in some


FILTERS: list[dict[str, Any]] = [
    {"category": 1},
    {"category": [0, 2], "price": {"min": -0.5}},
    {"price": {"min": -0.25, "max": 0.5}},
    {"tags": [8, 21]},
    {"tags": 3},
    {"title": "Über 3"},
    {"title": None},
    {"title": ["Über 1", None]},
    {"stock": True, "category": 0},
    {"since": {"min": "2026-01-05", "max": "2026-01-09"}},
    {"rank": {"min": 9, "max": 20.5}},
    {"rank": {"max": "9"}},
    {"seen_at": {"min": "2026-01-09T12:00:00Z", "max": "2026-01-20T00:00:00Z"}},
    {"published": "09.01.2026"},
    {"item_id": ["6", "8", "999"]},
    {"item_id": {"min": "60"}},
    {"category": 7},
    {"price": {}},
]


@pytest.mark.parametrize("wanted", FILTERS, ids=json.dumps)
def test_a_filter_is_a_loop_over_the_items(server: Running, wanted: dict[str, Any]) -> None:
    table = ITEMS.drop(":id").join(further(), on="item_id", how="left").with_columns(pl.col("since").dt.to_string())
    as_number = {
        name: {k: int(v) for k, v in w.items()} if isinstance(w, dict) else [int(v) for v in w]
        for name, w in wanted.items()
        if name == "item_id"
    }
    table = table.with_columns(pl.col("rank").cast(pl.Float64))
    if "rank" in wanted:
        as_number["rank"] = {end: float(value) for end, value in wanted["rank"].items()}
    expected = {
        str(row["item_id"])
        for row in table.to_dicts()
        if all(w == {} or holds(row[name], w) for name, w in (wanted | as_number).items())
    }
    ranked = top(server, user="8", k=60)
    assert top(server, user="8", k=60, filter=wanted) == [item for item in ranked if item in expected]
    assert (
        top(server, user="8", k=3, filter=wanted, exclude=ranked[:2])
        == [item for item in ranked[2:] if item in expected][:3]
    )


def test_a_text_with_a_separator_is_wanted_by_its_pieces(server: Running, tmp_path: Path) -> None:
    """As where the log has lists."""
    cut = feature("tags", "item", "sequence", max_length=3, separator="|")
    encoder = encoder_of(*USER, *(cut if f.name == "tags" else f for f in ITEM))
    texts = ITEMS.with_columns(pl.col("tags").cast(pl.List(pl.String)).list.join("|"))
    publish_export(tmp_path, 0, texts, encoder)
    with running(tmp_path) as other:
        for tags in ([8, 21], [3]):
            found = top(other, user="8", k=60, filter={"tags": [str(tag) for tag in tags]})
            assert found and {*found} == {*top(server, user="8", k=60, filter={"tags": tags})}
        assert top(other, user="8", filter={"tags": "7|8"}) == []


def test_masks_do_not_grow_without_end(server: Running) -> None:
    assert server.served.now is not None
    for n in range(150):
        assert len(top(server, user="8", k=60, filter={"item_id": str(5 + n % 60), "price": {"max": n}})) <= 1
    assert len(server.served.now.attributes._masks) <= 64


# -- what is refused ---------------------------------------------------------------------------------------------------

REFUSED: list[tuple[str, Any, int, str]] = [
    ("/recommend", {}, 422, "expected users, user or features"),
    ("/recommend", {"users": ["4"], "user": "4"}, 422, "expected users alone"),
    ("/recommend", {"users": []}, 422, "users: "),
    ("/recommend", {"users": ["4"] * 1001}, 422, "users: "),
    ("/recommend", {"users": ["4"] * 1000, "k": 101}, 422, "100000 items in one answer"),
    ("/recommend", {"user": 4}, 422, 'user: it should be a valid string: ids are texts in JSON, "4"'),
    ("/recommend", {"users": ["4", 5]}, 422, 'users.1: it should be a valid string: ids are texts in JSON, "5"'),
    ("/recommend", {"user": "4", "exclude": [True]}, 422, "exclude.0: it should be a valid string"),
    ("/recommend", {"user": "4", "k": 0}, 422, "k: it should be greater than or equal to 1"),
    ("/recommend", {"user": "4", "k": 1001}, 422, "k: "),
    *[("/recommend", {"user": "4", "k": k}, 422, "k: it should be a valid integer") for k in ("2", True, 2.5)],
    *[("/recommend", {"user": "4", "exclude_seen": no}, 422, "exclude_seen: it should be") for no in ("off", 0)],
    *[("/recommend", {"user": "4", "kappa": kappa}, 422, "kappa: it should be") for kappa in ("0", False)],
    ("/recommend", {"user": "4", "top": 3}, 422, "top: Extra inputs are not permitted"),
    ("/recommend", {"user": "4", "exclude": ["1"] * 10_001}, 422, "exclude: "),
    ("/recommend", {"user": "4", "kappa": -1}, 422, "kappa: "),
    ("/recommend", {"user": "four"}, 400, "user: expected integers as text, got 'four'"),
    ("/recommend", {"user": "4", "exclude": ["x"]}, 400, "exclude: expected integers"),
    ("/recommend", {"user": "4", "kappa": 1}, 400, "kappa 1.0 needs an exposure block"),
    ("/recommend", {"features": {"hitsory": []}}, 400, "no feature 'hitsory' of users, did you mean history?"),
    ("/recommend", {"features": {"history": 5}}, 400, "history"),
    ("/recommend", {"features": {"history": [[1]]}}, 422, "features"),
    ("/recommend", {"features": {"taste": [1.0, 2.0]}}, 400, "taste"),
    ("/recommend", {"user": "4", "filter": {"colour": 1}}, 400, "filter: no column 'colour'"),
    ("/recommend", {"user": "4", "filter": {"categroy": 1}}, 400, "did you mean category?"),
    ("/recommend", {"user": "4", "filter": {"category": "x"}}, 400, "filter: category: expected Int64, got 'x'"),
    ("/recommend", {"user": "4", "filter": {"category": True}}, 400, "filter: category: expected Int64"),
    ("/recommend", {"user": "4", "filter": {"category": 10**30}}, 400, "filter: category: expected Int64"),
    ("/recommend", {"user": "4", "filter": {"stock": 1}}, 400, "filter: stock: expected Boolean"),
    ("/recommend", {"user": "4", "filter": {"since": "May"}}, 400, "filter: since: expected Date"),
    ("/recommend", {"user": "4", "filter": {"tags": {"min": 1}}}, 400, "filter: tags: a range of lists"),
    ("/recommend", {"user": "4", "filter": {"price": {"least": 1}}}, 422, "filter.price"),
    ("/recommend", {"user": "4", "filter": {"title": {"min": "Über 2"}}}, 400, "filter: title: a range of text; exp"),
    ("/recommend", {"user": "4", "filter": {"published": {"min": "01.01.2026"}}}, 400, "ISO 8601 (2026-01-31), in all"),
    ("/recommend", {"user": "4", "filter": {"published": {"max": "2026-01-31"}}}, 400, "filter: published: a range of"),
    ("/recommend", {"user": "4", "filter": {"seen_at": {"min": "31.01.2026"}}}, 400, "filter: seen_at: a range of tex"),
    ("/recommend", {"user": "4", "filter": {"rank": {"min": True}}}, 400, "filter: rank: a range of text"),
    ("/recommend", {"user": "4", "filter": {"rank": {"min": "2026-01-01"}}}, 400, "filter: rank: a range of text"),
    ("/vectors", {"side": "items", "rows": [{}]}, 422, "side: it should be 'user' or 'item'"),
    ("/vectors", {"side": "item", "rows": []}, 422, "rows: "),
    ("/vectors", {"side": "item", "rows": [{"colour": 1}]}, 400, "no feature 'colour' of items"),
    ("/vectors", {"side": "item", "rows": [{"price": 1}, {"price": "x"}]}, 400, "price: expected values of one type"),
    ("/vectors", {"side": "item", "rows": [{"category": 10**30}]}, 400, "category"),
    ("/vectors", {"side": "item", "rows": [{"price": True}, {"price": [2.5]}]}, 400, "price: expected values of one"),
    ("/vectors", {"side": "user", "rows": [{"history": [10**400]}]}, 400, "history: expected values of one type"),
    ("/vectors", {"side": "user", "rows": [{"history": [2.0**53]}]}, 400, "not whole (below 2^53)"),
    ("/recommend", {"user": "4", "filter": {"price": 10**400}}, 400, "filter: price"),
    ("/recommend", {"user": "4", "filter": {"price": {"min": 10**400}}}, 400, "filter: price"),
    ("/recommend", {"user": "4", "kappa": 10**400}, 422, "kappa: "),
    ("/recommend", {"user": "4", "k": 10**400}, 422, "k: "),
    ("/recommend", {"user": "\ud800"}, 400, "user: expected integers as text"),
    ("/recommend", {"features": {"history": [5, "\ud800"]}}, 400, "history: text with half of a surrogate pair"),
    ("/recommend", {"features": {"\ud800": 5}}, 400, "no feature '\\ud800'"),
    ("/recommend", {"user": "4", "filter": {"title": "\ud800"}}, 400, "filter: title: expected String"),
    ("/nothing", {}, 404, "Not Found"),
    ("/healthz", {}, 405, "Method Not Allowed"),
]


@pytest.mark.parametrize(("path", "body", "code", "said"), REFUSED, ids=[f"{p} {b!s:.60}" for p, b, *_ in REFUSED])
def test_a_refusal_is_one_line(server: Running, path: str, body: Any, code: int, said: str) -> None:
    found, problem = post(server, path, body)
    assert (found, problem.keys()) == (code, {"error"}), problem
    assert said in problem["error"] and "\n" not in problem["error"] and len(problem["error"]) <= 400
    assert server.said == [], "a caller's mistake is not the server's"


def test_integers_of_any_length(server: Running) -> None:
    """Python's int() takes 4,300 digits of text, and a double ends at 2 ** 1024."""
    code, found = post(
        server, "/vectors", {"side": "item", "rows": [{"price": n} for n in (10**400, -(10**400), None)]}
    )
    assert code == 200 and found["vectors"][0] == found["vectors"][1] == found["vectors"][2]
    rows = [{"history": [text]} for text in ("9" * 5_000, "x", "0" * 5_000 + "5", "5")]
    made = post(server, "/vectors", {"side": "user", "rows": rows})[1]["vectors"]
    assert made[0] == made[1] and made[2] == made[3] != made[0]
    digits = "9" * 5_000
    assert post(server, "/recommend", {"user": digits})[0] == 404
    assert len(top(server, user="4", k=3, exclude=[digits])) == 3
    for body in ('{"user": "4", "k": %s}', '{"features": {"price": %s}}'):
        answer = server.client.post("/recommend", content=body % digits, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422) and answer.json().keys() == {"error"}
    assert server.said == []


def test_bodies_have_an_end(server: Running) -> None:
    for kind, said in (("application/json", "JSON decode error"), ("text/plain", "Content-Type: application/json")):
        raw = server.client.post("/recommend", content=b"{" * 100, headers={"Content-Type": kind})
        assert raw.status_code == 422 and said in raw.json()["error"]
    huge = b'{"user": "' + b"4" * api.LARGEST_BODY + b'"}'
    for content in (huge, iter([huge[:1000], huge[1000:]])):
        assert server.client.post("/recommend", content=content).status_code == 413
    assert server.client.get("/healthz").status_code == 200


def test_a_caller_who_hangs_up_is_no_mistake(server: Running) -> None:
    """Nobody is answered, and nothing is counted as refused."""
    messages: Iterator[dict[str, Any]] = iter(
        [{"type": "http.request", "body": b'{"us', "more_body": True}, {"type": "http.disconnect"}]
    )

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        raise AssertionError(message)

    gone = 'dmtl_serve_requests_total{code="499",path="/recommend"}'
    before = server.metric(gone)
    asyncio.run(server.guard({"type": "http", "path": "/recommend", "method": "POST", "headers": []}, receive, send))
    assert server.metric(gone) == before + 1 and server.said == []


def test_too_many_wait(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "WAITING", 3)
    begun, go = threading.Semaphore(0), threading.Event()

    def slow(self: Answers, asked: Any) -> Any:
        begun.release()
        go.wait(20)
        return {"export": self.identity, "results": []}

    monkeypatch.setattr(Answers, "recommend", slow)
    with running(home) as server:
        codes: list[int] = []
        url = f"{server.client.base_url}/recommend"
        ask = [
            threading.Thread(target=lambda: codes.append(httpx.post(url, json={"user": "4"}, timeout=30).status_code))
            for _ in range(3)
        ]
        for thread in ask:
            thread.start()
        begun.acquire(timeout=10), begun.acquire(timeout=10)  # two threads compute, one more request waits
        until(lambda: server.guard._working == 3)
        refused = server.client.post("/recommend", json={"user": "4"})
        assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
        assert server.client.get("/healthz").status_code == 200, "which is answered all the same"
        go.set()
        for thread in ask:
            thread.join()
        assert codes == [200, 200, 200]


def until(holds: Callable[[], bool]) -> None:
    """Waits for what another thread does a moment later."""
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_bug_is_one_line_and_a_500(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Answers, asked: Any) -> Any:
        raise ZeroDivisionError("of\nsomething")

    with running(home) as server:
        monkeypatch.setattr(Answers, "recommend", fails)
        answer = server.client.post("/recommend", json={"user": "4"})
        assert (answer.status_code, answer.json()) == (
            500,
            {"error": "a bug: ZeroDivisionError; see what the server printed"},
        )
        until(lambda: bool(server.said))
        assert len(server.said) == 1 and "/recommend: ZeroDivisionError: of something (test_serve.py:" in server.said[0]
        assert server.metric('dmtl_serve_requests_total{code="500",path="/recommend"}') == 1


def test_before_anything_is_loaded(home: Path) -> None:
    with running(home, load=False) as server:
        for answer in (server.client.get("/healthz"), server.client.post("/recommend", json={"user": "4"})):
            assert answer.status_code == 503 and "no export is loaded yet" in answer.json()["error"]


# -- swaps -------------------------------------------------------------------------------------------------------------


def test_ten_swaps_under_load(home: Path) -> None:
    """No request fails, and each answer is of one run alone: its lists are those that this export gives."""
    exports = {folder.name[4:]: Export(folder) for folder in home.glob("export/day=*/run-*")}
    users = ["2", "4", "6", "8"]
    expected = {
        run: [[str(i) for i in export.recommend(user, 5)["item_id"]] for user in users]
        for run, export in exports.items()
    }
    assert len({json.dumps(lists) for lists in expected.values()}) == 2
    over, wrong = threading.Event(), []
    answered: dict[str, int] = dict.fromkeys(expected, 0)

    def load(url: str) -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            while not over.is_set():
                answer = client.post("/recommend", json={"users": users, "k": 5})
                found = answer.json()
                lists = [[i["item_id"] for i in r["items"]] for r in found.get("results", [])]
                run = found.get("export", {}).get("run_id", "none")
                if answer.status_code != 200 or lists != expected.get(run):
                    wrong.append((answer.status_code, found))
                answered[run] = answered.get(run, 0) + 1

    runs = sorted(home.glob("export/day=*/run-*"))
    with running(home) as server:
        threads = [threading.Thread(target=load, args=(str(server.client.base_url),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for n in range(10):
                point(home, runs[(n + 1) % 2])
                server.served.look()
                assert server.client.get("/healthz").json()["run_id"] == runs[(n + 1) % 2].name[4:]
        finally:
            over.set()
            for thread in threads:
                thread.join()
            point(home, runs[0])
        assert wrong == [] and min(answered.values()) > 5, answered
        assert server.metric("dmtl_serve_swaps_total") == 10 == len(server.said)


def test_a_damaged_export_is_not_served(tmp_path: Path) -> None:
    first, second = publish_export(tmp_path, 0), publish_export(tmp_path, 1)
    point(tmp_path, first)
    file = second / "items.parquet"
    whole = file.read_bytes()
    with running(tmp_path) as server:
        before = top(server, user="4")
        file.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        point(tmp_path, second)
        server.served.look(), server.served.look()
        assert top(server, user="4") == before
        assert len(server.said) == 1 and "items.parquet: its sha256" in server.said[0], "told once"
        assert f"run {first.name[4:]} goes on" in server.said[0]
        health = server.client.get("/healthz").json()
        assert health["run_id"] == first.name[4:] and "items.parquet" in health["problem"]
        assert server.metric("dmtl_serve_failed_swaps_total") == 2
        (tmp_path / "export" / "LATEST").write_text("nonsense\n")
        server.served.look()
        assert "LATEST" in server.said[1]
        file.write_bytes(whole)
        point(tmp_path, second)
        server.served.look()
        health = server.client.get("/healthz").json()
        assert (health["run_id"], health["problem"]) == (second.name[4:], None)


def test_it_looks_less_often_while_it_fails(home: Path, tmp_path: Path) -> None:
    with running(home, load=True) as server:
        pauses: list[float] = []
        server.served.root = tmp_path / "gone"
        server.served.follow(10, lambda pause: bool(pauses.append(pause)) or len(pauses) == 8)
        assert pauses == [10, 20, 40, 80, 160, 300, 300, 300]
        server.served.root = home
        server.served.look()
        assert server.served.problem is None


def test_the_items_file_is_read_again(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "items.csv"
    further().select("item_id", "stock").write_csv(file)
    with running(home, file) as server:
        there = top(server, user="4", k=60, filter={"stock": True})
        further().select("item_id", stock=~pl.col("stock")).write_csv(file)
        server.served.look()
        gone = top(server, user="4", k=60, filter={"stock": True})
        assert there and gone and not {*there} & {*gone}
        assert server.said == [f"dmtl: {file} was read again"]
        file.write_text("item_id,stock\n5,true\n5,false\n")
        server.served.look()
        assert top(server, user="4", k=60, filter={"stock": True}) == gone
        assert "item_id: expected each once" in server.said[1]


def test_a_broken_items_file_keeps_no_export(home: Path, tmp_path: Path) -> None:
    """Its last good columns go on, of the items of the new export; each of the two has a problem of its own."""
    runs, file = sorted(home.glob("export/day=*/run-*")), tmp_path / "items.parquet"
    further().write_parquet(file)
    with running(home, file) as server:
        in_stock = {*top(server, user="4", k=60, filter={"stock": True})}
        file.write_bytes(b"PAR1")
        try:
            point(home, runs[1])
            server.served.look(), server.served.look()
            health = server.client.get("/healthz").json()
            assert (health["run_id"], health["problem"]) == (runs[1].name[4:], None)
            assert str(file) in health["items_problem"]
            left = {*map(str, ITEMS["item_id"][30:])} & in_stock
            assert left and {*top(server, user="4", k=60, filter={"stock": True})} == left
            pauses: list[float] = []
            server.served.follow(10, lambda pause: bool(pauses.append(pause)) or len(pauses) == 3)
            assert pauses == [10, 10, 10], "LATEST is looked at as often as before"
        finally:
            point(home, runs[0])
        server.served.look()
        assert {*top(server, user="4", k=60, filter={"stock": True})} == in_stock
        further().write_parquet(file)
        server.served.look()
        assert server.client.get("/healthz").json()["items_problem"] is None
        assert len([line for line in server.said if str(file) in line]) == 2, "told once, then that it was read again"


def test_a_file_that_makes_polars_panic_is_broken(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A panic is no Exception; some Parquet files with a byte changed make one."""

    def panic(*_: Any, **__: Any) -> pl.DataFrame:
        raise pl.exceptions.PanicException("index out of bounds")

    file = tmp_path / "items.parquet"
    further().write_parquet(file)
    with running(home, file) as server:
        monkeypatch.setattr(pl, "read_parquet", panic)
        os.utime(file, (1, 1))
        server.served.look()
        assert "PanicException: index out of bounds" in server.client.get("/healthz").json()["items_problem"]
        monkeypatch.setattr("dmtl_cli.serving.swapping.find", panic)
        server.served.look()
        assert "PanicException" in server.client.get("/healthz").json()["problem"]
        assert top(server, user="4", k=3)
    with pytest.raises(UserError, match=r"--users .*: PanicException: index out of bounds"):
        read_users(file, pl.Int64(), [])


def test_items_are_stored_without_vectors(home: Path, tmp_path: Path) -> None:
    export = Export.open(home)
    assert export.item_features.equals(ITEMS.select("category", "item_id", "price", "tags"))
    encoder = encoder_of(*ITEM, feature("look", "item", "vector", dim=2))
    files.write_item_features(tmp_path, ITEMS.with_columns(look=[0.5, 1.0]), encoder)
    assert pl.read_parquet(tmp_path / "items.parquet").columns == [
        "item_id",
        *(f"feature.{name}" for name in ("category", "item_id", "price", "tags")),
    ]


def test_items_of_another_order_are_refused(home: Path, tmp_path: Path) -> None:
    shutil.copytree(Export.open(home).folder, tmp_path / "run")
    files.write_item_features(tmp_path / "run", ITEMS.reverse(), FULL, "00" * 32)
    with pytest.raises(UserError, match=r"items.parquet: .* in their order") as e:
        _ = Export(tmp_path / "run").item_features
    assert e.value.code == 65


@given(
    st.lists(st.integers(-5, 5), unique=True), st.lists(st.none() | st.integers(-6, 6) | st.integers(2**62, 2**63 - 1))
)
def test_places_are_a_dictionary(ids: list[int], wanted: list[int | None]) -> None:
    for dtype, name in ((pl.Int64, int), (pl.String, str)):
        column = [name(i) for i in ids]
        asked = [None if w is None else name(w) for w in wanted]
        expected = [{v: n for n, v in enumerate(column)}.get(w, -1) for w in asked]
        assert Places(pl.Series(column, dtype=dtype)).rows(pl.Series(asked, dtype=dtype)).tolist() == expected
