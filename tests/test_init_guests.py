"""`dmtl init` on a log of guests and members: a cookie that all rows have, and an id of who is signed in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import unseen
import yaml
from initiated import features, made
from worlds import dmtl

from dmtl_cli.guess.exposures.guests import guests_of
from dmtl_cli.guess.exposures.labels import roles_of

ROWS = 6_000
X = unseen.drawn(61, ROWS)
RNG = np.random.default_rng(61)
DEVICE = RNG.integers(0, 150, ROWS // 10).repeat(10)
MEMBER = 50_000 + DEVICE // 2 * (DEVICE < 20) + DEVICE * (DEVICE >= 20)
GUEST = (DEVICE % 3 == 0) | (RNG.random(ROWS // 10) < 0.2).repeat(10)


def log(member: Any, cookie: str = "client_cookie", name: str = "member_id", **more: Any) -> pl.DataFrame:
    rows = {cookie: [f"c{d:04}" for d in DEVICE], name: member, "item_id": X["item"], "ts": X["at"]}
    return pl.DataFrame(rows | {"clicked": X["click"], "watch_seconds": X["seconds"]} | more)


def ids(way: str) -> list[Any]:
    none: Any = {"0": 0, "null": None, "empty": "", "word": "guest", "-1": -1}[way]
    text = way in ("empty", "word")
    return [none if g else f"m{m}" if text else int(m) for m, g in zip(MEMBER, GUEST, strict=True)]


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("way", ["0", "null", "empty", "word", "-1"])
def test_the_user_of_both_is_a_comment_that_is_read(tmp_path: Path, form: str, way: str) -> None:
    frame = log(ids(way))

    def write(home: Path) -> None:
        frame.write_csv(home / "log.csv") if form == "csv" else unseen.by_day(home / "events", frame, X)

    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0, ended.err
    lines = text.splitlines()
    (at,) = (k for k, line in enumerate(lines) if line.strip().startswith("# Or a user of member_id"))
    assert "of 149 client_cookie have rows of both" in lines[at]
    user = raw["data"]["events"]["user"]
    other = {"client_cookie": "member_id", "member_id": "client_cookie"}[user]
    assert not {f.get("column", name) for name, f in features(raw).items()} & {other}
    assert f"# {other}: not used: a second id of users, beside {user}" in text
    (old,) = (k for k, line in enumerate(lines) if line.startswith(f"    user: {user}"))
    lines[old] = lines[at + 1].replace("# ", "")
    lines[at + 2] = lines[at + 2].replace("# ", "")
    config = tmp_path / "mine.yaml"
    config.write_text("\n".join(lines) + "\n")
    assert yaml.safe_load(config.read_text())["data"]["events"]["user"] == "visitor"
    day = "2026-03-02"
    of = np.array(unseen.days_of(X)) == day
    expected = {f"g{d}" if g else f"m{m}" for d, m, g in zip(DEVICE[of], MEMBER[of], GUEST[of], strict=True)}
    found = dmtl("check", "--config", config, "--day", day, "--set", "features=auto", "--json")
    assert found.code == 0 and found.json["users"] == len(expected), found.err


def pair(frame: pl.DataFrame) -> tuple[str, str] | None:
    found = guests_of(frame, roles_of(frame, {}))
    return found and (found.cookie, found.member)


def test_what_is_no_second_id() -> None:
    known = [None if g else int(m) for m, g in zip(MEMBER, GUEST, strict=True)]
    assert pair(log(known, "user_id", "account_id")) == ("user_id", "account_id")
    firm = [None if g else int(d) % 30 for d, g in zip(DEVICE, GUEST, strict=True)]
    assert pair(log(firm, "user_id", "firm_id")) is None, "of several users"
    moved = [None if g else int(v) for v, g in zip(RNG.integers(0, 100, ROWS), GUEST, strict=True)]
    assert pair(log(moved, "user_id", "place_id")) is None, "of no user"
    age = [None if g else 18 + int(d) % 90 for d, g in zip(DEVICE, GUEST, strict=True)]
    assert pair(log(age, "user_id", "user_age")) is None and pair(log(age, "user_id", "years")) is None
    assert pair(log([int(m) for m in MEMBER], "user_id", "account_id")) is None, "every row has both"


def test_a_visit_is_no_cookie() -> None:
    """Its id comes on no other day, and those of members do; a cookie comes again as they do."""
    days = np.array(unseen.days_of(X))
    visits = [f"{d}/{day}/{k // 20}" for k, (d, day) in enumerate(zip(DEVICE, days, strict=True))]
    assert pair(log(ids("null"), "client_cookie")) == ("client_cookie", "member_id")
    rows = log(ids("null")).with_columns(client_cookie=pl.Series(visits))
    assert guests_of(rows, roles_of(rows, {"user": "member_id"})) is None
