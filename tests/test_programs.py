"""Users that are hardly people: what tells them, and that none of them is the example."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from initiated import made
from unseen import START
from worlds import dmtl

from dmtl_cli.guess.findings.programs import programs, programs_line
from dmtl_cli.runs.manifest import MANIFEST, Manifest

RNG = np.random.default_rng(2)
N, DAYS = 300, 4
UNKNOWN = pl.Series([0] * (N + 1))  # which clicks of these users are good


def people() -> tuple[np.ndarray, np.ndarray]:
    """Rows and clicks of users, who click with rates of their own."""
    rows = RNG.lognormal(2.8, 0.7, N).astype(np.int64) + 1
    return rows, RNG.binomial(rows, RNG.beta(1.6, 14, N))


@pytest.mark.parametrize(("rows", "clicks"), [(400, 0), (400, 2), (260, 170)])
def test_they_see_far_more_and_click_nothing_or_half(rows: int, clicks: int) -> None:
    n, c = people()
    ids = pl.Series([f"u{k}" for k in range(N + 1)])
    of_each = ids, pl.Series([*n, rows]), pl.Series([*c, clicks]), UNKNOWN
    assert programs(*of_each).to_list() == [f"u{N}"]
    (line,) = programs_line("u", *of_each, where=None)
    assert f"u NOT IN ('u{N}')" in line and "1 id, with " in line


@pytest.mark.parametrize(("rows", "clicks"), [(400, 38), (400, 90), (40, 0), (30, 25)])
def test_who_reads_much_and_who_sees_little_do_not(rows: int, clicks: int) -> None:
    n, c = people()
    assert not len(programs(pl.Series(range(N + 1)), pl.Series([*n, rows]), pl.Series([*c, clicks]), UNKNOWN))


def test_who_clicks_half_and_never_well_is_none_whatever_they_see() -> None:
    """Of 28 clicks others have four good ones; who has one, or clicks as others do, is a person."""
    n, c = people()
    good = RNG.binomial(c, 0.15)
    ids, rows, clicks = pl.Series(range(N + 1)), pl.Series([*n, 54]), pl.Series([*c, 28])
    assert programs(ids, rows, clicks, pl.Series([*good, 0])).to_list() == [N]
    assert not len(programs(ids, rows, clicks, pl.Series([*good, 4])))
    assert not len(programs(ids, rows, clicks, UNKNOWN)), "which clicks are good is not known, and 54 rows are not many"
    assert not len(programs(ids, pl.Series([*n, 54]), pl.Series([*c, 5]), pl.Series([*good, 0])))
    assert not len(programs(ids, pl.Series([*n, 20]), pl.Series([*c, 10]), pl.Series([*good, 0])))


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_who_sees_far_more_and_likes_nothing_is_none_though_all_click(share: float) -> None:
    """In a feed every row, or every second, is a click. Who likes some, or sees as much as others, is a person."""
    n = RNG.integers(20, 60, N)
    c = RNG.binomial(n, share)
    good = RNG.binomial(c, 0.3)
    ids, rows, clicks = pl.Series(range(N + 1)), pl.Series([*n, 900]), pl.Series([*c, round(900 * share)])
    assert programs(ids, rows, clicks, pl.Series([*good, 0])).to_list() == [N]
    assert not len(programs(ids, rows, clicks, pl.Series([*good, 30])))
    few = pl.Series([*n, 60]), pl.Series([*c, round(60 * share)])
    assert not len(programs(ids, *few, pl.Series([*good, 0])))
    silent = pl.Series([*(good * (np.arange(N) % 3 > 0)), 0])
    assert not len(programs(ids, rows, clicks, silent)), "a third of the others never like anything either"


def test_who_clicks_often_and_never_well_is_none_though_others_click_much_too() -> None:
    """Of 60 clicks others have nine good ones; who clicks as others do, or less surely never well, is a person."""
    n = RNG.integers(20, 60, N)
    c = RNG.binomial(n, RNG.beta(6, 18, N))
    good = RNG.binomial(c, 0.2)
    ids = pl.Series(range(N + 1))
    for rows, clicks, told in ((90, 70, True), (300, 75, False), (40, 30, False)):
        found = programs(ids, pl.Series([*n, rows]), pl.Series([*c, clicks]), pl.Series([*good, 0]))
        assert found.to_list() == [N] * told, (rows, clicks)
    assert not len(programs(ids, pl.Series([*n, 90]), pl.Series([*c, 70]), pl.Series([*good, 1])))
    few = [40] * 9, [32] * 9, [0] * 9  # programs too, of too few clicks to say so, and no people who never like
    every = [pl.Series([*of, *more, one]) for of, more, one in zip((n, c, good), few, (90, 70, 0), strict=True)]
    assert N + 9 in programs(pl.Series(range(N + 10)), *every)


@pytest.mark.parametrize("who", ["never like", "rates of their own", "no lengths"])
def test_where_many_have_no_good_click_nobody_is_marked_for_it(who: str) -> None:
    """Most never like; each has a rate of theirs; a third of the apps report no seconds."""
    rng = np.random.default_rng(4)
    n = rng.integers(50, 200, 3_000)
    c = rng.binomial(n, rng.beta(2, 6, 3_000))
    rate = {
        "never like": np.where(rng.random(3_000) < 0.3, 0.5, 0.0),
        "rates of their own": rng.beta(0.3, 3, 3_000),
        "no lengths": np.where(rng.random(3_000) < 0.7, 0.3, 0.0),
    }[who]
    good = rng.binomial(c, rate)
    ids, rows, clicks = pl.Series(range(3_000)), pl.Series(n), pl.Series(c)
    assert programs(ids, rows, clicks, pl.Series(good)).equals(
        programs(ids, rows, clicks, pl.Series(good + (good == 0)))
    )


def test_check_knows_which_clicks_are_good(tmp_path: Path) -> None:
    n, c = people()
    user = np.repeat(np.arange(N + 1), [*n, 54])
    click = np.concatenate([np.arange(k) < m for k, m in zip([*n, 54], [*c, 28], strict=True)])
    read = np.where(click, np.where((user < N) & (RNG.random(len(user)) < 0.3), 90, 4), 0)
    order = RNG.permutation(len(user))
    log = pl.DataFrame({"user_id": user[order], "item_id": RNG.integers(0, 900, len(user)),
                        "clicked": click[order].astype(int), "seconds": read[order],
                        "ts": int(START.timestamp()) + np.sort(RNG.integers(0, 86_000, len(user)))})  # fmt: skip
    ended, _, _ = made(tmp_path, lambda home: log.write_csv(home / "x.csv"))
    assert ended.code == 0 and f"user_id NOT IN ({N})" in ended.out, ended.out


def test_of_few_users_and_of_logs_of_clicks_nothing_is_told() -> None:
    n, _ = people()
    every = pl.Series([*n, 900])
    assert not len(programs(pl.Series(range(N + 1)), every, every, UNKNOWN)), "every row is a click"
    assert not len(programs(pl.Series([1, 2]), pl.Series([9, 900]), pl.Series([3, 0]), pl.Series([0, 0])))


def test_init_names_what_leaves_them_out_and_another_user(tmp_path: Path) -> None:
    rows = []
    for day in range(DAYS):
        n, c = people()
        user = np.repeat(np.arange(N + 2), [*n, 300, 280])
        click = np.concatenate([np.arange(k) < m for k, m in zip([*n, 300, 280], [*c, 1, 150], strict=True)])
        at = int(START.timestamp()) + 86_400 * day + np.sort(RNG.integers(0, 86_000, len(user)))
        order = RNG.permutation(len(user))
        rows.append(pl.DataFrame({"visitor": user[order], "item_id": RNG.integers(0, 2_000, len(user)), "ts": at,
                                  "clicked": click[order].astype(int)}))  # fmt: skip
    log = pl.concat(rows)
    visit = pl.col("visitor") + 100_000 * (pl.col("ts") // 86_400 % 9 + 1)
    log = log.with_columns(liked=((pl.col("clicked") == 1) & (pl.col("ts") % 3 == 0)).cast(pl.Int8), besuch_id=visit)
    log = log.rename({"visitor": "besucher_id"})
    ended, raw, _ = made(tmp_path, lambda home: log.write_csv(home / "log.csv"))
    assert ended.code == 0 and raw["data"]["events"]["user"] == "besucher_id", "a visit is there on one day"
    assert f"besucher_id NOT IN ({N}, {N + 1})" in ended.out
    example = ended.out.split("--user ")[1].split()[0]
    assert int(example) < N
    raw_text = (tmp_path / "mine.yaml").read_text()
    assert "NOT IN" not in raw_text, "a config names nobody"
    keys = [arg for key in ("auto.budget=0", f"workspace={tmp_path / 'work'}") for arg in ("--set", key)]
    ran = dmtl("run", "--config", tmp_path / "mine.yaml", "--day", "2026-03-04", "--json", *keys)
    assert ran.code == 0, ran.err
    (trained,) = (tmp_path / "work/teacher/day=2026-03-04").glob("run-*")
    told = Manifest.read(trained / MANIFEST).facts["warnings"]
    (line,) = (line for line in told if "look like programs" in line)
    assert f"besucher_id NOT IN ({N}, {N + 1})" in line, "a training says it too, of the days that it learns"
    (tmp_path / "mine.yaml").write_text(
        raw_text.replace("    user: ", f'    where: "besucher_id NOT IN ({N}, {N + 1})"\n    user: ', 1)
    )
    again = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-04")
    assert again.code == 0 and "look like programs" not in again.out


def test_what_is_unknown_of_most_clicks_is_no(tmp_path: Path) -> None:
    """A basket is filled in where something was put into it, and empty elsewhere."""
    n = 3_000
    click = RNG.random(n) < 0.3
    basket = np.where(click & (RNG.random(n) < 0.2), RNG.integers(0, 3, n), -1)
    log = pl.DataFrame({
        "user_id": RNG.integers(0, 80, n), "item_id": RNG.integers(0, 50, n),
        "ts": int(START.timestamp()) + np.sort(RNG.integers(0, 3 * 86_400, n)), "clicked": click.astype(int),
        "basket": pl.Series(basket).replace(-1, None), "seconds": pl.Series(np.where(click, 20, -1)).replace(-1, None),
    })  # fmt: skip
    ended, raw, _ = made(tmp_path, lambda home: log.write_csv(home / "log.csv"), "--conversion", "basket > 0")
    assert ended.code == 0 and raw["data"]["events"]["computed"] == {"good": "COALESCE(basket > 0, FALSE)"}, ended.err
    ended, raw, _ = made(tmp_path / "b", lambda home: log.write_csv(home / "log.csv"), "--conversion", "seconds > 10")
    assert "COALESCE" not in raw["data"]["events"]["computed"]["good"], "all clicks have it"
