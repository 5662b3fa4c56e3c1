"""`init` and `check` on a log whose requests are taken for users: none of them returns on another day."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import unseen
from initiated import made
from worlds import dmtl

from dmtl_cli.guess.columns.values import returning
from dmtl_cli.guess.exposures.doubts import sessions
from dmtl_cli.guess.exposures.ids import candidates
from dmtl_cli.guess.exposures.labels import roles_of

SAID = "is it a request or a session?"
COLUMNS = {
    "assinante": "user",
    "lista": "request",
    "obra": "item",
    "ts": "at",
    "clicked": "click",
    "permanência": "seconds",
}


def rows(count: int = 9_000) -> tuple[pl.DataFrame, unseen.Columns]:
    x = unseen.drawn(31, count)
    frame = pl.DataFrame({name: x[key] for name, key in COLUMNS.items()})
    text = [pl.format("{}{}", pl.lit(c[0]), pl.col(c)).alias(c) for c in ("assinante", "lista", "obra")]
    return frame.with_columns(*text, (pl.col("permanência") * 1000).cast(pl.Int64)), x


def write(home: Path, form: str) -> None:
    frame, x = rows()
    if form == "days":
        unseen.by_day(home / "events", frame, x)
    elif form == "csv":
        frame.write_csv(home / "log.csv")
    else:
        frame.write_parquet(home / "log.parquet")


@pytest.mark.parametrize("form", ["days", "csv", "parquet"])
@pytest.mark.parametrize(("user", "doubted"), [("lista", True), ("assinante", False)])
def test_a_request_as_the_user_is_doubted(tmp_path: Path, form: str, user: str, doubted: bool) -> None:
    home = tmp_path / f"{form}-{user}"
    ended, raw, text = made(
        home, lambda log: write(log, form), "--user", user, "--item", "obra", "--duration", "permanência"
    )
    assert ended.code == 0 and raw["data"]["events"]["user"] == user, ended.err
    assert bool([x for x in text.splitlines() if x.startswith(f"# WARNING: {user}: ") and SAID in x]) == doubted
    checked = dmtl("check", "--config", home / "mine.yaml", "--day", "2026-03-03", "--json")
    assert bool([x for x in checked.json["warnings"] if x.startswith(f"{user}: ") and SAID in x]) == doubted, (
        checked.err
    )


def test_few_ids_and_few_that_return() -> None:
    day = pl.Series(range(1_000))
    assert sessions("u", day, pl.Series(range(2_000, 2_099))) == [], "99 ids tell nothing"
    assert len(sessions("u", day, pl.Series(range(2_000, 2_100)))) == 1
    assert sessions("u", day, pl.Series([*range(2_000, 2_099), 7])) == [], "one in a hundred returns"
    (line,) = sessions("u", day, pl.Series([*range(2_000, 2_199), 7]))
    assert line.startswith("u: 0.5% of 200 ids of other days are there on this one: ")
    assert sessions("u", day.cast(pl.String), pl.Series(range(100))) == [], "an id is the same as text"


def test_what_returns_is_the_first_candidate() -> None:
    frame = rows()[0].drop("clicked")
    roles = roles_of(frame, {})
    assert roles.user is None and roles.time is not None
    assert candidates(frame, roles) == ["assinante", "obra", "lista", "permanência"]
    assert frame["permanência"].n_unique() > frame["lista"].n_unique() > frame["assinante"].n_unique()


def test_which_ids_return() -> None:
    days = pl.Series([1, 2, 2, 1, None])
    assert returning(pl.Series(["a", "a", "b", None, "b"]), days) == 0.5
    assert returning(pl.Series(["a", "b", "a"]), pl.Series([1, 1, 1])) == 1, "one day tells nothing"
