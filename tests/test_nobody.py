"""Users that look like nobody: guests under one id, by a word or by far more rows than any other."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
import unseen
import yaml
from initiated import made
from worlds import dmtl

from dmtl_cli.config.data import Events
from dmtl_cli.config.expressions import sources_of
from dmtl_cli.guess.exposures.doubts import Ids, crowd, nobody, null_ids

LOOKS = "looks like nobody: if it stands for guests"


def told(ids: list[str] | list[int], rows: list[int]) -> list[str]:
    return nobody(Ids("uid", pl.Series(ids), pl.Series(rows)))


@pytest.mark.parametrize(
    "word", ["000", "00000000", "-1", "guest", "Guest", "ANONYMOUS", "Gast", "not logged in", "游客"]
)
def test_words_for_nobody(word: str) -> None:
    (line,) = told(["u1", word, "u2"], [6, 3, 1])
    fix = f'set data.events.where: "COALESCE(uid <> {word!r}, TRUE)", which leaves such rows out'
    assert line == f"uid: {word!r}, in 3 rows (30.0%), {LOOKS}, {fix}"


def test_integers_and_names_that_only_look_alike() -> None:
    (line,) = told([1, -1, 0], [6, 3, 1])
    assert line.startswith("uid: '-1', in 3 rows"), "0 may be the first of the users"
    assert 'data.events.where: "COALESCE(uid <> -1, TRUE)"' in line
    assert told(["0", "00", "guest7", "unknowns", "Gastón", "0001"], [1, 1, 1, 1, 1, 1]) == []


def test_one_id_with_far_more_rows_than_any_other() -> None:
    def told(ids: list[str], rows: list[int], *, kept: bool = False) -> list[str]:
        return crowd(Ids("uid", pl.Series(ids), pl.Series(rows)), kept=kept)

    users, rows = [f"u{k}" for k in range(400)], [10] * 400
    assert told(users, rows) == []
    (line,) = told(users, [60, 20, *rows[2:]])
    assert line.startswith("uid: 'u0' alone has 60 rows (1.5%), 3.0 times as many as the next: is it one person? ")
    assert "set data.events.where: \"COALESCE(uid <> 'ID', TRUE)\", which leaves such rows out" in line
    assert told(users, [59, 20, *rows[2:]]) == [], "not three times"
    assert told(users, [60, 20, *(20 for _ in rows[2:])]) == [], "not one in a hundred"
    assert told(users[:99], [900, *rows[1:99]]) == [], "of few users one may be so"
    (line,) = told(["guest", *users], [90, 60, *rows[1:]])
    assert line.startswith("uid: 'u0' alone has 60 rows"), "a guest is no other user"
    (line,) = told(users, [90, *rows[1:]], kept=True)
    assert "u0" not in line and line.startswith("uid: one id alone has 90 rows"), "a config is kept and shared"


def parquet(home: Path, guest: str) -> None:
    x = unseen.drawn(3)
    user = [guest if u % 6 == 0 else f"u{u}" for u in x["user"]]
    frame = pl.DataFrame(
        {"user_id": user, "item_id": x["item"], "ts": x["at"], "clicked": x["click"], "watch_seconds": x["seconds"]}
    )
    unseen.by_day(home / "events", frame, x)


def test_init_leaves_them_out_and_check_tells_them(tmp_path: Path) -> None:
    _, raw, _ = made(tmp_path, lambda home: parquet(home, "gast"))
    assert raw["data"]["events"]["where"] == "COALESCE(user_id <> 'gast', TRUE)"
    asked = ("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-02", "--json")
    ended = dmtl(*asked)
    assert ended.code == 0 and not any(LOOKS in line for line in ended.json["warnings"]), ended.err
    said = dmtl(*asked, "--set", "data.events.where=null").json["warnings"]
    assert sum(LOOKS in line for line in said) == 1


def test_who_is_hardly_a_person_is_no_example_of_a_user(tmp_path: Path) -> None:
    for word in ("gast", "Guest"):
        ended, _, _ = made(tmp_path / word, lambda home, word=word: parquet(home, word))
        (line,) = (line for line in ended.out.splitlines() if "dmtl recommend" in line)
        assert line.split()[-1].startswith("u"), line


def test_an_empty_id_that_is_left_out_is_not_doubted(tmp_path: Path) -> None:
    ended, raw, text = made(tmp_path, lambda home: parquet(home, ""))
    assert ended.code == 0 and raw["data"]["events"]["invalid_rows"] == "drop", ended.err
    assert "is an id: if it means none" not in ended.out + text
    ids = Ids("uid", pl.Series(["", "NULL"]), pl.Series([2, 3]))
    assert len(null_ids(ids, text=False)) == 2
    (line,) = null_ids(ids, text=False, dropped=True)
    assert line.startswith("uid: 'NULL'")


@pytest.mark.parametrize("user", ["user", "user.id", "uid", "order"])
def test_what_leaves_them_out_is_read(user: str) -> None:
    """A word of SQL and a name with a point stand in quotes, and these within those of YAML."""
    (line,) = nobody(Ids(user, pl.Series(["u1", "guest", "u2"]), pl.Series([6, 3, 1])))
    (said,) = re.findall(r"data\.events\.(where: .*), which leaves such rows out", line)
    events = Events.model_validate({"duration": "seconds"} | yaml.safe_load(said))
    assert events.where is not None and sources_of(events.where) == [user]
