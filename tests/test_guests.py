"""Guests with a cookie as docs/serve.md has them: users of their own, whose history begins anew when they sign in."""

from __future__ import annotations

import copy
import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from worlds import BASE, DAYS, Project

from dmtl_cli.data.profile.stored import Profile
from dmtl_cli.serving.export import Export

PAGE = (Path(__file__).parent.parent / "docs" / "serve.md").read_text()
PEOPLE, ROWS = 80, 1500


def events(day: int) -> pl.DataFrame:
    """Each row has the cookie of its person, and the user id where they are signed in: person 0 from the second half of
    a day on; every seventh row has neither."""
    rng = np.random.default_rng(day)
    person, k = rng.integers(0, PEOPLE, ROWS), np.arange(ROWS)
    signed_in = np.where(person == 0, k > ROWS // 2, person % 2 == 1)
    known = k % 7 > 0
    click = rng.random(ROWS) < 0.4
    return pl.DataFrame(
        {
            "user_id": [int(p) if s and n else None for p, s, n in zip(person, signed_in, known, strict=True)],
            "cookie": [str(p) if n else None for p, n in zip(person, known, strict=True)],
            "article": [f"a{i}" for i in rng.integers(0, 40, ROWS)],
            "at": 1_767_225_600 + 86_400 * (day - 1) + 50 * k,
            "clicked": click.astype(int),
            "read_seconds": np.round(rng.exponential(40, ROWS) * click, 1),
        }
    )


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Project:
    home = tmp_path_factory.mktemp("guests")
    for day in (1, 2):
        folder = home / f"log/events/day={DAYS[day - 1]}"
        folder.mkdir(parents=True)
        events(day).write_parquet(folder / "a.parquet")
    shown: dict[str, Any] = yaml.safe_load(PAGE.split("<!-- guests -->")[1].split("```yaml")[1].split("```")[0])
    config = copy.deepcopy(BASE) | {"data": shown["data"], "features": "auto"}
    project = Project.create(home, home / "log", config=config)
    ended = project.call("backfill", "--from", DAYS[0], "--to", DAYS[1])
    assert ended.code == 0, ended.err
    return project


def clicked(day: int, where: pl.Expr) -> set[str]:
    return {*events(day).filter(where & (pl.col("clicked") == 1))["article"]}


def test_cookies_and_ids_are_users(chain: Project) -> None:
    """Of the same number too: person 2 is a guest, person 3 is signed in."""
    for who in ("cookie/2", "3", "0", "cookie/0"):
        told = chain.call("recommend", "--user", who, "-k", 5, "--json").json
        assert told["known"] and len(told["items"]) == 5
    for nobody in ("2", "cookie/3"):
        assert chain.call("recommend", "--user", nobody).code == 66
    people = {str(p) for p in range(PEOPLE) if p % 2} | {f"cookie/{p}" for p in range(0, PEOPLE, 2)} | {"0"}
    assert {*Export.open(chain.ws).users["user_id"]} == people


def test_who_is_new_is_as_the_profile_has_who_is_not_there(chain: Project) -> None:
    """By what training joins to such a user: no counts, the prior of a rate, and no age."""
    export = Export.open(chain.ws)
    profile = Profile.open(next((chain.ws / f"profile/day={DAYS[1]}").glob("run-*")))
    for side, ids in (("user", ["nobody"]), ("item", ["no such"])):
        features = [f for f in export.encoder.features_of_side(side) if f.profile and not f.profile.history]
        (joined,) = profile.features(side, pl.Series(ids), features, dt.date.fromisoformat(DAYS[1])).to_dicts()
        assert export.unseen(side) == {name: value for name, value in joined.items() if value is not None}
        kinds = {
            "count" if f.profile.count else "rate" for f in features if f.profile and f.name in export.unseen(side)
        }
        assert kinds == {"count", "rate"}
    raw = export.unseen("user")
    assert export.recommend("nobody", 5, values={}).equals(export.recommend(None, 5, values=raw))


def test_who_signs_in_begins_anew(chain: Project) -> None:
    """What a cookie clicked is not what the user clicked, and rows with neither are nobody's."""
    users = Export.open(chain.ws).users
    seen = {who: {*items} for who, items in users.select("user_id", "seen_items").rows()}
    mine, theirs = pl.col("user_id") == 0, pl.col("user_id").is_null() & (pl.col("cookie") == "0")
    assert seen["0"] == clicked(2, mine) and seen["cookie/0"] == clicked(2, theirs)
    assert clicked(2, mine) != clicked(2, theirs) and clicked(2, mine) and clicked(2, theirs)
    checked = chain.call("check", "--day", DAYS[1], "--json").json
    assert checked["left_out"]["user"] == len(range(0, ROWS, 7))
