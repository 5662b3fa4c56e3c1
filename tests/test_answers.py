"""An export answers one user, a batch and any rows alike, by its index or without it."""

from __future__ import annotations

import datetime as dt
import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from exported import KEY_A, SETTINGS, USERS

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.log.checked.day import ID
from dmtl_cli.runs.keyed import KEY
from dmtl_cli.serving import Export
from dmtl_cli.serving import index as faiss_index
from dmtl_cli.serving.answers import Answers, Refused, Users
from dmtl_cli.serving.attributes import Attributes
from dmtl_cli.serving.batch import read_users, recommend_to
from dmtl_cli.serving.files import read_users as read_stored
from dmtl_cli.serving.requests import Recommend
from dmtl_cli.serving.search import top_k


@pytest.mark.parametrize("name", SETTINGS)
def test_rows_of_users_by_a_loop(runs: dict[str, Path], name: str) -> None:
    """Exclusions of each user, items allowed to all, fewer left than asked for; an index finds the same."""
    export = Export.open(runs[name])
    frame = USERS.drop(ID)
    users = export.vectors(frame, "user")
    ids, items = export.items
    rng = np.random.default_rng(0)
    lists = [[int(x) for x in rng.choice(ids.to_numpy(), n, replace=False)] + [10**9] for n in rng.integers(0, 30, 40)]
    exclude = pl.Series([None, *lists[1:]], dtype=pl.List(pl.Int64))
    for among in (None, rng.random(len(ids)) < 0.2):
        found = export.recommend_rows(frame, 10, exclude=exclude, among=among)
        assert found.columns == ["row", "rank", "item_id", "score"]
        for row in range(len(frame)):
            scored = export.score(users[row] @ items.T)
            barred = {*lists[row]} if row else set()
            left = [i for i in range(len(ids)) if (among is None or among[i]) and ids[i] not in barred]
            best = sorted(left, key=lambda i: (-scored[i], i))[:10]
            mine = found.filter(pl.col("row") == row)
            assert mine["item_id"].to_list() == [ids[i] for i in best]
            assert mine["rank"].to_list() == [*range(1, len(best) + 1)]
            np.testing.assert_allclose(mine["score"].to_numpy(), scored[best], atol=1e-5)
    assert len(export.recommend_rows(frame[:0], 3)) == 0


def test_vectors_that_are_not_finite_are_found(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not finite"):
        top_k(np.ones((1, 2), np.float32), np.array([[1, np.nan], [2, 3]], np.float32), 1)


def test_numbers_too_large_for_a_tower_are_no_damaged_run(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Overflown:
        def run(self, names: None, inputs: dict[str, Any]) -> list[Any]:
            return [np.full((1, 2), np.inf, np.float32)]

    export = Export.open(runs["float32"])
    monkeypatch.setattr(export, "_session", lambda side: Overflown())
    with pytest.raises(UserError, match=r"^vectors of users: not finite, of finite numbers$") as e:
        export.vectors(export.user_features[:1], "user")
    assert e.value.hint == "give numbers of the size that they have in the log; is the export verified?"


@pytest.mark.parametrize("name", ["float32", "hnsw"])
def test_a_batch_is_one_after_the_other(runs: dict[str, Path], name: str, tmp_path: Path) -> None:
    export = Export.open(runs[name], verify=False)
    ids = [4, 10**6, 2, 6, 2, 20]
    (tmp_path / "ids.txt").write_text("".join(f"{x}\n" for x in ids))
    pl.DataFrame({"user_id": ids, "other": 1}).write_csv(tmp_path / "ids.csv")
    pl.DataFrame({"user_id": ids}).write_parquet(tmp_path / "ids.parquet")
    features = [f.name for f in export.encoder.features_of_side("user")]
    tables = []
    for kind in ("txt", "csv", "parquet"):
        users = read_users(tmp_path / f"ids.{kind}", export.user_ids, features)
        for size in (2, 100):
            counts = recommend_to(export, users, tmp_path / "o.parquet", 7, exclude_seen=True, slice_size=size)
            assert counts == (4, 0, ["1000000"])
            tables.append(pl.read_parquet(tmp_path / "o.parquet"))
    assert pq.read_metadata(tmp_path / "o.parquet").metadata[KEY.encode()].decode() == KEY_A
    whole = tables[0]
    assert all(t.select(pl.exclude("score")).equals(whole.select(pl.exclude("score"))) for t in tables)
    assert whole.columns == ["user_id", "rank", "item_id", "score"] and whole["user_id"].is_sorted()
    for user in (2, 4, 6, 20):
        one = export.recommend(str(user), 7, exclude_seen=True)
        mine = whole.filter(pl.col("user_id") == user)
        assert mine["item_id"].to_list() == one["item_id"].to_list() and mine["rank"].to_list() == [*range(1, 8)]
        np.testing.assert_allclose(mine["score"].to_numpy(), one["score"].to_numpy(), atol=1e-5)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("name", ["float32", "hnsw"])
def test_what_many_users_must_not_get_is_looked_up_at_once(
    runs: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = Export.open(runs[name])
    answers = Answers(export, dt.date(2026, 1, 1), "r", Users(export), Attributes(export.items[0]))
    users = export.users["user_id"].cast(pl.String).to_list()
    all_of_them = answers.recommend(Recommend(users=users, k=60))["results"]
    find, looked = export.item_rows, []
    monkeypatch.setattr(export, "item_rows", lambda ids: looked.append(len(ids)) or find(ids))
    left = answers.recommend(Recommend(users=users, k=30, exclude_seen=True, exclude=["5", "5", "60", "999"]))
    assert len(looked) == 2
    seen = export.users["seen_items"].to_list()
    for whole, mine, had in zip(all_of_them, left["results"], seen, strict=True):
        barred = {"5", "60", *map(str, had or ())}
        expected = [item["item_id"] for item in whole["items"] if item["item_id"] not in barred][:30]
        assert [item["item_id"] for item in mine["items"]] == expected


def test_users_are_in_memory_once(runs: dict[str, Path], tmp_path: Path) -> None:
    export = Export.open(runs["float32"])
    export.users.write_parquet(tmp_path / "users.parquet", row_group_size=8)
    assert pl.read_parquet(tmp_path / "users.parquet").n_chunks() > 1, "which the server must not copy later"
    names = [c.removeprefix("feature.") for c in export.users.columns if c.startswith("feature.")]
    assert read_stored(tmp_path, pl.Int64(), pl.Int64(), names).n_chunks() == 1
    assert Users(export)._stored is export.users


def test_what_is_not_served_any_more_is_gone_at_once(runs: dict[str, Path]) -> None:
    """And not when garbage is looked for: an export that is exchanged is memory twice."""
    users = Users(Export.open(runs["float32"]))
    users.encoded(0), users.encoded(-1)
    gone = weakref.ref(users)
    gc.disable()
    try:
        del users
        assert gone() is None
    finally:
        gc.enable()


def test_a_batch_of_users_nobody_knows(runs: dict[str, Path], tmp_path: Path) -> None:
    """Known ones are served as the export has them where the file says nothing."""
    export = Export.open(runs["float32"])
    features = [f.name for f in export.encoder.features_of_side("user")]
    cold = USERS.drop(ID).with_columns(user_id=pl.col("user_id") + 1_001)
    both = pl.concat([cold[:5], USERS.drop(ID)[:2].with_columns(taste=None)], how="vertical_relaxed")
    both.write_parquet(tmp_path / "in.parquet")
    users = read_users(tmp_path / "in.parquet", export.user_ids, features)
    assert recommend_to(export, users, tmp_path / "out.parquet", 4) == (2, 5, [])
    found = pl.read_parquet(tmp_path / "out.parquet")
    expected = export.recommend_rows(cold[:5], 4)
    assert found.filter(pl.col("user_id") > 1_000)["item_id"].to_list() == expected["item_id"].to_list()
    first = str(USERS["user_id"][0])
    assert found["item_id"][:4].to_list() == export.recommend(first, 4)["item_id"].to_list()
    recommend_to(export, users, tmp_path / "again.parquet", 4)
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "out.parquet").read_bytes()


def test_a_batch_by_some_features_is_what_http_answers(runs: dict[str, Path], tmp_path: Path) -> None:
    """Known and unknown ids, and guests, who give what they know; a null of the file is as if it were not there."""
    folder = runs["float32"]
    export = Export.open(folder)
    answers = Answers(export, dt.date(2026, 1, 1), "r", Users(export), Attributes(export.items[0]))
    ids = [None, 4, 5, None, 2, 4, 4]  # 5 has a row of the vocabulary
    history = [[1, 3], [2], [7, 8, 9], None, None, [1], [2]]
    pl.DataFrame({"other": 1, "history": history, "user_id": ids}).write_parquet(tmp_path / "in.parquet")
    features = [f.name for f in export.encoder.features_of_side("user")]
    users = read_users(tmp_path / "in.parquet", export.user_ids, features)
    for size in (2, 100):
        assert recommend_to(export, users, tmp_path / "out.parquet", 6, exclude_seen=True, slice_size=size) == (
            3,
            3,
            [],
        )
        found = pl.read_parquet(tmp_path / "out.parquet")
        assert found.columns == ["user_id", "row", "rank", "item_id", "score"]
        assert found["user_id"].unique(maintain_order=True).to_list() == [2, 4, 5, None]
        for row in (0, 1, 2, 3, 4, 5):
            given = {} if history[row] is None else {"history": history[row]}
            name = None if ids[row] is None else str(ids[row])
            sent = Recommend(user=name, features=given, k=6, exclude_seen=True)
            wanted = answers.recommend(sent)["results"][0]["items"]
            mine = found.filter(pl.col("row") == row)
            assert mine["item_id"].cast(pl.String).to_list() == [item["item_id"] for item in wanted], row
            np.testing.assert_allclose(mine["score"], [item["score"] for item in wanted], atol=1e-5)
    assert 6 not in found["row"], "the second of one id with the same features"
    twice = pl.DataFrame({"history": [[1, 3], [5]], "user_id": [4, 4]})
    twice.write_parquet(tmp_path / "twice.parquet")
    users = read_users(tmp_path / "twice.parquet", export.user_ids, features)
    assert recommend_to(export, users, tmp_path / "out.parquet", 6, slice_size=1) == (2, 0, [])
    assert pl.read_parquet(tmp_path / "out.parquet")["row"].to_list() == [0] * 6 + [1] * 6, "two requests of one user"
    pl.DataFrame({"history": [[1, 3], [5]]}).write_parquet(tmp_path / "guests.parquet")
    guests = read_users(tmp_path / "guests.parquet", export.user_ids, features)
    assert recommend_to(export, guests, tmp_path / "out.parquet", 6) == (0, 2, [])
    of_guests = pl.read_parquet(tmp_path / "out.parquet")
    assert of_guests["row"].to_list() == [0] * 6 + [1] * 6 and of_guests["user_id"].null_count() == 12


@pytest.mark.parametrize(
    ("name", "text", "code", "said"),
    [
        ("no.txt", None, Exit.NO_INPUT, "no such file"),
        ("empty.txt", "\n \n", Exit.NO_INPUT, "no user"),
        ("word.txt", "2\nann\n", Exit.DATA, "row 2: expected a user id"),
        ("huge.txt", f"{2**63}\n", Exit.DATA, "row 1"),
        ("other.csv", "id\n2\n", Exit.DATA, "no column user_id"),
        ("null.csv", "user_id,other\n2,1\n,1\n", Exit.DATA, "row 2: expected a user id"),
        ("type.csv", "user_id,taste\n2,x\n", Exit.DATA, "feature taste: expected a list of 3 numbers, got text"),
        ("bad.parquet", "PAR1", Exit.DATA, "bad.parquet"),
        ("nobody.txt", "999999\n", Exit.NO_INPUT, "none of 1 users"),
    ],
)
def test_files_of_users_that_are_refused(
    runs: dict[str, Path], tmp_path: Path, name: str, text: str | None, code: Exit, said: str
) -> None:
    export = Export.open(runs["float32"])
    if text is not None:
        (tmp_path / name).write_text(text)
    features = [f.name for f in export.encoder.features_of_side("user")]
    with pytest.raises(UserError, match=said) as e:
        recommend_to(export, read_users(tmp_path / name, export.user_ids, features), tmp_path / "out.parquet", 3)
    assert e.value.code == code and not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize(
    ("text", "is_four"),
    [("4", True), ("+4", True), ("0" * 30 + "4", True), ("-4", False)]
    + [(text, None) for text in ("0_4", " 4", "4 ", "٤", "4.0", "--4", "+", "four")],
)
def test_an_id_is_read_alike_over_http_as_an_option_and_in_a_file(
    runs: dict[str, Path], tmp_path: Path, text: str, is_four: bool | None
) -> None:
    """By the table of ids in docs/export.md. None: it is no integer, and refused."""
    export = Export.open(runs["float32"])
    answers = Answers(export, dt.date(2026, 1, 1), "r", Users(export), Attributes(export.items[0]))
    (tmp_path / "ids.txt").write_text(f"2\n{text}\n")
    if is_four is None:
        with pytest.raises(Refused, match="user: expected integers as text") as over_http:
            answers.recommend(Recommend(user=text))
        with pytest.raises(UserError, match="--user: expected integers as text") as as_option:
            export.served(text)
        with pytest.raises(UserError, match="row 2: expected a user id"):
            read_users(tmp_path / "ids.txt", export.user_ids, [])
        assert (over_http.value.status, as_option.value.code) == (400, Exit.USAGE)
        return
    assert export.served(text)["user_id"].to_list() == [4] * is_four
    assert answers.recommend(Recommend(users=[text]))["results"][0]["known"] is is_four
    assert read_users(tmp_path / "ids.txt", export.user_ids, [])["user_id"].sort().to_list() == sorted([2, int(text)])


def test_a_space_is_part_of_an_id(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_bytes(b" a\r\na \n\n  \nb c\na")
    assert read_users(tmp_path / "ids.txt", pl.String(), [])["user_id"].to_list() == [" a", "a", "a ", "b c"]


def test_without_the_library_an_index_is_passed_over(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss_index, "has", lambda _: False)
    found, exact = (Export.open(runs[name]).recommend("2", 9) for name in ("hnsw", "float32"))
    assert found.equals(exact)


def test_texts_that_look_like_numbers(tmp_path: Path) -> None:
    """A column of a CSV with one that is none is text, so that 007 is not looked up as 7."""
    (tmp_path / "in.csv").write_text("user_id,zip,age,price\n7,007,7,0.5\n8,12,8,1\n")
    users = read_users(tmp_path / "in.csv", pl.Int64(), ["zip", "age", "price"])
    assert users["zip"].to_list() == ["007", "12"]
    assert users["age"].to_list() == [7, 8] and users["price"].to_list() == [0.5, 1.0]
